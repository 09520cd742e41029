# SPDX-License-Identifier: Apache-2.0
"""What the wheel and the source archive contain."""

import configparser
import email.message
import email.parser
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

import llamafactory_mmself


PTH = "llamafactory_mmself_autoload.pth"


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    return email.parser.Parser().parsestr(_read(wheel, "METADATA"))


def test_the_wheel_puts_the_activation_file_beside_the_package(wheel: Path, project_root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(PTH) == (project_root / PTH).read_bytes()
        top = {name.partition("/")[0] for name in archive.namelist()}
    assert top == {PTH, "llamafactory_mmself", f"llamafactory_mmself-{llamafactory_mmself.__version__}.dist-info"}
    assert f"\n{PTH},sha256=" in "\n" + _read(wheel, "RECORD")


def test_the_activation_file_is_one_line(project_root: Path) -> None:
    text = (project_root / PTH).read_text(encoding="utf-8")
    assert text.startswith("import ")  # site runs only such lines
    assert text.count("\n") == 1


def test_the_wheel_holds_every_module_and_type_information_and_no_tests(wheel: Path, source: Path) -> None:
    modules = {str(path.relative_to(source)) for path in (source / "llamafactory_mmself").rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.endswith(".py")} == modules
        assert "llamafactory_mmself/py.typed" in archive.namelist()


def test_entry_points(wheel: Path) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(_read(wheel, "entry_points.txt"))
    targets = [target.partition(":")[0] for section in parser.sections() for target in parser[section].values()]
    with zipfile.ZipFile(wheel) as archive:
        assert {f"{target.replace('.', '/')}.py" for target in targets} <= set(archive.namelist())
    assert {section: dict(parser[section]) for section in parser.sections()} == {
        "console_scripts": {
            "mmself": "llamafactory_mmself.cli:main",
            "llamafactory-mmself": "llamafactory_mmself.cli:main",
        },
        "llamafactory.stages": {
            "mdpo": "llamafactory_mmself.stages.mdpo.stage:STAGE",
            "reflection_sft": "llamafactory_mmself.stages.reflection_sft.stage:STAGE",
            "ares_ppo": "llamafactory_mmself.stages.ares_ppo.stage:STAGE",
            "sherlock_dpo": "llamafactory_mmself.stages.sherlock_dpo.stage:STAGE",
        },
        "llamafactory.dataset_formats": {"mmself": "llamafactory_mmself.plugin.formats:MMSelfConverter"},
        "llamafactory.plugins": {"mmself": "llamafactory_mmself._autoload:activate"},
        "vllm.general_plugins": {"mmself": "llamafactory_mmself.generate.vllm_names:register"},
    }


def test_metadata(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "llamafactory-mmself"
    assert metadata["Version"] == llamafactory_mmself.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra")) >= {"vllm", "deepspeed", "xformers", "serve", "eval", "dev"}


def test_constraints_pin_every_requirement(metadata: email.message.Message, project_root: Path) -> None:
    lines = (project_root / "requirements" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", pin) for pin in pins)
    pinned = {_normal(pin.partition("==")[0]) for pin in pins}
    required = {
        _normal(re.match(r"[A-Za-z0-9._-]+", line)[0])
        for line in metadata.get_all("Requires-Dist")
        if 'extra == "vllm"' not in line  # has a file of its own
    }
    assert required <= pinned


def test_the_source_archive_builds_and_carries_data_examples_and_patches(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {
        "setup.py",
        "pyproject.toml",
        "LICENSE",
        "README.md",
        PTH,
        "data/dataset_info.json",
        "examples/mdpo/orm_tiny.yaml",
        "patches/llamafactory-0.9.5-entry-points.patch",
        "requirements/constraints.txt",
    }
    assert expected <= names


def _read(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"llamafactory_mmself-{llamafactory_mmself.__version__}.dist-info/{name}").decode()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
