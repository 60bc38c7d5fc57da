"""G14: an answer from a journal directory does not lack what its copy lacks."""

import json
from typing import Any

from support.journal_copies import admin, folder, lags, wait_for
from support.stopped import stopped
from support.wallet_api import WalletApi


def test_g14_a_copy_that_is_behind_is_not_taken_for_the_journal(dev_cluster: Any) -> None:
    """The first copy on this host was read, and its old balance was told as the newest durable one."""
    cluster = dev_cluster(partitions=4, extra=("--journals", "3"))
    wait_for(lambda: lags(cluster) == {"j1": 0, "j2": 0, "j3": 0}, "all three count")
    with WalletApi(cluster.url, 4) as api:
        ann, bob = api.account(0, "100.00"), api.account(1)

        def told(*words: str) -> dict[str, Any]:
            found = admin(cluster, "balance", bob, "USD", *words)
            return {"status": found.returncode, **json.loads(found.stdout)}

        assert told()["balance"] == "0.00"
        with stopped(cluster.living("journal-j1")):
            api.paid(ann, bob, "30.00")
            # At once: after 10 s it is no live copy any more.
            refused = told("--journal", str(folder(cluster, 1)))
            assert refused["status"] == 1
            assert "journal copy j1" in refused["error"]
            assert "does not answer" in refused["error"]
            assert told()["balance"] == "30.00"
        wait_for(
            lambda: told("--journal", str(folder(cluster, 1))).get("balance") == "30.00", "it has caught up"
        )
