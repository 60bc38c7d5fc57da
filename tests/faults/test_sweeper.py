"""G9: the API process dies between debits and credits; the sweeper of another one ends every transfer."""

import signal
import time

from support.dev_process import DevCluster
from support.redis_peek import open_debits
from support.strand import strand
from support.verification import verified
from support.wallet_api import WalletApi, check_problem, check_success, new_id, transfer_body

PARTITIONS = 16
SENDERS_AT = (0, 6, 11)
#: From the death of the service to the end of the last transfer it left.
SWEPT_S_MAX = 15.0


def test_g4_g9_what_a_dead_service_left_half_done_is_ended_by_another(cluster: DevCluster) -> None:
    """G1, G9: a transfer is paid if its receiver can be paid, else refunded, without a retry by its caller.

    G4: a caller that retries at once, at another service, gets the answer. The sweeper then finds the rest of the same
    entries open, and moves no money twice.
    """
    assert cluster.process is not None
    with WalletApi(cluster.urls[1], PARTITIONS) as api:
        frozen, closed = api.account(3, "1.00"), api.account(14)
        senders = [api.account(partition, "100.00") for partition in SENDERS_AT]
        receivers = [api.account(partition) for partition in (2, 8, 12, 15)]
        nobody = api.name(8)
        assert api.flag(frozen, "freeze").status == 200
        assert api.flag(closed, "close").status == 200
        expected: dict[str, tuple[str, str | None]] = {}
        batch = []
        for sender in senders:
            for receiver in receivers * 3:
                body = transfer_body(sender, receiver, "1.00", new_id())
                batch.append(body)
                expected[body["transaction_id"]] = ("success", None)
            for receiver, code in (
                (frozen, "account_frozen"),
                (closed, "account_closed"),
                (api.name(9), "account_not_found"),
            ):
                body = transfer_body(sender, receiver, "5.00", new_id())
                batch.append(body)
                expected[body["transaction_id"]] = ("declined", code)

        retried = [
            transfer_body(sender, to, "1.00", new_id()) for sender in senders for to in (receivers[0], nobody)
        ]
        strand(cluster, PARTITIONS, SENDERS_AT, [("/v1/transfers/batch", {"transfers": batch + retried})])
        died_at = time.monotonic()
        try:
            pending = 0
            for body in batch + retried:
                seen = api.find(body["from_account"], body["transaction_id"])
                assert seen.status == 200, seen
                pending += seen.json()["status"] == "pending"
            assert pending == len(batch) + len(retried)
            assert api.balance("@transit") == f"{len(senders) * (len(receivers) * 3 + 15 + 2)}.00"
            for _ in range(2):
                answers = api.batch(retried).json()["results"]
                assert [a.get("code") for a in answers] == [None, "account_not_found"] * len(senders)
            waiting = list(batch)
            while waiting:
                assert time.monotonic() - died_at < SWEPT_S_MAX, f"{len(waiting)} are still pending"
                time.sleep(0.2)
                waiting = [
                    body
                    for body in waiting
                    if api.find(body["from_account"], body["transaction_id"]).json()["status"] == "pending"
                ]
        finally:
            cluster.process.send_signal(signal.SIGCONT)
        print(f"all ended {time.monotonic() - died_at:.1f} s after the service died")

        for body in batch:
            transaction_id = body["transaction_id"]
            found = api.find(body["from_account"], transaction_id).json()
            status, code = expected[transaction_id]
            assert (found["status"], found.get("code")) == (status, code)
            reply = api.post("/v1/wallet/balance_transfer", body)
            if code is None:
                check_success(reply, transaction_id, replayed=True)
            else:
                check_problem(reply, reply.status, code, transaction_id=transaction_id, replayed=True)
        deadline = time.monotonic() + SWEPT_S_MAX
        while sum(open_debits(cluster, partition, PARTITIONS) for partition in SENDERS_AT):
            assert time.monotonic() < deadline, "entries stay open after all their transfers ended"
            time.sleep(0.2)
        assert {api.balance(sender) for sender in senders} == {"87.00"}
        assert [api.balance(receiver) for receiver in receivers] == ["12.00", "9.00", "9.00", "9.00"]
        assert (api.balance(frozen), api.balance("@transit")) == ("1.00", "0.00")
        verified(cluster)
