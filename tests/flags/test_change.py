from __future__ import annotations

import pytest
from hypothesis import given

from inprod.errors import InprodError, Invalid, Missing
from inprod.flags.change import (
    MoveRule,
    PutRule,
    RemoveRule,
    SetAbout,
    SetDefault,
    SetEnabled,
    SetPercent,
    apply,
    diff,
    read_change,
    settle,
    touches,
)
from inprod.flags.flag import Flag, Rule
from support.flag_server import flag_of
from support.flag_values import PERCENTS, flags

ON = Rule(id="staff", serve="on")


def split(flag: Flag):
    return flag.environments["production"].rules[0].split


@given(percent=PERCENTS)
def test_setting_a_percent_keeps_the_salt_and_everything_else(percent: float) -> None:
    flag = flag_of()
    turned = apply(flag, SetPercent(environment="production", rule="beta", percent=percent))
    assert split(turned).percent == percent
    assert split(turned).salt == split(flag).salt
    back = SetPercent(environment="production", rule="beta", percent=split(flag).percent)
    assert apply(turned, back) == flag


def test_only_a_reshuffle_changes_the_salt() -> None:
    change = SetPercent(
        environment="production", rule="beta", percent=5.0, reshuffle=True, salt="fresh"
    )
    new = apply(flag_of(), change)
    assert split(new).salt == "fresh"
    assert "rule `beta` is reshuffled" in " ".join(diff(flag_of(), new))
    for odd in ({"salt": "x"}, {"reshuffle": True}):
        with pytest.raises(Invalid, match="go together"):
            SetPercent(environment="production", rule="beta", percent=5.0, **odd)


def test_rules_are_put_moved_and_removed_in_order() -> None:
    flag = apply(flag_of(), PutRule(environment="production", rule=ON, position=0))
    assert [rule.id for rule in flag.environments["production"].rules] == ["staff", "beta"]
    flag = apply(flag, MoveRule(environment="production", rule="staff", position=9))
    assert [rule.id for rule in flag.environments["production"].rules] == ["beta", "staff"]
    again = apply(flag, PutRule(environment="production", rule=Rule(id="beta", serve="on")))
    assert [rule.id for rule in again.environments["production"].rules] == ["beta", "staff"]
    flag = apply(flag, RemoveRule(environment="production", rule="staff"))
    assert flag == flag_of()


def test_a_rule_in_an_environment_without_state_switches_it_on() -> None:
    flag = apply(flag_of(environments={}), PutRule(environment="production", rule=ON))
    assert flag.environments["production"].enabled
    off = apply(flag_of(environments={}), SetDefault(environment="production", default="on"))
    assert not off.environments["production"].enabled


@pytest.mark.parametrize(
    "change",
    [
        SetPercent(environment="production", rule="bata", percent=1.0),
        SetPercent(environment="nowhere", rule="beta", percent=1.0),
        RemoveRule(environment="production", rule="x"),
        SetDefault(environment="production", default="onn"),
    ],
)
def test_a_change_of_what_is_not_there_is_refused_with_a_hint(change) -> None:
    with pytest.raises((Missing, Invalid)) as caught:
        apply(flag_of(), change)
    assert caught.value.hint


def test_a_percent_of_101_is_refused() -> None:
    with pytest.raises(Invalid, match="`101` is not a percent"):
        apply(flag_of(), SetPercent(environment="production", rule="beta", percent=101.0))


def test_changes_are_read_by_name() -> None:
    change = read_change(
        {"change": "set_percent", "environment": "e", "rule": "r", "percent": "5%"}
    )
    assert change == SetPercent(environment="e", rule="r", percent=5.0)
    for plain in ({"change": "set_percnt"}, {}, [], {"change": "set_enabled", "x": 1}):
        with pytest.raises(InprodError):
            read_change(plain)


def test_a_change_is_told_in_sentences() -> None:
    old = flag_of()
    new = apply(old, SetPercent(environment="production", rule="beta", percent=50.0))
    new = apply(new, SetEnabled(environment="staging", enabled=True))
    new = apply(new, SetAbout(owner="ann"))
    assert diff(old, new) == (
        "`owner` goes from `` to `ann`.",
        "In `production`: rule `beta` goes from 30 % to 50 %.",
        "In `staging`: it is switched on.",
    )
    assert diff(None, old) == ("Flag `new-checkout` is new.",)
    assert diff(old, None) == ("Flag `new-checkout` is archived.",)


@given(old=flags(), new=flags())
def test_there_is_a_sentence_exactly_when_something_changed(old: Flag, new: Flag) -> None:
    assert bool(diff(old, new)) == (old != new)


def test_salts_left_empty_are_kept_or_minted() -> None:
    bare = {"control": "off", "treatments": [{"variant": "on"}]}
    flag = flag_of(environments={"production": {"rules": [{"id": "beta", "split": bare}]}})
    assert split(settle(flag, None, lambda: "minted")).salt == "minted"
    assert split(settle(flag, flag_of(), lambda: "minted")).salt == "s1"
    assert settle(flag_of(), None, lambda: "minted") == flag_of()


def test_what_a_change_can_affect_is_known() -> None:
    old = flag_of()
    change = SetPercent(environment="production", rule="beta", percent=1.0)
    assert touches(old, apply(old, change)) == {"production"}
    assert touches(old, apply(old, SetAbout(owner="x"))) == frozenset()
    assert touches(old, flag_of(default="on")) is None
    assert touches(None, old) == {"production", "staging"}
