"""Fan-out never holds up the publisher; bodies are read under their limit."""

import asyncio
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprod import live, web
from inprod.errors import Invalid, TooMuch
from inprod.live import Lagged, Live, Message


def test_a_listener_gets_only_the_messages_of_its_topics():
    async def story():
        fanout = Live()
        async with fanout.listen("flags") as listener:
            fanout.publish(Message(topic="levers", event="pulled", payload=1))
            fanout.publish(Message(topic="flags", event="patch", payload=2))
            message = await listener.next(1)
            assert message is not None
            assert message.payload == 2
            assert await listener.next(0.01) is None
        assert fanout.listeners == 0

    asyncio.run(story())


def test_a_listener_that_falls_behind_is_told_to_start_over():
    async def story():
        fanout = Live()
        async with fanout.listen("flags") as listener:
            for number in range(live.QUEUE_MAX + 1):
                fanout.publish(Message(topic="flags", event="patch", payload=number))
            await asyncio.sleep(0)
            with pytest.raises(Lagged):
                await listener.next(1)
            fanout.publish(Message(topic="flags", event="patch", payload="fresh"))
            message = await listener.next(1)
            assert message is not None
            assert message.payload == "fresh"

    asyncio.run(story())


@given(st.binary(max_size=5000), st.binary(max_size=5000))
def test_gzip_of_several_members_is_unpacked_whole(first, second):
    packed = gzip.compress(first) + gzip.compress(second)
    assert web.gunzip(packed, bytes_max=20_000) == first + second


@given(st.integers(min_value=1, max_value=10_000))
def test_a_bomb_is_refused_at_its_limit(limit):
    packed = gzip.compress(b"0" * (limit + 1))
    with pytest.raises(TooMuch):
        web.gunzip(packed, bytes_max=limit)
    double = gzip.compress(b"0" * limit) + gzip.compress(b"1")
    with pytest.raises(TooMuch):
        web.gunzip(double, bytes_max=limit)


@given(st.binary(min_size=1, max_size=300))
def test_broken_gzip_is_invalid(noise):
    packed = gzip.compress(b"hello world" * 10)
    with pytest.raises(Invalid):
        web.gunzip(packed[: len(packed) - 5], bytes_max=1000)
    if not noise.startswith(b"\x1f\x8b"):
        with pytest.raises(Invalid):
            web.gunzip(noise, bytes_max=1000)
