# SPDX-License-Identifier: Apache-2.0
"""The switch that turns the plugin on, and the lazy import hook behind it.

``llamafactory_mmself_autoload.pth`` calls :func:`on_interpreter_start` in every Python process, so this module may
import only what the interpreter has loaded anyway. The hook waits on ``sys.meta_path`` for the few LLaMA-Factory
modules named in :data:`TARGETS` and hands each one to ``llamafactory_mmself.plugin.activation.patch_module`` as soon
as it has been executed.

The environment variable ``LLAMAFACTORY_MMSELF`` decides (upper and lower case are the same):

===================  ===========================================================================
unset, auto, on      the hook is there from interpreter start
manual               only :func:`activate` (``mmself train``, patched LLaMA-Factory) puts it there
off                  nothing puts it there, and a hook that is there already leaves modules alone
===================  ===========================================================================
"""

import _thread
import os
import sys


TYPE_CHECKING = False  # importing typing would cost every interpreter start several milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

SWITCH = "LLAMAFACTORY_MMSELF"
TARGETS = (
    "llamafactory.hparams.parser",
    "llamafactory.train.tuner",
    "llamafactory.data.converter",
    "llamafactory.data.template",
    "llamafactory.webui.interface",
)

_MODES = {"": "auto", "auto": "auto", "on": "auto", "manual": "manual", "off": "off"}
_offered: "dict[str, ModuleType]" = {}  # the module objects that patch_module has been given
_failures: "list[str]" = []
_printed: "set[str]" = set()


def mode() -> str:
    """Returns ``auto``, ``manual`` or ``off``; an unknown value of ``LLAMAFACTORY_MMSELF`` counts as ``auto``."""
    return _MODES.get(os.environ.get(SWITCH, "").strip().lower(), "auto")


def is_active() -> bool:
    """Returns whether the import hook is in place and switched on."""
    return _hook in sys.meta_path and mode() != "off"


def failures() -> "tuple[str, ...]":
    """Returns what went wrong inside the hook in this process, one line per fault."""
    return tuple(_failures)


def on_interpreter_start() -> None:
    """Puts the hook in place unless the mode is ``manual`` or ``off``. Called by the ``.pth`` file."""
    if mode() == "auto":
        _install()


def activate() -> bool:
    """Puts the hook in place and patches the targets that are imported already. May be called any number of times.

    Returns:
        Whether the plugin is active now; False only if ``LLAMAFACTORY_MMSELF`` is ``off``.
    """
    if mode() == "off":
        return False
    _install()
    for name in TARGETS:
        module = sys.modules.get(name)
        if module is not None and _offered.get(name) is not module and not _is_being_imported(module):
            _patch(module)
    return True


class _LazyHook:
    """A meta-path finder that knows :data:`TARGETS` only; the other finders do the finding."""

    def __init__(self) -> None:
        self._searching: set[tuple[int, str]] = set()

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Finds a target with the other finders and arranges for its patching; returns None for all other modules."""
        if fullname not in TARGETS or mode() == "off":
            return None
        search = (_thread.get_ident(), fullname)
        if search in self._searching:  # asked by itself, below, or by another finder that asks all finders
            return None
        self._searching.add(search)
        try:
            spec = self._find(fullname, path, target)
        finally:
            self._searching.discard(search)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _PatchingLoader(spec.loader)  # type: ignore[assignment]
        return spec

    def _find(self, fullname: str, path: "Sequence[str] | None", target: "ModuleType | None") -> "ModuleSpec | None":
        for finder in tuple(sys.meta_path):
            find_spec = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find_spec(fullname, path, target) if find_spec is not None else None
            if spec is not None:
                return spec
        return None


class _PatchingLoader:
    """Stands in for a module's loader until the module is executed, then gives the place back and has it patched."""

    def __init__(self, loader: "Any") -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> "Any":
        if name == "_loader":  # not set yet: copy and pickle ask before __init__ has run
            raise AttributeError(name)
        return getattr(self._loader, name)

    def exec_module(self, module: "ModuleType") -> None:
        """Executes the module with its own loader, which is also the one the module shows from now on."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _patch(module)


def _install() -> None:
    if _hook not in sys.meta_path:
        sys.meta_path.insert(0, _hook)


def _is_being_imported(module: "ModuleType") -> bool:
    """Tells a half-executed module, which the loader patches when it is complete."""
    return bool(getattr(module.__spec__, "_initializing", False))


def _patch(module: "ModuleType") -> None:
    """Hands a module to the plugin; whatever goes wrong there becomes one warning, so that stock stages still work."""
    _warn_of_unknown_mode()
    _offered[module.__name__] = module
    try:
        from llamafactory_mmself.plugin.activation import patch_module

        patch_module(module)
    except Exception as error:
        _failures.append(f"{module.__name__}: {type(error).__name__}: {error}")
        _print_once(
            "failure",
            f"could not add its stages to LLaMA-Factory, whose own stages still work. First fault, in {_failures[0]}",
        )


def _warn_of_unknown_mode() -> None:
    value = os.environ.get(SWITCH, "")
    if value.strip().lower() not in _MODES:
        _print_once("mode", f"{SWITCH}={value!r} is not one of auto, on, manual, off; taken as auto.")


def _print_once(topic: str, text: str) -> None:
    if topic in _printed or sys.stderr is None:
        return
    _printed.add(topic)
    try:
        print(f"llamafactory-mmself: {text}", file=sys.stderr)
    except (OSError, ValueError):  # a closed stderr must not stop the import that led here
        return


_hook = _LazyHook()
