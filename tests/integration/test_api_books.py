"""G1 and G2 as an auditor sees them: the whole journal is folded and compared with Redis."""

from support.dev_process import DevCluster
from support.verification import verified
from support.wallet_api import WalletApi, new_id, transfer_body


def test_g2_the_books_balance_after_every_kind_of_transfer(api: WalletApi, api_cluster: DevCluster) -> None:
    """G1, G2: transfers are paid, declined and refunded across partitions; nothing stays on `@transit`."""
    accounts = [api.account(partition, "5.00") for partition in range(16)]
    frozen = api.account(4, "1.00")
    api.flag(frozen, "freeze")
    transfers = []
    for number, sender in enumerate(accounts):
        receivers = (accounts[number - 1], accounts[number - 5], frozen, api.name(number), "@fees")
        transfers += [transfer_body(sender, receiver, "0.50", new_id()) for receiver in receivers]
        transfers.append(transfer_body(sender, accounts[number - 3], "50.00", new_id()))
    answers = [a["status"] for a in api.batch(transfers).json()["results"]]
    assert (answers.count("success"), answers.count("declined")) == (48, 48)
    assert {api.balance(account) for account in accounts} == {"4.50"}
    assert api.balance("@transit") == "0.00"
    document = verified(api_cluster)
    assert document["partitions"] == 16
    assert document["in_transit"]["USD"] == "0.00"
