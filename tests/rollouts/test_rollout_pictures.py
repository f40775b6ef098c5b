"""The picture of a guard and the step bar: what they show is where it is, and stays in its box."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from inprod.guards.evidence import GuardEvidence, Judgement
from inprod.guards.guard import Guard, Kind, Verdict
from inprod.rollouts.edge.figure import WIDTH, figure
from inprod.rollouts.edge.view import steps_of, tiles_of, view_of
from inprod.rollouts.rollout import Phase, Plan, Step
from inprod.rollouts.state import State

SECOND_NS = 1_000_000_000
EVIDENCE = GuardEvidence(
    guard="errors", kind="errors", verdict=Verdict.UNDECIDED, sentence="Not yet.", estimate=1.0,
    low=0.8, high=1.3, margin_abort=1.1, margin_promote=1.5,
)  # fmt: skip
PLAN = Plan(
    name="checkout-1", environment="production", dial="flag/new-checkout",
    steps=tuple(Step(level=level, bake_s=60) for level in (1.0, 5.0, 25.0)),
    guards=(Guard(name="errors", kind=Kind.ERRORS),),
)  # fmt: skip
ratios = st.floats(1e-6, 1e6)
numbers = st.floats(-1e9, 1e9)


@given(ratios, ratios, ratios, st.sampled_from(["errors", "latency", "rate"]))
def test_a_ratio_stays_in_the_box_and_in_its_order(
    first: float, second: float, third: float, kind: str
) -> None:
    low, estimate, high = sorted((first, second, third))
    given = replace(EVIDENCE, kind=kind, low=low, estimate=estimate, high=high)
    drawn = figure(given)
    assert drawn is not None
    assert drawn.low_x >= 0
    assert drawn.low_x + drawn.width <= WIDTH
    if drawn.estimate_x is not None:
        assert drawn.low_x - 0.2 <= drawn.estimate_x <= drawn.low_x + drawn.width + 0.2
    assert all(0 <= mark.x <= WIDTH for mark in (*drawn.margins, *drawn.ticks))
    abort, promote = (mark.x for mark in sorted(drawn.margins, key=lambda mark: mark.kind))
    assert abort < promote, "1.1 is left of 1.5"


@given(numbers, numbers, numbers, numbers)
def test_a_difference_stays_in_the_box(a: float, b: float, c: float, margin: float) -> None:
    low, estimate, high = sorted((a, b, c))
    given = replace(
        EVIDENCE, kind="mean", low=low, estimate=estimate, high=high, margin_abort=margin,
        margin_promote=None,
    )  # fmt: skip
    drawn = figure(given)
    assert drawn is not None
    assert drawn.low_x >= 0
    assert drawn.low_x + drawn.width <= WIDTH


def test_an_interval_that_goes_on_beyond_the_picture_says_so() -> None:
    drawn = figure(replace(EVIDENCE, low=0.001, high=900.0))
    assert drawn is not None
    assert drawn.low_cut
    assert drawn.high_cut


def test_an_end_that_nobody_knows_yet_goes_on_for_ever() -> None:
    drawn = figure(replace(EVIDENCE, estimate=18.0, low=1.6, high=None))
    assert drawn is not None
    assert drawn.high_cut
    assert not drawn.low_cut


def test_without_an_interval_there_is_no_picture() -> None:
    assert figure(replace(EVIDENCE, low=None, high=None)) is None
    assert figure(replace(EVIDENCE, high=float("nan"))) is None


def test_the_step_bar_shows_what_is_done_what_bakes_and_what_is_to_come() -> None:
    state = State(phase=Phase.BAKING, step=1, level=5.0, arrived=True, bake_from_ns=0)
    steps = steps_of(PLAN, state, now_ns=15 * SECOND_NS)
    assert [step.state for step in steps] == ["done", "now", "todo"]
    assert [step.fraction for step in steps] == [1.0, 0.25, 0.0]
    assert steps[1].label == "15 s of 60 s"


def test_the_step_bar_of_a_rollout_that_went_back_shows_how_far_it_had_come() -> None:
    state = State(phase=Phase.ROLLED_BACK, step=1, level=0.0)
    steps = steps_of(PLAN, state, now_ns=0, peak_step=1)
    assert [step.state for step in steps] == ["undone", "undone", "todo"]
    assert steps[1].label == "turned back"


def test_the_sentence_says_the_step_and_ends_once() -> None:
    state = State(phase=Phase.BAKING, step=1, level=5.0, arrived=True)
    view = view_of(PLAN, state, sentence="baking.", users_exposed=7, now_ns=0)
    assert view.sentence == "Step 2 of 3: baking."
    assert view.next_level == 25.0
    assert view.dial_href == "/flags/new-checkout?environment=production"


def test_nobody_may_steer_a_rollout_that_has_ended() -> None:
    for phase in (Phase.PROMOTED, Phase.ROLLED_BACK, Phase.STOPPED):
        state = State(phase=phase, step=1, level=5.0, arrived=True)
        view = view_of(PLAN, state, sentence="over", users_exposed=7, now_ns=0)
        assert view.has_ended
        assert not view.may_pause
        assert not view.may_resume
        assert view.next_level is None


def test_a_threshold_has_a_number_and_no_arms() -> None:
    evidence = replace(EVIDENCE, kind="threshold", margin_promote=None)
    judgement = Judgement(
        bucket=1, verdict=Verdict.UNDECIDED, sentence="Not yet.", guards=(evidence,)
    )
    (tile,) = tiles_of(PLAN, judgement, {})
    assert tile.scale == "value"
    assert tile.figure is None
