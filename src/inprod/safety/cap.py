"""Caps: what may never happen, whatever a plan says; checked before and while a dial turns.

Lowering is never refused: every check here lets a level at or under the present one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from inprod.errors import Invalid
from inprod.units import Percent, Seconds, render_s

DURATION_S_MAX = 400 * 86400.0  # of any time in a plan: nanoseconds stay far from 63 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Limits of one rollout; None means no limit of that sort.

    `level` the highest level; `step` the largest rise in one turn (points of the dial's unit);
    `duration_s` how long it may be above safe before it is promoted; `users` how many units may
    have seen the treatment before it is promoted (checked at each tick: held, not lowered).
    """

    level: Percent | None = None
    step: Percent | None = None
    duration_s: Seconds | None = None
    users: int | None = None

    def __post_init__(self) -> None:
        """Refuse a cap that is not above 0."""
        for name in ("level", "step", "duration_s", "users"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise Invalid(
                    "bad_cap", f"`{value}` is not a cap", where=name,
                    hint="Use a number above 0, or leave the cap out.",
                )  # fmt: skip
        if self.duration_s is not None and self.duration_s > DURATION_S_MAX:
            raise Invalid(
                "bad_cap", f"`{self.duration_s:g}` s is not a cap", where="duration_s",
                hint=f"Use at most {render_s(DURATION_S_MAX)}, or leave the cap out.",
            )  # fmt: skip


def level_breach(caps: Caps, *, from_level: float, to_level: float) -> str:
    """Return why the dial may not turn from one level to the other, "" when it may."""
    if to_level <= from_level:
        return ""
    if caps.level is not None and to_level > caps.level:
        return f"level `{to_level:g}` is over the cap of {caps.level:g}"
    if caps.step is not None and to_level - from_level > caps.step:
        return (
            f"a rise from `{from_level:g}` to `{to_level:g}` is over the cap of "
            f"{caps.step:g} in one step"
        )
    return ""


def users_breach(caps: Caps, *, users_exposed: int) -> str:
    """Return why the treatment may not go further, "" while fewer than `users` have seen it."""
    if caps.users is None or users_exposed < caps.users:
        return ""
    return f"{users_exposed} users have seen it, the cap is {caps.users}"


def duration_breach(caps: Caps, *, above_safe_s: float) -> str:
    """Return why the rollout has lasted too long, "" while it is within its time."""
    if caps.duration_s is None or above_safe_s < caps.duration_s:
        return ""
    return f"it has been above safe for {render_s(above_safe_s)}, the cap is " + render_s(
        caps.duration_s
    )
