from __future__ import annotations

import itertools
import json

import mmh3
from hypothesis import given
from hypothesis import strategies as st

from inprod import document
from inprod.flags.bucket import (
    HASHES,
    bucket,
    first_hash,
    hash_bytes,
    murmur3_32,
    slots,
    variant_of,
)
from inprod.flags.flag import BUCKETS, Split, Treatment
from support.flag_values import PERCENTS, UNITS, splits
from support.source import ROOT

VECTORS = json.loads((ROOT / "spec" / "buckets.json").read_text())
ONE = (Treatment(variant="on"),)


def test_the_hash_agrees_with_the_published_vectors() -> None:
    for vector in VECTORS["hashes"]:
        assert murmur3_32(vector["text"].encode()) == vector["hash"]
        assert hash_bytes(vector["text"].encode()) == vector["hash"]


def test_buckets_and_variants_agree_with_the_published_vectors() -> None:
    for vector in VECTORS["buckets"]:
        assert bucket(vector["salt"], vector["unit"]) == vector["bucket"]
    for vector in VECTORS["splits"]:
        split = document.read(Split, vector["split"])
        assert [[s.start, s.opened, s.end] for s in slots(split)] == vector["slots"]
        for unit, variant in vector["units"].items():
            assert variant_of(split, bucket(split.salt, unit)) == variant


@given(text=st.text(max_size=40))
def test_the_hash_in_python_is_the_hash_in_c(text: str) -> None:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    assert murmur3_32(data) == mmh3.hash(data, 0, False)


@given(number=st.integers(0, BUCKETS), hashed=st.integers(0, HASHES - 1))
def test_comparing_hashes_is_comparing_buckets(number: int, hashed: int) -> None:
    assert (hashed < first_hash(number)) == ((hashed * BUCKETS) >> 32 < number)


@given(split=splits())
def test_slots_cover_every_bucket_once(split: Split) -> None:
    found = slots(split)
    assert found[0].start == 0
    assert found[-1].end == BUCKETS
    for before, after in itertools.pairwise(found):
        assert before.end == after.start
    assert all(slot.start <= slot.opened <= slot.end for slot in found)


@given(split=splits(), low=PERCENTS, high=PERCENTS, units=st.lists(UNITS, min_size=1, max_size=50))
def test_raising_a_percent_never_removes_nor_moves_anyone_between_treatments(
    split: Split, low: float, high: float, units: list[str]
) -> None:
    low, high = sorted((low, high))
    plain = document.write(split)
    before = document.read(Split, {**plain, "percent": low})
    after = document.read(Split, {**plain, "percent": high})
    for unit in units:
        number = bucket(split.salt, unit)
        was, now = variant_of(before, number), variant_of(after, number)
        assert was in (now, "a"), f"{unit} moved from {was} to {now}"


def test_a_hundred_percent_shows_everybody_a_treatment_and_zero_nobody() -> None:
    for percent, control in ((0.0, BUCKETS), (100.0, 0)):
        split = Split(
            control="off",
            treatments=(Treatment(variant="x", weight=1), Treatment(variant="y", weight=2)),
            percent=percent,
        )
        shown = [variant_of(split, number) for number in range(0, BUCKETS, 7)]
        assert (shown.count("off") == len(shown)) == (control == BUCKETS)
        assert ("off" in shown) == (control > 0)


def test_ten_steps_from_1_to_100_percent_move_nobody_back() -> None:
    seen: dict[int, str] = {}
    treatments = (Treatment(variant="x", weight=30), Treatment(variant="y", weight=70))
    for percent in (1, 2, 5, 10, 20, 30, 50, 70, 90, 100):
        split = Split(control="off", treatments=treatments, salt="s", percent=float(percent))
        for user in range(2_000):
            variant = variant_of(split, bucket("s", f"user-{user}"))
            assert seen.get(user, "off") in ("off", variant)
            seen[user] = variant
    shares = list(seen.values())
    assert abs(shares.count("x") / 2_000 - 0.3) < 0.03


def test_siblings_with_their_own_salts_are_independent() -> None:
    opened = first_hash(BUCKETS // 10)
    users = [f"user-{number}" for number in range(20_000)]
    groups = [
        {user for user in users if hash_bytes(f"{salt}:{user}".encode()) < opened}
        for salt in ("a", "b", "c")
    ]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        overlap = len(groups[one] & groups[other]) / len(groups[one])
        assert abs(overlap - 0.1) < 0.03
