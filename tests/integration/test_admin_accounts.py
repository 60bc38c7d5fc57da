"""`account`, `transfer`, `freeze`, `unfreeze` on the shared cluster: they show what was done over HTTP."""

from typing import Any

import pytest
from support.dev_process import DevCluster
from support.owned import owned
from support.wallet_api import WalletApi, new_id
from unit.admin.made import admin, answer, refusal


@pytest.fixture
def flags(api_cluster: DevCluster) -> list[str]:
    return api_cluster.coordination_flags()


def kinds(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["text"].split(" ")[0], step["outcome"]) for step in document["steps"]]


def test_a_transfer_across_partitions_is_a_timeline(api: WalletApi, flags: list[str]) -> None:
    ann, bob = api.account(0, "5.00"), api.account(7)
    paid = new_id()
    api.paid(ann, bob, "1.23", transaction_id=paid)
    document = answer("transfer", paid.upper(), "--from", ann, *flags)
    assert document["status"] == "paid"
    assert kinds(document)[:2] == [("debit", "applied"), ("credit", "applied")]
    assert [step["partition"] for step in document["steps"]][:2] == [0, 7]
    remembered = document["redis"]
    under_way = (bob, "applied") if remembered["open"] else (None, None)
    assert (remembered["outcome"], remembered["to_account"], remembered["credit"]) == ("applied", *under_way)
    shown = admin("transfer", paid, "--from", ann, *flags).stdout
    assert f"debit 1.23 USD from {ann} for {bob}" in shown


def test_a_transfer_is_found_by_its_id_alone(api: WalletApi, flags: list[str]) -> None:
    ann, bob = api.account(0, "5.00"), api.account(7)
    paid, twice = new_id(), new_id()
    api.paid(ann, bob, "1.23", transaction_id=paid)
    found = answer("transfer", paid, *flags)
    assert (found["from_account"], found["status"]) == (ann, "paid")
    api.paid(ann, bob, "0.10", transaction_id=twice)
    api.paid(bob, ann, "0.10", transaction_id=twice)
    said = refusal(admin("transfer", twice, *flags))
    assert f"give --from {' or '.join(sorted((ann, bob)))}" in said
    assert answer("transfer", twice, "--from-account", bob, *flags)["status"] == "paid"
    assert "no account has a transfer" in refusal(admin("transfer", new_id(), *flags))


def test_a_refused_credit_is_shown_with_its_refund(api: WalletApi, flags: list[str]) -> None:
    ann, bob = api.account(0, "5.00"), api.account(7)
    api.flag(bob, "freeze")
    refused = new_id()
    assert api.pay(ann, bob, "1.00", transaction_id=refused).status == 422
    document = answer("transfer", refused, "--from", ann, *flags)
    assert document["status"] == "declined: account_frozen, and refunded"
    steps = [("debit", "applied"), ("credit", "account_frozen"), ("refund", "applied")]
    assert kinds(document)[:3] == steps


def test_a_refund_by_a_system_account_has_a_timeline(api: WalletApi, flags: list[str]) -> None:
    """It was unknown: it stands where its original is, which its id does not tell."""
    for partition in (0, 7):
        ann, fee, refund_id = api.account(partition, "5.00"), new_id(), new_id()
        api.paid(ann, "@fees", "2.00", transaction_id=fee)
        wanted = {"from_account": ann, "transaction_id": refund_id, "amount": "1.50"}
        assert api.post(f"/v1/transfers/{fee}/refunds", wanted).status == 200
        for payer in (("--from", "@fees"), ()):
            found = answer("transfer", refund_id, *payer, *flags)
            assert (found["status"], found["partition"]) == ("paid", partition)
            assert kinds(found) == [("refund", "applied")]


@pytest.mark.parametrize("q", [0, 7], ids=["same-partition", "across"])
def test_what_was_refunded_stands_behind_its_transfer(api: WalletApi, flags: list[str], q: int) -> None:
    """The refund also has a timeline of its own, under the account that pays it; so has a capture."""
    ann, bob, paid, refund_id = api.account(0, "5.00"), api.account(q), new_id(), new_id()
    hold = {"account_id": ann, "amount": "2.00", "currency": "USD", "transaction_id": new_id()}
    assert api.post("/v1/holds", hold).status == 201
    captured = {"account_id": ann, "to_account": bob, "transaction_id": paid}
    assert api.post(f"/v1/holds/{hold['transaction_id']}/capture", captured).status == 200
    wanted = {"from_account": ann, "transaction_id": refund_id, "amount": "1.50"}
    assert api.post(f"/v1/transfers/{paid}/refunds", wanted).status == 200
    document = answer("transfer", paid, "--from", ann, *flags)
    assert document["status"] == "paid"
    assert kinds(document)[0] == ("capture", "applied")
    [given] = document["refunds"]
    assert given["text"] == f"refund 1.50 USD of {paid} from {bob} to {ann}, id {refund_id}"
    assert given["text"] in admin("transfer", paid, "--from", ann, *flags).stdout
    own = answer("transfer", refund_id, "--from", bob, *flags)
    assert (own["status"], own["redis"]["outcome"], kinds(own)[0]) == (
        "paid",
        "applied",
        ("refund", "applied"),
    )
    assert kinds(own)[1:2] == ([("credit", "applied")] if q else [])
    if not q:
        assert given["text"] in [each["text"] for each in answer("account", ann, *flags)["last_operations"]]


