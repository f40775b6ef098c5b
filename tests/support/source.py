"""The repository's own files, read for the tests that judge how it is written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/inprod"
CODE = ("src", "tests", "examples", "docs")
TEXT = frozenset({
    ".py", ".md", ".toml", ".yaml", ".yml", ".json", ".html", ".js", ".css", ".svg", ".txt", "",
    ".cfg", ".ini", ".sh", ".mako", ".sql",
})  # fmt: skip
NOT_OURS = frozenset(
    {"__pycache__", ".git", ".venv", ".ruff_cache", ".hypothesis", "build", "dist"}
)


@dataclass(frozen=True)
class Module:
    """One Python file: `name` as one would import it, `place` for messages."""

    path: Path

    @property
    def place(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def name(self) -> str:
        relative = self.path.relative_to(ROOT / "src") if self.is_src else self.path.name
        return str(relative).removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def is_src(self) -> bool:
        return self.path.is_relative_to(ROOT / "src")

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def tree(self) -> ast.Module:
        return _tree(self.path)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Return every Python module below the given folders of the repository (default: all code)."""
    found: list[Module] = []
    for folder in folders or CODE:
        found += [Module(path) for path in sorted((ROOT / folder).rglob("*.py")) if _ours(path)]
    return tuple(found)


@cache
def files() -> tuple[Path, ...]:
    """Return every text file of the repository that we wrote or vendored."""
    return tuple(
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file() and path.suffix in TEXT and _ours(path)
    )


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything that a module imports, anywhere in it."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.place}:{node.lineno} imports relatively"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module, methods and inner ones included."""
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` for a chain of names, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def _ours(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return not any(
        part in NOT_OURS or part.startswith(".venv") or part.endswith(".egg-info") for part in parts
    )
