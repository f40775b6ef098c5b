"""Commands that the documentation mentions are commands that there are."""

from __future__ import annotations

import re

import click

from inprod.cli.main import ALIASES, COMMANDS, main
from support.source import ROOT

PAGES = (
    ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.yaml")), *sorted((ROOT / "src").rglob("*.html")),
)  # fmt: skip
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
MENTION = re.compile(r"(?:^|[\s;|(])inprod ([a-z]+)(?: ([a-z]+))?(?=[\s`,;:|]|$)(.*)")


def mentions() -> set[tuple[str, str, str, str]]:
    """Return (page, command, word after it, rest of the line) of each `inprod ...` in code."""
    found: set[tuple[str, str, str, str]] = set()
    for page in PAGES:
        text = page.read_text()
        lines = [line for block in FENCE.findall(text) for line in block.splitlines()[1:-1]]
        lines += [span.replace("\n", " ") for span in SPAN.findall(FENCE.sub("", text))]
        for line in lines:
            for noun, verb, rest in MENTION.findall(line):
                found.add((str(page.relative_to(ROOT)), noun, verb, rest))
    return found


def test_every_command_that_is_mentioned_exists() -> None:
    context = click.Context(main)
    names = {entry.name for entry in COMMANDS} | set(ALIASES)
    wrong: list[str] = []
    for page, noun, verb, _ in mentions():
        if noun not in names:
            wrong.append(f"{page}: inprod {noun}")
            continue
        group = main.get_command(context, noun)
        if isinstance(group, click.Group) and verb and group.get_command(context, verb) is None:
            wrong.append(f"{page}: inprod {noun} {verb}")
    assert not wrong, sorted(wrong)


def test_every_option_that_is_mentioned_exists() -> None:
    context = click.Context(main)
    wrong: list[str] = []
    for page, noun, verb, rest in mentions():
        command = main.get_command(context, noun)
        if isinstance(command, click.Group) and verb:
            command = command.get_command(context, verb)
        if command is None:
            continue
        known = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}
        wrong += [
            f"{page}: inprod {noun} {verb} {flag}"
            for flag in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)
            if flag not in known
        ]
    assert not wrong, sorted(wrong)


def test_there_are_commands_to_check() -> None:
    assert len(mentions()) > 20
