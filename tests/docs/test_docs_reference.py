"""The reference says all that there is: generated pages are fresh, written ones are complete."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from enum import StrEnum

import pytest

from inprod.events.columns import FIXED
from inprod.events.query import Calculate, Query
from inprod.flags.flag import Condition, Flag, Rule, Split, State
from inprod.flags.flag import Kind as FlagKind
from inprod.guards.guard import Guard, Verdict
from inprod.guards.guard import Kind as GuardKind
from inprod.operators import Op
from inprod.rollouts.rollout import OnSilence, Plan, Requires, Step, WhenUndecided
from inprod.safety.cap import Caps
from support.source import ROOT

REFERENCE = ROOT / "docs/reference"
DOCUMENTS = {
    "flag.md": (Flag, State, Rule, Condition, Split),
    "rollout.md": (Plan, Step, Guard, Caps),
    "query.md": (Query,),
}
WORDS: dict[str, tuple[type[StrEnum], ...]] = {
    "flag.md": (FlagKind,),
    "rollout.md": (GuardKind, Requires, WhenUndecided, OnSilence),
    "query.md": (Calculate, Op),
}
WRITTEN = {"kind": ("kind", "type")}  # a flag's `kind` is written `type` in a document


def named(text: str, name: str) -> bool:
    """Return whether a field stands in code somewhere, with or without its unit."""
    return any(
        re.search(rf"`[^`]*\b{re.escape(one)}\b[^`]*`", text)
        for full in WRITTEN.get(name, (name,))
        for one in (full, full.removesuffix("_s"))
    )


@pytest.mark.parametrize("page", sorted(DOCUMENTS))
def test_every_field_of_a_document_is_in_its_page(page: str) -> None:
    text = (REFERENCE / page).read_text()
    missing = [
        f"{kind.__name__}.{field.name}"
        for kind in DOCUMENTS[page]
        for field in fields(kind)
        if not named(text, field.name)
    ]
    assert not missing


@pytest.mark.parametrize("page", sorted(WORDS))
def test_every_word_that_a_field_may_have_is_in_its_page(page: str) -> None:
    text = (REFERENCE / page).read_text()
    if page == "flag.md":
        text += (REFERENCE / "query.md").read_text()
    missing = [word for kind in WORDS[page] for word in kind if f"`{word}`" not in text]
    assert not missing


def test_every_column_that_events_have_is_in_the_page_of_events() -> None:
    text = (REFERENCE / "events.md").read_text()
    assert not [name for name in FIXED if f"`{name}`" not in text]


def test_every_verdict_is_explained() -> None:
    text = (ROOT / "docs/concepts/four-nouns.md").read_text()
    assert not [verdict for verdict in Verdict if f"`{verdict}`" not in text]


def test_the_generated_pages_are_fresh() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "docs/generate.py"), "--check"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"Run `make docs`. {ran.stdout}{ran.stderr}"


def test_every_dependency_has_a_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    reasons = (ROOT / "docs/decisions/0004-dependencies.md").read_text()
    extras = project[project.index("[project.optional-dependencies]") :]
    extras = extras[: extras.index("[project.scripts]")]
    asked = {name for name in re.findall(r'"([A-Za-z0-9._-]+)', extras) if name != "inprod"} - {
        "openfeature-sdk",
        "opentelemetry-sdk",
        "opentelemetry-exporter-otlp-proto-http",
    }
    assert not [name for name in sorted(asked) if not re.search(rf"\b{re.escape(name)}\b", reasons)]
