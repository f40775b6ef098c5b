from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod import document
from inprod.flags.change import RenameVariant, apply
from inprod.flags.condition import compile_condition
from inprod.flags.evaluate import Problem, Reason, compile_flag, compile_with, explain
from inprod.flags.flag import Condition, Flag
from inprod.operators import Op
from support.flag_server import flag_of
from support.flag_values import CONTEXTS, SCALARS, conditions, flags
from support.source import ROOT

VECTORS = json.loads((ROOT / "spec" / "evaluations.json").read_text())


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_evaluations_agree_with_the_published_vectors(case: dict[str, object]) -> None:
    flag = document.read(Flag, VECTORS["flags"][case["flag"]])
    found = compile_flag(flag, str(case["environment"]))(case["context"], None)
    said = {
        "value": found.value,
        "variant": found.variant,
        "reason": found.reason.value,
        "rule": found.rule,
        "error": None if found.error is None else found.error.value,
    }
    assert said == case["says"]
    assert type(found.value) is type(case["says"]["value"])


@given(flag=flags(), context=CONTEXTS, key=st.sampled_from((None, "", "u1", "someone")))
def test_the_explanation_says_what_the_closure_says(
    flag: Flag, context: dict[str, object], key: str | None
) -> None:
    found = compile_flag(flag, "production")(context, key)
    why = explain(flag, "production", context, key)
    assert why.evaluation == found
    assert why.sentence
    matched = [tried.rule for tried in why.path if tried.matched]
    assert matched == ([found.rule] if found.rule else [])


@given(flag=flags(), context=CONTEXTS)
def test_the_answer_is_always_one_of_those_built_beforehand(
    flag: Flag, context: dict[str, object]
) -> None:
    built = []

    def keep(evaluation):
        built.append(evaluation)
        return evaluation

    closure = compile_with(flag, "production", keep)
    found = closure(context, None)
    assert any(found is one for one in built)
    if found.error is None:
        assert found.value == flag.variants[found.variant]
    else:
        assert (found.reason, found.value) == (Reason.ERROR, None)


@given(condition=conditions(), context=CONTEXTS)
def test_a_negative_claim_is_the_opposite_of_its_positive_one(
    condition: Condition, context: dict[str, object]
) -> None:
    opposite = {
        Op.EQUAL: Op.NOT_EQUAL, Op.IN: Op.NOT_IN, Op.EXISTS: Op.DOES_NOT_EXIST,
        Op.STARTS_WITH: Op.DOES_NOT_START_WITH, Op.ENDS_WITH: Op.DOES_NOT_END_WITH,
        Op.CONTAINS: Op.DOES_NOT_CONTAIN,
    }.get(condition.op)  # fmt: skip
    if opposite is None:
        return
    other = Condition(attribute=condition.attribute, op=opposite, value=condition.value)
    holds = compile_condition(condition)(context, None)
    assert compile_condition(other)(context, None) is not holds


@given(flag=flags(), context=CONTEXTS, old=st.sampled_from("abcd"))
def test_renaming_a_variant_moves_nobody(flag: Flag, context: dict[str, object], old: str) -> None:
    before = compile_flag(flag, "production")(context, None)
    renamed = apply(flag, RenameVariant(variant=old, name="new-name"))
    after = compile_flag(renamed, "production")(context, None)
    assert after.value == before.value
    assert after.variant == ("new-name" if before.variant == old else before.variant)


@given(value=SCALARS, wanted=SCALARS)
def test_true_is_not_one_and_text_is_not_a_number(value: object, wanted: object) -> None:
    condition = Condition(attribute="x", op=Op.EQUAL, value=wanted)
    same = value == wanted and isinstance(value, bool) == isinstance(wanted, bool)
    assert compile_condition(condition)({"x": value}, None) is same


def test_the_unit_may_come_from_the_targeting_key_or_a_nested_object() -> None:
    evaluate = compile_flag(flag_of(), "production")
    plain = evaluate({"country": "US", "user.id": "u9"}, None)
    for context, key in (
        ({"country": "US"}, "u9"),
        ({"country": "US", "targetingKey": "u9"}, None),
        ({"country": "US", "user": {"id": "u9"}}, None),
    ):
        assert evaluate(context, key) is plain


@pytest.mark.parametrize(
    ("unit", "problem"),
    [
        (None, Problem.TARGETING_KEY_MISSING),
        ("", Problem.TARGETING_KEY_MISSING),
        (True, Problem.INVALID_CONTEXT),
        (1.5, Problem.INVALID_CONTEXT),
        (["u"], Problem.INVALID_CONTEXT),
        ("\ud800", Problem.INVALID_CONTEXT),
    ],
)
def test_a_unit_that_is_absent_or_odd_is_a_typed_error(unit: object, problem: Problem) -> None:
    found = compile_flag(flag_of(), "production")({"country": "US", "user.id": unit}, None)
    assert (found.error, found.rule, found.value) == (problem, "beta", None)
    assert explain(flag_of(), "production", {"country": "US", "user.id": unit}).sentence


def test_a_whole_number_is_the_unit_that_it_is_written_as() -> None:
    evaluate = compile_flag(flag_of(), "production")
    for number in range(20):
        one = {"country": "US", "user.id": number}
        assert evaluate(one, None) is evaluate({**one, "user.id": str(number)}, None)


def test_silence_ends_the_leases_that_are_over_and_no_others() -> None:
    split = {"control": "off", "treatments": [{"variant": "on"}], "salt": "s", "percent": 100}
    rules = [
        {"id": "short", "when": [{"attribute": "x", "op": "=", "value": 1}],
         "split": {**split, "lease_s": 15}},
        {"id": "long", "when": [{"attribute": "x", "op": "=", "value": 2}],
         "split": {**split, "lease_s": 60}},
        {"id": "none", "split": split},
    ]  # fmt: skip
    flag = flag_of(environments={"production": {"rules": rules}})
    served = {
        silence_s: [
            compile_with(flag, "production", lambda e: e, silence_s=silence_s)(
                {"x": x, "user.id": "u"}, None
            ).variant
            for x in (1, 2, 3)
        ]
        for silence_s in (14.9, 15.0, 60.0)
    }
    assert served == {
        14.9: ["on", "on", "on"],
        15.0: ["off", "on", "on"],
        60.0: ["off", "off", "on"],
    }