def test_other_transfers(api: WalletApi, flags: list[str]) -> None:
    ann, bob = api.account(3, "5.00"), api.account(3)
    local, poor, bank = new_id(), new_id(), new_id()
    api.paid(ann, bob, "1.00", transaction_id=local)
    assert api.pay(ann, bob, "100.00", transaction_id=poor).status == 422
    api.paid("@bank", bob, "7.00", transaction_id=bank)
    for transaction_id, payer, status in (
        (local, ann, "paid"),
        (poor, ann, "declined: insufficient_funds"),
        (bank, "@bank", "paid"),
    ):
        document = answer("transfer", transaction_id, "--from", payer, *flags)
        assert document["status"] == status
        assert document["steps"]
    unknown = answer("transfer", local, "--from", bob, *flags, status=1)
    assert unknown["status"] == "unknown: neither Redis nor the journal has it"


def test_an_account_with_its_last_entries(api: WalletApi, flags: list[str]) -> None:
    ann, bob = api.account(2, "5.00", overdraft="3.00"), api.account(2)
    api.paid(ann, bob, "1.00")
    document = answer("account", ann, *flags)
    assert document["status"] == "active"
    assert document["balances"] == [{"currency": "USD", **owned("4.00"), "overdraft_limit": "3.00"}]
    done = [operation["text"].split(" ")[0] for operation in document["last_operations"]]
    assert done[0] == "open"
    assert done[1] in ("transfer", "credit"), "from @bank, whose home is that of the transaction id"
    assert done[2] == "transfer"
    assert len(answer("account", ann, *flags, "--entries", "1")["last_operations"]) == 1
    assert answer("account", ann, *flags, "--entries", "0")["last_operations"] == []
    shown = admin("account", ann, *flags).stdout
    assert f"{ann}  active" in shown
    assert "4.00 USD, overdraft limit 3.00" in shown


def test_a_group_across_partitions_is_a_timeline(api: WalletApi, flags: list[str]) -> None:
    """It shows each partition's prepare, decision and payment, and then the refund of a leg."""
    ann, bob, cy = api.account(0, "5.00"), api.account(7), api.account(14)
    legs = [{"from_account": ann, "to_account": to, "amount": "1.00", "currency": "USD"} for to in (bob, cy)]
    id_, declined = new_id(), new_id()
    assert api.post("/v1/transfers/group", {"transaction_id": id_, "legs": legs}).status == 200
    wanted = {"from_account": ann, "transaction_id": new_id(), "leg": 1}
    assert api.post(f"/v1/transfers/{id_}/refunds", wanted).status == 200
    document = answer("transfer", id_, "--from", ann, *flags)
    assert document["status"] == "paid"
    said = [(step["text"].split(" ")[0], step["partition"]) for step in document["steps"]]
    assert sorted(said[:2]) == [("prepare", 7), ("prepare", 14)]
    assert said[2] == ("decide", 0)
    assert {("pay", 7), ("pay", 14)} <= set(said[3:])
    assert len(document["refunds"]) == 1
    assert f"1.00 USD from {ann} to {bob}" in admin("transfer", id_, "--from", ann, *flags).stdout
    legs[1]["amount"] = "9.00"
    assert api.post("/v1/transfers/group", {"transaction_id": declined, "legs": legs}).status == 422
    document = answer("transfer", declined, "--from", ann, *flags)
    assert document["status"] == "declined: insufficient_funds"
    assert "group of" in admin("account", bob, *flags).stdout


def test_freeze_and_unfreeze_go_the_way_of_every_write(api: WalletApi, flags: list[str]) -> None:
    ann, bob = api.account(0, "5.00"), api.account(7)
    assert answer("freeze", ann, *flags, "--dry-run")["plan"]["status"] == "active"
    assert api.pay(ann, bob, "1.00").status == 200
    assert answer("freeze", ann, *flags, "--yes")["status"] == "frozen"
    assert answer("freeze", ann, *flags, "--yes")["status"] == "frozen"
    assert api.pay(ann, bob, "1.00").status == 422
    done = [operation["text"] for operation in answer("account", ann, *flags)["last_operations"]]
    assert done.count(f"freeze {ann}") == 1
    assert answer("unfreeze", ann, *flags, "--yes")["status"] == "active"
    assert api.pay(ann, bob, "1.00").status == 200
    records = answer("audit", *flags)["records"]
    mine = [(r["verb"], r["state"]) for r in records if r["what"].endswith(f"account {ann}")]
    assert mine == [("freeze", "done"), ("freeze", "done"), ("unfreeze", "done")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("account", "nobody"), "there is no account nobody in its partition"),
        (("account", "@bank"), "ask wallet-admin balance @bank CURRENCY"),
        (("account", "a b"), "ACCOUNT must be 1-64 characters"),
        (("freeze", "nobody", "--yes"), "the API answers 404 account_not_found"),
        (("freeze", "@bank", "--yes"), "a system account: it cannot be frozen"),
        (("transfer", "no-uuid", "--from", "ann"), "transaction_id must be a UUID"),
        (("transfer", "22222222-2222-4222-8222-222222222222", "--from", ""), "--from must be 1-64"),
    ],
)
def test_what_is_refused(flags: list[str], words: tuple[str, ...], said: str) -> None:
    usage = "must be" in said
    assert said in refusal(admin(*words, *flags), 2 if usage else 1)


def test_nothing_is_pending_on_a_quiet_cluster(flags: list[str]) -> None:
    document = answer("pending", "--older-than", "60", *flags)
    assert document == {"entries": [], "groups": [], "shards_not_asked": []}
    assert admin("pending", "--older-than", "60", *flags).stdout == "nothing has been open for 60 s\n"
    assert admin("pending", *flags).stdout == "nothing is open\n"
