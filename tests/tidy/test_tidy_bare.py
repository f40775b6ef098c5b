"""`pip install inprod` brings the SDK and nothing else: it must work on a bare interpreter."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

import inprod
from support.source import ROOT

BARE = (
    "inprod", "inprod.sdk", "inprod.flags.flag", "inprod.flags.bucket", "inprod.flags.evaluate",
    "inprod.flags.change", "inprod.document", "inprod.units", "inprod.errors", "inprod.operators",
)  # fmt: skip
# -I: no environment, no user folder; -S: no site-packages, so the standard library alone.
LOOK = """
import sys
sys.path.insert(0, sys.argv[1])
import importlib
importlib.import_module(sys.argv[2])
print("\\n".join(sorted(name for name in sys.modules if name.partition(".")[0] == "inprod")))
"""


@pytest.mark.parametrize("name", BARE)
def test_the_sdk_imports_with_the_standard_library_alone(name: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", LOOK, str(ROOT / "src"), name],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    loaded = ran.stdout.split()
    worldly = ("inprod.server", "inprod.cli", "inprod.rollouts", "inprod.guards", "inprod.stats")
    assert not [one for one in loaded if one.startswith(worldly)], loaded


def test_the_package_itself_asks_for_nothing() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"] == []


def test_no_function_of_the_surface_hides_behind_a_package_of_the_same_name() -> None:
    """Importing `inprod.x` sets the attribute `x`, and would replace a function of that name."""
    inside = {path.stem for path in (ROOT / "src" / "inprod").iterdir()}
    assert not inside & set(inprod.__all__)
