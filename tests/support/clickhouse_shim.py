"""ClickHouse's HTTP protocol over the chDB of this process, so the remote path is tested too.

The unmodified `clickhouse_connect` HTTP client talks to it. It proves the client's wire path on the
same engine; it proves nothing about clusters, replication, quorum, users or network failures.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

import chdb
from clickhouse_connect.driver._chdbclient import build_connection_string

from inprod.events.edge.engine import CHDB_OPTIONS
from support.event_store import folder

_TRANSPORT = {
    "query", "database", "session_id", "compress", "decompress", "wait_end_of_query",
    "send_progress_in_http_headers", "http_headers_progress_interval_ms", "query_id",
    "client_protocol_version", "enable_http_compression", "buffer_size", "default_format", "role",
    "quota_key", "session_check", "session_timeout", "cancel_http_readonly_queries_on_client_close",
}  # fmt: skip
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*$", re.IGNORECASE)

# An insert whose data follows in the same body.
_INSERT = re.compile(rb"(INSERT INTO [^\n]*?FORMAT \w+)\n", re.IGNORECASE)


class Handler(BaseHTTPRequestHandler):
    """One statement per request, on a connection of its own."""

    protocol_version = "HTTP/1.1"
    failures = 0  # how many inserts to refuse, for tests of retries
    lost_answers = 0  # how many inserts to do and then answer as if they had failed
    refused = 0

    def do_GET(self) -> None:  # http.server's name
        self._answer(b"")

    def do_POST(self) -> None:  # http.server's name
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        encoding = self.headers.get("Content-Encoding", "")
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding == "deflate":
            body = zlib.decompress(body)
        elif encoding not in ("", "identity"):
            from clickhouse_connect.driver.compression import _zstd_decompress

            assert encoding == "zstd", encoding
            body = _zstd_decompress(body)
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        fields = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if self.headers.get("Content-Type", "").startswith("multipart/form-data"):
            fields |= _form(self.headers["Content-Type"], body)
            body = b""
        query = fields.get("query", "")
        if not query:
            insert = _INSERT.match(body)
            query, body = (
                (insert[1].decode(), body[insert.end() :]) if insert else (body.decode(), b"")
            )
        query = query.rstrip().rstrip(";")
        parameters = {k[6:]: v for k, v in fields.items() if k.startswith("param_")}
        settings = {
            k: v for k, v in fields.items() if k not in _TRANSPORT and not k.startswith("param_")
        }
        try:
            if query.upper().startswith("INSERT") and type(self).failures > 0:
                type(self).failures -= 1
                type(self).refused += 1
                raise RuntimeError("Code: 210. DB::Exception: refused by the test. (NETWORK_ERROR)")
            payload, summary, fmt = _run(
                query, body, fields.get("database", ""), parameters, settings
            )
            if query.upper().startswith("INSERT") and type(self).lost_answers > 0:
                type(self).lost_answers -= 1
                type(self).refused += 1
                raise RuntimeError("Code: 209. DB::Exception: the answer is lost. (SOCKET_TIMEOUT)")
        except RuntimeError as error:
            text = str(error)
            code = re.search(r"Code: (\d+)", text)
            self._send(
                500, text.encode(), {"X-ClickHouse-Exception-Code": code[1] if code else "0"}
            )
            return
        self._send(
            200,
            payload,
            {
                "X-ClickHouse-Summary": json.dumps(summary),
                "X-ClickHouse-Format": fmt,
                "X-ClickHouse-Timezone": "UTC",
            },
        )

    def _send(self, status: int, payload: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def _run(
    query: str, body: bytes, database: str, parameters: dict[str, str], settings: dict[str, str]
) -> tuple[bytes, dict[str, str], str]:
    connection = chdb.connect(build_connection_string(folder(), dict(CHDB_OPTIONS)))
    try:
        if database:
            connection.query(f"USE `{database}`", "TabSeparated")
        clause = ", ".join(f"{name} = '{value}'" for name, value in settings.items())
        found = _FORMAT.search(query)
        fmt = found[1] if found else "TabSeparated"
        if body:
            assert found, query
            with tempfile.NamedTemporaryFile(suffix=".insert") as file:
                Path(file.name).write_bytes(body)
                head = query[: found.start()]
                with_settings = f" SETTINGS {clause}" if clause else ""
                result = connection.query(
                    f"{head} FROM INFILE '{file.name}'{with_settings} FORMAT {fmt}", "TabSeparated"
                )
                written = {"written_rows": str(result.rows_read())}
                return b"", written, fmt
        if clause and query.lstrip().upper().startswith(("SELECT", "WITH")):
            head = query[: found.start()] if found else query
            query = f"{head} SETTINGS {clause}" + (f" FORMAT {fmt}" if found else "")
        result = connection.query(query, fmt, params=parameters)
        summary = {"read_rows": str(result.rows_read())}
        return result.bytes() or b"", summary, fmt
    finally:
        connection.close()


def _form(content_type: str, body: bytes) -> dict[str, str]:
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
    )
    fields: dict[str, str] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        fields[str(name)] = part.get_payload(decode=True).decode()
    return fields


@contextmanager
def clickhouse() -> Generator[tuple[str, type[Handler]]]:
    """Yield the URL of a server (`http://127.0.0.1:port`) and its handler's class, for failures."""
    handler = type("Handler", (Handler,), {"failures": 0, "lost_answers": 0, "refused": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
