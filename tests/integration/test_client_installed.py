"""The wheel in an empty environment, as a service installs it: the client pays."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.dev_process import DevCluster

PROGRAM = """
import sys
from decimal import Decimal
from wallet_engine.client import Wallet
with Wallet(sys.argv[1]) as wallet:
    wallet.open_account("ann", "USD")
    wallet.transfer("@bank", "ann", Decimal("12.34"), "USD")
    print(wallet.balance("ann", "USD").available)
"""


def interpreter(version: str) -> str:
    """One of that version on this machine; the test is skipped without."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    of_pyenv = (str(path) for path in pyenv.glob(f"{version}.*/bin/python"))
    for program in (sys.executable, f"python{version}", *of_pyenv):
        with contextlib.suppress(OSError):
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            if said.startswith(f"Python {version}."):
                return program
    pytest.skip(f"there is no Python {version} here")


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_wheel_pays(tmp_path: Path, version: str) -> None:
    program = interpreter(version)
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, root],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([program, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    cluster = DevCluster(tmp_path / "dev", embedded=True)
    try:
        cluster.start()
        ran = subprocess.run(
            [python, "-I", "-c", PROGRAM, cluster.url], capture_output=True, text=True, cwd=tmp_path
        )
        assert (ran.stdout.strip(), ran.returncode) == ("12.34", 0), ran.stderr
    finally:
        cluster.kill_all()
