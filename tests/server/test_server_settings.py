"""Settings: one table; file under environment under flag; unknown names are errors."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from inprod.errors import Invalid, Missing
from inprod.place import data_folder
from inprod.server.settings import SETTINGS, Settings, load


def test_every_field_is_a_row_with_a_sentence_and_its_own_variable() -> None:
    assert [row.name for row in SETTINGS] == [field.name for field in fields(Settings)]
    assert all(row.sentence.endswith(".") for row in SETTINGS)
    assert len({row.variable for row in SETTINGS}) == len(SETTINGS)
    assert len({row.flag for row in SETTINGS}) == len(SETTINGS)
    assert {row.unit for row in SETTINGS if row.name.endswith("_s")} == {"s"}


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    settings = load(environ={"HOME": str(tmp_path)}, flags={})
    assert settings.port == 4318
    assert settings.is_loopback
    assert settings.folder == tmp_path / ".local/share/inprod"
    assert settings.state_address == f"sqlite:///{settings.folder}/state.db"


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "inprod.toml").write_text('port = 1000\ntick_s = "250ms"\nhost = "0.0.0.0"\n')
    environ = {"INPROD_DATA": str(tmp_path), "INPROD_PORT": "2000", "INPROD_URL": "not ours"}
    settings = load(environ=environ, flags={"port": None})
    assert (settings.port, settings.tick_s, settings.is_loopback) == (2000, 0.25, False)
    assert load(environ=environ, flags={"port": "3000", "tick_s": "2s"}).port == 3000


@pytest.mark.parametrize(
    ("environ", "code", "hint"),
    [
        ({"INPROD_PROT": "1"}, "unknown_setting", "Did you mean `INPROD_PORT`?"),
        ({"INPROD_PORT": "http"}, "unreadable_number", "Write a whole number."),
        ({"INPROD_PORT": "70000"}, "bad_port", "Use 0 to 65535."),
        ({"INPROD_TICK_S": "soon"}, "unreadable_number", ""),
        ({"INPROD_TICK_S": "0"}, "bad_setting", "Use a number above 0."),
        ({"INPROD_TICK_S": "1e300"}, "bad_setting", "Use a shorter time."),
        ({"INPROD_RETAIN_DAYS": "4000"}, "bad_setting", ""),
        ({"INPROD_LOG_LEVEL": "wraning"}, "bad_setting", "Did you mean `warning`?"),
    ],
)
def test_what_cannot_be_is_refused(
    environ: dict[str, str], code: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(Invalid) as caught:
        load(environ={"INPROD_DATA": str(tmp_path), **environ}, flags={})
    assert caught.value.code == code
    assert hint in caught.value.hint
    assert caught.value.where


def test_an_unknown_name_in_the_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "inprod.toml").write_text("prot = 1\n")
    with pytest.raises(Invalid) as caught:
        load(environ={"INPROD_DATA": str(tmp_path)}, flags={})
    assert caught.value.hint == "Did you mean `port`?"


def test_a_file_that_was_asked_for_must_be_there_and_readable(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        load(environ={"HOME": str(tmp_path)}, flags={}, config=str(tmp_path / "no.toml"))
    (tmp_path / "bad.toml").write_text("port = = 1")
    with pytest.raises(Invalid):
        load(environ={"HOME": str(tmp_path)}, flags={}, config=str(tmp_path / "bad.toml"))


def test_the_data_folder_is_absolute_and_follows_xdg() -> None:
    assert data_folder("", {"XDG_DATA_HOME": "/x"}) == Path("/x/inprod")
    assert data_folder("here", {}).is_absolute()
