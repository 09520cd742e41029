# SPDX-License-Identifier: Apache-2.0
"""What docs/security.md promises about the code: nothing from outside is run."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest


PACKAGE = Path(__file__).resolve().parent.parent / "llamafactory_mmself"
# Workers read the plan that their parent process has just written to their pipe.
PICKLES = {"generate/workers.py"}


def calls() -> Iterator[tuple[str, int, str, dict[str, ast.expr]]]:
    """File, line, name as written, and keyword arguments of every call in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                keywords = {word.arg: word.value for word in node.keywords if word.arg}
                yield str(path.relative_to(PACKAGE)), node.lineno, ast.unparse(node.func), keywords


FORBIDDEN = ("eval", "exec", "compile", "os.system", "os.popen", "torch.load", "yaml.load", "yaml.unsafe_load")


def test_nothing_is_evaluated_or_unpickled() -> None:
    found = [(file, line, name) for file, line, name, _ in calls() if name in FORBIDDEN]
    found += [
        (file, line, name)
        for file, line, name, _ in calls()
        if name in ("pickle.load", "pickle.loads") and file not in PICKLES
    ]
    assert not found


@pytest.mark.parametrize(("word", "value"), [("shell", True), ("verify", False), ("weights_only", False)])
def test_no_shell_and_no_unchecked_connections(word: str, value: bool) -> None:
    given = ((file, line, words.get(word)) for file, line, _, words in calls())
    assert not [(file, line) for file, line, node in given if isinstance(node, ast.Constant) and node.value is value]


def test_code_of_models_is_never_trusted_by_itself() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            pairs: list[tuple[str, ast.expr]] = []
            if isinstance(node, ast.Dict):
                pairs = [
                    (key.value, value) for key, value in zip(node.keys, node.values, strict=True) if _is_text(key)
                ]
            elif isinstance(node, ast.Call):
                pairs = [(word.arg or "", word.value) for word in node.keywords]
            for name, value in pairs:
                trusted = isinstance(value, ast.Constant) and value.value is True
                assert not (name == "trust_remote_code" and trusted), (path, node.lineno)


def _is_text(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
