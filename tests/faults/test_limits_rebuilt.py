"""G6: account limits, changed ones too, survive the loss of Redis; a receiver at its limit refuses as before."""

import time

from support.dev_process import DevCluster
from support.http_client import Reply
from support.verification import verified
from support.wallet_api import WalletApi, new_id, transfer_body

from wallet_engine.redis_store.topology import connect

PARTITIONS = 16
REBUILT_S_MAX = 60.0


def test_g6_limits_outlive_redis(cluster: DevCluster) -> None:
    with WalletApi(cluster.urls[0], PARTITIONS) as api:
        payers = [api.account(p, "50.00") for p in (2, 9)]
        account = api.name(2)
        opened = {"account_id": account, "currency": "USD", "max_balance": "10.00", "overdraft_limit": "9.00"}
        opened["metadata"] = {"tier": "tin"}
        assert api.post("/v1/accounts", opened).status == 201
        for payer in payers:
            api.paid(payer, account, "6.00" if payer == payers[0] else "4.00")
        changed = api.patch(f"/v1/accounts/{account}", {"max_balance": "12.00", "overdraft_limit": "1.00"})
        assert changed.status == 200, changed
        for process in cluster.processes("redis"):
            client = connect(process["address"])
            client.flushall()
            client.close()

        def insist(payer: str, receiver: str, amount: str) -> Reply:
            body, deadline = (
                transfer_body(payer, receiver, amount, new_id()),
                time.monotonic() + REBUILT_S_MAX,
            )
            while (reply := api.post("/v1/wallet/balance_transfer", body)).status == 503:
                assert time.monotonic() < deadline, reply
                time.sleep(0.1)
            return reply

        for payer in payers:
            assert insist(payer, account, "2.01").json()["code"] == "balance_limit"
            assert insist(payer, account, "1.00").status == 200
        assert insist(account, payers[1], "13.01").json()["code"] == "insufficient_funds"
        assert insist(account, payers[1], "13.00").status == 200
        shown = api.get(f"/v1/accounts/{account}").json()["balances"][0]
        assert (shown["balance"], shown["max_balance"], shown["overdraft_limit"]) == (
            "-1.00",
            "12.00",
            "1.00",
        )
        assert api.get(f"/v1/accounts/{account}").json()["metadata"] == {"tier": "tin"}
    verified(cluster)
