"""The processes of the demonstration: started with a log each, watched, and always stopped.

Each child leads its own process group, so that Ctrl-C reaches the demonstration alone, which then
stops them in order; and the kernel ends a child whose parent was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inprod.errors import Unavailable

STOP_S = 8.0
KILL_S = 5.0
LOG_LINES = 25
# Asks the kernel for SIGTERM when the parent ends (prctl PR_SET_PDEATHSIG, which outlives exec),
# then becomes the command. Not a preexec_fn: the story draws from a thread, and fork and threads
# do not mix.
_LEASHED = (
    sys.executable, "-I", "-S", "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execvp(sys.argv[1], sys.argv[1:])",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One running process and where its words go."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    output: Path

    @property
    def first_line(self) -> str:
        """The first whole line that it printed on stdout so far, or nothing."""
        line, newline, _ = self.output.read_text(errors="replace").partition("\n")
        return line if newline else ""


class Children:
    """Starts processes and stops them all, last started first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> Child:
        """Start `command`; its stdout and stderr go to `<name>.out` and `<name>.log`."""
        log, output = self._folder / f"{name}.log", self._folder / f"{name}.out"
        with log.open("wb") as errors, output.open("wb") as words:
            process = subprocess.Popen(  # noqa: S603  # our own command line
                (*_LEASHED, *command),
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=errors,
                process_group=0,
            )
        child = Child(name=name, process=process, log=log, output=output)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise Unavailable when a child has ended."""
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                raise Unavailable(
                    "child_ended",
                    f"the process `{child.name}` ended early with code `{code}`",
                    hint=f"The end of its log, {child.name}.log, follows.",
                )

    def tail(self, child: Child) -> str:
        """Return the last lines of a child's log, indented."""
        lines = child.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"  {child.name} | {line}" for line in lines) or "  (it said nothing)"

    def logs(self) -> str:
        """Return the last lines of every child's log."""
        return "\n".join(self.tail(child) for child in self._children)

    def stop(self) -> None:
        """End every child and whatever it started; returns when all are gone."""
        while self._children:
            child = self._children[-1]
            _signal_group(child, signal.SIGTERM)
            if not _ended(child, STOP_S):
                _signal_group(child, signal.SIGKILL)
                _ended(child, KILL_S)
            _signal_group(child, signal.SIGKILL)  # what it may have left in its group
            self._children.pop()


def _signal_group(child: Child, what: signal.Signals) -> None:
    try:
        os.killpg(child.process.pid, what)
    except ProcessLookupError:
        return


def _ended(child: Child, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while child.process.poll() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
