"""What the flag pages say of a flag: its cell, its marks, and how it changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inprod.errors import Invalid
from inprod.flags.edge.store import Past
from inprod.flags.edge.view import cell_of, changes_of, context_of, diff_of, marks_of
from inprod.flags.flag import Flag, Kind, Rule, Split, State, Treatment

DAY_NS = 86_400 * 1_000_000_000
NOW_NS = 1_795_349_000 * 1_000_000_000


def split_at(percent: float) -> State:
    split = Split(
        control="off", treatments=(Treatment(variant="on"),), salt="salt", percent=percent
    )
    return State(rules=(Rule(id="everyone", split=split),))


FLAG = Flag(
    key="new-checkout", kind=Kind.BOOLEAN, variants={"on": True, "off": False}, default="off",
    off="off", environments={"production": split_at(25)},
)  # fmt: skip


def test_a_cell_says_the_percent_and_who_sees_what() -> None:
    assert cell_of(FLAG, split_at(25)).text == "25 %"
    assert cell_of(FLAG, replace(split_at(25), enabled=False)).text == "off"
    assert cell_of(FLAG, None).detail == "serves off"
    assert cell_of(FLAG, State(default="on")).text == "on"


def test_marks_name_what_is_stale() -> None:
    expired = replace(FLAG, expires="2026-01-01")
    told = marks_of(expired, last_ns=NOW_NS, now_ns=NOW_NS, knows_evaluations=True)
    assert len(told) == 1
    assert told[0].startswith("expired ")
    settled = replace(FLAG, environments={"production": split_at(100)})
    assert marks_of(settled, last_ns=NOW_NS, now_ns=NOW_NS, knows_evaluations=True) == (
        "settled: remove it from the code",
    )
    unused = marks_of(FLAG, last_ns=NOW_NS - 8 * DAY_NS, now_ns=NOW_NS, knows_evaluations=True)
    assert unused == ("not evaluated for 8 d",)
    assert marks_of(FLAG, last_ns=None, now_ns=NOW_NS, knows_evaluations=False) == ()


def test_a_diff_shows_only_the_lines_around_what_changed() -> None:
    lines = diff_of(FLAG, replace(FLAG, environments={"production": split_at(50)}))
    changed = [line for line in lines if line.sign != " "]
    assert [line.sign for line in changed] == ["-", "+"]
    assert "25" in changed[0].text
    assert "50" in changed[1].text
    assert len(lines) < 10


def test_every_commit_is_compared_with_the_one_before_it() -> None:
    def past(revision: int, flag: Flag | None) -> Past:
        return Past(
            revision=revision, time_ns=NOW_NS, actor="ann", origin="page", reason="",
            sentences=(), flag=flag,
        )  # fmt: skip

    wider = replace(FLAG, environments={"production": split_at(50)})
    changes = changes_of([past(9, None), past(7, wider), past(3, FLAG)], current=7)
    assert [change.is_current for change in changes] == [False, True, False]
    assert [change.is_archived for change in changes] == [True, False, False]
    assert [bool(change.diff) for change in changes] == [True, True, False]


def test_the_context_that_was_typed_is_read_or_refused_in_words() -> None:
    assert context_of("u1", '{"plan": "beta"}') == {"user.id": "u1", "plan": "beta"}
    assert context_of("", "") == {}
    for text, said in (("{", "not JSON"), ("[1]", "not an object")):
        with pytest.raises(Invalid, match=said):
            context_of("u1", text)
