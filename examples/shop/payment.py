"""The shop's payment provider, played: it takes some milliseconds and refuses now and then.

There are two ways to call it. `queued` is the old one. `direct` is the change that looked good in
review: it skips the queue, and so runs into the provider's limit on concurrent calls, which shows
as refusals and as a slow tail. Nobody sees that before production.
"""

from __future__ import annotations

import asyncio
import random

REFUSED_QUEUED = 0.02
REFUSED_DIRECT = 0.30
WAITS_DIRECT = 0.25
WAIT_S = 0.25
CALL_S = 0.012


class Refused(Exception):  # what the provider says
    """The provider did not take the payment."""


async def queued(chance: random.Random) -> None:
    """Pay through the queue; raises Refused 2 times in 100."""
    await asyncio.sleep(CALL_S * chance.lognormvariate(0, 0.3))
    if chance.random() < REFUSED_QUEUED:
        raise Refused("the provider timed out")


async def direct(chance: random.Random) -> None:
    """Pay without the queue: no faster, refused 30 times in 100, and 1 in 4 waits long."""
    await asyncio.sleep(CALL_S * chance.lognormvariate(0, 0.3))
    if chance.random() < WAITS_DIRECT:
        await asyncio.sleep(WAIT_S * chance.lognormvariate(0, 0.5))
    if chance.random() < REFUSED_DIRECT:
        raise Refused("too many concurrent calls")
