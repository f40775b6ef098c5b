from __future__ import annotations

from typing import Any

import pytest

from inprod import document
from inprod.errors import Invalid
from inprod.events.query import Calculate, Filter
from inprod.guards.guard import LIMITS, NEEDED, USED, Guard, Kind
from inprod.operators import Op

OUTCOME = (Filter(column="name", op=Op.EQUAL, value="paid"),)
VALID: dict[Kind, dict[str, Any]] = {
    Kind.ERRORS: {},
    Kind.RATE: {},
    Kind.LATENCY: {},
    Kind.MEAN: {"column": "items", "clip": 10.0, "margin": 0.5},
    Kind.THRESHOLD: {"calculate": Calculate.COUNT, "ceiling": 5.0},
    Kind.SAMPLE_RATIO: {},
    Kind.COMPLETENESS: {"outcome": OUTCOME},
}


@pytest.mark.parametrize("kind", list(Kind))
def test_a_guard_with_just_what_its_kind_needs_is_accepted(kind: Kind) -> None:
    guard = Guard(name="g", kind=kind, **VALID[kind])
    assert document.read(Guard, document.write(guard)) == guard


@pytest.mark.parametrize("kind", [kind for kind in Kind if NEEDED[kind]])
def test_what_a_kind_needs_cannot_be_left_out(kind: Kind) -> None:
    for missing in NEEDED[kind]:
        given = {name: value for name, value in VALID[kind].items() if name != missing}
        with pytest.raises(Invalid) as caught:
            Guard(name="g", kind=kind, **given)
        assert caught.value.where == missing
        assert missing in caught.value.hint


def test_a_field_that_means_nothing_to_the_kind_is_refused() -> None:
    with pytest.raises(Invalid, match="`clip` means nothing to a errors guard"):
        Guard(name="g", kind=Kind.ERRORS, clip=3.0)
    with pytest.raises(Invalid) as caught:
        Guard(name="g", kind=Kind.LATENCY, promote_ratio=2.0)
    assert caught.value.where == "promote_ratio"


@pytest.mark.parametrize(
    ("kind", "given", "where"),
    [
        (Kind.ERRORS, {"abort_ratio": 0.9}, "abort_ratio"),
        (Kind.ERRORS, {"abort_ratio": float("nan")}, "abort_ratio"),
        (Kind.ERRORS, {"abort_ratio": 2.0}, "promote_ratio"),
        (Kind.ERRORS, {"promote_ratio": 51.0}, "promote_ratio"),
        (Kind.ERRORS, {"margin": 0.0}, "margin"),
        (Kind.ERRORS, {"margin": 1.0}, "margin"),
        (Kind.ERRORS, {"weight": 0.0}, "weight"),
        (Kind.LATENCY, {"quantile": 1.0}, "quantile"),
        (Kind.LATENCY, {"quantile": 99.0}, "quantile"),
        (Kind.LATENCY, {"slower": 1.0}, "slower"),
        (Kind.MEAN, {"column": "x", "clip": 1.0, "margin": 2.0}, "margin"),
        (Kind.MEAN, {"column": "x", "clip": -1.0, "margin": 2.0}, "clip"),
        (Kind.THRESHOLD, {"calculate": Calculate.AVG, "ceiling": 1.0}, "column"),
        (Kind.THRESHOLD, {"calculate": Calculate.HEATMAP, "column": "x", "ceiling": 1.0},
         "calculate"),
        (Kind.THRESHOLD, {"calculate": Calculate.COUNT, "ceiling": 1.0, "over_s": 0.0}, "over_s"),
        (Kind.COMPLETENESS, {"outcome": OUTCOME, "timeout_s": -1.0}, "timeout_s"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_with_its_place(
    kind: Kind, given: dict[str, Any], where: str
) -> None:
    with pytest.raises(Invalid) as caught:
        Guard(name="g", kind=kind, **given)
    assert caught.value.where == where
    assert caught.value.hint.endswith(".")


@pytest.mark.parametrize("name", ["", " ", "a b", "-x", "x" * 65, "ä"])
def test_a_name_that_would_not_fit_a_sentence_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="is not a guard's name"):
        Guard(name=name, kind=Kind.ERRORS)


def test_the_place_of_a_fault_in_a_document_is_its_path() -> None:
    with pytest.raises(Invalid) as caught:
        document.read(Guard, {"name": "g", "kind": "errors", "abort_ratio": 0.5})
    assert caught.value.where == "$.abort_ratio"


def test_the_tables_speak_of_real_fields_and_of_every_kind() -> None:
    known = set(Guard.__dataclass_fields__)
    assert set(USED) == set(NEEDED) == set(Kind)
    assert set().union(*USED.values(), LIMITS) <= known
    assert all(set(NEEDED[kind]) <= USED[kind] for kind in Kind)
