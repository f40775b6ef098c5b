"""Documents become dataclasses, or say what is wrong, where, and what to do."""

from dataclasses import dataclass, field
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod import document
from inprod.errors import Invalid
from inprod.units import Percent, Seconds


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    name: str
    percent: Percent = 0.0
    value: str | bool | int | float | tuple[int, ...] | None = None

    def __post_init__(self):
        if self.percent > 100:
            raise Invalid("percent", f"`{self.percent}` is over 100", where="percent", hint="Less.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    colour: Colour
    leaves: tuple[Leaf, ...] = ()
    by_name: dict[str, Leaf] = field(default_factory=dict)
    bake_s: Seconds | None = None


def test_units_enums_and_nested_objects_are_read():
    tree = document.read(
        Tree,
        {"colour": "red", "leaves": [{"name": "a", "percent": "5%"}], "bake_s": "2m",
         "by_name": {"b": {"name": "b", "value": True}}},
    )  # fmt: skip
    assert tree.leaves[0].percent == 5.0
    assert tree.bake_s == 120.0
    assert tree.by_name["b"].value is True


@pytest.mark.parametrize(
    ("plain", "code", "where", "hint"),
    [
        ({"colour": "red", "leafs": []}, "unknown_field", "$.leafs", "`leaves`"),
        ({"leaves": []}, "missing_field", "$", "`colour`"),
        ({"colour": "rod"}, "unknown_value", "$.colour", "`red`"),
        ({"colour": "red", "leaves": [{"name": 5}]}, "wrong_type", "$.leaves[0].name", "text"),
        ({"colour": "red", "leaves": {"name": "x"}}, "wrong_type", "$.leaves", "a list"),
        ({"colour": "red", "leaves": [{"name": "x", "percent": 101}]}, "percent",
         "$.leaves[0].percent", "Less"),
        ({"colour": "red", "by_name": {"q": {"name": "x", "percent": "150%"}}}, "percent",
         "$.by_name.q.percent", "Less"),
        ({"colour": "red", "bake_s": "soon"}, "unreadable_number", "$.bake_s", "`5s`"),
        ([], "wrong_type", "$", "an object"),
        ({"colour": None}, "unknown_value", "$.colour", ""),
        ({"colour": "red", "leaves": [{"name": "x", "value": {}}]}, "wrong_type",
         "$.leaves[0].value", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_place_and_order(plain, code, where, hint):
    with pytest.raises(Invalid) as caught:
        document.read(Tree, plain)
    assert (caught.value.code, caught.value.where) == (code, where)
    assert hint in caught.value.hint


def test_an_older_reader_leaves_out_what_it_does_not_know():
    assert document.read(Tree, {"colour": "red", "new": 1}, unknown="ignore").colour is Colour.RED


def test_true_is_never_read_as_one():
    assert document.read(Leaf, {"name": "x", "value": True}).value is True
    assert type(document.read(Leaf, {"name": "x", "value": 1}).value) is int


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(),
    st.lists(st.integers(), max_size=3).map(tuple),
)  # fmt: skip
leaves = st.builds(Leaf, name=st.text(), percent=st.floats(0, 100), value=values)
trees = st.builds(
    Tree, colour=st.sampled_from(Colour), leaves=st.lists(leaves, max_size=4).map(tuple),
    by_name=st.dictionaries(st.text(), leaves, max_size=3),
    bake_s=st.none() | st.floats(0, 1e6),
)  # fmt: skip


@given(trees)
def test_what_is_written_is_read_back_the_same(tree):
    assert document.read(Tree, document.write(tree)) == tree


@given(st.recursive(values, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_input_is_read_or_refused_as_invalid(plain):
    try:
        document.read(Tree, plain)
    except Invalid as error:
        assert error.where.startswith("$")
