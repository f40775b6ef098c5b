"""Numbers with units, as people write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod.errors import Invalid
from inprod.units import Unit, parse, render_percent, render_s


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [
        ("250ms", Unit.SECONDS, 0.25),
        ("1h30m", Unit.SECONDS, 5400.0),
        ("7d", Unit.SECONDS, 604800.0),
        (" 5 s ", Unit.SECONDS, 5.0),
        ("12", Unit.SECONDS, 12.0),
        (3, Unit.SECONDS, 3.0),
        ("5%", Unit.PERCENT, 5.0),
        ("0.25 %", Unit.PERCENT, 0.25),
        ("1k/s", Unit.PER_SECOND, 1000.0),
        ("60/m", Unit.PER_SECOND, 1.0),
        ("64KB", Unit.BYTES, 64000.0),
        ("1KiB", Unit.BYTES, 1024.0),
    ],
)
def test_a_number_with_its_unit_is_read(text, unit, number):
    assert parse(text, unit) == pytest.approx(number)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("", Unit.SECONDS), ("soon", Unit.SECONDS), ("5 parsecs", Unit.SECONDS),
        ("-5s", Unit.SECONDS), ("nan", Unit.SECONDS), (math.inf, Unit.SECONDS),
        ("5s", Unit.PERCENT), ("5%5%", Unit.PERCENT), (True, Unit.PERCENT), (None, Unit.BYTES),
        ([1], Unit.SECONDS), ("5e999", Unit.PERCENT), ("1" * 400 + "s", Unit.SECONDS),
    ],
)  # fmt: skip
def test_what_is_not_a_number_of_the_unit_is_refused_with_an_example(text, unit):
    with pytest.raises(Invalid) as caught:
        parse(text, unit)
    assert caught.value.code == "unreadable_number"
    assert "Write a" in caught.value.hint


@given(st.floats(min_value=1e-3, max_value=1e6))
def test_a_duration_is_rendered_close_to_what_it_is(seconds):
    text = render_s(seconds).replace("min", "m").replace(" ", "")
    assert parse(text, Unit.SECONDS) == pytest.approx(seconds, rel=0.02, abs=5.1e-4)


def test_a_percent_is_rendered_without_trailing_zeros():
    assert render_percent(5.0) == "5 %"
    assert render_percent(0.25) == "0.25 %"
