from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from inprod import document
from inprod.flags.evaluate import compile_flag
from support.flag_server import CHECKOUT, flag_of
from support.source import ROOT

# -I: no environment, no user folder; -S: no site-packages, so the standard library alone.
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import json
import inprod
assert inprod.flag("new-checkout", True, {"user.id": "u"}) is True  # before init: the default
client = inprod.init(offline_file=sys.argv[2], environment="production")
with inprod.event("request") as event:
    served = [
        inprod.details("new-checkout", True, {"user.id": f"user-{n}", "country": "US"}).variant
        for n in range(200)
    ]
assert "mmh3" not in sys.modules
assert inprod.flush() and inprod.status().is_ready
inprod.close()
outside = {"orjson", "sqlalchemy", "starlette", "openfeature", "opentelemetry", "anyio"}
assert not outside & set(sys.modules)
print(json.dumps(served))
"""


def test_the_sdk_evaluates_on_a_bare_interpreter_as_it_does_with_everything(tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    file.write_text(json.dumps({"flags": {"new-checkout": CHECKOUT}}))
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", PROGRAM, str(ROOT / "src"), str(file)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    evaluate = compile_flag(flag_of(), "production")
    here = [evaluate({"user.id": f"user-{n}", "country": "US"}, None).variant for n in range(200)]
    assert json.loads(ran.stdout) == here
    assert document.write(flag_of())["key"] == "new-checkout"


def test_importing_inprod_imports_nothing_that_does_io() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import inprod; "
        "print(sorted({'http.client', 'ssl', 'tempfile'} & {*sys.modules}))"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(ROOT / "src")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "[]"
