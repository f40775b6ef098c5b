"""The HTTP protocol of uvicorn with limits on what comes before the body: its size, its time."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 64 * 1024
HEAD_S = 20.0


class LimitedProtocol(HttpToolsProtocol):
    """Refuses a request line and headers that are too long, or take too long to come."""

    _head_bytes = 0
    _in_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # as uvicorn has it
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; refuse more than a head's worth without its end."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                self.send_400_response("The headers are too long.")

    def on_message_begin(self) -> None:
        """Start the clock of the next request on this connection."""
        super().on_message_begin()
        self._begin()

    def on_headers_complete(self) -> None:
        """Stop the clock, measure the head; an error here is answered with 400."""
        self._end()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES_MAX:
            raise ValueError(size)
        super().on_headers_complete()

    def _begin(self) -> None:
        self._end()
        self._head_bytes, self._in_head = 0, True
        self._timer = asyncio.get_running_loop().call_later(HEAD_S, self._late)

    def _end(self) -> None:
        self._in_head = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self.transport.close()
