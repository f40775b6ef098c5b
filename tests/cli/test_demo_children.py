from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from inprod.cli.demo_children import Children
from inprod.errors import Unavailable

ENVIRON = {"PATH": os.environ["PATH"]}
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def until(claim: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_stopping_ends_a_child_and_what_it_started(tmp_path: Path) -> None:
    children = Children(tmp_path)
    program = STUBBORN.replace("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n", "")
    child = children.start("parent", [sys.executable, "-c", program], ENVIRON)
    until(lambda: child.first_line)
    grandchild = int(child.first_line)
    children.stop()
    assert child.process.returncode is not None
    until(lambda: not is_running(grandchild))


def is_running(pid: int) -> bool:
    """Return whether a process lives; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_that_ends_is_named_with_its_code_and_the_end_of_its_log(tmp_path: Path) -> None:
    children = Children(tmp_path)
    program = "import sys; print('no such table', file=sys.stderr); sys.exit(3)"
    child = children.start("shop", [sys.executable, "-c", program], ENVIRON)
    child.process.wait(20)
    with pytest.raises(Unavailable, match="`shop` ended early with code `3`"):
        children.check()
    assert children.logs() == "  shop | no such table"
    children.stop()


def test_the_first_line_is_nothing_until_it_is_whole(tmp_path: Path) -> None:
    children = Children(tmp_path)
    go = tmp_path / "go"
    program = (
        "import pathlib, sys, time\n"
        "print('hal', end='', flush=True)\n"
        "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)\n"
        "print('f', flush=True)\n"
        "time.sleep(60)\n"
    )
    child = children.start("server", [sys.executable, "-c", program, str(go)], ENVIRON)
    try:
        until(lambda: child.output.read_text() == "hal")
        assert child.first_line == ""
        go.touch()
        until(lambda: child.first_line)
        assert child.first_line == "half"
    finally:
        children.stop()
