# SPDX-License-Identifier: Apache-2.0
"""`mmself doctor`: what the plugin does to this environment."""

from __future__ import annotations

import importlib
import sys
import textwrap
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import __version__, _autoload
from . import contract, registry


PACKAGES = ("llamafactory", "torch", "transformers", "trl", "peft", "accelerate", "deepspeed", "vllm", "xformers")

#: The module that imports LLaMA-Factory for all others.
FACADE = "llamafactory_mmself.plugin.lf"


@dataclass(frozen=True)
class StageFinding:
    """One plugin stage."""

    name: str
    package: str
    target: str
    base: str | None
    problem: str | None


@dataclass(frozen=True)
class SymbolFinding:
    """One symbol of LLaMA-Factory that the plugin relies on."""

    symbol: str
    kind: str
    why: str
    problem: str | None


@dataclass(frozen=True)
class Findings:
    """Everything `mmself doctor` reports."""

    plugin: str
    switch: str
    active: bool
    packages: dict[str, str | None]
    tested_llamafactory: str
    stages: tuple[StageFinding, ...]
    formats: tuple[str, ...]
    symbols: tuple[SymbolFinding, ...]
    failures: tuple[str, ...]

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong, a sentence each."""
        stages = [stage.problem for stage in self.stages if stage.problem]
        symbols = [symbol.problem for symbol in self.symbols if symbol.problem]
        return [*stages, *symbols, *self.failures]

    @property
    def healthy(self) -> bool:
        """Whether every stage can be loaded and every symbol is as expected."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"healthy": self.healthy}


def examine() -> Findings:
    """Looks at the installed packages, the registered stages, and each symbol of the contract."""
    active = _autoload.is_active()
    symbols = tuple(
        SymbolFinding(f"{item.module}.{item.name}", item.kind, item.why, _unpatched_problem(item))
        for item in contract.SYMBOLS
    )
    return Findings(
        plugin=__version__,
        switch=_autoload.mode(),
        active=active,
        packages={name: _version(name) for name in PACKAGES},
        tested_llamafactory=contract.TESTED_VERSION,
        stages=tuple(_stage(name) for name in registry.stage_entry_points()),
        formats=tuple(registry.format_names()),
        symbols=symbols,
        failures=(*_autoload.failures(), *_facade_failures()),
    )


def format_findings(findings: Findings) -> str:
    """Lays findings out for a terminal."""
    found = findings.packages["llamafactory"]
    tested = (
        "tested with it" if found == findings.tested_llamafactory else f"tested with {findings.tested_llamafactory}"
    )
    lines = [
        f"llamafactory-mmself {findings.plugin} on Python {sys.version.split()[0]}",
        f"LLaMA-Factory {found} ({tested})",
        "other packages: "
        + ", ".join(f"{name} {ver or '-'}" for name, ver in findings.packages.items() if name != "llamafactory"),
        f"{_autoload.SWITCH}: {findings.switch}; plugin {_activity(findings)}",
        "",
        "Stages:",
    ]
    for stage in findings.stages:
        lines.append(f"  {stage.name:<16} from {stage.package}, base {stage.base or '?'}  {_mark(stage.problem)}")
    lines += [f"Data-set formats: {', '.join(findings.formats) or 'none'}", "", "LLaMA-Factory symbols:"]
    for kind, title in (("replaced", "replaced"), ("called", "called only")):
        lines.append(f"  {title}:")
        for item in findings.symbols:
            if item.kind == kind:
                lines.append(f"    {item.symbol:<58} to {item.why}  {_mark(item.problem)}")
    lines += ["", "All is well." if findings.healthy else "Problems:"]
    lines += [
        textwrap.fill(problem, 110, initial_indent="  - ", subsequent_indent="    ") for problem in findings.problems
    ]
    return "\n".join(lines)


def _activity(findings: Findings) -> str:
    if findings.active:
        return "is active in every Python process of this environment"
    return {
        "off": "is off",
        "manual": "waits for `mmself train` or a patched LLaMA-Factory",
    }.get(
        findings.switch, "is NOT active: its .pth file is missing from site-packages; reinstall, or use `mmself train`"
    )


def _mark(problem: str | None) -> str:
    return "BROKEN" if problem else "ok"


def _stage(name: str) -> StageFinding:
    point = registry.stage_entry_points()[name]
    package = point.dist.name if point.dist is not None else "?"
    try:
        stage = registry.load_stage(name)
        registry.load_arguments(name)
    except Exception as error:
        return StageFinding(name, package, point.value, None, str(error))
    return StageFinding(name, package, point.value, stage.base, None)


def _unpatched_problem(symbol: contract.Symbol) -> str | None:
    """A symbol's problem. What was replaced was checked before it was replaced."""
    problem = symbol.problem()
    from .activation import PATCHED, PROBLEMS, WEB_PROBLEMS

    if symbol.kind == "replaced" and symbol.name in PATCHED.get(symbol.module, []):
        return None
    recorded = [text for text in [*PROBLEMS, *WEB_PROBLEMS] if text.startswith(f"{symbol.module}.{symbol.name} ")]
    return recorded[0] if recorded else problem


def _facade_failures() -> list[str]:
    """Why the rest of the package cannot be handed what it needs of LLaMA-Factory, or nothing."""
    try:
        importlib.import_module(FACADE)
    except Exception as error:
        return [f"{FACADE} cannot be imported, and no stage can run without it: {error!r}"]
    return []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
