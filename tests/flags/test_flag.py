from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given

from inprod import document
from inprod.errors import Invalid
from inprod.flags.flag import Flag
from support.flag_server import CHECKOUT
from support.flag_values import flags

RULES = "environments.production.rules"


def changed(path: str, value: object) -> dict[str, Any]:
    """Return CHECKOUT with the value at a path replaced."""
    plain: Any = deepcopy(CHECKOUT)
    at = plain
    steps = path.replace("[", ".[").split(".")
    for step in steps[:-1]:
        at = at[int(step[1:-1])] if step.startswith("[") else at[step]
    last = steps[-1]
    at[int(last[1:-1]) if last.startswith("[") else last] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value", "where", "words"),
    [
        ("key", "no spaces", "$.key", "Use letters"),
        ("key", "", "$.key", "Use letters"),
        ("variants", {}, "$.variants", "at least one"),
        ("variants.on", 1, "$.variants.on", "true or false"),
        ("default", "of", "$.default", "Did you mean `off`?"),
        ("off", "onn", "$.off", "Did you mean `on`?"),
        ("expires", "2026-13-01", "$.expires", "YYYY-MM-DD"),
        ("expires", "20261201", "$.expires", "YYYY-MM-DD"),
        ("environments.production.default", "x", "$.environments.production.default", "`off`"),
        (f"{RULES}[0].id", "a b", f"$.{RULES}[0].id", "Use letters"),
        (f"{RULES}[0].serve", "on", f"$.{RULES}[0]", "exactly one"),
        (f"{RULES}[0].split", None, f"$.{RULES}[0]", "exactly one"),
        (f"{RULES}[0].split.percent", 101, f"$.{RULES}[0].split.percent", "0 to 100"),
        (f"{RULES}[0].split.percent", -0.1, f"$.{RULES}[0].split.percent", "0 to 100"),
        (f"{RULES}[0].split.percent", "101%", f"$.{RULES}[0].split.percent", "0 to 100"),
        (f"{RULES}[0].split.control", "offf", f"$.{RULES}[0].split.control", "`off`"),
        (f"{RULES}[0].split.salt", "\ud800", f"$.{RULES}[0].split.salt", "UTF-8"),
        (f"{RULES}[0].split.lease_s", 1, f"$.{RULES}[0].split.lease_s", "5 s"),
        (f"{RULES}[0].split.treatments", [], f"$.{RULES}[0].split.treatments", "at least one"),
        (
            f"{RULES}[0].split.treatments[0].variant", "onn",
            f"$.{RULES}[0].split.treatments[0].variant", "Did you mean `on`?",
        ),
        (
            f"{RULES}[0].split.treatments[0].variant", "off",
            f"$.{RULES}[0].split.treatments[0].variant", "control",
        ),
        (
            f"{RULES}[0].split.treatments[0].weight", 0,
            f"$.{RULES}[0].split.treatments[0].weight", "from 1",
        ),
        (
            f"{RULES}[0].split.treatments",
            [{"variant": "on", "weight": 60000}, {"variant": "max", "weight": 60000}],
            f"$.{RULES}[0].split.treatments", "100000 at most",
        ),
        (f"{RULES}[0].when[0].value", [], f"$.{RULES}[0].when[0].value", "1 to 10000"),
        (f"{RULES}[0].when[0].value", "US", f"$.{RULES}[0].when[0].value", "list"),
        (f"{RULES}[0].when[0].op", ">", f"$.{RULES}[0].when[0].value", "number or a text"),
        (f"{RULES}[0].when[0].op", "exists", f"$.{RULES}[0].when[0].value", "Leave"),
        (f"{RULES}[0].when[0].op", "startswith", f"$.{RULES}[0].when[0].op", "`starts-with`"),
        (f"{RULES}[0].when[0].attribute", "", f"$.{RULES}[0].when[0].attribute", "1 to"),
        (f"{RULES}[0].wen", [], f"$.{RULES}[0].wen", "Did you mean `when`?"),
    ],
)  # fmt: skip
def test_a_flag_that_cannot_be_says_where_and_what_to_do(
    path: str, value: object, where: str, words: str
) -> None:
    with pytest.raises(Invalid) as caught:
        document.read(Flag, changed(path, value))
    assert caught.value.where == where
    assert words in caught.value.hint


def test_a_rule_id_used_twice_is_refused_at_the_second() -> None:
    rules = [{"id": "r", "serve": "on"}, {"id": "r", "serve": "off"}]
    with pytest.raises(Invalid) as caught:
        document.read(Flag, changed(RULES, rules))
    assert caught.value.where == f"$.{RULES}[1].id"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", 1.5), ("integer", True), ("integer", 2**53), ("float", "1"), ("float", True),
        ("float", float("nan")), ("string", 1), ("boolean", "true"), ("object", "x"),
        ("object", {"a": {1: 2}}), ("object", {"a": float("inf")}), ("object", {"a": (1,)}),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused(kind: str, value: object) -> None:
    with pytest.raises(Invalid, match="is not a value of kind"):
        document.read(
            Flag,
            {"key": "k", "kind": kind, "variants": {"v": value}, "default": "v", "off": "v"},
        )


def test_whole_numbers_of_a_float_flag_are_floats_from_the_start() -> None:
    flag = document.read(
        Flag, {"key": "k", "kind": "float", "variants": {"v": 1}, "default": "v", "off": "v"}
    )
    assert type(flag.variants["v"]) is float


@given(flag=flags())
def test_writing_and_reading_a_flag_gives_the_same_flag(flag: Flag) -> None:
    assert document.read(Flag, document.write(flag)) == flag
