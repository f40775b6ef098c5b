from __future__ import annotations

import io

from rich.console import Console

from inprod.cli.demo_story import Lines, Screen, View, counts, interval, picture, step_bar
from inprod.guards.evidence import GuardEvidence, Judgement
from inprod.guards.guard import Guard, Kind, Verdict
from inprod.rollouts.rollout import Phase, Plan, Step

PLAN = Plan(
    name="ranked-search", environment="production", dial="flag/ranked-search",
    steps=(Step(level=1), Step(level=50), Step(level=100)),
    guards=(Guard(name="failed-searches", kind=Kind.ERRORS),),
)  # fmt: skip
EVIDENCE = GuardEvidence(
    guard="failed-searches", kind="errors", verdict=Verdict.NO_EXPOSURES, sentence="So far.",
    log_e_abort=2.3, log_e_abort_needed=4.6, log_e_promote=9.0, log_e_promote_needed=3.0,
    estimate=1.25, low=0.5, high=None, treated_n=1200, control_n=34, treated_bad=7, control_bad=0,
)  # fmt: skip


def view(
    level: float, phase: Phase = Phase.BAKING, evidence: GuardEvidence = EVIDENCE, users: int = 1
) -> View:
    judgement = Judgement(
        bucket=1, verdict=evidence.verdict, sentence="So far.", guards=(evidence,)
    )
    return View(
        name="ranked-search", plan=PLAN, phase=phase, step=0, level=level, sentence="It bakes.",
        judgement=judgement, users_exposed=users,
    )  # fmt: skip


def test_the_step_bar_marks_the_level_in_force() -> None:
    assert step_bar(view(50)) == "1 % · [50 %] · 100 %"
    assert step_bar(view(0)) == "[0 %] · 1 % · 50 % · 100 %"


def test_counts_tell_both_sides_and_how_sure_it_is() -> None:
    told = counts(EVIDENCE)
    assert told == "no exposures; 7 of 1,200 with, 0 of 34 without; x1.2 (0.5 to any)"


def test_a_split_has_no_ratio_of_harm() -> None:
    split = GuardEvidence(
        guard="s", kind="sample_ratio", verdict=Verdict.HOLDS, sentence="", estimate=0.5
    )
    assert interval(split) == ""


def test_lines_tell_a_level_once_and_leave_out_that_the_dial_is_on_its_way() -> None:
    stream = io.StringIO()
    with Lines(stream) as teller:
        teller.look(view(1))
        teller.look(view(1))
        teller.look(view(50, Phase.RUNNING))
        teller.look(view(50))
    levels = [line for line in stream.getvalue().splitlines() if "·" in line]
    assert len(levels) == 2
    assert "[1 %]" in levels[0]
    assert "[50 %]" in levels[1]
    assert "1 user had it so far" in levels[0]


def test_the_picture_draws_evidence_either_way_as_bars() -> None:
    console = Console(file=io.StringIO(), width=150, force_terminal=False)
    console.print(picture(view(50, users=1234), 150))
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    assert "ranked-search: baking, 1,234 users had it" in drawn
    assert "██████······" in drawn  # half of what it takes to turn it back
    assert "████████████" in drawn  # all that it takes to let it out
    assert "It bakes." in drawn


def test_at_80_columns_no_word_of_the_picture_is_cut() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(picture(view(50, users=1234), 80))
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    assert "…" not in drawn
    assert "███···" in drawn


def test_the_screen_leaves_a_line_for_each_level() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=120, force_terminal=True, color_system=None)
    with Screen(console) as teller:
        teller.say("Once upon a time")
        teller.look(view(1))
        teller.look(view(100, Phase.PROMOTED))
        teller.turn_page()
    told = stream.getvalue()
    assert "Once upon a time" in told
    assert "[1 %]" in told
    assert "[100 %]   promoted" in told
