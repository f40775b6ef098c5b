"""The server as the CLI reaches it: finds it, asks it, and raises its errors as our own."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from inprod.errors import PUBLIC_ERRORS, Denied, InprodError, Invalid, TooMuch, Unavailable
from inprod.place import KEY_FILE, SERVER_FILE, URL_DEFAULT, data_folder

TIMEOUT_S = 30.0
STREAM_TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 256_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where the server is, and the key for it; `source` says how it was found."""

    url: str
    key: str | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One server-sent event."""

    event: str
    data: Any


def find(*, url: str | None, key: str | None, data: str, environ: Mapping[str, str]) -> Found:
    """Return the server meant: given, from the environment, or the one of the data folder.

    The admin key in the data folder is used for that folder's own server only: it is never sent
    anywhere else.
    """
    folder = data_folder(data or environ.get("INPROD_DATA", ""), environ)
    local = _local_url(folder)
    wanted = url or environ.get("INPROD_URL") or None
    source = "--url" if url else "INPROD_URL" if wanted else f"{folder / SERVER_FILE}"
    if wanted is None and local is None:
        source = "the default address"
    chosen = (wanted or local or URL_DEFAULT).rstrip("/")
    secret = key or environ.get("INPROD_KEY") or None
    if secret is None and local is not None and chosen == local:
        secret = read_key(folder / KEY_FILE)
    return Found(url=chosen, key=secret, source=source)


def read_key(path: Path) -> str | None:
    """Return the key in a file, None when it cannot be read."""
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


class Remote:
    """One server. Plain blocking calls; a connection for each."""

    def __init__(self, found: Found) -> None:
        self.found = found
        try:
            parts = urlsplit(found.url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError:  # half a bracket, or a port that is no number
            parts, scheme, host, port = None, "", None, None
        if parts is None or not host or scheme not in ("http", "https"):
            raise Invalid(
                "bad_url", f"`{found.url}` is not a server's URL", where="--url",
                hint="Use one such as `http://127.0.0.1:4318`.",
            )  # fmt: skip
        self._scheme, self._host, self._port = scheme, host, port
        self._prefix = parts.path.rstrip("/")

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON that `path` answers."""
        return self.ask("GET", path, query=query)

    def post(self, path: str, body: object = None, **query: object) -> Any:
        """Send a JSON body, return the JSON answer."""
        return self.ask("POST", path, query=query, body=body)

    def ask(
        self, method: str, path: str, *, query: Mapping[str, object] | None = None,
        body: object = None, raw: bytes | None = None, kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Any:  # fmt: skip
        """Return the JSON answer; raises the error that the server answered, or Unavailable."""
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        connection = self._connect(TIMEOUT_S)
        try:
            sent = {**self._headers(), "Content-Type": kind, **(headers or {})}
            connection.request(method, self._target(path, query), body=content, headers=sent)
            response = connection.getresponse()
            answer = response.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()
        if response.status >= 400:
            raise failure(response.status, answer, dict(response.getheaders()))
        if not answer:
            return None
        try:
            return json.loads(answer)
        except ValueError:
            raise Unavailable(
                "not_inprod", f"what answers at `{self.found.url}` is not inprod",
                hint="Check --url.",
            ) from None  # fmt: skip

    def stream(self, path: str, **query: object) -> Iterator[Happening]:
        """Yield the server-sent events of `path` until the server ends the stream."""
        connection = self._connect(STREAM_TIMEOUT_S)
        try:
            headers = {**self._headers(), "Accept": "text/event-stream"}
            connection.request("GET", self._target(path, query), headers=headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise failure(
                    response.status, response.read(ANSWER_BYTES_MAX), dict(response.getheaders())
                )
            yield from _happenings(response)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout_s, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "inprod-cli"}
        if self.found.key:
            try:
                self.found.key.encode("ascii")
            except UnicodeEncodeError:
                raise Denied(
                    "unknown_key", "the key has letters that no key has", hint="Check --key."
                ) from None
            headers["Authorization"] = f"Bearer {self.found.key}"
        return headers

    def _target(self, path: str, query: Mapping[str, object] | None) -> str:
        given = {key: value for key, value in (query or {}).items() if value is not None}
        return self._prefix + path + (f"?{urlencode(given)}" if given else "")

    def _unreachable(self, error: Exception) -> Unavailable:
        why = getattr(error, "strerror", None) or error
        return Unavailable(
            "no_server",
            f"nothing answers at `{self.found.url}` (from {self.found.source}): {why}",
            hint="Start it with `inprod up`, or name it with --url.",
        )


def segment(name: str) -> str:
    """Return `name` as one part of a path."""
    return quote(name, safe="")


def failure(status: int, body: bytes, headers: Mapping[str, str]) -> InprodError:
    """Return the error that an answer carries, as the class of its status."""
    try:
        told = json.loads(body)["error"]
        code, message = str(told["code"]), str(told["message"])
        where, hint = str(told.get("where", "")), str(told.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        code, message = "unexpected_answer", f"the server answered with status `{status}`"
        where, hint = "", "Check --url and the server's log."
    if status == 429:
        wait = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
        retry_after_s = float(wait) if wait.isdigit() else 1.0
        return TooMuch(code, message, where=where, hint=hint, retry_after_s=retry_after_s)
    same = {401: Denied, 405: Invalid} | {kind.status: kind for kind in PUBLIC_ERRORS}
    kind = same.get(status, InprodError if status == 500 else Unavailable)
    return kind(code, message, where=where, hint=hint)


def _happenings(lines: http.client.HTTPResponse) -> Iterator[Happening]:
    event, data = "message", list[str]()
    while line := lines.readline():
        text = line.decode().rstrip("\r\n")
        if not text:
            if data:
                yield Happening(event=event, data=json.loads("\n".join(data)))
            event, data = "message", []
            continue
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event = value
        elif field == "data":
            data.append(value)


def _local_url(folder: Path) -> str | None:
    try:
        found: object = json.loads((folder / SERVER_FILE).read_text())
    except (OSError, ValueError):
        return None
    url = found.get("url") if isinstance(found, dict) else None  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]  # JSON
    return url.rstrip("/") if isinstance(url, str) else None
