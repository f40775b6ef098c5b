"""The demonstration, for real: its own server, shop and crowd; about a minute and a half."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = (sys.executable, "-c", "from inprod.cli.main import run; run()", "demo")
DEMO_S = 170.0
STOP_S = 30.0
MARK = "TEST_OF_THE_DEMO"


def environ(folder: Path) -> dict[str, str]:
    """Return an environment whose processes can be told from all others by MARK."""
    return {
        "PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), MARK: str(folder),
        "LANG": "C.UTF-8",
    }  # fmt: skip


def marked(folder: Path) -> list[str]:
    """Return the command lines of the processes that a test in `folder` started."""
    wanted = f"{MARK}={folder}".encode()
    found: list[str] = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (place / "environ").read_bytes().split(b"\0"):
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended while we looked, or is not ours
            continue
    return found


def wait_until_marked(folder: Path, word: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not any(word in line for line in marked(folder)):
        assert time.monotonic() < deadline, f"no process with `{word}` among {marked(folder)}"
        time.sleep(0.05)


def test_the_demo_promotes_the_good_change_and_rolls_the_bad_one_back(tmp_path: Path) -> None:
    ran = subprocess.run(
        [*DEMO, "--once", "--json"], env=environ(tmp_path), timeout=DEMO_S,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    story = json.loads(ran.stdout)
    assert set(story) == {"good", "bad"}
    for ending in story.values():
        assert set(ending) == {"outcome", "level", "users_exposed", "seconds", "guard", "reason"}
        assert ending["reason"]
    good, bad = story["good"], story["bad"]
    assert (good["outcome"], good["level"], good["guard"]) == ("promoted", 100.0, "")
    assert (bad["outcome"], bad["level"]) == ("rolled_back", 0.0)
    assert bad["guard"]
    assert 0 < bad["users_exposed"] < good["users_exposed"]
    assert good["seconds"] + bad["seconds"] < 120
    assert marked(tmp_path) == []
    assert list(tmp_path.glob("inprod-demo-*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_leaves_nothing_when_it_is_told_to_stop(tmp_path: Path, number: int) -> None:
    with subprocess.Popen(
        [*DEMO], env=environ(tmp_path), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            wait_until_marked(tmp_path, "users.py", 60.0)
            process.send_signal(number)
            process.wait(STOP_S)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert marked(tmp_path) == []
    assert list(tmp_path.glob("inprod-demo-*")) == []


def test_the_children_of_a_demo_that_was_killed_end_with_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*DEMO], env=environ(tmp_path), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        wait_until_marked(tmp_path, "users.py", 60.0)
        process.kill()
        process.wait(STOP_S)
    deadline = time.monotonic() + STOP_S
    while marked(tmp_path):
        assert time.monotonic() < deadline, marked(tmp_path)
        time.sleep(0.1)


def test_a_child_that_ends_early_is_named_with_its_log(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--once"], env=environ(tmp_path), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            wait_until_marked(tmp_path, "users.py", 60.0)
            shop = next(
                int(place.name)
                for place in Path("/proc").glob("[0-9]*")
                if is_shop_of(place, tmp_path)
            )
            os.kill(shop, signal.SIGKILL)
            assert process.stderr is not None
            words = process.stderr.read()
            process.wait(STOP_S)
        finally:
            process.kill()
    assert process.returncode == 7
    assert "`shop` ended early with code `-9`" in words
    assert marked(tmp_path) == []


def is_shop_of(place: Path, folder: Path) -> bool:
    """Return whether a folder of /proc is the shop that a test in `folder` started."""
    try:
        environment = (place / "environ").read_bytes().split(b"\0")
        return f"{MARK}={folder}".encode() in environment and (
            b"shop.py" in (place / "cmdline").read_bytes()
        )
    except OSError:
        return False
