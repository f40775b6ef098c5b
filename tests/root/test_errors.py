"""Errors say who erred and what to do."""

import pytest

from inprod.errors import PUBLIC_ERRORS, Invalid, TooMuch, nearest


def test_every_error_has_its_own_status_and_exit_code():
    assert [error.status for error in PUBLIC_ERRORS] == [400, 403, 404, 409, 413, 503]
    assert [error.exit_code for error in PUBLIC_ERRORS] == [2, 3, 4, 5, 6, 7]


def test_the_text_holds_message_place_and_order():
    error = Invalid("bad", "`101` is not a percent", where="$.percent", hint="Use 0 to 100.")
    assert str(error) == "`101` is not a percent (at $.percent). Use 0 to 100."


@pytest.mark.parametrize(
    ("name", "known", "sentence"),
    [
        ("produdction", ["production", "staging"], "Did you mean `production`?"),
        ("xyz", ["production", "staging"], "Use one of `production`, `staging`."),
        ("xyz", [], "None is known."),
    ],
)
def test_the_nearest_name_is_suggested_never_used(name, known, sentence):
    assert nearest(name, known) == sentence


def test_too_much_with_a_time_to_wait_is_a_rate_limit():
    assert TooMuch("full", "the queue is full", retry_after_s=1).status == 429
    assert TooMuch("large", "too large").status == 413
