"""A few hundred visitors at a time, each a person with an id who arrives, shops for some seconds
over one kept-alive connection, and leaves; another one takes the place.

    python users.py --url http://127.0.0.1:8000 --at-once 300 --seconds 120

Ends by itself: after `--seconds`, after `--visits`, on SIGTERM, or when the shop is gone. Prints
one JSON line of what was done.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from urllib.parse import quote, urlsplit

import uvloop
from catalogue import KINDS, LOOKS, SIZES

PAUSE_S = 1.0  # between two requests of one visitor, on average
TIMEOUT_S = 10.0
REFUSALS_MAX = 50  # connections refused in a row: the shop is gone
PRODUCTS = len(KINDS) * len(LOOKS) * len(SIZES)


class Gone(Exception):  # a state of the shop
    """The shop does not take connections any more."""


@dataclass
class Tally:
    """What all visitors did so far."""

    visits: int = 0
    requests: int = 0
    failures: int = 0
    refusals_in_a_row: int = 0


class Visitor:
    """One person's connection to the shop."""

    def __init__(self, host: str, port: int, name: str, tally: Tally) -> None:
        self._host, self._port, self._name, self._tally = host, port, name, tally
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Visitor:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._tally.refusals_in_a_row = 0
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def ask(self, method: str, path: str) -> int:
        """Send one request and read its whole answer; return the status."""
        self._writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Cookie: visitor={self._name}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        status = int(head[9:12])
        self._tally.requests += 1
        self._tally.failures += status >= 500
        return status


def errands(chance: random.Random) -> list[tuple[str, str]]:
    """Return what one visitor asks for, in order."""
    words = quote(f"{chance.choice(LOOKS)} {chance.choice(KINDS)}")
    product = chance.randrange(1, PRODUCTS + 1)
    path = [
        ("GET", f"/search?q={words}"),
        ("GET", f"/search?q={quote(chance.choice(KINDS))}"),
        ("GET", f"/products/{product}"),
        ("POST", f"/basket/{product}"),
    ]
    if chance.random() < 0.3:
        path.insert(0, ("GET", "/"))
    if chance.random() < 0.9:
        path.append(("POST", "/checkout"))
    return path


async def visit(host: str, port: int, name: str, chance: random.Random, tally: Tally) -> None:
    """Live one visit from arrival to leaving."""
    tally.visits += 1
    try:
        async with asyncio.timeout(60), Visitor(host, port, name, tally) as visitor:
            for method, path in errands(chance):
                async with asyncio.timeout(TIMEOUT_S):
                    await visitor.ask(method, path)
                await asyncio.sleep(chance.expovariate(1 / PAUSE_S))
    except ConnectionRefusedError as error:
        tally.refusals_in_a_row += 1
        if tally.refusals_in_a_row > REFUSALS_MAX:
            raise Gone(f"{host}:{port} refuses connections") from error
        await asyncio.sleep(0.2)
    except (OSError, EOFError, TimeoutError):
        tally.failures += 1
        await asyncio.sleep(0.2)


async def crowd(given: argparse.Namespace, tally: Tally) -> None:
    """Keep `at_once` visitors in the shop until the time or the visits are used up."""
    target = urlsplit(given.url)
    host, port = target.hostname or "127.0.0.1", target.port or 80
    chance = random.Random(given.seed)

    async def place(number: int) -> None:
        mine = random.Random(f"{given.seed}/{number}")
        await asyncio.sleep(mine.uniform(0, 2))  # people do not all come through the door at once
        while tally.visits < given.visits:
            name = f"user-{chance.getrandbits(40):010x}"
            await visit(host, port, name, mine, tally)

    async def places() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(given.at_once):
                group.create_task(place(number))

    shopping = asyncio.ensure_future(places())
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, shopping.cancel)
    loop.call_later(given.seconds, shopping.cancel)
    with suppress(asyncio.CancelledError):
        await shopping


def main() -> int:
    """Run the crowd and print what it did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--at-once", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--visits", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    tally = Tally()
    code = 0
    try:
        uvloop.run(crowd(given, tally))
    except* Gone as gone:
        print(gone.exceptions[0], file=sys.stderr)
        code = 1
    print(json.dumps(asdict(tally)))
    return code


if __name__ == "__main__":
    sys.exit(main())
