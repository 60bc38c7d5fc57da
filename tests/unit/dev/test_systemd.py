"""Compares the systemd units with the options of the programs; checks them with `systemd-analyze` if installed."""

import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from wallet_engine.cli import main

UNITS = sorted((Path(__file__).resolve().parents[3] / "cluster_config" / "systemd").glob("*.service"))
#: Settings that confine a unit to its own files.
HARDENED = {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "UMask": "0077", "CapabilityBoundingSet": ""}


def unit(path: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text("utf-8"))
    return parser


def test_there_is_one_for_each_kind_of_process() -> None:
    assert [path.name for path in UNITS] == [
        "wallet-api@.service",
        "wallet-journal@.service",
        "wallet-zookeeper.service",
    ]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_it_is_closed_and_starts_what_there_is(path: Path) -> None:
    service = unit(path)["Service"]
    assert {name: service[name] for name in HARDENED} == HARDENED
    assert service["User"] == ("zookeeper" if "zookeeper" in path.name else "wallet")
    if service["User"] == "zookeeper":
        return  # it starts another program
    program, verb, *arguments = shlex.split(service["ExecStart"].replace("%i", "8080"))
    assert Path(program).name == "wallet-engine"
    context = main.make_context("wallet-engine", [verb])
    command = main.get_command(context, verb)
    assert command is not None
    command.make_context(verb, arguments, parent=context)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_understands_every_line(path: Path, tmp_path: Path) -> None:
    program = unit(path)["Service"]["ExecStart"].split()[0]
    copy = tmp_path / path.name.replace("@", "@8080")
    copy.write_text(path.read_text("utf-8").replace(program, "/bin/true"), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in done.stderr.splitlines() if copy.name in line] == []
