"""The gate of the store: every event, from whatever protocol, passes here once, whole or not.

What it does to an event: lifts `sample_rate` and `inprod.test`, renames what has an older name,
keeps attributes hidden by a fixed column as `attribute.<name>`, stamps or checks the environment
(one that nobody declared is refused), and refuses what is over the limits, too old, or too far
ahead. Refused events are counted and told
of; the others go on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from inprod.errors import Invalid, nearest, shown
from inprod.events.columns import (
    ENVIRONMENT,
    ENVIRONMENT_OLD,
    FIXED,
    SAMPLE_RATE_NAMES,
    TEST,
)
from inprod.events.event import ATTRIBUTES_MAX, TEXT_BYTES_MAX
from inprod.events.rows import Rows

ERRORS_TOLD_MAX = 100
NAME_CHARACTERS_MAX = 500
SAMPLE_RATE_MAX = 2**32 - 1
AHEAD_NS = 86_400 * 1_000_000_000
DURATION_NS_MAX = 2**63 - 1
UNKNOWN_SERVICE = "unknown_service"
_FIXED_NAMES = FIXED.keys() | SAMPLE_RATE_NAMES
_TRUE = frozenset({"true", "1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What may come in: times from `oldest_ns` to `newest_ns`, and the names of environments.

    `declared` are those there are (None: any name), `environments` those that the key allows (None:
    all). An event that names none is let in; under a key for one environment it gets that one.
    """

    oldest_ns: int
    newest_ns: int
    declared: Collection[str] | None = None
    environments: Collection[str] | None = None

    @classmethod
    def at(
        cls,
        now_ns: int,
        *,
        retain_days: int,
        declared: Collection[str] | None = None,
        environments: Collection[str] | None = None,
    ) -> Terms:
        """Return the terms at a time: what would be deleted at once is not let in."""
        return cls(
            oldest_ns=now_ns - retain_days * 86_400 * 1_000_000_000,
            newest_ns=now_ns + AHEAD_NS,
            declared=declared,
            environments=environments,
        )


@dataclass(slots=True)
class Intake:
    """Rows let in so far, how many were refused, and why the first of those were."""

    terms: Terms
    rows: Rows = field(default_factory=Rows)
    rejected: int = 0
    errors: list[tuple[int, Invalid]] = field(default_factory=list[tuple[int, Invalid]])

    @property
    def seen(self) -> int:
        """How many events came, let in or not."""
        return len(self.rows) + self.rejected

    def refuse(self, error: Invalid) -> None:
        """Count an event as refused."""
        if len(self.errors) < ERRORS_TOLD_MAX:
            self.errors.append((self.seen, error))
        self.rejected += 1

    def add(
        self,
        *,
        signal: str,
        time_ns: int,
        dataset: str,
        name: str,
        kind: str,
        trace_id: str,
        span_id: str,
        parent_id: str,
        duration_ns: int | None,
        error: bool,
        status_code: int,
        strings: dict[str, str],
        numbers: dict[str, float],
        is_short: bool = False,
    ) -> None:
        """Let one event in, or count it as refused; takes over both dictionaries.

        `is_short`: no attribute can be over a limit by itself, so none is looked at.
        """
        sample_rate = 1
        if not _FIXED_NAMES.isdisjoint(strings) or not _FIXED_NAMES.isdisjoint(numbers):
            sample_rate = _sample_rate(strings, numbers)
            error = error or strings.get("error", "") in _TRUE
            _unhide(strings)
            _unhide(numbers)
        if strings.get("user_agent.synthetic.type") == "test":
            strings.setdefault(TEST, "synthetic")
        if ENVIRONMENT_OLD in strings and ENVIRONMENT not in numbers:
            strings.setdefault(ENVIRONMENT, strings[ENVIRONMENT_OLD])
        reason = self._refusal(time_ns, dataset, name, strings, numbers)
        if reason is None and not is_short:
            reason = _length_refusal(strings, numbers)
        if reason is not None:
            self.refuse(reason)
            return
        rows = self.rows
        rows.time_ns.append(time_ns)
        rows.dataset.append(dataset)
        rows.signal.append(signal)
        rows.name.append(name)
        rows.kind.append(kind)
        rows.trace_id.append(trace_id)
        rows.span_id.append(span_id)
        rows.parent_id.append(parent_id)
        rows.duration_ns.append(duration_ns)
        rows.error.append(error)
        rows.status_code.append(status_code)
        rows.sample_rate.append(sample_rate)
        rows.strings.append(strings)
        rows.numbers.append(numbers)

    def _refusal(
        self,
        time_ns: int,
        dataset: str,
        name: str,
        strings: dict[str, str],
        numbers: dict[str, float],
    ) -> Invalid | None:
        terms = self.terms
        if not terms.oldest_ns <= time_ns <= terms.newest_ns:
            which = "too old to be kept" if time_ns < terms.oldest_ns else "over a day ahead"
            return Invalid(
                "time_out_of_range", f"the time `{shown(time_ns)}` ns is {which}", where="$.time",
                hint="Check the sender's clock.",
            )  # fmt: skip
        if len(strings) + len(numbers) > ATTRIBUTES_MAX:
            return Invalid(
                "too_many_attributes",
                f"`{len(strings) + len(numbers)}` attributes are over `{ATTRIBUTES_MAX}`",
                hint="Send fewer.",
            )
        if len(dataset) > NAME_CHARACTERS_MAX:
            return _name_too_long(f"`{dataset[:60]}`")
        if len(name) > TEXT_BYTES_MAX:
            return _too_long(name[:60])
        return _environment_refusal(terms, strings, numbers)


