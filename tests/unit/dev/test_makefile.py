"""`make` passes file names on unchanged, whatever characters they have."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
STUB = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done
case "$2" in wallet_engine.dev.binaries) exit "$BINARIES" ;; esac
"""


def words_of(tmp_path: Path, target: str, data: str, binaries: str) -> list[str]:
    """The arguments that `wallet-engine` gets. `binaries`: "1" when system Redis or ZooKeeper is missing, else "0"."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(STUB, encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / ".installed").touch()
    # Variables given to the `make test` that runs this test must not reach the inner `make`.
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS"))
    }
    done = subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), target, f"VENV={tmp_path}", f"DATA={data}"],
        env={**environ, "BINARIES": binaries},
        capture_output=True,
        timeout=60,
        check=True,
    )
    words = done.stdout.decode().splitlines()
    return words[words.index("wallet_engine") + 1 :]


@pytest.mark.parametrize("data", ["data", "my data", 'it\'s "mine"', "m\u00fcller"])
def test_data_is_one_word(tmp_path: Path, data: str) -> None:
    run = ["dev", "--data-dir", data, "--port", "8080"]
    assert words_of(tmp_path, "run", data, "0") == run
    (tmp_path / "2").mkdir()
    assert words_of(tmp_path / "2", "run", data, "1") == [*run, "--embedded"]
    (tmp_path / "3").mkdir()
    run[2] += "/cluster"
    assert words_of(tmp_path / "3", "cluster", data, "0") == [*run, "--shards", "3"]


def test_a_folder_that_was_used_before_decides_the_mode(tmp_path: Path) -> None:
    data = tmp_path / "my data"
    data.mkdir()
    (data / "layout.json").touch()
    assert "--embedded" not in words_of(tmp_path, "run", str(data), "1")
