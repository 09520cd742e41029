# SPDX-License-Identifier: Apache-2.0
"""What happens to each LLaMA-Factory module right after it was imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

from . import contract


#: Module -> names that were replaced in it.
PATCHED: dict[str, list[str]] = {}
#: Why something could not be replaced; our stages refuse to run if there is anything here.
PROBLEMS: list[str] = []
#: Why nothing was added to the web UI; stages do without it.
WEB_PROBLEMS: list[str] = []

_WEB_UI = "llamafactory.webui.interface"  # imports all of LlamaBoard's other modules

Patcher = Callable[[ModuleType], list[str]]


def patch_module(module: ModuleType) -> None:
    """Applies the plugin to a freshly imported LLaMA-Factory module.

    Never raises: if the contract does not hold, the module stays as it is, one warning is printed, and what was wrong
    is kept for the stages that need it.
    """
    patchers: dict[str, Patcher] = {
        "llamafactory.hparams.parser": _patch_parser,
        "llamafactory.train.tuner": _patch_tuner,
        "llamafactory.data.converter": _patch_converter,
        "llamafactory.data.template": _patch_template,
    }
    name = module.__name__
    if name == _WEB_UI:
        _patch_web_ui(module)
    if name not in patchers:
        return
    broken = contract.problems(module)
    if not broken:
        try:
            PATCHED[name] = patchers[name](module)
            return
        except Exception as error:
            broken = [f"{name}: {error!r}"]
    PROBLEMS.extend(broken)
    sys.stderr.write(
        "llamafactory-mmself: this LLaMA-Factory is not the one the plugin was made for "
        f"({contract.TESTED_VERSION}); its stages are off, stock stages are untouched. {' '.join(broken)}\n"
    )
    if name == "llamafactory.hparams.parser":
        from .arguments import refuse_plugin_stages

        refuse_plugin_stages(module)


def require_contract() -> None:
    """Raises if one of our stages cannot be trusted to run.

    Raises:
        ContractError: with every reason.
    """
    broken = list(dict.fromkeys(PROBLEMS + contract.problems(part="stages")))
    if broken:
        raise contract.ContractError(
            "This stage cannot run: LLaMA-Factory is not as llamafactory-mmself needs it "
            f"(made for {contract.TESTED_VERSION}).\n  - " + "\n  - ".join(broken) + "\nSee `mmself doctor`."
        )


def _patch_web_ui(module: ModuleType) -> None:
    """Adds our parts to LlamaBoard, all of them or none."""
    broken = contract.problems(part="web UI")
    if not broken:
        try:
            from .webui.install import install

            PATCHED.update(install(module))
            return
        except Exception as error:
            broken = [f"{module.__name__}: {error!r}"]
    WEB_PROBLEMS.extend(broken)
    sys.stderr.write(
        "llamafactory-mmself: nothing is added to the web UI: this LLaMA-Factory is not the one the plugin was made "
        f"for ({contract.TESTED_VERSION}). {' '.join(broken)}\n"
    )


def _patch_parser(module: ModuleType) -> list[str]:
    from .arguments import install

    return install(module)


def _patch_tuner(module: ModuleType) -> list[str]:
    from .dispatch import install

    return install(module)


def _patch_converter(module: ModuleType) -> list[str]:
    from .formats import install

    return install(module)


def _patch_template(module: ModuleType) -> list[str]:
    from .templates import install

    return install(module)
