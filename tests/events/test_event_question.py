"""Explore's address: the form makes it, it makes the form again, and both make one query."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod.errors import Invalid
from inprod.events.edge.question import Form, Row, form_of, query_of, value_of
from inprod.events.query import Calculate, Calculation, Filter
from inprod.operators import Op

texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12).map(str.strip)
named = texts.filter(bool)
calculations = st.builds(Row, op=st.sampled_from([one.value for one in Calculate]), column=texts)
filters = st.builds(Row, op=st.sampled_from([one.value for one in Op]), column=named, value=texts)
forms = st.builds(
    Form,
    dataset=texts, environment=texts, calculations=st.lists(calculations, max_size=3).map(tuple),
    filters=st.lists(filters, max_size=3).map(tuple), combine=st.sampled_from(["AND", "OR"]),
    breakdowns=st.lists(named, max_size=3).map(tuple), range=texts, start=texts, end=texts,
    limit=texts,
)  # fmt: skip


def fields_of(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query, keep_blank_values=True)


@given(forms)
def test_a_form_is_read_back_from_its_own_address(form: Form) -> None:
    assert form_of(fields_of(form.url)) == form


def test_rows_left_empty_say_nothing() -> None:
    fields = {"calc": ["COUNT", ""], "of": ["", ""], "where": ["", ""], "op": ["=", "="],
              "value": ["", ""], "by": ["", ""], "dataset": [""]}  # fmt: skip
    query = query_of(form_of(fields))
    assert query.calculations == (Calculation(op=Calculate.COUNT),)
    assert query.filters == ()
    assert query.breakdowns == ()
    assert query.dataset is None


def test_the_words_of_the_form_become_the_query() -> None:
    form = Form(
        calculations=(Row(op="P99", column="duration_ms"),),
        filters=(
            Row(column="http.route", op="in", value="/pay, /cart"),
            Row(column="duration_ms", op=">", value="20.50"),
            Row(column="user.id", op="exists", value="ignored"),
            Row(column="zip", op="=", value="007"),
        ),
        combine="or", range="10m",
    )  # fmt: skip
    query = query_of(form)
    assert query.calculations == (Calculation(op=Calculate.P99, column="duration_ms"),)
    assert query.filters == (
        Filter(column="http.route", op=Op.IN, value=("/pay", "/cart")),
        Filter(column="duration_ms", op=Op.GREATER, value=20.5),
        Filter(column="user.id", op=Op.EXISTS),
        Filter(column="zip", op=Op.EQUAL, value="007"),
    )
    assert query.filter_combination == "OR"
    assert query.time_range == 600.0


def test_two_times_leave_no_room_for_a_range() -> None:
    query = query_of(Form(start="2026-11-22T12:00:00", end="2026-11-22T12:10:00", range="1h"))
    assert query.time_range is None
    assert query.start_time is not None
    assert query.end_time == query.start_time + 600


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (Form(calculations=(Row(op="P98", column="x"),)), "`P98`"),
        (Form(filters=(Row(column="x", op="~", value="1"),)), "`~`"),
        (Form(start="noon"), "`noon`"),
        (Form(range="soon"), "`soon`"),
        (Form(limit="all"), "`all`"),
    ],
)
def test_what_cannot_be_read_is_named(form: Form, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        query_of(form)


def test_only_what_prints_back_the_same_is_a_number() -> None:
    assert value_of("500") == 500
    assert value_of("0.25") == 0.25
    assert [value_of(text) for text in ("007", "1e3", "+1", "nan", "inf", "x")] == [
        "007", "1e3", "+1", "nan", "inf", "x",
    ]  # fmt: skip
