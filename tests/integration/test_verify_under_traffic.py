"""G1, G2: `wallet-admin verify` while transfers go between partitions, paid and refunded, is never wrong by a cent."""

import contextlib
import json
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from integration.conftest import PARTITIONS
from support.dev_process import DevCluster
from support.verification import VERIFY_S_MAX, verified
from support.wallet_api import WalletApi, new_id, transfer_body

CURRENCY = "BWP"
FUNDS, CALLERS, TRANSFERS_PER_CALL = 1_000, 3, 40


def verify(cluster: DevCluster) -> dict[str, object]:
    program = str(Path(sys.executable).with_name("wallet-admin"))
    run = subprocess.run(
        [program, *cluster.coordination_flags(), "--json", "verify"],
        capture_output=True,
        text=True,
        timeout=VERIFY_S_MAX,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return dict(json.loads(run.stdout))


@pytest.mark.soak
def test_never_an_odd_cent(api: WalletApi, api_cluster: DevCluster) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    accounts = [api.account(partition, f"{FUNDS}.00", CURRENCY) for partition in range(PARTITIONS)]
    frozen = [api.account(partition, currency=CURRENCY) for partition in (1, 6, 11)]
    for account in frozen:
        assert api.flag(account, "freeze").status == 200
    stop = threading.Event()
    answered: list[int] = []

    def pay(number: int) -> None:
        draw = random.Random(seed + number)
        with WalletApi(api.url, PARTITIONS) as own:
            while not stop.is_set():
                transfers = []
                for _ in range(TRANSFERS_PER_CALL):
                    payer, payee = draw.sample(accounts, 2)
                    receiver = draw.choice(frozen) if draw.random() < 0.2 else payee
                    transfers.append(transfer_body(payer, receiver, "0.01", new_id(), CURRENCY))
                answered.append(own.batch(transfers).status)

    with contextlib.ExitStack() as stack:
        threads = [threading.Thread(target=pay, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(stop.set)
        for _ in range(3):
            before = len(answered)
            in_transit = verify(api_cluster)["in_transit"]
            assert isinstance(in_transit, dict)
            assert 0 <= float(in_transit[CURRENCY]) <= CALLERS * TRANSFERS_PER_CALL / 100 + 1
            assert len(answered) > before, "there was no traffic"
    assert set(answered) == {200}
    total = sum(round(100 * float(api.balance(account, CURRENCY))) for account in accounts)
    assert total == 100 * FUNDS * len(accounts)
    verified(api_cluster)
