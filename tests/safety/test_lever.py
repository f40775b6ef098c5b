from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod.errors import Invalid, Missing
from inprod.safety.cap import Caps, duration_breach, level_breach, users_breach
from inprod.safety.environment import check_name, require
from inprod.safety.lever import Lever, Pulled, Scope, pulled_over

EVERYTHING = Lever(scope=Scope.EVERYTHING)
PRODUCTION = Lever(scope=Scope.ENVIRONMENT, environment="production")
CHECKOUT = Lever(scope=Scope.DIAL, environment="production", dial="flag/checkout")


def pulled(*levers: Lever) -> list[Pulled]:
    return [Pulled(lever=one, time_ns=n, actor="ana", reason="") for n, one in enumerate(levers)]


def test_an_unknown_environment_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(Missing) as caught:
        require("produdction", ("production", "staging"))
    assert str(caught.value) == ("`produdction` is not an environment. Did you mean `production`?")


def test_without_any_environment_the_hint_says_how_to_declare_one() -> None:
    with pytest.raises(Missing, match="Declare it first"):
        require("production", ())


@pytest.mark.parametrize("name", ["", "Production", "a b", "-x", "x" * 64, "ü"])
def test_a_name_that_cannot_be_an_environment_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        check_name(name)


@pytest.mark.parametrize(
    ("lever", "environment", "dial", "covered"),
    [
        (EVERYTHING, "staging", "flag/x", True),
        (PRODUCTION, "production", "flag/x", True),
        (PRODUCTION, "staging", "flag/x", False),
        (CHECKOUT, "production", "flag/checkout", True),
        (CHECKOUT, "production", "flag/other", False),
        (CHECKOUT, "staging", "flag/checkout", False),
    ],
)
def test_a_lever_covers_all_that_is_below_it(
    lever: Lever, environment: str, dial: str, covered: bool
) -> None:
    assert lever.covers(environment=environment, dial=dial) is covered


def test_the_widest_pulled_lever_is_named() -> None:
    over = pulled_over(
        pulled(CHECKOUT, EVERYTHING, PRODUCTION), environment="production", dial="flag/checkout"
    )
    assert over is not None
    assert over.lever is EVERYTHING


@pytest.mark.parametrize(
    "names",
    [
        {"scope": Scope.EVERYTHING, "environment": "production"},
        {"scope": Scope.ENVIRONMENT},
        {"scope": Scope.DIAL, "dial": "flag/x"},
    ],
)
def test_a_lever_whose_scope_and_names_disagree_is_refused(names: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="named otherwise"):
        Lever(**names)  # type: ignore[arg-type]


@given(
    level=st.floats(0.1, 100), step=st.floats(0.1, 100),
    low=st.floats(0, 100), high=st.floats(0, 100),
)  # fmt: skip
def test_lowering_is_never_refused_by_a_cap(
    level: float, step: float, low: float, high: float
) -> None:
    caps = Caps(level=level, step=step, users=1, duration_s=1.0)
    low, high = min(low, high), max(low, high)
    assert level_breach(caps, from_level=high, to_level=low) == ""


def test_each_cap_says_what_it_refuses() -> None:
    caps = Caps(level=50.0, step=20.0, users=100, duration_s=3600.0)
    assert "over the cap of 50" in level_breach(caps, from_level=40, to_level=60)
    assert "in one step" in level_breach(caps, from_level=10, to_level=40)
    assert level_breach(caps, from_level=30, to_level=50) == ""
    assert users_breach(caps, users_exposed=99) == ""
    assert users_breach(caps, users_exposed=100) == "100 users have seen it, the cap is 100"
    assert duration_breach(caps, above_safe_s=3599) == ""
    assert "the cap is 60 min" in duration_breach(caps, above_safe_s=3600)


@pytest.mark.parametrize("name", ["level", "step", "duration_s", "users"])
def test_a_cap_of_zero_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        Caps(**{name: 0})
