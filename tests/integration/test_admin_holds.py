"""`wallet-admin hold` and `holds` on the shared cluster: they show what was done over HTTP."""

from typing import Any

import pytest
from support.dev_process import DevCluster
from support.wallet_api import WalletApi, new_id
from unit.admin.made import admin, answer, refusal


@pytest.fixture
def flags(api_cluster: DevCluster) -> list[str]:
    return api_cluster.coordination_flags()


def place(api: WalletApi, account: str, amount: str, **more: Any) -> str:
    body = {"account_id": account, "amount": amount, "currency": "USD", "transaction_id": new_id(), **more}
    assert api.post("/v1/holds", body).status == 201
    return body["transaction_id"]


def test_open_holds_of_an_account_and_one_that_has_ended(api: WalletApi, flags: list[str]) -> None:
    ann, bob, neighbour = api.account(4, "10.00"), api.account(9), api.account(4, "10.00")
    late, soon = (
        place(api, ann, "3.00", reference="room 7"),
        place(api, ann, "2.00", to_account=bob, expires_in_s=900),
    )
    ended = place(api, ann, "1.00")
    place(api, neighbour, "1.00")
    capture = {"account_id": ann, "transaction_id": new_id(), "amount": "0.50", "final": False}
    assert api.post(f"/v1/holds/{soon}/capture", capture).status == 200
    assert api.post(f"/v1/holds/{ended}/void", {"account_id": ann}).status == 200

    listed = answer("holds", ann, *flags)["holds"]
    assert [each["hold_id"] for each in listed] == [soon, late]
    assert (listed[0]["to_account"], listed[0]["captured"], listed[0]["remaining"]) == (bob, "0.50", "1.50")
    assert (listed[1]["reference"], listed[1]["capturing"]) == ("room 7", False)
    shown = admin("holds", ann, *flags).stdout
    assert f"{ann}: 2 open holds" in shown
    assert f"{soon}  2.00 USD for {bob}  open: 0.50 captured, 0.00 released, 1.50 remaining" in shown

    one = answer("hold", ended.upper(), "--account", ann, *flags)
    assert (one["hold_id"], one["status"], one["released"]) == (ended, "voided", "1.00")
    assert answer("hold", late, "--account", ann, *flags) == listed[1]
    assert answer("holds", bob, *flags)["holds"] == []


def test_the_id_of_a_hold_is_no_transfer(api: WalletApi, flags: list[str]) -> None:
    """It was shown as a transfer whose money had left the payer, for ever; without a journal, as declined."""
    ann = api.account(4, "10.00")
    placed, increased = place(api, ann, "3.00"), new_id()
    wanted = {"account_id": ann, "amount": "1.00", "transaction_id": increased}
    assert api.post(f"/v1/holds/{placed}/increase", wanted).status == 200
    for id_ in (placed, increased):
        for payer in (("--from", ann), ()):
            found = answer("transfer", id_, *payer, *flags, status=1)
            assert found["status"].startswith("unknown: the id is of a hold and not of a transfer")
            assert f"wallet-admin hold {placed} --account {ann}" in found["status"]
            assert found["steps"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("hold", "x", "--account", "ann"), "ID must be a UUID"),
        (("hold", "22222222-2222-4222-8222-222222222222", "--account", "a b"), "ACCOUNT must be 1-64"),
        (
            ("hold", "22222222-2222-4222-8222-222222222222", "--account", "ann"),
            "that is open or still remembered",
        ),
        (("holds", "@bank"), "cannot have holds"),
    ],
)
def test_what_cannot_be_shown_is_one_line(flags: list[str], words: tuple[str, ...], said: str) -> None:
    usage = "must be" in said
    assert said in refusal(admin(*words, *flags), 2 if usage else 1)
