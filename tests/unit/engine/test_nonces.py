"""G5, G7: receipts are matched by nonce, so no two batches may have the same nonce."""

import subprocess
import sys

from wallet_engine.engine.batch import NONCES_DRAWN, Batch

FORKED = """
import os
from wallet_engine.engine.batch import Batch
Batch(0, [], [], 0)
child = os.fork()
os.write(1, f"{Batch(0, [], [], 0).nonce} ".encode())  # in one piece, unlike print()
if child:
    os.waitpid(child, 0)
"""


def test_nonces_are_16_hex_digits_and_all_different():
    nonces = {Batch(0, [], [], 0).nonce for _ in range(3 * NONCES_DRAWN)}
    assert len(nonces) == 3 * NONCES_DRAWN
    assert all(len(nonce) == 16 and int(nonce, 16) >= 0 for nonce in nonces)


def test_a_forked_process_does_not_go_on_with_its_parents_nonces():
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, check=True
    )
    nonces = done.stdout.split()
    assert len(nonces) == len(set(nonces)) == 2
