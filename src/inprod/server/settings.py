"""The server's settings: one table of name, type, unit, default and sentence.

    file (`inprod.toml`)  <  environment (`INPROD_PORT`)  <  flag (`--port`)

Unknown names are errors with the nearest name. The fields of `Settings` are the table; `SETTINGS`
shows it to the reference, the CLI and the tests.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

from inprod.errors import InprodError, Invalid, Missing, nearest
from inprod.place import data_folder
from inprod.units import Seconds, Unit, parse

PREFIX = "INPROD_"
FILE_NAME = "inprod.toml"
RETAIN_DAYS_MAX = 400
DURATION_S_MAX = 400 * 86400.0
LOOPBACK_NAMES = frozenset({"127.0.0.1", "::1", "localhost"})
# Names that the SDK, the CLI and the demo read from the environment; not settings of the server.
CLIENT_NAMES = frozenset(
    {"INPROD_URL", "INPROD_KEY", "INPROD_CONFIG", "INPROD_ENVIRONMENT", "INPROD_SERVICE"}
)


def _says(sentence: str) -> dict[str, str]:
    return {"sentence": sentence}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one server runs with; see each field's sentence in `SETTINGS`."""

    data: str = field(
        default="",
        metadata=_says(
            "Folder of the state, the events, the admin key and `server.json`; "
            "empty: `$XDG_DATA_HOME/inprod` or `~/.local/share/inprod`."
        ),
    )
    host: str = field(default="127.0.0.1", metadata=_says("Address to listen on."))
    port: int = field(default=4318, metadata=_says("Port to listen on; 0 takes a free one."))
    public_url: str = field(
        default="",
        metadata=_says("URL under which browsers reach the server, when a proxy stands before it."),
    )
    hosts: str = field(
        default="",
        metadata=_says("Further names, with commas between, that a request's `Host` may have."),
    )
    state_url: str = field(
        default="",
        metadata=_says("SQLAlchemy URL of the state; empty: SQLite `state.db` in the data folder."),
    )
    events_url: str = field(
        default="",
        metadata=_says(
            "URL of the event store (`chdb:///folder`, `http://host:8123/name`); "
            "empty: chDB in `events` of the data folder."
        ),
    )
    tick_s: Seconds = field(default=1.0, metadata=_says("How often every rollout is looked at."))
    session_s: Seconds = field(
        default=12 * 3600.0, metadata=_says("How long a browser stays logged in.")
    )
    login_s: Seconds = field(
        default=15 * 60.0, metadata=_says("How long a one-time login link can be used.")
    )
    drain_s: Seconds = field(
        default=10.0, metadata=_says("How long a stopping server waits for requests to end.")
    )
    streams_max: int = field(
        default=1000, metadata=_says("How many streams of changes may be open at once.")
    )
    retain_days: int = field(
        default=30, metadata=_says("How many days events are kept, at most 400.")
    )
    log_level: str = field(
        default="warning",
        metadata=_says("Least grave log line shown: debug, info, warning, error."),
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be, naming the setting."""
        if not 0 <= self.port <= 65535:
            raise Invalid(
                "bad_port", f"`{self.port}` is not a port", where="port",
                hint="Use 0 to 65535.",
            )  # fmt: skip
        for name in ("tick_s", "session_s", "login_s", "drain_s", "streams_max", "retain_days"):
            if getattr(self, name) <= 0:
                raise Invalid(
                    "bad_setting", f"`{getattr(self, name)}` is not above 0", where=name,
                    hint="Use a number above 0.",
                )  # fmt: skip
        for name in ("tick_s", "session_s", "login_s", "drain_s"):
            if getattr(self, name) > DURATION_S_MAX:
                raise Invalid(
                    "bad_setting", f"`{getattr(self, name):g}` s is over `{DURATION_S_MAX:g}` s",
                    where=name, hint="Use a shorter time.",
                )  # fmt: skip
        if self.retain_days > RETAIN_DAYS_MAX:
            raise Invalid(
                "bad_setting", f"`{self.retain_days}` days are over `{RETAIN_DAYS_MAX}`",
                where="retain_days", hint="Use a smaller number.",
            )  # fmt: skip
        levels = ("debug", "info", "warning", "error")
        if self.log_level not in levels:
            raise Invalid(
                "bad_setting", f"`{self.log_level}` is not a log level", where="log_level",
                hint=nearest(self.log_level, levels),
            )  # fmt: skip

    @property
    def folder(self) -> Path:
        """The data folder."""
        assert self.data, "load() fills it in"
        return Path(self.data)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_NAMES

    @property
    def state_address(self) -> str:
        """The SQLAlchemy URL of the state."""
        return self.state_url or f"sqlite:///{self.folder / 'state.db'}"

    @property
    def events_address(self) -> str:
        """The URL of the event store."""
        return self.events_url or f"chdb://{self.folder / 'events'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table: `kind` is `text`, `whole number` or `number`; `unit` as in `units`."""

    name: str
    kind: str
    unit: str
    default: str | int | float
    sentence: str

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The name on the command line; the unit is not part of it."""
        return "--" + self.name.removesuffix("_s").replace("_", "-")


_KINDS = {str: "text", int: "whole number", float: "number"}


def _table() -> tuple[Setting, ...]:
    hints = get_type_hints(Settings, include_extras=True)
    rows: list[Setting] = []
    for one in fields(Settings):
        hint, unit = hints[one.name], ""
        if get_args(hint):
            hint, unit = get_args(hint)
        assert get_origin(hint) is None
        rows.append(
            Setting(
                name=one.name,
                kind=_KINDS[hint],
                unit=str(unit),
                default=cast("str | int | float", one.default),
                sentence=one.metadata["sentence"],
            )
        )
    return tuple(rows)


SETTINGS = _table()
_BY_NAME = {one.name: one for one in SETTINGS}


def load(
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, str | int | float | None],
    config: str | None = None,
) -> Settings:
    """Return the settings from file, environment and flags; a later source wins.

    `flags` holds settings by name, None where not given; `config` is the settings file (default
    `$INPROD_CONFIG`, else `inprod.toml` in the data folder when there is one). Raises Invalid for
    unknown names and unreadable values, Missing for a `config` that is not there.
    """
    from_environment = _environment(environ)
    from_flags = {name: value for name, value in flags.items() if value is not None}
    early = {**from_environment, **from_flags}
    data = str(early.get("data") or "")
    config = config or environ.get("INPROD_CONFIG")
    from_file = _file(Path(config) if config else data_folder(data, environ) / FILE_NAME, config)
    merged = {**from_file, **early}
    values = {name: _value(name, value) for name, value in merged.items()}
    values["data"] = str(data_folder(str(values.get("data", "")), environ))
    return Settings(**values)


def _environment(environ: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in CLIENT_NAMES:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in _BY_NAME or variable != _BY_NAME[name].variable:
            known = [one.variable for one in SETTINGS] + sorted(CLIENT_NAMES)
            raise Invalid(
                "unknown_setting", f"`{variable}` is not a setting", where=variable,
                hint=nearest(variable, known),
            )  # fmt: skip
        found[name] = value
    return found


def _file(path: Path, asked: str | None) -> dict[str, object]:
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if asked:
            raise Missing(
                "no_settings_file", f"`{asked}` is not there", hint="Give an existing file."
            ) from None
        return {}
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        found = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    for name in found:
        if name not in _BY_NAME:
            raise Invalid(
                "unknown_setting", f"`{name}` is not a setting", where=f"{path.name}: {name}",
                hint=nearest(name, _BY_NAME),
            )  # fmt: skip
    return found


def _unreadable(path: Path, error: Exception) -> InprodError:
    return Invalid(
        "unreadable_settings", f"`{path}` cannot be read: {error}", hint="Mend the file."
    )


def _value(name: str, given: object) -> Any:
    row = _BY_NAME[name]
    if row.unit:
        try:
            return parse(given, Unit(row.unit))  # pyright: ignore[reportArgumentType]  # it checks
        except Invalid as error:
            error.where = name
            raise
    if row.kind == "whole number":
        try:
            if isinstance(given, bool) or not isinstance(given, (int, str)):
                raise ValueError
            return int(given)
        except ValueError:
            raise Invalid(
                "unreadable_number", f"`{given}` is not a whole number", where=name,
                hint="Write a whole number.",
            ) from None  # fmt: skip
    if not isinstance(given, str):
        raise Invalid(
            "wrong_type", f"`{given}` is not text", where=name, hint="Write text, in quotes."
        )
    return given
