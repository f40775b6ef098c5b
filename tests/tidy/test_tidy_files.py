"""What may not stand in any file: machine paths, registries, loose ends, unknown vendored code."""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from pathlib import Path

from support.source import ROOT, dotted, files, functions, modules

# The brackets keep this file from containing what it looks for.
HOSTS = re.compile(r"pyp[i]\.org|pythonhoste[d]\.org|registry\.npmj[s]|deb\.debia[n]")
MACHINE_PATH = re.compile(r"(?<![\w.~$}{-])/(?:work|root|home|Users|opt|tmp|var/tmp)/\w")
# Places where a path that looks like a machine's is a made-up example.
PATHS_ALLOWED = re.compile(r"/tmp/shop\b|/home/me/|/usr/lib/")
LOOSE_END = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!.*#\d+)")
HERE = Path(__file__)
VENDORS = tuple(sorted(path for path in files() if path.name == "VENDOR.toml"))
ANY_ERROR = frozenset({"Exception", "BaseException"})


def ours() -> list[Path]:
    """Return the text files that we wrote, but this one and the pins."""
    return [path for path in files() if "vendor" not in path.parts and path != HERE]


def lines_that_match(pattern: re.Pattern[str]) -> list[str]:
    found: list[str] = []
    for path in ours():
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if pattern.search(PATHS_ALLOWED.sub("", line)):
                found.append(f"{path.relative_to(ROOT)}:{number} {line.strip()[:100]}")
    return found


def test_no_file_names_a_place_on_one_machine() -> None:
    assert not lines_that_match(MACHINE_PATH)


def test_no_file_names_a_package_registry() -> None:
    assert not lines_that_match(HOSTS)


def test_every_loose_end_has_an_issue_number() -> None:
    assert not lines_that_match(LOOSE_END)


def test_every_vendored_file_is_known_by_its_hash() -> None:
    assert VENDORS, "the pages need vendored scripts"
    for listing in VENDORS:
        listed = {row["path"]: row for row in tomllib.loads(listing.read_text())["file"]}
        present = {path.name for path in listing.parent.iterdir()} - {listing.name}
        assert present == set(listed), f"{listing.relative_to(ROOT)} does not list what is there"
        for name, row in listed.items():
            digest = hashlib.sha256((listing.parent / name).read_bytes()).hexdigest()
            assert digest == row["sha256"], f"{name} is not what VENDOR.toml says"
            assert row["licence"], f"{name} has no licence"
            assert row["version"], f"{name} has no version"


def test_every_vendor_folder_has_its_list() -> None:
    folders = {path.parent for path in files() if path.parent.name == "vendor"}
    assert folders == {listing.parent for listing in VENDORS}


def test_no_minified_file_lies_outside_a_vendor_folder() -> None:
    stray = [path for path in ours() if ".min." in path.name]
    assert not stray


def test_no_error_is_swallowed() -> None:
    wrong: list[str] = []
    for module in modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            everything = any(one is None or dotted(one) in ANY_ERROR for one in caught)
            idle = all(isinstance(one, (ast.Pass, ast.Continue)) for one in node.body)
            if everything and (idle or node.type is None):
                wrong.append(f"{module.place}:{node.lineno} catches everything and says nothing")
    assert not wrong, "\n".join(wrong)


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    marks = {"skip", "skipif", "xfail", "importorskip"}
    wrong = [
        f"{module.place}:{node.lineno}"
        for module in modules("tests")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in marks
        and dotted(node).startswith(("pytest.", "unittest."))
    ]
    assert not wrong


def test_no_test_replaces_our_own_code() -> None:
    words = {"monkeypatch", "mocker"}
    wrong = [
        f"{module.place}:{one.lineno} {one.name}"
        for module in modules("tests")
        for one in functions(module)
        if words & {argument.arg for argument in one.args.args}
    ]
    wrong += [
        f"{module.place}:{node.lineno}"
        for module in modules("tests")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "unittest.mock"
    ]
    assert not wrong


def test_constraints_pin_every_package_that_we_ask_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {
        re.split(r"[<>=\[; ]", wanted)[0].lower()
        for extra in project["optional-dependencies"].values()
        for wanted in extra
    } - {"inprod"}
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#"]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+", pin) for pin in pins)
    assert asked <= {pin.partition("==")[0].lower() for pin in pins}
