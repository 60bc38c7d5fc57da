"""G9 for holds: the API process dies between a capture's debit and its credit; another one ends it."""

import signal
import time
from typing import Any

from support.dev_process import DevCluster
from support.redis_peek import open_debits
from support.strand import strand
from support.verification import verified
from support.wallet_api import WalletApi, new_id

PARTITIONS = 16
PAYERS_AT = (0, 6, 11)
SWEPT_S_MAX = 60.0


def place(api: WalletApi, account: str, amount: str) -> dict[str, Any]:
    body = {"account_id": account, "amount": amount, "currency": "USD", "transaction_id": new_id()}
    reply = api.post("/v1/holds", body)
    assert reply.status == 201, reply
    return reply.json()


def captured(hold: dict[str, Any], to: str, **more: Any) -> tuple[str, dict[str, Any]]:
    body = {"account_id": hold["account_id"], "transaction_id": new_id(), "to_account": to, **more}
    return f"/v1/holds/{hold['hold_id']}/capture", body


def look(api: WalletApi, hold: dict[str, Any]) -> dict[str, Any]:
    return api.get(f"/v1/holds/{hold['hold_id']}?account_id={hold['account_id']}").json()


def test_g1_g9_captures_of_a_dead_service_are_paid_or_undone_by_another(cluster: DevCluster) -> None:
    """G1: if the receiver refuses, the hold is as before; if not, it has ended and its rest is available."""
    assert cluster.process is not None
    with WalletApi(cluster.urls[1], PARTITIONS) as api:
        frozen, receivers = api.account(3, "1.00"), [api.account(p) for p in (2, 8, 12)]
        assert api.flag(frozen, "freeze").status == 200
        payers = [api.account(p, "100.00") for p in PAYERS_AT]
        paid = [place(api, payer, "10.00") for payer in payers]
        refused = [place(api, payer, "20.00") for payer in payers]
        voided = [place(api, payer, "30.00") for payer in payers]
        parts = [captured(hold, to, amount="4.00") for hold, to in zip(paid, receivers, strict=True)]
        wholes = [captured(hold, frozen) for hold in refused]
        undone = [captured(hold, frozen, amount="5.00", final=False) for hold in voided]
        strand(cluster, PARTITIONS, PAYERS_AT, [*parts, *wholes, *undone])
        died_at = time.monotonic()
        try:
            for hold in voided:  # it succeeds once the refused capture has returned its amount
                path = f"/v1/holds/{hold['hold_id']}/void"
                while api.post(path, {"account_id": hold["account_id"]}).status != 200:
                    assert time.monotonic() - died_at < SWEPT_S_MAX, look(api, hold)
                    time.sleep(0.2)
            while sum(open_debits(cluster, partition, PARTITIONS) for partition in PAYERS_AT):
                assert time.monotonic() - died_at < SWEPT_S_MAX, "captures stay open"
                time.sleep(0.2)
        finally:
            cluster.process.send_signal(signal.SIGCONT)
        print(f"all ended {time.monotonic() - died_at:.1f} s after the service died")

        for hold in paid:
            found = look(api, hold)
            assert (found["status"], found["captured"], found["released"]) == ("captured", "4.00", "6.00")
        assert [look(api, hold) for hold in refused] == refused
        for hold in voided:
            found = look(api, hold)
            assert (found["status"], found["captured"], found["released"]) == ("voided", "0.00", "30.00")
        for payer in payers:
            found = api.get(f"/v1/accounts/{payer}/balance?currency=USD").json()
            assert (found["balance"], found["available"], found["held"]) == ("96.00", "76.00", "20.00")
        assert [api.balance(receiver) for receiver in receivers] == ["4.00"] * 3
        assert (api.balance(frozen), api.balance("@transit")) == ("1.00", "0.00")
        for path, body in parts:
            again = api.post(path, body)
            assert (again.status, again.headers.get("idempotent-replayed")) == (200, "true"), again
        verified(cluster)
