"""Heatmaps: where a value falls on the y axis, in SQL and in Python.

Rows of cells are quarter powers of two, mirrored for negative values, with zero on its own:

    value   ... -1.19 .. -1 | 0 | ... 1 .. 1.19 | 1.19 .. 1.41 | 1.41 .. 1.68 | 1.68 .. 2 ...
    index       -(10000+k)    0       10000         10001          10002          10003

so a cell is at most 19 % high, whatever the unit, and no value is left out.
"""

from __future__ import annotations

import math
import sys

PER_OCTAVE = 4
_OFFSET = 10_000  # above 4 * 1074, so that index 0 is free for the value zero


def index_of(value: float) -> int:
    """Return the row of a finite value; rows sort as their values do."""
    if value == 0:
        return 0
    index = math.floor(math.log2(abs(value)) * PER_OCTAVE) + _OFFSET
    return index if value > 0 else -index


def low_of(index: int) -> float:
    """Return the lower end of a row, in the value's own unit."""
    if index == 0:
        return 0.0
    if index > 0:
        return _power_of_two((index - _OFFSET) / PER_OCTAVE)
    return -_power_of_two((-index - _OFFSET + 1) / PER_OCTAVE)


def index_sql(value: str) -> str:
    """Return SQL of type Int32 for the row of a number that is not NULL."""
    row = f"toInt32(floor(log2(abs({value})) * {PER_OCTAVE})) + {_OFFSET}"
    return f"multiIf({value} = 0, 0, {value} > 0, {row}, -({row}))"


def _power_of_two(exponent: float) -> float:
    return sys.float_info.max if exponent >= sys.float_info.max_exp else 2.0**exponent
