"""The words in which conditions are written, one vocabulary for flags, queries and guards."""

from __future__ import annotations

from enum import StrEnum


class Op(StrEnum):
    """The words of a condition, the same in a flag's rule and an event query's filter."""

    EQUAL = "="
    NOT_EQUAL = "!="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    STARTS_WITH = "starts-with"
    DOES_NOT_START_WITH = "does-not-start-with"
    ENDS_WITH = "ends-with"
    DOES_NOT_END_WITH = "does-not-end-with"
    CONTAINS = "contains"
    DOES_NOT_CONTAIN = "does-not-contain"
    EXISTS = "exists"
    DOES_NOT_EXIST = "does-not-exist"
    IN = "in"
    NOT_IN = "not-in"


Scalar = str | bool | int | float
