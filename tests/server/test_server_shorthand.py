"""What people write in YAML means what the long form means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod import document
from inprod.errors import Invalid
from inprod.flags.flag import Flag
from inprod.rollouts.rollout import Plan
from inprod.server.shorthand import spelled_flag, spelled_plan

SHORT = {
    "kind": "rollout", "name": "r", "environment": "production", "dial": "flag/f",
    "steps": ["1%", {"level": "5%", "bake": "2m"}, 100], "batch": "1s", "deadline": "1d",
    "stale": "30s", "settle": "2s", "caps": {"duration": "3d"},
    "guards": [
        {"name": "errors", "kind": "errors", "timeout": "10s"},
        {"name": "cpu", "kind": "threshold", "column": "cpu", "calculate": "P99", "ceiling": 1,
         "over": "1m", "arm": "all"},
    ],
}  # fmt: skip


def test_a_plan_in_short_forms_is_the_plan_in_long_ones() -> None:
    plan = document.read(Plan, spelled_plan(SHORT, where="$"))
    assert [step.level for step in plan.steps] == [1, 5, 100]
    assert [step.bake_s for step in plan.steps] == [60, 120, 60]
    assert (plan.batch_s, plan.deadline_s, plan.stale_s, plan.settle_s) == (1, 86400, 30, 2)
    assert (plan.guards[0].timeout_s, plan.guards[1].over_s) == (10, 60)
    assert plan.caps.duration_s == 3 * 86400


def test_what_is_written_long_stays_as_it_is() -> None:
    plan = document.read(Plan, spelled_plan(SHORT, where="$"))
    written = document.write(plan)
    assert document.read(Plan, spelled_plan(written, where="$")) == plan


def test_a_flag_in_short_forms_is_the_flag_in_long_ones() -> None:
    split = {"control": "off", "treatments": ["on"], "percent": "5%", "lease": "10s"}
    short = {
        "kind": "flag", "key": "f", "type": "boolean", "variants": {"on": True, "off": False},
        "default": "off", "off": "off",
        "environments": {"production": {"rules": [{"id": "all", "split": split}]}, "staging": None},
    }  # fmt: skip
    flag = document.read(Flag, spelled_flag(short, where="$"))
    found = flag.environments["production"].rules[0].split
    assert found is not None
    assert (found.percent, found.lease_s, found.treatments[0].variant) == (5, 10, "on")
    assert flag.environments["staging"].enabled


def test_writing_one_thing_in_both_forms_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        spelled_plan({**SHORT, "batch_s": 1}, where="$[3]")
    assert (caught.value.code, caught.value.where) == ("written_twice", "$[3].batch")


short_text = st.text(max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | short_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short_text, inner, max_size=3),
    max_leaves=10,
)
words = st.sampled_from(
    ["kind", "type", "environments", "steps", "guards", "caps", "bake", "rules", "split", "lease"]
)


@given(st.dictionaries(words, json_values))
def test_any_shape_is_spelled_out_or_refused_but_never_crashes(plain: dict[str, object]) -> None:
    for spell in (spelled_flag, spelled_plan):
        try:
            spell(plain, where="$")
        except Invalid as error:
            assert error.where.startswith("$")
