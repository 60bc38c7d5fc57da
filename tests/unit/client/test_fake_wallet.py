"""`FakeWallet` in a program of its own."""

import subprocess
import sys
from textwrap import dedent


def test_a_program_ends_that_did_not_close_its_wallet() -> None:
    """Python waited for the wallet's thread, so a test run with one wallet left open never ended."""
    program = """
        from wallet_engine.client.testing import FakeWallet
        wallet = FakeWallet()
        wallet.open_account("alice", "USD")
        print(wallet.balance("alice", "USD").balance)
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(program)],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == ("0.00\n", "")
