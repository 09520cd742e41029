# SPDX-License-Identifier: Apache-2.0
"""The import hook leaves a module as it would be without it, but for the patch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = "llamafactory.hparams.parser"


@pytest.fixture
def run(clean_environment: Callable[..., dict[str, str]], fake_llamafactory: Path, project_root: Path) -> Run:
    """Runs code with the hook in place, the fake LLaMA-Factory on the path and `watch` imported."""

    def run_code(code: str, start: str = "import watch\n_autoload.activate()\n") -> subprocess.CompletedProcess[str]:
        search = f"{fake_llamafactory}:{project_root}"
        return subprocess.run(
            [sys.executable, "-c", f"import sys\nfrom llamafactory_mmself import _autoload\n{start}{code}"],
            env=clean_environment(PYTHONPATH=search, LLAMAFACTORY_MMSELF="manual"),
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run_code


def check(done: subprocess.CompletedProcess[str]) -> str:
    """Fails unless the process ended well and said nothing on stderr; returns its output."""
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.strip()


def test_the_names_on_the_list_are_patched_and_no_others(run: Run) -> None:
    code = (
        "import importlib\n"
        "for name in _autoload.TARGETS: importlib.import_module(name)\n"
        "import llamafactory.hparams, json, wave\n"
        "assert watch.patched == list(_autoload.TARGETS), watch.patched\n"
        "assert _autoload.is_active() and not _autoload.failures()"
    )
    check(run(code))


def test_a_patched_module_looks_like_any_other(run: Run) -> None:
    code = f"""
import importlib.machinery, importlib.resources, importlib.util, inspect, pickle
before = importlib.util.find_spec({NAME!r})
assert before.loader.get_source({NAME!r}).startswith("def original")
assert before.loader.name == {NAME!r} and not before.loader.is_package({NAME!r})
import {NAME} as parser
loader = parser.__spec__.loader
assert type(loader) is importlib.machinery.SourceFileLoader and parser.__loader__ is loader
assert inspect.getsource(parser).startswith("def original") and inspect.getsourcefile(parser) == parser.__file__
assert pickle.loads(pickle.dumps(parser.__spec__)).name == {NAME!r}
assert importlib.resources.files("llamafactory.hparams").joinpath("note.txt").read_text() == "a resource"
assert importlib.util.find_spec({NAME!r}) is parser.__spec__
"""
    check(run(code))


def test_reloading_patches_again(run: Run) -> None:
    code = f"import importlib, {NAME} as m\nimportlib.reload(m)\nassert watch.patched == [{NAME!r}] * 2"
    check(run(code + "\nassert m.original() == 'patched' and type(m.__loader__).__name__ == 'SourceFileLoader'"))


def test_running_a_target_as_a_script_still_works(run: Run) -> None:
    assert check(run(f"import runpy\nprint(runpy.run_module({NAME!r})['original']())")) == "original"


def test_modules_imported_earlier_are_patched_once(run: Run) -> None:
    code = f"_autoload.activate()\n_autoload.activate()\nprint(m.original(), watch.patched == [{NAME!r}])"
    assert check(run(code, start=f"import watch, {NAME} as m\n")) == "patched True"
    code = "_autoload.activate()\nprint(sum(type(finder) is _autoload._LazyHook for finder in sys.meta_path))"
    assert check(run(code)) == "1"


def test_a_module_in_the_middle_of_its_import_is_patched_when_complete(run: Run, fake_llamafactory: Path) -> None:
    code = f"""
import builtins, importlib
def during(spec, real=importlib.machinery.SourceFileLoader.exec_module):
    def exec_module(loader, module):
        _autoload.activate()
        builtins.early = list(watch.patched)
        real(loader, module)
    return exec_module
importlib.machinery.SourceFileLoader.exec_module = during(None)
import {NAME} as m
assert builtins.early == [] and watch.patched == [{NAME!r}], (builtins.early, watch.patched)
"""
    check(run("import importlib.machinery" + code))


def test_many_threads_patch_once(run: Run) -> None:
    code = f"""
import importlib, importlib.util, threading
def work():
    _autoload.activate(); importlib.util.find_spec({NAME!r}); importlib.import_module({NAME!r})
threads = [threading.Thread(target=work) for _ in range(16)]
[t.start() for t in threads]; [t.join() for t in threads]
assert watch.patched == [{NAME!r}], watch.patched
"""
    check(run(code))


def test_another_finder_that_asks_all_finders(run: Run) -> None:
    code = f"""
import importlib.util
class Wrapping:
    busy = False
    def find_spec(self, name, path=None, target=None):
        if self.busy or not name.startswith("llamafactory."): return None
        self.busy = True
        try: return importlib.util.find_spec(name)
        finally: self.busy = False
for place in (0, 2):  # before and after the hook
    sys.meta_path.insert(place, Wrapping())
import {NAME} as m
assert m.original() == "patched" and watch.patched == [{NAME!r}], watch.patched
assert type(m.__loader__).__name__ == "SourceFileLoader"
"""
    check(run(code))


def test_a_missing_target_is_an_ordinary_import_error(run: Run) -> None:
    code = "sys.path[:] = [p for p in sys.path if 'fake' not in p]\nsys.modules['llamafactory'] = watch\n"
    done = run(code + "watch.__path__ = []\nimport llamafactory.hparams.parser")
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'llamafactory.hparams'"


def test_an_error_inside_llamafactory_stays_its_own(run: Run) -> None:
    code = f"""
import importlib.machinery
def broken(self, module): raise ZeroDivisionError("its own")
importlib.machinery.SourceFileLoader.exec_module = broken
sys.modules["llamafactory"] = sys.modules["llamafactory.hparams"] = package = type(sys)("llamafactory")
package.__path__ = [p + "/llamafactory/hparams" for p in sys.path]
try: import {NAME}
except ZeroDivisionError as error: print(error, watch.patched, {NAME!r} in sys.modules)
"""
    assert check(run(code)) == "its own [] False"


@pytest.mark.parametrize("fault", ["raise KeyError('gone')", "import no_such_module"])
def test_a_fault_in_the_plugin_is_one_warning_and_the_import_works(run: Run, fault: str) -> None:
    code = f"""
def patch_module(module): {fault}
watch.stub.patch_module = patch_module
import {NAME} as m, llamafactory.train.tuner
print(m.original(), len(_autoload.failures()))
"""
    done = run(code)
    assert (done.returncode, done.stdout.strip()) == (0, "original 2")
    (line,) = done.stderr.splitlines()
    assert line.startswith("llamafactory-mmself: could not add its stages to LLaMA-Factory")
    assert NAME in line and fault.split()[-1].removeprefix("KeyError('").removesuffix("')") in line


def test_switching_off_after_the_start(run: Run) -> None:
    code = f"import os; os.environ['LLAMAFACTORY_MMSELF'] = 'off'\nimport {NAME} as m\nprint(m.original())"
    assert check(run(code + "\nprint(_autoload.is_active(), _autoload.activate(), watch.patched)")).split("\n") == [
        "original",
        "False False []",
    ]


def test_a_closed_stderr_is_no_obstacle(run: Run) -> None:
    code = f"""
def patch_module(module): raise KeyError
watch.stub.patch_module = patch_module
sys.stderr.close()
import {NAME} as m
print(m.original())
"""
    assert run(code).stdout.strip() == "original"
