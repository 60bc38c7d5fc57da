"""G1, G2: `wallet-admin verify` is exact to the cent while transfers between partitions are paid and refunded."""

import contextlib
import random
import threading
import time
from typing import Any

from integration.conftest import PARTITIONS
from support.dev_process import DevCluster
from support.paying import cluster_directory
from support.replicated import wait_until
from support.verification import verify
from support.wallet_api import WalletApi, new_id, transfer_body

from wallet_engine.admin.proof.cluster import verify_online

CURRENCY = "BWP"
FUNDS, CALLERS, TRANSFERS_PER_CALL = 1_000, 3, 20
#: On a busy machine the journal must not grow faster than `verify` can read it.
CALL_PAUSE_S = 0.2
IMAGE_PAUSE_S = 0.05


def verify_slowly(cluster: DevCluster) -> dict[str, Any]:
    """Slow `verify` down, as on a busy machine: payments go on for long between the images of two partitions."""
    with cluster_directory(cluster) as directory:
        verdict = verify_online(
            directory, cluster.data_dir / "journal", on_image=lambda _: time.sleep(IMAGE_PAUSE_S)
        )
    document = verdict.document()
    assert document["ok"], document
    return document


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
            while not stop.wait(CALL_PAUSE_S):
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
        for check in (verify, verify_slowly, verify):
            before = len(answered)
            in_transit = float(check(api_cluster)["in_transit"][CURRENCY])
            calls = len(answered) - before
            assert calls, "there was no traffic"
            # Money that left its payer before one image was taken, and arrived after another was taken.
            assert 0 <= in_transit <= (calls + CALLERS) * TRANSFERS_PER_CALL / 100
            print(f"{check.__name__}: {in_transit} in transit, {calls} calls meanwhile")
    assert set(answered) == {200}

    def total() -> int:
        return sum(round(100 * float(api.balance(account, CURRENCY))) for account in accounts)

    # A transfer of an answered call may still be open: its code says so, and the sweeper ends it.
    wait_until(
        lambda: total() == 100 * FUNDS * len(accounts), "every cent has arrived or is back", seen=total
    )
