"""The examples of the OpenAPI document. Called in this order on an empty cluster, they succeed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from wallet_engine.http.heads import TRANSFER_PATH

_FUNDS: Final = "11111111-1111-4111-8111-111111111111"
_PAYMENT: Final = "22222222-2222-4222-8222-222222222222"
_HOLD: Final = "33333333-3333-4333-8333-333333333333"
_CAPTURE: Final = "44444444-4444-4444-8444-444444444444"
_REFUND: Final = "55555555-5555-4555-8555-555555555555"
_GROUP: Final = "66666666-6666-4666-8666-666666666666"
_SALARIES: Final = ("77777777-7777-4777-8777-777777777771", "77777777-7777-4777-8777-777777777772")
_INCREASE: Final = "88888888-8888-4888-8888-888888888888"
_WEBHOOK: Final = "wh_0123456789abcdef01234567"
_SECOND_HOLD: Final = "99999999-9999-4999-8999-999999999999"


class Example(NamedTuple):
    """A call that succeeds after the calls before it."""

    method: str
    template: str
    name: str
    body: dict[str, Any] | None = None
    #: Parameters of the path and of the query.
    parameters: Mapping[str, str] = MappingProxyType({})
    #: Not called in the sequence: it needs an id that is not known beforehand.
    apart: bool = False


def _transfer(payer: str, receiver: str, amount: str, transaction_id: str, **more: object) -> dict[str, Any]:
    sides = {"from_account": payer, "to_account": receiver}
    return {**sides, "amount": amount, "currency": "USD", "transaction_id": transaction_id, **more}


def _leg(payer: str, receiver: str, amount: str) -> dict[str, Any]:
    return {"from_account": payer, "to_account": receiver, "amount": amount, "currency": "USD"}


EXAMPLES: Final = (
    Example("POST", "/v1/accounts", "customer", {"account_id": "alice", "currency": "USD"}),
    Example(
        "POST",
        "/v1/accounts",
        "limits",
        {
            "account_id": "bob",
            "currency": "USD",
            "overdraft_limit": "50.00",
            "max_balance": "10000.00",
            "metadata": {"branch": "north"},
        },
    ),
    Example("POST", "/v1/accounts", "short_lived", {"account_id": "carol", "currency": "USD"}),
    Example("POST", TRANSFER_PATH, "money_comes_in", _transfer("@bank", "alice", "100.00", _FUNDS)),
    Example(
        "POST",
        TRANSFER_PATH,
        "payment",
        _transfer("alice", "bob", "12.34", _PAYMENT, reference="order 1001", metadata={"shop": "7"}),
    ),
    Example(
        "GET",
        "/v1/transfers/{transaction_id}",
        "payment",
        parameters={"transaction_id": _PAYMENT, "from_account": "alice"},
    ),
    Example("GET", "/v1/accounts/{account_id}", "customer", parameters={"account_id": "alice"}),
    Example(
        "GET",
        "/v1/accounts/{account_id}/balance",
        "customer",
        parameters={"account_id": "alice", "currency": "USD"},
    ),
    Example(
        "PATCH",
        "/v1/accounts/{account_id}",
        "limits",
        {"currency": "USD", "overdraft_limit": "75.00"},
        {"account_id": "bob"},
    ),
    Example(
        "POST",
        "/v1/transfers/batch",
        "salaries",
        {
            "transfers": [
                _transfer("@bank", "alice", "20.00", _SALARIES[0]),
                _transfer("@bank", "bob", "30.00", _SALARIES[1]),
            ]
        },
    ),
    Example(
        "POST",
        "/v1/transfers/group",
        "sale_with_fee",
        {
            "transaction_id": _GROUP,
            "legs": [_leg("bob", "alice", "5.00"), _leg("bob", "@fees", "0.10")],
            "reference": "sale 17",
        },
    ),
    Example(
        "POST",
        "/v1/transfers/{transaction_id}/refunds",
        "part",
        {"from_account": "alice", "transaction_id": _REFUND, "amount": "2.34"},
        {"transaction_id": _PAYMENT},
    ),
    Example(
        "POST",
        "/v1/holds",
        "room",
        {
            "account_id": "alice",
            "amount": "40.00",
            "currency": "USD",
            "transaction_id": _HOLD,
            "expires_in_s": 86_400,
            "reference": "room 7",
        },
    ),
    Example(
        "POST",
        "/v1/holds",
        "taxi",
        {"account_id": "alice", "amount": "9.00", "currency": "USD", "transaction_id": _SECOND_HOLD},
    ),
    Example("GET", "/v1/holds/{hold_id}", "room", parameters={"hold_id": _HOLD, "account_id": "alice"}),
    Example(
        "POST",
        "/v1/holds/{hold_id}/increase",
        "minibar",
        {"account_id": "alice", "amount": "5.00", "transaction_id": _INCREASE},
        {"hold_id": _HOLD},
    ),
    Example(
        "POST",
        "/v1/holds/{hold_id}/capture",
        "departure",
        {"account_id": "alice", "to_account": "bob", "amount": "25.00", "transaction_id": _CAPTURE},
        {"hold_id": _HOLD},
    ),
    Example("POST", "/v1/holds/{hold_id}/void", "taxi", {"account_id": "alice"}, {"hold_id": _SECOND_HOLD}),
    Example("GET", "/v1/accounts/{account_id}/transactions", "newest", parameters={"account_id": "alice"}),
    Example(
        "GET",
        "/v1/accounts/{account_id}/statement",
        "whole",
        parameters={"account_id": "alice", "currency": "USD"},
    ),
    Example("GET", "/v1/accounts/{account_id}/holds", "all", parameters={"account_id": "alice"}),
    Example("GET", "/v1/transfers", "sale", parameters={"reference": "sale 17"}),
    Example("POST", "/v1/accounts/{account_id}/freeze", "customer", parameters={"account_id": "carol"}),
    Example("POST", "/v1/accounts/{account_id}/unfreeze", "customer", parameters={"account_id": "carol"}),
    Example("POST", "/v1/accounts/{account_id}/close", "customer", parameters={"account_id": "carol"}),
    Example(
        "GET",
        "/v1/events",
        "shop",
        parameters={
            "after": "MTIuMw",
            "types": "transfer.succeeded,posting",
            "account": "bob",
            "limit": "100",
            "wait_s": "0",
        },
        apart=True,
    ),
    Example(
        "POST",
        "/v1/webhooks",
        "shop",
        {"url": "https://shop.example/hook", "types": ["transfer.*", "posting"], "accounts": ["shop-*"]},
        apart=True,
    ),
    *(
        Example(
            method, f"/v1/webhooks/{{webhook_id}}{step}", "shop", body, {"webhook_id": _WEBHOOK}, apart=True
        )
        for method, step, body in (
            ("GET", "", None),
            ("PATCH", "", {"status": "enabled"}),
            ("DELETE", "", None),
            ("POST", "/rotate", None),
            ("POST", "/test", None),
            ("POST", "/replay", {"from": "2026-11-21T10:00:00Z"}),
        )
    ),
    Example(
        "GET",
        "/v1/webhooks/{webhook_id}/deliveries",
        "shop",
        parameters={"webhook_id": _WEBHOOK, "status": "parked", "limit": "50", "cursor": "MTI"},
        apart=True,
    ),
)
