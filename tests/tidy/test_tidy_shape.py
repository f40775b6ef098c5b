"""Sizes, names and docstrings, so that the listing of a folder tells its story."""

from __future__ import annotations

import ast
import re

import pytest

from support.source import ROOT, Module, files, functions, modules

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
SCRIPT_LINES_MAX = 300
BANNED = frozenset({
    "utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "data", "info",
    "misc", "service", "services", "repository", "dto", "models", "core", "lib", "tools",
})  # fmt: skip
DOCUMENTED = ("src", "examples", "docs", "tests/support")
# A module opens with a sentence: a capital, a figure or code first, and an end before the next
# paragraph begins.
SENTENCE = re.compile(r"\A(?:inprod|[A-Z0-9`\"'(]).*?[.:;?](\s|$)", re.DOTALL)


def test_no_module_is_longer_than_400_lines() -> None:
    long = {m.place: n for m in modules() if (n := m.text.count("\n")) > MODULE_LINES_MAX}
    assert not long, f"Ask what is hiding in these: {long}"


def test_no_function_is_longer_than_60_lines() -> None:
    long = [
        f"{module.place}:{one.lineno} {one.name} has {lines} lines"
        for module in modules()
        for one in functions(module)
        if (lines := length(one)) > FUNCTION_LINES_MAX
    ]
    assert not long, "\n".join(long)


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function has, its docstring not counted."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_no_script_of_ours_is_longer_than_300_lines() -> None:
    long = [
        str(path.relative_to(ROOT))
        for path in files()
        if path.suffix == ".js" and "vendor" not in path.parts
        and path.read_text().count("\n") > SCRIPT_LINES_MAX
    ]  # fmt: skip
    assert not long


def test_no_module_has_a_name_that_says_nothing() -> None:
    named = [m.place for m in modules() if BANNED & {m.path.stem, *m.path.relative_to(ROOT).parts}]
    assert not named


def test_every_module_opens_with_one_sentence() -> None:
    silent = [
        module.place
        for module in modules(*DOCUMENTED)
        if module.text.strip() and not SENTENCE.match(first_paragraph(module))
    ]
    assert not silent, f"Say in one sentence what these are for: {silent}"


def first_paragraph(module: Module) -> str:
    """Return the docstring's first paragraph, or nothing."""
    return (ast.get_docstring(module.tree) or "").split("\n\n")[0]


def test_everything_public_has_a_docstring() -> None:
    silent: list[str] = []
    for module in modules("src"):
        for scope in (module.tree, *(n for n in module.tree.body if isinstance(n, ast.ClassDef))):
            inner = isinstance(scope, ast.ClassDef)
            if inner and (scope.name.startswith("_") or is_protocol_or_enum(scope)):
                continue
            silent += [
                f"{module.place}:{node.lineno} {node.name}"
                for node in scope.body
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
                and not node.name.startswith("_")
                and not is_exempt(node)
                and ast.get_docstring(node) is None
            ]
    assert not silent, "\n".join(silent)


def is_protocol_or_enum(node: ast.ClassDef) -> bool:
    """Return whether a class says what it is by its own names."""
    bases = {ast.unparse(one) for one in node.bases}
    return bool(bases & {"Protocol", "StrEnum", "IntEnum", "Enum", "Flag"})


def is_exempt(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Return whether a decorator says that the docstring is elsewhere."""
    names = {ast.unparse(one) for one in node.decorator_list}
    return any(name.endswith((".setter", "overload", "override")) for name in names)


@pytest.mark.parametrize("text", ["utils", "manager"])
def test_the_banned_names_are_banned(text: str) -> None:
    assert text in BANNED