def dataset_of(service_name: str | None) -> str:
    """Return the dataset of a service: SDKs write `unknown_service:python` when nobody named it."""
    if not service_name or service_name.startswith(UNKNOWN_SERVICE):
        return UNKNOWN_SERVICE
    return service_name


def _sample_rate(strings: dict[str, str], numbers: dict[str, float]) -> int:
    rate = 1.0
    for name in SAMPLE_RATE_NAMES:
        number = numbers.pop(name, None)
        text = strings.pop(name, None)
        if number is not None:
            rate = number
        elif text is not None and text.isdecimal() and len(text) < 12:
            rate = float(text)
    return int(min(max(rate, 1.0), SAMPLE_RATE_MAX))


def _unhide(attributes: dict[str, str] | dict[str, float]) -> None:
    for name in _FIXED_NAMES & attributes.keys():
        value = attributes.pop(name)
        if name != "error":
            attributes[f"attribute.{name}"] = value  # pyright: ignore[reportArgumentType]  # same dict


def _length_refusal(strings: dict[str, str], numbers: dict[str, float]) -> Invalid | None:
    # A character has at most 4 bytes: most texts are within bounds whatever they are.
    if strings and max(map(len, strings.values())) * 4 > TEXT_BYTES_MAX:
        for key, text in strings.items():
            if len(text) * 4 > TEXT_BYTES_MAX and len(text.encode()) > TEXT_BYTES_MAX:
                return _too_long(key)
    longest = max(max(map(len, strings), default=0), max(map(len, numbers), default=0))
    return _name_too_long("an attribute's name") if longest > NAME_CHARACTERS_MAX else None


def _environment_refusal(
    terms: Terms, strings: dict[str, str], numbers: dict[str, float]
) -> Invalid | None:
    name = strings.get(ENVIRONMENT)
    if name is None and ENVIRONMENT in numbers:
        name = f"{numbers[ENVIRONMENT]:g}"  # a number names none; said as it would be queried
    allowed, declared = terms.environments, terms.declared
    if name and declared is not None and name not in declared:
        known = declared if allowed is None else allowed
        return Invalid(
            "unknown_environment", f"`{name[:60]}` is not an environment",
            where=f"$.{ENVIRONMENT}", hint=nearest(name[:60], known),
        )  # fmt: skip
    if allowed is None or name in allowed:
        return None
    if name is None and len(allowed) == 1:
        strings[ENVIRONMENT] = next(iter(allowed))
        return None
    listed = ", ".join(f"`{one}`" for one in sorted(allowed))
    return Invalid(
        "environment_denied", f"the key does not allow the environment `{name}`",
        where=f"$.{ENVIRONMENT}", hint=f"Set `{ENVIRONMENT}` to one of {listed}.",
    )  # fmt: skip


def _name_too_long(what: str) -> Invalid:
    return Invalid(
        "text_too_long", f"{what} is over `{NAME_CHARACTERS_MAX}` characters",
        hint=f"Use at most {NAME_CHARACTERS_MAX}.",
    )  # fmt: skip


def _too_long(what: str) -> Invalid:
    return Invalid(
        "text_too_long", f"`{what}` is too long", hint=f"Send at most {TEXT_BYTES_MAX} bytes."
    )
