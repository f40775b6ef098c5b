"""All flags of one environment as an SDK holds them: one object, replaced whole.

    stream --put/patch--> Snapshot n+1 --one assignment--> client._flags

An evaluation reads the reference once; it takes no lock, does no I/O and raises nothing. Flags are
compiled at their first use, so that ten thousand of them cost nothing to load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import cast

from inprod import document
from inprod.errors import Invalid
from inprod.flags.evaluate import Evaluate, Evaluation, Problem, compile_with, failed
from inprod.flags.flag import Flag
from inprod.sdk.counter import Counter

ANSWERS_MAX = 100_000


class Served:
    """One possible answer of a flag, built beforehand, with its exposure counter.

    `kind` is the exact type of the value where it may be handed out as it is; None for errors and
    for objects, which are copied.
    """

    __slots__ = ("evaluation", "key", "kind", "resolution", "tick", "value")

    def __init__(self, key: str, evaluation: Evaluation, tick: Callable[[], int]) -> None:
        self.key = key
        self.evaluation = evaluation
        self.value = evaluation.value
        self.kind = None if isinstance(self.value, (dict, list)) else type(self.value)
        if evaluation.error is not None:
            self.kind = None
        self.tick = tick
        self.resolution: object = None  # what the OpenFeature provider makes of it, once


class Exposures:
    """The counters of all answers ever built, by flag, variant, rule and reason.

    They outlive snapshots: a thread that still evaluates the previous one loses no count.
    """

    def __init__(self) -> None:
        self._counters: dict[tuple[str, str, str, str, str], Counter] = {}
        self._overflow = Counter()

    def served(self, key: str, evaluation: Evaluation) -> Served:
        """Return the answer with its counter."""
        error = "" if evaluation.error is None else evaluation.error.value
        reason = evaluation.reason.value
        name = (key, evaluation.variant, evaluation.rule, reason, error)
        counter = self._counters.get(name)
        if counter is None:
            if len(self._counters) >= ANSWERS_MAX:
                return Served(key, evaluation, self._overflow.tick)
            counter = self._counters.setdefault(name, Counter())
        return Served(key, evaluation, counter.tick)

    def errors(self) -> int:
        """Return how many evaluations had no value, in all."""
        return sum(counter.total() for name, counter in list(self._counters.items()) if name[4])

    def take(self) -> Iterator[tuple[tuple[str, str, str, str, str], int]]:
        """Yield (flag, variant, rule, reason, error) and the count since the last take."""
        for name, counter in list(self._counters.items()):
            fresh = counter.take()
            if fresh:
                yield name, fresh


class Flags(dict[str, Evaluate[Served]]):
    """The closures by key. `flags[key]` always answers: a key not seen yet is compiled."""

    def __init__(
        self,
        plain: Mapping[str, object],
        environment: str,
        exposures: Exposures,
        silence_s: float,
        absent: Problem,
    ) -> None:
        super().__init__()
        self._plain = plain
        self._environment = environment
        self._exposures = exposures
        self._silence_s = silence_s
        self._absent = absent

    def __missing__(self, key: str) -> Evaluate[Served]:
        plain = self._plain.get(key)
        if plain is None:  # not kept: keys may come from users
            text = f"`{key}` is not a flag"
            if self._absent is Problem.PROVIDER_NOT_READY:
                text = "no flags have been read yet"
            return self._always(key, failed(self._absent, text))
        try:
            flag = document.read(Flag, plain, unknown="ignore")
            closure = compile_with(
                flag,
                self._environment,
                lambda evaluation: self._exposures.served(key, evaluation),
                silence_s=self._silence_s,
            )
        except Invalid as error:  # written by a newer server: this flag only
            closure = self._always(key, failed(Problem.PARSE_ERROR, str(error)))
        self[key] = closure
        return closure

    def _always(self, key: str, evaluation: Evaluation) -> Evaluate[Served]:
        name = key if evaluation.error is Problem.PARSE_ERROR else "unknown"
        served = self._exposures.served(name, evaluation)
        return lambda _context, _key: served


class Snapshot:
    """The flags of one environment at one revision, as the server sent them, and compiled."""

    def __init__(
        self,
        *,
        exposures: Exposures,
        environment: str = "",
        revision: int = -1,
        plain: Mapping[str, object] | None = None,
        revisions: Mapping[str, int] | None = None,
        silence_s: float = 0.0,
    ) -> None:
        self.environment = environment
        self.revision = revision
        self.plain = plain or {}
        self.revisions = revisions or {}
        self.silence_s = silence_s
        self._exposures = exposures
        self._leases: dict[str, tuple[float, ...]] | None = None
        absent = Problem.PROVIDER_NOT_READY if plain is None else Problem.FLAG_NOT_FOUND
        self.is_ready = plain is not None
        self.flags = Flags(self.plain, environment, exposures, silence_s, absent)

    @classmethod
    def read(
        cls, body: object, exposures: Exposures, *, environment: str = "", silence_s: float = 0.0
    ) -> Snapshot:
        """Return the snapshot that a `put`, a cached or an offline document holds.

        `flags` maps keys to flag documents; the rest may be missing. Raises Invalid.
        """
        if not isinstance(body, dict) or not isinstance(cast("object", body.get("flags")), dict):  # pyright: ignore[reportUnknownMemberType]  # JSON
            raise Invalid(
                "not_a_snapshot", "the document has no `flags`", where="$.flags",
                hint="Write `{\"flags\": {\"<key>\": {...}}}`.",
            )  # fmt: skip
        fields = cast("dict[str, object]", body)
        revision = fields.get("revision", 0)
        return cls(
            exposures=exposures,
            environment=str(fields.get("environment") or environment),
            revision=revision if isinstance(revision, int) else 0,
            plain=cast("dict[str, object]", fields["flags"]),
            revisions=cast("dict[str, int]", fields.get("revisions") or {}),
            silence_s=silence_s,
        )

    def patched(self, key: str, revision: int, plain: object) -> Snapshot:
        """Return the snapshot with one flag changed (None: gone); itself when it is older."""
        if revision <= self.revision:
            return self
        flags, revisions = dict(self.plain), dict(self.revisions)
        flags.pop(key, None)
        revisions[key] = revision
        if plain is not None:
            flags[key] = plain
        fresh = Snapshot(
            exposures=self._exposures,
            environment=self.environment,
            revision=revision,
            plain=flags,
            revisions=revisions,
        )
        fresh._keep(self, without={key})
        leases = dict(self.leases())
        leases.pop(key, None)
        if plain is not None:
            leases.update(_leases({key: plain}, self.environment))
        fresh._leases = leases
        return fresh

    def silenced(self, silence_s: float) -> Snapshot:
        """Return the snapshot as it counts after `silence_s` out of touch: leases end."""
        fresh = Snapshot(
            exposures=self._exposures,
            environment=self.environment,
            revision=self.revision,
            plain=self.plain,
            revisions=self.revisions,
            silence_s=silence_s,
        )
        fresh._keep(self, without=set(self.leases()))
        return fresh

    def _keep(self, old: Snapshot, without: set[str]) -> None:
        for key, closure in list(old.flags.items()):
            if key not in without and key in self.plain:
                self.flags[key] = closure

    def leases(self) -> dict[str, tuple[float, ...]]:
        """Return the leases, in seconds, of the flags that have any."""
        if self._leases is None:
            self._leases = _leases(self.plain, self.environment)
        return self._leases

    def body(self) -> dict[str, object]:
        """Return what `read` reads."""
        return {
            "environment": self.environment,
            "revision": self.revision,
            "flags": dict(self.plain),
            "revisions": dict(self.revisions),
        }

    def changed_since(self, old: Snapshot) -> list[str]:
        """Return the keys of flags that are new, gone or different."""
        mine, theirs = self.plain, old.plain
        changed = {
            key
            for key, plain in mine.items()
            if (other := theirs.get(key)) is not plain and other != plain
        }
        return sorted(changed | (theirs.keys() - mine.keys()))


def _leases(flags: Mapping[str, object], environment: str) -> dict[str, tuple[float, ...]]:
    found: dict[str, tuple[float, ...]] = {}
    for key, plain in flags.items():
        leases = tuple(_leases_in(plain, environment))
        if leases:
            found[key] = leases
    return found


def _leases_in(plain: object, environment: str) -> Iterator[float]:
    """Yield the leases of the splits in one environment of a flag document."""
    rules = _at(_at(_at(plain, "environments"), environment), "rules")
    for rule in cast("list[object]", rules) if isinstance(rules, list) else ():
        lease = _at(_at(rule, "split"), "lease_s")
        if isinstance(lease, (int, float)):
            yield float(lease)


def _at(plain: object, name: str) -> object:
    return cast("Mapping[str, object]", plain).get(name) if isinstance(plain, Mapping) else None
