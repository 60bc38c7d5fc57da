"""The request and the answer of a refund between HTTP and the wallet."""

import pytest
from starlette.types import ASGIApp
from unit.http.test_malformed import TXID, TXID_2
from unit.http.wallet_double import WalletDouble, call

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.notes import note_of
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.refund_command import RefundCommand
from wallet_engine.domain.returns import CREDITED, Evidence
from wallet_engine.service.api import RefundAnswer

PATH = f"/v1/transfers/{TXID}/refunds"
BODY = {"from_account": "u-1", "transaction_id": TXID_2}


@pytest.mark.parametrize("replayed", [False, True])
def test_money_goes_back(app: ASGIApp, wallet: WalletDouble, replayed: bool) -> None:
    wallet.answers["refund"] = RefundAnswer("", replayed, 150, 250, "USD")
    response = call(app, "POST", PATH, json=BODY | {"amount": "1.50", "reference": "torn"})
    success = {"status": "success", "transaction_id": TXID_2}
    assert response.json() == {**success, "refunded_total": "1.50", "refundable": "2.50"}
    assert response.headers.get("idempotent-replayed") == ("true" if replayed else None)
    [(_, (command, original))] = wallet.calls
    ids = map(pack_transaction_id, (TXID, TXID_2))
    assert command == RefundCommand("u-1", *ids, "1.50", None, '{"ref":"torn"}')
    assert original.receiver == "shop-1"


@pytest.mark.parametrize(
    ("code", "status", "retryable"),
    [
        ("transfer_not_found", 404, False),
        ("transfer_pending", 409, True),
        ("not_refundable", 422, False),
        ("refund_exceeds", 422, False),
        ("insufficient_funds", 422, False),
        ("account_frozen", 422, False),
        ("account_closed", 422, False),
        ("account_not_found", 404, False),
        ("idempotency_conflict", 409, False),
    ],
)
@pytest.mark.parametrize("found", [False, True])
def test_a_refusal_has_its_code(
    app: ASGIApp, wallet: WalletDouble, code: str, status: int, retryable: bool, found: bool
) -> None:
    if found:
        wallet.answers["refund"] = RefundAnswer(code)
    else:
        wallet.answers["original"] = code
    body = call(app, "POST", PATH, json=BODY).json()
    assert (body["code"], body["status"], body["retryable"]) == (code, status, retryable)
    assert body["transaction_id"] == TXID_2
    assert bool(wallet.calls) is found


def test_refunds_are_counted_by_what_became_of_them(app: ASGIApp, wallet: WalletDouble) -> None:
    for answer in (
        RefundAnswer("", False, 1, 1, "USD"),
        RefundAnswer("refund_exceeds"),
        Outage("overloaded", "x"),
    ):
        wallet.answers["refund"] = answer
        call(app, "POST", PATH, json=BODY)
    wallet.answers["original"] = "not_refundable"
    call(app, "POST", PATH, json=BODY)
    shown = call(app, "GET", "/metrics").text
    for outcome in ("success", "refund_exceeds", "overloaded", "not_refundable"):
        assert f'wallet_refunds_total{{outcome="{outcome}"}} 1.0' in shown


def test_a_look_at_a_refund_names_what_it_is_of(app: ASGIApp, wallet: WalletDouble) -> None:
    words = Evidence(
        "u-1", transfer_field("u-1", pack_transaction_id(TXID_2)), 1, 2, 3, CREDITED, 9, 5
    ).text()
    asked = Operation("z", pack_transaction_id(TXID), "shop-1", words, 5, "USD", note_of("back"))
    wallet.answers |= {"find_transfer": "R", "request_of": asked}
    found = call(app, "GET", f"/v1/transfers/{TXID}?from_account=shop-1").json()
    refunds = {"from_account": "u-1", "transaction_id": TXID_2}
    assert found == {"transaction_id": TXID, "status": "success", "reference": "back", "refunds": refunds}
