"""Documents from files: YAML 1.2, so that `on`, `off` and dates are what people mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from inprod.cli.documents import documents_of
from inprod.errors import Invalid, Missing


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return str(path)


def test_on_off_yes_and_dates_are_text_and_true_is_true(tmp_path: Path) -> None:
    name = written(tmp_path, "{off: off, on: on, a: yes, b: true, c: False, d: 2026-01-02, e: 5%}")
    assert [document for _, document in documents_of(name)] == [
        {"off": "off", "on": "on", "a": "yes", "b": True, "c": False, "d": "2026-01-02", "e": "5%"}
    ]


def test_documents_and_lists_of_documents_are_numbered(tmp_path: Path) -> None:
    name = written(tmp_path, "a: 1\n---\n- b: 2\n- c: 3\n---\n")
    places = [place.removeprefix(name) for place, _ in documents_of(name)]
    assert places == ["#1", "#2", "#3"]


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: *b", "!!python/object/apply:os.system [ls]", "a: !!binary aGk=", "\tx: 1",
     "a: b: c"],
)  # fmt: skip
def test_what_is_not_plain_yaml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid):
        list(documents_of(written(tmp_path, text)))


def test_a_file_must_be_there_and_be_text(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        list(documents_of(str(tmp_path / "no.yaml")))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Invalid):
        list(documents_of(str(tmp_path / "binary")))
    with pytest.raises(Invalid):
        list(documents_of(str(tmp_path)))
