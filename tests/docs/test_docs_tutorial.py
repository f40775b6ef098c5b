"""The tutorial's commands work: each one runs as written, against a real server.

Blocks of the page, by their info string: `sh` runs; `sh background` is started and left running;
`sh fails` must fail with the words quoted below it; `sh retry` is run until it succeeds;
`yaml NAME` and `python NAME` are files to write. A block without one is for people only.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.source import ROOT

PAGE = ROOT / "docs/tutorial.md"
BLOCK = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```\n+((?:^> [^\n]*\n)*)", re.MULTILINE | re.DOTALL)
COMMAND_S = 90.0
START_S = 40.0
RETRY_S = 30.0


@dataclass
class Reader:
    """Somebody who follows the tutorial in a folder of their own."""

    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environ = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "INPROD_DATA": str(self.folder / "data"),
            "INPROD_PORT": "0",
            "LANG": "C.UTF-8",
        }

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environ, timeout=COMMAND_S,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def start(self, command: str) -> None:
        number = len(self.running)
        with (self.folder / f"background-{number}.log").open("wb") as log:
            self.running.append(
                subprocess.Popen(
                    ["bash", "-c", command], cwd=self.folder, env=self.environ,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )
            )  # fmt: skip
        if command.startswith("inprod up"):
            self.environ["INPROD_URL"] = self.server()

    def server(self) -> str:
        """Return the URL of the server once its data folder tells it."""
        place = self.folder / "data/server.json"
        deadline = time.monotonic() + START_S
        while not place.exists():
            assert time.monotonic() < deadline, self.logs()
            assert self.running[0].poll() is None, self.logs()
            time.sleep(0.1)
        return json.loads(place.read_text())["url"]

    def retry(self, command: str) -> subprocess.CompletedProcess[str]:
        deadline = time.monotonic() + RETRY_S
        while True:
            ran = self.run(command)
            if ran.returncode == 0 or time.monotonic() > deadline:
                return ran
            time.sleep(0.5)

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("background-*.log")))

    def leave(self) -> None:
        for process in reversed(self.running):
            try:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(15)
            except ProcessLookupError:
                continue
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(15)


def blocks() -> Iterator[tuple[str, str, str, str]]:
    """Yield (language, word, text, quoted lines after it) of every block of the page."""
    for language, word, text, quoted in BLOCK.findall(PAGE.read_text()):
        yield language, word, text, re.sub(r"^> ", "", quoted, flags=re.MULTILINE).strip()


def test_every_command_of_the_tutorial_works_as_written(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    said: list[str] = []
    try:
        for language, word, text, quoted in blocks():
            if language in {"yaml", "python"}:
                (tmp_path / word).write_text(text)
            elif language == "sh" and word == "background":
                reader.start(text.strip())
            elif language == "sh":
                for command in text.strip().splitlines():
                    ran = reader.retry(command) if word == "retry" else reader.run(command)
                    said.append(f"$ {command}\n{ran.stdout}{ran.stderr}")
                    assert (ran.returncode == 0) == (word != "fails"), (
                        "\n".join(said) + reader.logs()
                    )
                    assert quoted in ran.stdout + ran.stderr, said[-1]
    finally:
        reader.leave()
    story = "\n".join(said)
    assert "promoted" in story, story


def test_the_tutorial_shows_commands_and_files() -> None:
    kinds = {(language, word) for language, word, _, _ in blocks()}
    assert {("sh", ""), ("sh", "background"), ("yaml", "rollout.yaml")} <= kinds
