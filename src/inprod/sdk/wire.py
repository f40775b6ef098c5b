"""HTTP/1.1 with the standard library, in steps that one thread can interleave.

`Stream` reads server-sent events as they come; `Post` sends a body now and reads the answer when
it is there. Neither blocks where `fileno()` is readable, beyond `timeout_s`.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote, urlsplit

READ_BYTES = 65_536
LINE_BYTES_MAX = 64 * 1024 * 1024  # a snapshot is one line
ANSWER_BYTES_MAX = 64 * 1024
OK = 200


class Refused(Exception):  # an answer, told by raising
    """The server answered with another status than 200; `retry_after_s` if it said so."""

    def __init__(self, status: int, text: str, retry_after_s: float | None) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the server is and how to prove who we are."""

    url: str
    key: str
    environment: str
    timeout_s: float

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection that is not open yet."""
        parts = urlsplit(self.url)
        host = parts.hostname or "127.0.0.1"
        if parts.scheme == "https":
            return http.client.HTTPSConnection(
                host, parts.port, timeout=self.timeout_s, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(host, parts.port, timeout=self.timeout_s)

    def path(self, path: str) -> str:
        """Return the path below the URL's own, with the environment."""
        query = f"?environment={quote(self.environment, safe='')}" if self.environment else ""
        return urlsplit(self.url).path.rstrip("/") + path + query

    def headers(self) -> dict[str, str]:
        """Return the headers of every request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sse:
    """One server-sent event."""

    event: str
    data: str


class Stream:
    """One open stream of server-sent events; raises OSError, HTTPException or Refused."""

    def __init__(self, target: Target) -> None:
        self._connection = target.connect()
        try:
            headers = {**target.headers(), "Accept": "text/event-stream"}
            self._connection.request("GET", target.path("/api/sdk/stream"), headers=headers)
            self._socket = self._connection.sock
            self._response = self._connection.getresponse()
            if self._response.status != OK:
                raise refused(self._response)
        except BaseException:
            self._connection.close()
            raise
        self._dechunk = Dechunker().feed if self._response.chunked else bytes
        self._parser = SseParser()

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is more."""
        return self._response.fileno()

    def read(self) -> list[Sse]:
        """Return the events that came; raises EOFError when the stream ended."""
        events: list[Sse] = []
        while True:
            data = self._response.fp.read1(READ_BYTES)
            if not data:
                raise EOFError("the stream ended")
            events += self._parser.feed(self._dechunk(data))
            if not _pending(self._socket):
                return events

    def close(self) -> None:
        """Close the connection."""
        self._response.close()
        self._connection.close()


class Post:
    """Sends bodies to one path over a kept connection, one at a time."""

    def __init__(self, target: Target, path: str) -> None:
        self._target = target
        self._path = path
        self._connection: http.client.HTTPConnection | None = None
        self.is_open = False

    def send(self, body: bytes) -> None:
        """Send a request; raises OSError or HTTPException. `finish` reads its answer."""
        if self._connection is None:
            self._connection = self._target.connect()
        headers = {**self._target.headers(), "Content-Type": "application/json"}
        self._connection.request("POST", self._target.path(self._path), body, headers)
        self.is_open = True

    def fileno(self) -> int:
        """Return the descriptor that is readable when the answer is there."""
        assert self._connection is not None, "a request was sent"
        assert self._connection.sock is not None, "a request was sent"
        return self._connection.sock.fileno()

    def finish(self) -> None:
        """Read the answer; raises Refused unless it is 2xx, OSError or HTTPException."""
        assert self._connection is not None, "a request was sent"
        self.is_open = False
        response = self._connection.getresponse()
        if not OK <= response.status < OK + 100:
            raise refused(response)
        response.read()

    def close(self) -> None:
        """Close the connection; the next `send` opens another."""
        self.is_open = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def refused(response: http.client.HTTPResponse) -> Refused:
    """Return the error for an answer that is not a success, having read it."""
    text = response.read(ANSWER_BYTES_MAX).decode("utf-8", "replace")[:300]
    after = response.getheader("Retry-After", "")
    wait_s = float(after) if after.isdecimal() else None
    if response.length:  # there is more than we care to read: this connection is of no more use
        response.close()
    return Refused(response.status, text, wait_s)


def _pending(sock: object) -> bool:
    """Return whether TLS holds bytes that are read off the socket already."""
    pending = cast("Callable[[], int] | None", getattr(sock, "pending", None))
    return pending is not None and pending() > 0


class SseParser:
    """Bytes in, whole events out; https://html.spec.whatwg.org/multipage/server-sent-events.html."""

    def __init__(self) -> None:
        self._rest = b""
        self._event = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[Sse]:
        """Return the events that `data` completes; raises ValueError for a line without end."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_BYTES_MAX:
            raise ValueError("a line of the stream does not end")
        events: list[Sse] = []
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", "replace")
            if not line:
                if self._data:
                    name = self._event or "message"
                    events.append(Sse(event=name, data="\n".join(self._data)))
                self._event, self._data = "", []
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                self._event = value
            elif field == "data":
                self._data.append(value)
        return events


class Dechunker:
    """Chunked transfer coding taken off, as bytes arrive; RFC 9112 section 7.1."""

    def __init__(self) -> None:
        self._rest: bytes = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Return the payload in `data`; raises ValueError when broken, EOFError at the end."""
        self._rest += data
        payload: list[bytes] = []
        while True:
            if self._left > 0:
                part = self._rest[: self._left]
                self._rest = self._rest[len(part) :]
                self._left -= len(part)
                payload.append(part)
                if self._left > 0:
                    return b"".join(payload)
                self._left = -2  # the line break after a chunk
            if self._left < 0:
                skip = min(-self._left, len(self._rest))
                self._rest = self._rest[skip:]
                self._left += skip
                if self._left < 0:
                    return b"".join(payload)
            line, found, rest = self._rest.partition(b"\r\n")
            if not found:
                return b"".join(payload)
            self._left, self._rest = int(line.split(b";")[0], 16), rest
            if self._left == 0:
                if payload:
                    self._left, self._rest = 0, line + found + rest  # end it at the next feed
                    return b"".join(payload)
                raise EOFError("the stream ended")


def retryable(error: Refused) -> bool:
    """Return whether the same request may succeed later."""
    return error.status in (408, 425, 429) or error.status >= 500  # HTTP's own
