"""One word for each idea: the words that the glossary bans stand nowhere that a user reads."""

from __future__ import annotations

import re
from pathlib import Path

from support.source import ROOT

GLOSSARY = ROOT / "docs/glossary.md"
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
PAGES = tuple(
    path
    for path in (
        ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "src").rglob("*.html"), *(ROOT / "examples").rglob("*.yaml"),
    )
    if path != GLOSSARY
)  # fmt: skip


def rows() -> list[tuple[str, str, tuple[str, ...]]]:
    """Return (word, meaning, banned words) of every row."""
    found = [tuple(cell.strip() for cell in row) for row in ROW.findall(GLOSSARY.read_text())]
    return [
        (word, meaning, tuple(one.strip() for one in banned.split(",")))
        for word, meaning, banned in found
        if word not in {"word", "---"}
    ]


def lines_with(word: str, path: Path) -> list[str]:
    pattern = re.compile(rf"\b{re.escape(word)}s?\b", re.IGNORECASE)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:90]}"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]


def test_the_glossary_is_in_order_and_names_each_idea_once() -> None:
    words = [word for word, _, _ in rows()]
    assert len(words) > 30
    assert words == sorted(words)
    assert len(set(words)) == len(words)


def test_no_idea_is_named_by_a_word_that_is_banned_for_another() -> None:
    words = {word for word, _, _ in rows()}
    banned = [one for _, _, several in rows() for one in several]
    assert not words & set(banned)
    assert len(set(banned)) == len(banned)


def test_the_banned_words_stand_nowhere_that_a_user_reads() -> None:
    found = [
        f"{line} (say `{word}`)"
        for word, _, banned in rows()
        for one in banned
        for path in PAGES
        for line in lines_with(one, path)
    ]
    assert not found, "\n".join(found)


def test_the_nouns_of_the_code_are_in_the_glossary() -> None:
    words = {word for word, _, _ in rows()}
    assert words >= {
        "event", "dial", "guard", "rollout", "flag", "rule", "split", "treatment", "variant",
        "plan", "step", "stage", "cap", "lever", "lease", "verdict", "judgement", "evidence",
        "journal",
    }  # fmt: skip
