"""The command line shows its options, and refuses invalid ones."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from bench.__main__ import main


@pytest.mark.parametrize("words", [[], ["run"], ["quick"]])
def test_help_names_the_options(words: list[str]) -> None:
    result = CliRunner().invoke(main, [*words, "--help"])
    assert result.exit_code == 0
    assert "--help" in result.output


@pytest.mark.parametrize(
    "words",
    [
        *(["run", "--door", "window"], ["run", "--workload", "none"], ["run", "--batch", "0"]),
        *(["run", "--accounts", "1"], ["run", "--partitions", "48"], ["move", "--partitions", "48"]),
        *(["scale", "--node-gb", "-1"], ["scale", "--million-accounts", "0"]),
    ],
)
def test_wrong_usage_exits_2(words: list[str]) -> None:
    assert CliRunner().invoke(main, words).exit_code == 2


def without(module: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run the code in an interpreter without this module."""
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules[{module!r}] = None; {code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_peer_whose_client_is_not_installed_is_not_run_and_all_else_is() -> None:
    ask = "import bench.__main__; from bench.peers.postgresql import load_client; load_client()"
    said = without("asyncpg", ask)
    assert said.stderr.splitlines()[-1].endswith(
        "PeerMissing: no Python client of PostgreSQL here: pip install asyncpg"
    )


def test_what_every_measurement_needs_is_named() -> None:
    said = without("hdrh", "import bench.__main__")
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert "pip install --editable '.[bench]'" in said.stderr
