"""The wheel in an empty environment: what a service installs pays."""

import subprocess
import sys
import venv
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


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_wheel_pays(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, root],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
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
