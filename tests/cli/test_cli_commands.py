"""The commands against a real server: data on stdout, words on stderr, exit codes that tell."""

from __future__ import annotations

import importlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import click
import pytest

from inprod.cli.main import COMMANDS, main
from support.server import Server, run_cli, running

FLAG = """\
kind: flag
key: checkout
type: boolean
variants: {on: true, off: false}
default: off
off: off
environments:
  production:
    rules:
      - id: everyone
        split: {control: off, treatments: [on]}
"""
ROLLOUT = """\
kind: rollout
name: checkout-file
environment: production
dial: flag/other
steps: [{level: 5%, bake: 1h}, 100%]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "flag.yaml").write_text(FLAG)
    (folder / "other.yaml").write_text(FLAG.replace("checkout", "other"))
    (folder / "rollout.yaml").write_text(ROLLOUT)
    with running(folder / "data") as server:
        server.cli("env", "add", "production", check=True)
        server.cli("apply", "-f", str(folder / "flag.yaml"), check=True)
        yield server


def commands() -> list[list[str]]:
    found: list[list[str]] = []
    for entry in COMMANDS:
        command = main.get_command(click.Context(main), entry.name)
        assert command is not None
        if isinstance(command, click.Group):
            found += [[entry.name, verb] for verb in command.commands]
        else:
            found.append([entry.name])
    return found


def test_every_command_of_the_table_exists_has_help_and_speaks_json() -> None:
    for path in commands():
        entry = next(one for one in COMMANDS if one.name == path[0])
        module, _, attribute = entry.where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if len(path) == 2:
            command = command.commands[path[1]]
        context = click.Context(command, info_name=" ".join(path))
        assert command.get_help(context), path
        assert command.help, path
        assert "--json" in {name for one in command.params for name in one.opts}, path


def test_help_starts_fast_and_imports_no_heavy_module() -> None:
    code = "import sys; import inprod.cli.main; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    for heavy in ("sqlalchemy", "starlette", "yaml", "rich", "numpy", "pyarrow", "uvicorn"):
        assert f"'{heavy}'" not in loaded, heavy
    best_s = 9.9
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run_cli("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best_s = min(best_s, spent_s)
    assert best_s < 0.2, f"{best_s * 1000:.0f} ms of CPU"


def test_an_unknown_command_suggests_the_nearest() -> None:
    done = run_cli("flgas", "list")
    assert done.returncode == 2
    assert "Did you mean `flags`?" in done.stderr
    assert done.stdout == ""


def test_errors_with_json_are_json_on_stderr(server: Server) -> None:
    done = server.cli("flags", "show", "chekout", "--json")
    assert done.returncode == 4
    assert done.stdout == ""
    assert json.loads(done.stderr)["error"]["hint"] == "Did you mean `checkout`?"
    usage = server.cli("flags", "show", "--json")
    assert usage.returncode == 2
    assert json.loads(usage.stderr)["error"]["code"] == "usage"


def test_flags_are_listed_changed_and_asked(server: Server) -> None:
    assert server.json("flags", "list")["flags"][0]["flag"]["key"] == "checkout"
    table = server.cli("flags", "list").stdout.splitlines()
    assert table[0].split() == ["KEY", "TYPE", "ENVIRONMENTS", "REVISION"]
    done = server.cli("flags", "set", "checkout", "-e", "production", "--percent", "30%")
    assert (done.returncode, done.stdout) == (0, "")
    assert "goes from 0 % to 30 %" in done.stderr
    asked = server.cli(
        "flag", "evaluate", "checkout", "-e", "production", "-a", "user.id=1", check=True
    )
    assert asked.stdout.strip() in ("true", "false")
    assert "everyone" in asked.stderr
    assert server.cli("flags", "disable", "checkout", "-e", "production").returncode == 0
    off = server.json("flags", "evaluate", "checkout", "-e", "production", "-a", "user.id=1")
    assert off["evaluation"]["value"] is False
    server.cli("flags", "enable", "checkout", "-e", "production", check=True)
    server.cli("flags", "set", "checkout", "-e", "production", "--percent", "0", check=True)
    assert len(server.json("flags", "history", "checkout")["history"]) == 5


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("set", "checkout", "-e", "production", "--percent", "101"), 2, "101"),
        (("set", "checkout", "-e", "production", "--percent", "many"), 2, "not a percent"),
        (("set", "checkout", "-e", "production"), 2, "Add --percent"),
        (("set", "checkout", "-e", "produdction", "--percent", "1"), 2, "--rule"),
        (("disable", "checkout", "-e", "produdction"), 4, "Did you mean `production`?"),
        (("evaluate", "checkout", "-e", "produdction"), 4, "Did you mean `production`?"),
        (("archive", "nothing"), 4, "is not a flag"),
        (("set", "checkout", "--percent", "1"), 2, "--environment"),
    ],
)
def test_wrong_words_are_refused_with_their_code(
    server: Server, arguments: tuple[str, ...], code: int, told: str
) -> None:
    done = server.cli("flags", *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert told in done.stderr


def test_apply_says_what_would_change_and_names_the_file_of_what_is_wrong(
    server: Server, tmp_path: Path
) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(FLAG.replace("checkout", "applied"))
    dry = server.cli("apply", "-f", str(good), "--dry-run", check=True)
    assert "create" in dry.stdout
    assert "dry run" in dry.stderr
    assert server.cli("flags", "show", "applied").returncode == 4
    bad = tmp_path / "bad.yaml"
    bad.write_text(FLAG.replace("checkout", "bad").replace("control", "contrl"))
    done = server.cli("apply", "-f", str(good), "-f", str(bad))
    assert done.returncode == 2
    assert f"{bad}#1 $.environments.production.rules[0].split.contrl" in done.stderr
    assert "Did you mean `control`?" in done.stderr
    assert server.cli("flags", "show", "applied").returncode == 4
    done = server.cli("apply", "-f", "-", stdin=FLAG.replace("checkout", "applied"), check=True)
    assert "applied" in done.stdout
    server.cli("flags", "archive", "applied", check=True)


def test_a_rollout_is_started_watched_and_taken_in_hand(server: Server) -> None:
    started = server.json(
        "rollouts", "start", "one", "--flag", "checkout", "-e", "production", "--steps", "5,100",
        "--bake", "1h", "--reason", "because",
    )  # fmt: skip
    assert started["plan"]["reason"] == "because"
    deadline = time.monotonic() + 20
    while server.json("rollout", "show", "one")["phase"] != "baking":
        assert time.monotonic() < deadline
    assert "baking" in server.cli("rollouts", "show", "one").stdout
    assert server.json("rollouts", "pause", "one", "--reason", "lunch")["phase"] == "held"
    assert server.json("rollouts", "resume", "one")["phase"] == "baking"
    refused = server.cli("flags", "archive", "checkout")
    assert refused.returncode in (0, 5)
    assert server.cli("rollouts", "rollback", "one", "--reason", "enough").returncode == 0
    watched = server.cli("rollouts", "watch", "one")
    assert watched.returncode == 5
    assert "rolled back" in watched.stdout
    assert server.cli("rollouts", "replay", "one").returncode == 0
    journal = server.json("rollouts", "journal", "one")["entries"]
    assert [one["kind"] for one in journal].count("command") == 3
    again = server.cli("rollouts", "pause", "one")
    assert again.returncode == 5
    assert server.cli("rollouts", "show", "oen").returncode == 4


def test_a_rollout_is_started_from_a_document(server: Server) -> None:
    folder = server.data.parent
    server.cli("apply", "-f", str(folder / "other.yaml"), check=True)
    assert server.cli("rollouts", "start", "-f", str(folder / "other.yaml")).returncode == 4
    done = server.cli("rollouts", "start", "-f", str(folder / "rollout.yaml"))
    assert (done.returncode, "watch checkout-file" in done.stderr) == (0, True)
    assert server.cli("rollouts", "stop", "checkout-file", "--keep").returncode == 0
    assert server.cli("rollouts", "start").returncode == 2


def test_a_lever_is_pulled_listed_and_released(server: Server) -> None:
    bare = server.cli("halt")
    assert bare.returncode == 2, "a reason is asked for"
    assert "--reason" in bare.stderr, "and named as it is written"
    done = server.cli("halt", "-e", "production", "--reason", "smoke")
    assert (done.returncode, done.stdout) == (0, "")
    assert server.json("levers")["levers"][0]["reason"] == "smoke"
    start = server.cli("rollouts", "start", "two", "--flag", "other", "-e", "production")
    assert start.returncode == 5
    assert server.cli("unhalt", "-e", "production").returncode == 0
    assert server.cli("unhalt", "-e", "production").returncode == 4
    assert server.cli("halt", "--dial", "flag/x", "--reason", "x").returncode == 2
    typo = server.cli("halt", "-e", "production", "--dial", "flag/zzz", "--reason", "x")
    assert (typo.returncode, "`flag/zzz` is not a dial" in typo.stderr) == (4, True)
    assert server.cli("halt", "-e", "produdction", "--reason", "x").returncode == 4


def test_a_rollout_under_a_pulled_lever_keeps_its_documents_from_being_stored(
    server: Server,
) -> None:
    flag = FLAG.replace("checkout", "halted")
    plan = "kind: rollout\nname: halted\nenvironment: production\ndial: flag/halted\nsteps: [5%]\n"
    server.cli("halt", "-e", "production", "--reason", "smoke", check=True)
    try:
        for more in ((), ("--dry-run",)):
            done = server.cli("apply", "-f", "-", *more, stdin=f"{flag}\n---\n{plan}")
            assert done.returncode == 5, done.stderr
            assert "pulled the lever" in done.stderr
        assert server.cli("flags", "show", "halted").returncode == 4
    finally:
        server.cli("unhalt", "-e", "production", check=True)


def test_events_are_sent_and_asked(server: Server) -> None:
    server.cli("events", "send", "--dataset", "t", "--name", "one", "-a", "n=1", check=True)
    lines = "".join(json.dumps({"name": "two", "n": n}) + "\n" for n in range(5))
    sent = server.json("events", "send", "--dataset", "t", stdin=lines)
    assert sent == {"sent": 5}
    found = server.json(
        "events", "query", "--dataset", "t", "-c", "COUNT", "-c", "MAX(n)", "-b", "name",
        "-w", "n < 4", "--last", "1h",
    )  # fmt: skip
    by_name = {row["name"]: (row["COUNT"], row["MAX(n)"]) for row in found["results"]}
    assert by_name == {"one": (1, 1), "two": (4, 3)}
    asked = server.cli("events", "query", "-f", "-", stdin='{"dataset": "t"}', check=True)
    assert asked.stdout.split()[:2] == ["COUNT", "6"]
    tailed = server.cli("events", "tail", "--dataset", "t", "--times", "2", "--json", check=True)
    assert all(json.loads(line)["time"] for line in tailed.stdout.splitlines())
    assert server.cli("events", "query", "-b", "nmae", "--dataset", "t").returncode == 2
    assert server.cli("events", "query", "--dataset", "tt").returncode == 4
    assert server.cli("events", "query", "--last", "soon").returncode == 2
    assert server.cli("events", "send", stdin="{").returncode == 2


def test_keys_are_made_listed_used_and_revoked(server: Server) -> None:
    made = server.cli("keys", "add", "reader", "--role", "read", check=True)
    secret = made.stdout.strip()
    assert secret.startswith("inprod_")
    assert secret not in server.cli("keys", "list", check=True).stdout
    assert server.cli("flags", "list", "--key", secret).returncode == 0
    denied = server.cli("env", "add", "mine", "--key", secret)
    assert (denied.returncode, "role" in denied.stderr) == (3, True)
    link = server.cli("login", "--key", secret, check=True).stdout
    assert link.startswith(f"{server.url}/login?token=")
    server.cli("keys", "revoke", "reader", check=True)
    assert server.cli("flags", "list", "--key", secret).returncode == 3
    assert server.cli("flags", "list", "--key", "ключ").returncode == 3
    assert server.cli("keys", "add", "x", "--role", "raed").returncode == 2
    assert server.cli("keys", "revoke", "admin").returncode == 5


def test_environments_are_declared_once(server: Server) -> None:
    assert "production" in server.json("env", "list")["environments"]
    assert server.cli("env", "add", "production").returncode == 5
    assert server.cli("env", "add", "not a name").returncode == 2


def test_the_audit_is_listed_and_whole(server: Server) -> None:
    entries = server.json("audit", "list", "--limit", "3")["entries"]
    assert len(entries) == 3
    assert server.json("audit", "verify")["broken_at"] is None


def test_the_doctor_finds_a_healthy_server_healthy_and_a_missing_one_not(
    server: Server, tmp_path: Path
) -> None:
    found = server.json("doctor")
    states = {one["check"]: one["state"] for one in found["findings"]}
    assert found["bad"] == 0, found
    assert states["wrong environment"] == "good"
    done = run_cli("doctor", "--data", str(tmp_path), "--url", "http://127.0.0.1:1", "--json")
    assert done.returncode == 7
    states = {one["check"]: one["state"] for one in json.loads(done.stdout)["findings"]}
    assert (states["server"], states["port"]) == ("bad", "good")
    (server.data / "admin.key").chmod(0o644)
    open_to_all = server.cli("doctor")
    (server.data / "admin.key").chmod(0o600)
    assert open_to_all.returncode == 7
    assert "chmod 600" in open_to_all.stderr


def test_nothing_answering_is_unavailable(tmp_path: Path) -> None:
    done = run_cli("flags", "list", "--url", "http://127.0.0.1:1", "--data", str(tmp_path))
    assert done.returncode == 7
    assert "inprod up" in done.stderr


def test_something_that_is_not_inprod_is_told(server: Server) -> None:
    done = server.cli("flags", "list", "--url", f"{server.url}/nowhere", "--key", server.key)
    assert done.returncode == 4


def test_output_into_a_closed_pipe_is_no_error(server: Server) -> None:
    command = f"{sys.executable} -m inprod.cli audit list --json --data {server.data} | head -c 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False,
        timeout=30,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_the_version_is_told() -> None:
    assert run_cli("--version").stdout.startswith("inprod ")
