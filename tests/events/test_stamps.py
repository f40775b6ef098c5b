from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from inprod.events.stamps import NS_PER_MS, Stamps


class Flushes(RuleBasedStateMachine):
    """Any order of flushes, failures and questions, on a clock that may also run backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.stamps = Stamps()
        self.now_ns = 10**18
        self.promised_ns = 0
        self.flying: dict[int, int] = {}

    @rule(step_ns=st.integers(-5_000_000, 50_000_000))
    def the_clock_moves(self, step_ns: int) -> None:
        self.now_ns += step_ns

    @rule()
    def a_flush_begins(self) -> None:
        flush, stamp_ms = self.stamps.begin(self.now_ns)
        assert stamp_ms * NS_PER_MS >= self.promised_ns
        self.flying[flush] = stamp_ms

    @rule(pick=st.integers(0, 9), is_doubtful=st.booleans())
    def a_flush_ends(self, pick: int, is_doubtful: bool) -> None:
        if self.flying:
            flush = sorted(self.flying)[pick % len(self.flying)]
            if is_doubtful:
                self.stamps.doubt(flush, self.now_ns + 10_000_000)
            else:
                self.stamps.end(flush)
            del self.flying[flush]

    @rule()
    def somebody_asks(self) -> None:
        settled_ns = self.stamps.settled_ns(self.now_ns)
        assert all(settled_ns <= stamp * NS_PER_MS for stamp in self.flying.values())
        self.promised_ns = max(self.promised_ns, settled_ns)


TestNoRowIsStampedBeforeWhatWasSettled = Flushes.TestCase


def test_when_idle_everything_before_now_is_settled() -> None:
    assert Stamps().settled_ns(5_700_000) == 5_000_000


def test_a_flush_in_flight_holds_the_settled_time_at_its_stamp() -> None:
    stamps = Stamps()
    flush, stamp_ms = stamps.begin(7_000_000)
    assert stamp_ms == 7
    assert stamps.settled_ns(90_000_000) == 7_000_000
    stamps.end(flush)
    assert stamps.settled_ns(90_000_000) == 90_000_000


def test_a_flush_in_doubt_holds_it_until_the_doubt_is_over() -> None:
    stamps = Stamps()
    flush, _ = stamps.begin(7_000_000)
    stamps.doubt(flush, 50_000_000)
    assert stamps.settled_ns(49_000_000) == 7_000_000
    assert stamps.settled_ns(50_000_000) == 50_000_000


@given(st.lists(st.integers(0, 10**12), min_size=1))
def test_stamps_never_go_back_even_when_the_clock_does(clock: list[int]) -> None:
    stamps = Stamps()
    given_out = [stamps.begin(now_ns)[1] for now_ns in clock]
    assert given_out == sorted(given_out)
