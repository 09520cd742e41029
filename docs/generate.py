# SPDX-License-Identifier: Apache-2.0
"""Writes `docs/arguments.md` from the stages' argument dataclasses: `python docs/generate.py`."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from llamafactory_mmself.plugin.registry import load_arguments, load_stage, stage_entry_points


PAGE = Path(__file__).resolve().parent / "arguments.md"
HEAD = """# Arguments of the stages

What a training YAML takes beside LLaMA-Factory's own keys. Written by `python docs/generate.py` from the dataclasses;
`llamafactory-cli train --stage NAME -h` prints the same.
"""


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    for name in stage_entry_points():
        stage, arguments = load_stage(name), load_arguments(name)
        types = get_type_hints(arguments)
        parts.append(f"## {name}\n\n{stage.help[0].upper()}{stage.help[1:]}\n")
        rows = [
            f"| `{item.name}` | {_type(types[item.name])} | {_default(item)} | {_help(item)} |"
            for item in fields(arguments)
        ]
        parts.append("\n".join(["| key | type | default | |", "|---|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _type(hint: Any) -> str:
    choices = get_args(hint)
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(f"`{choice}`" for choice in choices)
    names = [getattr(kind, "__name__", str(kind)) for kind in choices or (hint,) if kind is not type(None)]
    return " or ".join(names)


def _default(item: Field[Any]) -> str:
    value = item.default_factory() if item.default_factory is not MISSING else item.default
    return "–" if value in (None, "", MISSING) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _help(item: Field[Any]) -> str:
    return str(item.metadata["help"]).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
