"""Hypothesis strategies for flag documents and evaluation contexts."""

from __future__ import annotations

from hypothesis import strategies as st

from inprod.flags.flag import BUCKETS, Condition, Flag, Kind, Rule, Split, State, Treatment
from inprod.operators import Op

ATTRIBUTES = ("user.id", "targetingKey", "country", "age", "beta", "device.os")
VARIANTS = ("a", "b", "c", "d")
TEXTS = st.sampled_from(("", "US", "CA", "u1", "USA", "xUS", "7", "é✓"))
SCALARS = st.one_of(TEXTS, st.booleans(), st.integers(-3, 40), st.sampled_from((0.5, 1.0, 7.0)))
FULL_TEXTS = TEXTS.filter(bool)
PERCENTS = st.one_of(
    st.integers(0, 100).map(float), st.integers(0, BUCKETS).map(lambda n: n / 1000)
)
UNITS = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())


def conditions() -> st.SearchStrategy[Condition]:
    """Return conditions whose value goes with their operator."""
    attribute = st.sampled_from(ATTRIBUTES)
    lists = st.lists(SCALARS, min_size=1, max_size=4).map(tuple)
    numbers = st.one_of(st.integers(-3, 40), FULL_TEXTS)
    texts = (Op.STARTS_WITH, Op.DOES_NOT_START_WITH, Op.ENDS_WITH, Op.DOES_NOT_END_WITH,
             Op.CONTAINS, Op.DOES_NOT_CONTAIN)  # fmt: skip
    ordered = (Op.GREATER, Op.GREATER_OR_EQUAL, Op.LESS, Op.LESS_OR_EQUAL)
    return st.one_of(
        st.builds(
            Condition, attribute=attribute, op=st.sampled_from((Op.EXISTS, Op.DOES_NOT_EXIST))
        ),
        st.builds(
            Condition, attribute=attribute, op=st.sampled_from((Op.IN, Op.NOT_IN)), value=lists
        ),
        st.builds(
            Condition,
            attribute=attribute,
            op=st.sampled_from((Op.EQUAL, Op.NOT_EQUAL)),
            value=SCALARS,
        ),
        st.builds(Condition, attribute=attribute, op=st.sampled_from(ordered), value=numbers),
        st.builds(Condition, attribute=attribute, op=st.sampled_from(texts), value=FULL_TEXTS),
    )


@st.composite
def splits(draw: st.DrawFn) -> Split:
    """Return a split over the variants, `a` being the control."""
    names = draw(st.lists(st.sampled_from(VARIANTS[1:]), min_size=1, max_size=3, unique=True))
    treatments = tuple(
        Treatment(variant=name, weight=draw(st.integers(1, BUCKETS // len(names))))
        for name in names
    )
    return Split(
        control="a",
        treatments=treatments,
        salt=draw(st.sampled_from(("s1", "s2", "s3"))),
        unit=draw(st.sampled_from(("user.id", "country"))),
        percent=draw(PERCENTS),
        lease_s=draw(st.sampled_from((None, 5.0, 60.0))),
    )


@st.composite
def flags(draw: st.DrawFn) -> Flag:
    """Return a string flag with up to three rules in production."""
    count = draw(st.integers(0, 3))
    rules: list[Rule] = []
    for number in range(count):
        when = tuple(draw(st.lists(conditions(), max_size=2)))
        if draw(st.booleans()):
            rules.append(Rule(id=f"r{number}", when=when, serve=draw(st.sampled_from(VARIANTS))))
        else:
            rules.append(Rule(id=f"r{number}", when=when, split=draw(splits())))
    state = State(
        enabled=draw(st.sampled_from((True, True, True, False))),
        rules=tuple(rules),
        default=draw(st.sampled_from((None, "b"))),
    )
    return Flag(
        key="f",
        kind=Kind.STRING,
        variants={name: f"value of {name}" for name in VARIANTS},
        default="c",
        off="d",
        environments={"production": state},
        tags=tuple(draw(st.lists(st.sampled_from(("x", "y")), max_size=2))),
    )


CONTEXTS = st.one_of(
    st.dictionaries(st.sampled_from(ATTRIBUTES), SCALARS, max_size=6),
    st.dictionaries(
        st.sampled_from((*ATTRIBUTES, "device", "user")),
        st.one_of(
            SCALARS, st.none(), st.lists(SCALARS, max_size=2),
            st.dictionaries(st.sampled_from(("os", "id")), SCALARS, max_size=2),
        ),
        max_size=6,
    ),
)  # fmt: skip
