"""Which bucket a unit falls into, and which variant of a split owns that bucket.

    unit --murmur3_32(salt + ":" + unit)--> hash --multiply-shift--> bucket 0..99,999

The hash is MurmurHash3 x86 32 (Austin Appleby, public domain), seed 0, over UTF-8: of the hashes of
equal quality the one that flagd clients can reproduce. `mmh3` computes it where it is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inprod.flags.flag import BUCKETS, Split

if TYPE_CHECKING:
    from collections.abc import Callable

HASHES = 1 << 32
_LOW = HASHES - 1


def murmur3_32(data: bytes) -> int:
    """Return MurmurHash3 x86 32 of `data` with seed 0, in 0..2**32-1."""
    hashed = 0
    whole = len(data) & ~3
    for position in range(0, whole, 4):
        hashed ^= _mixed(int.from_bytes(data[position : position + 4], "little"))
        hashed = ((hashed << 13) | (hashed >> 19)) & _LOW
        hashed = (hashed * 5 + 0xE6546B64) & _LOW
    if whole < len(data):
        hashed ^= _mixed(int.from_bytes(data[whole:], "little"))
    hashed ^= len(data) & _LOW
    hashed = ((hashed ^ (hashed >> 16)) * 0x85EBCA6B) & _LOW
    hashed = ((hashed ^ (hashed >> 13)) * 0xC2B2AE35) & _LOW
    return hashed ^ (hashed >> 16)


def _mixed(word: int) -> int:
    word = (word * 0xCC9E2D51) & _LOW
    word = ((word << 15) | (word >> 17)) & _LOW
    return (word * 0x1B873593) & _LOW


def _fastest() -> Callable[[bytes], int]:
    try:
        import mmh3
    except ImportError:
        return murmur3_32
    return mmh3.mmh3_32_uintdigest


hash_bytes = _fastest()
"""`murmur3_32`, in C where it can be. Bytes only: given a text with a lone surrogate, mmh3 5.3
crashes the process instead of raising."""


def bucket(salt: str, unit: str) -> int:
    """Return the bucket, 0..99,999, of `unit` under `salt`; raises UnicodeError."""
    return (hash_bytes(f"{salt}:{unit}".encode()) * BUCKETS) >> 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The buckets one treatment owns: `start <= bucket < end`; those below `opened` see it now."""

    variant: str
    start: int
    opened: int
    end: int


def slots(split: Split) -> tuple[Slot, ...]:
    """Return each treatment's slot, in order; together they cover all buckets.

    Slots depend on the weights alone, never on the percent, so that raising the percent only ever
    opens more of the same slot.
    """
    total = sum(treatment.weight for treatment in split.treatments)
    share = round(split.percent * 1000)  # thousandths of a percent: one bucket in 100,000
    found: list[Slot] = []
    weight = 0
    for treatment in split.treatments:
        start = weight * BUCKETS // total
        weight += treatment.weight
        end = weight * BUCKETS // total
        opened = start + (end - start) * share // BUCKETS
        found.append(Slot(variant=treatment.variant, start=start, opened=opened, end=end))
    return tuple(found)


def variant_of(split: Split, number: int) -> str:
    """Return the variant that bucket `number` sees."""
    for slot in slots(split):
        if slot.start <= number < slot.opened:
            return slot.variant
    return split.control


def first_hash(number: int) -> int:
    """Return the least hash whose bucket is `number` or more.

    `hash < first_hash(n)` says the same as `bucket < n`, with no arithmetic left per evaluation.
    """
    return -(-(number * HASHES) // BUCKETS)
