"""Who may import whom, and what pure code may not touch: read from the source, not from runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from support.source import Module, dotted, imports, modules

# Left may import right; packages on one step never import each other (docs/decisions/0002).
LAYERS = (
    {"server", "cli"}, {"rollouts"}, {"guards"}, {"safety"}, {"sdk"}, {"flags", "events"},
    {"stats"},
    {"web", "live", "endpoint", "grant", "audit", "document", "operators", "place", "units"},
    {"errors"},
)  # fmt: skip
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
ROOT_STEP = LEVEL["units"]
SURFACE = "__init__"  # `import inprod`: the in-app surface, which is the SDK's

WORLD = frozenset({"sdk", "server", "cli", "testing", "web", "live", "place", SURFACE})
WORLDLY_MODULES = frozenset({
    "os", "pathlib", "io", "shutil", "tempfile", "glob", "fileinput", "socket", "ssl", "select",
    "selectors", "http", "urllib.request", "threading", "_thread", "multiprocessing",
    "concurrent", "asyncio", "anyio", "subprocess", "signal", "logging", "sqlite3", "secrets",
    "sqlalchemy", "alembic", "psycopg", "chdb", "clickhouse_connect", "starlette", "uvicorn",
    "uvloop", "httptools", "httpx", "requests", "click", "rich", "jinja2", "yaml", "time", "uuid",
    "opentelemetry.sdk", "opentelemetry.trace",
})  # fmt: skip
WORLDLY_CALLS = frozenset({
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "datetime.datetime.now",
    "datetime.datetime.utcnow", "datetime.date.today", "open", "print", "input", "exec", "eval",
    "breakpoint", "time.time", "time.monotonic", "time.perf_counter", "time.sleep",
})  # fmt: skip


def part(module: Module) -> str:
    """Return the first name below `inprod`: a slice, or a root module."""
    names = module.name.split(".")
    return names[1] if len(names) > 1 else SURFACE


def is_edge(name: str) -> bool:
    """Return whether a dotted module name lies in an edge or in a package that is all edge."""
    names = name.split(".")
    return "edge" in names or (len(names) > 1 and names[1] in WORLD)


def pure() -> Iterator[Module]:
    for module in modules("src"):
        if part(module) != SURFACE and not is_edge(module.name):
            yield module


def test_packages_import_only_what_lies_below_them() -> None:
    wrong: list[str] = []
    for module in modules("src"):
        mine = part(module)
        if mine == "testing":
            continue
        for line, name in imports(module):
            names = name.split(".")
            if names[0] != "inprod" or len(names) == 1:
                continue
            other = names[1]
            if other == mine:
                continue
            if other not in LEVEL:
                if other == "testing":
                    wrong.append(f"{module.place}:{line} imports the fakes of inprod.testing")
                continue  # else a name that `inprod/__init__.py` defines
            above = LEVEL["sdk"] if mine == SURFACE else LEVEL.get(mine)
            assert above is not None, f"{module.place}: say in LAYERS where `{mine}` stands"
            free = above == LEVEL[other] == ROOT_STEP or (mine == SURFACE and above <= LEVEL[other])
            if above >= LEVEL[other] and not free:
                wrong.append(f"{module.place}:{line} imports {name}, which is not below `{mine}`")
    assert not wrong, "\n".join(wrong)


def test_pure_code_never_imports_an_edge() -> None:
    wrong = [
        f"{module.place}:{line} imports {name}"
        for module in pure()
        for line, name in imports(module)
        if name.startswith("inprod.") and is_edge(name)
    ]
    assert not wrong, "\n".join(wrong)


def test_pure_code_never_touches_the_world() -> None:
    wrong: list[str] = []
    for module in pure():
        for line, name in imports(module):
            names = name.split(".")
            if any(".".join(names[:n]) in WORLDLY_MODULES for n in range(1, len(names) + 1)):
                wrong.append(f"{module.place}:{line} imports {name}")
        wrong += [
            f"{module.place}:{node.lineno} calls {dotted(node.func)}()"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call) and dotted(node.func) in WORLDLY_CALLS
        ]
    assert not wrong, "Pass time, randomness and bytes as arguments:\n" + "\n".join(wrong)


def test_randomness_in_pure_code_has_a_seed() -> None:
    wrong: list[str] = []
    for module in pure():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            name = dotted(node.func)
            seeded = name in {"random.Random", "np.random.default_rng"} and node.args
            if name.startswith(("random.", "np.random.", "numpy.random.")) and not seeded:
                wrong.append(f"{module.place}:{node.lineno} calls {name}()")
    assert not wrong, "\n".join(wrong)
