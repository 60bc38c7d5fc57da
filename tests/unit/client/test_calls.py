"""Each call of the HTTP API has a method, and both clients have the same methods."""

import inspect
import json
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from wallet_engine.client import AsyncWallet, OutcomeUnknown, Wallet, WalletError, calls
from wallet_engine.http.endpoints import ENDPOINTS

#: Endpoints without a method: for monitoring, and for people.
NO_METHOD = {"/metrics", "/openapi.json", "/docs"}
TXID = "6f1c1a3e-0f4b-4c53-9a53-0d6f2f4e8b11"
#: Parameter of a method -> the value that is given.
GIVEN: dict[str, Any] = {
    "account_id": "alice",
    "from_account": "alice",
    "to_account": "bob",
    "amount": "1.00",
    "currency": "USD",
    "transaction_id": TXID,
    "hold_id": TXID,
    "webhook_id": "wh_1",
    "url": "https://shop.example/",
    "types": ["*"],
    "reference": "r",
    "at": datetime(2026, 11, 21, tzinfo=UTC),
    "from_": datetime(2026, 11, 21, tzinfo=UTC),
    "orders": [],
    "legs": [],
}
NO_CALLS = {"close", "send", "pages", "events"}


def methods(kind: type[object]) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def asked_by(name: str) -> list[tuple[str, str]]:
    """HTTP method and path of the requests of a client's method."""
    asked: list[tuple[str, str]] = []

    def server(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path))
        return httpx.Response(404, json={"code": "not_found"})

    with Wallet("http://wallet.test", transport=httpx.MockTransport(server)) as wallet:
        parameters = inspect.signature(getattr(Wallet, name)).parameters.values()  # those of the call
        given = [GIVEN[each.name] for each in parameters if each.default is each.empty]
        with pytest.raises(WalletError, match="not_found"):
            list(getattr(wallet, name)(*given))
    return asked


def test_each_endpoint_has_a_method() -> None:
    asked = {pair for name in methods(Wallet) - NO_CALLS for pair in asked_by(name)}
    templates = [
        (e.method, re.sub(r"{[^}]+}", "[^/]+", e.template)) for e in ENDPOINTS if e.template not in NO_METHOD
    ]
    missing = [
        (method, template)
        for method, template in templates
        if not any(method == m and re.fullmatch(template, path) for m, path in asked)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({"max_balance": None}, {"max_balance": None}),
        ({"overdraft_limit": None, "currency": "USD"}, {"overdraft_limit": None, "currency": "USD"}),
        ({"metadata": None, "max_balance": 7}, {"metadata": None, "max_balance": "7"}),
        ({"overdraft_limit": 0}, {"overdraft_limit": "0"}),
    ],
    ids=str,
)
def test_a_patch_has_what_is_given_and_none_removes(given: dict[str, Any], body: dict[str, Any]) -> None:
    assert json.loads(calls.patch_account("alice", **given).body or b"") == body


def test_both_clients_have_the_same_methods() -> None:
    assert methods(Wallet) == methods(AsyncWallet)


@pytest.mark.parametrize("name", ["create_webhook", "rotate_webhook", "test_webhook"])
def test_what_cannot_be_told_from_another_call_is_tried_once(name: str) -> None:
    tries: list[str] = []

    def server(request: httpx.Request) -> httpx.Response:
        tries.append(request.url.path)
        raise httpx.ReadError("gone")

    given = ("https://shop.example/", ["*"]) if name == "create_webhook" else ("wh_1",)
    transport = httpx.MockTransport(server)
    with Wallet("http://wallet.test", transport=transport) as wallet, pytest.raises(OutcomeUnknown):
        getattr(wallet, name)(*given)
    assert len(tries) == 1


def test_a_leg_has_the_index_by_which_it_is_refunded() -> None:
    """A key that sees only the third leg of a group would refund the first one if it counted those that it sees."""
    bodies = []

    def server(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        leg = {"from_account": "ann", "to_account": "bob", "amount": "5.00", "currency": "USD", "leg": 2}
        return httpx.Response(200, json={"transaction_id": TXID, "status": "success", "legs": [leg]})

    with Wallet("http://wallet.test", transport=httpx.MockTransport(server)) as wallet:
        found = wallet.find_transfer(TXID, "ann").legs
        assert found is not None
        assert [leg.leg for leg in found] == [2]
        wallet.transfer_group(found)
    sent = json.loads(bodies[-1])["legs"][0]
    assert sent.keys() == {"from_account", "to_account", "amount", "currency"}


@pytest.mark.parametrize("client", [Wallet, AsyncWallet])
def test_g13_a_key_that_no_header_can_have_is_not_in_the_error(client: type[Wallet | AsyncWallet]) -> None:
    """G13: the error of httpx for such a header has the header in it."""
    for key in ("wk_a_5ec7e7\nx", "wk_a_5ec7e7 x", "wk_a_5ec7e7é"):
        with pytest.raises(ValueError, match="key is no API key") as error:
            client("http://127.0.0.1:1", key=key)
        assert "5ec7e7" not in str(error.value)


def test_a_key_read_from_a_file_may_have_its_line_end() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200, json={"status": "ok"})

    with Wallet("http://w", key="wk_a_5ec7e7\n", transport=httpx.MockTransport(answer)) as wallet:
        wallet.health()
    assert seen == ["Bearer wk_a_5ec7e7"]
