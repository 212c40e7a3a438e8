"""`Verified` means "a policy allowed it". That holds only while one module can say so."""

from __future__ import annotations

import ast
from pathlib import Path

import ocisync

PACKAGE = Path(ocisync.__file__).parent
BUILDER = PACKAGE / "flows" / "verify.py"
NAME = "Verified"


def _is_verified(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == NAME) or (isinstance(node, ast.Attribute) and node.attr == NAME)


def _offences(tree: ast.AST) -> list[int]:
    """Lines that could make a `Verified`: a call, a copy with changes, a subclass, another name, a raw instance."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            made = [node.func, *node.args] if _name_of(node.func) in {"__new__", "partial"} else [node.func]
            if any(_is_verified(part) for part in made):
                lines.append(node.lineno)
            if _name_of(node.func) == "replace" and node.args and _name_of(node.args[0]) == "verified":
                lines.append(node.lineno)
        elif isinstance(node, ast.ClassDef | ast.Assign):
            named = node.bases if isinstance(node, ast.ClassDef) else [node.value]
            lines += [node.lineno] if any(_is_verified(part) for part in named) else []
        elif isinstance(node, ast.ImportFrom):
            lines += [node.lineno for item in node.names if item.name == NAME and item.asname]
    return lines


def _name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def test_only_the_verify_recipe_builds_a_verified_artifact() -> None:
    offences = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != BUILDER
        for line in _offences(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert offences == []


def test_the_verify_recipe_builds_it_once_behind_the_check_of_the_verdict() -> None:
    tree = ast.parse(BUILDER.read_text(encoding="utf-8"))
    functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and _offences(node)]
    assert functions == ["require"]
    assert len(_offences(tree)) == 1


def test_every_way_around_is_noticed() -> None:
    ways = [
        "Verified('r', 't', m, v)",
        "artifact.Verified('r', 't', m, v)",
        "object.__new__(Verified)",
        "replace(verified, tag='x')",
        "class Mine(Verified): pass",
        "Alias = Verified",
        "from ocisync.model.artifact import Verified as V",
        "partial(Verified, 'r')",
    ]
    assert [way for way in ways if not _offences(ast.parse(way))] == []
    assert _offences(ast.parse("def apply(artifact: Verified) -> None: ...")) == []
