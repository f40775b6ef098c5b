"""How pages say times and numbers."""

from __future__ import annotations

import math

import pytest

from inprod.server.words import ago, clock, marked, measured, number, odds, sentence, short

SECOND_NS = 1_000_000_000
NOW_NS = 1_795_349_000 * SECOND_NS


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "just now"), (1, "1 s ago"), (119, "119 s ago"), (200, "3 min ago"),
     (3 * 3600, "3 h ago"), (86_400 * 5, "5 d ago"), (-90, "in 90 s")],
)  # fmt: skip
def test_a_time_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert ago(NOW_NS - int(seconds * SECOND_NS), NOW_NS) == said


def test_a_time_of_another_day_has_its_date() -> None:
    assert len(clock(NOW_NS, NOW_NS)) == len("14:03:22")
    assert clock(NOW_NS - 86_400 * 2 * SECOND_NS, NOW_NS).startswith("2026-11-")


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "–"), (math.nan, "–"), (1840, "1,840"), (0.123456, "0.1235"), (1e-9, "1e-09"),
     (12345.6, "12,346"), (math.inf, "∞"), ("text", "text"), (True, "True")],
)  # fmt: skip
def test_a_number_has_four_digits_at_most(value: object, said: str) -> None:
    assert number(value) == said


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [(0.04397, 3, "0.044"), (82.48, 3, "82.5"), (999.7, 3, "1,000"), (347.3, 3, "347"),
     (12.94, 2, "13"), (0.929, 2, "0.93"), (1240.4, 2, "1,240"), (None, 3, "–"),
     (math.inf, 2, "∞")],
)  # fmt: skip
def test_a_measurement_claims_no_more_digits_than_it_has(
    value: float | None, digits: int, said: str
) -> None:
    assert measured(value, digits) == said


def test_large_numbers_are_short_where_space_is() -> None:
    assert [short(value) for value in (840, 12_345, 4_500_000)] == ["840", "12.3k", "4.5M"]


def test_odds_say_no_more_than_anybody_can_use() -> None:
    assert odds(math.log(20)) == "20"
    assert odds(50.0) == "over 1,000,000"
    assert odds(-50.0) == "under 0.001"


def test_what_stands_in_backticks_is_code_and_nothing_else_is_markup() -> None:
    said = str(marked("`<b>` is not a flag & never was"))
    assert said == '<code class="chip">&lt;b&gt;</code> is not a flag &amp; never was'


def test_a_sentence_begins_and_ends_once() -> None:
    assert sentence("it broke") == "It broke."
    assert sentence("Did it?") == "Did it?"
