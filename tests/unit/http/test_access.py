"""Keys: 401 and 403 for every call, leg and element, on every path of a request; then nothing is done."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from unit.http.events_double import WEBHOOK_ID, EventsDouble
from unit.http.test_direct import ANSWER_S_MAX, Client, request_bytes
from unit.http.test_malformed import BATCH, GOOD, SINGLE, TXID
from unit.http.wallet_double import WalletDouble

from wallet_engine.http.application import create_app
from wallet_engine.http.endpoints import ENDPOINTS
from wallet_engine.http.gate import Gate
from wallet_engine.http.server import serve_http
from wallet_engine.routing.api_keys import ApiKey, Role, new_key
from wallet_engine.routing.model import SYSTEM_ACCOUNTS_DEFAULT
from wallet_engine.service.keyring import Keyring
from wallet_engine.telemetry.metrics import Metrics

ROLES = [role.value for role in Role]


class Door:
    """A server that requires keys, with a key for each role. Keys of roles with accounts are for `shop-*`."""

    def __init__(self, wallet: WalletDouble, ring: Keyring, keys: dict[str, str], port: int) -> None:
        self.wallet, self.ring, self.keys, self.port = wallet, ring, keys, port

    async def ask(
        self, method: str, path: str, key: str | None, body: Any = None, *, pieces: bool = False
    ) -> tuple[int, str]:
        """Send a request. Returns status and text of the answer."""
        text = b"" if body is None else json.dumps(body).encode()
        headers = [] if key is None else [f"authorization: Bearer {key}"]
        data = request_bytes(text, *headers, path=path).replace(b"POST", method.encode(), 1)
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            answer = (await (client.ask_in_pieces(data) if pieces else client.ask(data))).decode()
        finally:
            client.writer.transport.abort()
        return int(answer.split(" ")[1]), answer


@asynccontextmanager
async def door() -> AsyncIterator[Door]:
    shown, keys = {}, {}
    for role in ROLES:
        accounts = ("shop-*",) if role in ("payer", "treasury", "account-admin") else ()
        key, shown[role] = new_key(ApiKey(id="", name=role, role=role, accounts=accounts))
        keys[key.id] = key
    ring = Keyring(SYSTEM_ACCOUNTS_DEFAULT)
    ring.replace(keys)
    wallet, metrics = WalletDouble(), Metrics()
    stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
    events = EventsDouble(wallet.calls).guarded()
    app = create_app(wallet, metrics=metrics, gate=Gate(metrics, ring), events=events)
    serving = asyncio.create_task(serve_http(app, "127.0.0.1", 0, stop=stop, on_listening=url.set_result))
    try:
        port = int((await asyncio.wait_for(url, ANSWER_S_MAX)).rpartition(":")[2])
        yield Door(wallet, ring, shown, port)
    finally:
        stop.set()
        await asyncio.wait_for(serving, ANSWER_S_MAX)


def transfer(payer: str, receiver: str) -> dict[str, str]:
    return {**GOOD, "from_account": payer, "to_account": receiver}


def batch(*sides: tuple[str, str]) -> dict[str, Any]:
    return {"transfers": [transfer(*pair) for pair in sides]}


def group(*sides: tuple[str, str]) -> dict[str, Any]:
    legs = [
        {name: value for name, value in transfer(*pair).items() if name != "transaction_id"} for pair in sides
    ]
    return {"transaction_id": TXID, "legs": legs}


PAYS = {"payer", "treasury", "admin"}
SYSTEM = {"treasury", "admin"}
READS = {"payer", "treasury", "account-admin", "auditor", "admin"}
MANAGES = {"account-admin", "admin"}
ADMIN = {"admin"}
AUDITS = {"auditor", "admin"}
GROUP = "/v1/transfers/group"
OURS, THEIRS = ("shop-1", "u-1"), ("u-1", "shop-1")

#: Method, path, body, and the roles that may call it.
CALLS: list[tuple[str, str, Any, set[str]]] = [
    ("POST", SINGLE, transfer(*OURS), PAYS),
    ("POST", SINGLE, transfer(*THEIRS), ADMIN),
    ("POST", SINGLE, transfer("@bank", "shop-1"), SYSTEM),
    ("POST", SINGLE, transfer("shop-1", "@fees"), SYSTEM),
    ("POST", SINGLE, transfer("@mint", "shop-1"), ADMIN),
    ("POST", SINGLE, transfer("shop-1", "@bank2"), ADMIN),
    ("POST", BATCH, batch(OURS, OURS), PAYS),
    ("POST", BATCH, batch(*[OURS] * 50, THEIRS), ADMIN),
    ("POST", BATCH, batch(THEIRS, *[OURS] * 50), ADMIN),
    ("POST", BATCH, batch(OURS, ("@bank", "shop-1"), OURS), SYSTEM),
    ("POST", BATCH, batch(OURS, ("shop-1", "@mint"), OURS), ADMIN),
    ("POST", GROUP, group(OURS, OURS), PAYS),
    ("POST", GROUP, group(*[OURS] * 50, THEIRS), ADMIN),
    ("POST", GROUP, group(THEIRS, OURS), ADMIN),
    ("POST", GROUP, group(OURS, ("@bank", "shop-1"), ("shop-1", "@fees")), SYSTEM),
    ("POST", GROUP, group(OURS, ("shop-1", "@mint")), ADMIN),
    ("GET", f"/v1/transfers/{TXID}?from_account=shop-1", None, READS),
    ("GET", f"/v1/transfers/{TXID}?from_account=u-1", None, AUDITS),
    ("POST", "/v1/accounts", {"account_id": "shop-2", "currency": "USD"}, MANAGES),
    ("POST", "/v1/accounts", {"account_id": "u-2", "currency": "USD"}, ADMIN),
    ("PATCH", "/v1/accounts/shop-1", {"currency": "USD", "max_balance": "5.00"}, MANAGES),
    ("PATCH", "/v1/accounts/u-1", {"currency": "USD", "max_balance": "5.00"}, ADMIN),
    ("GET", "/v1/accounts/shop-1", None, READS),
    ("GET", "/v1/accounts/u-1", None, AUDITS),
    ("GET", "/v1/accounts/@bank", None, AUDITS | {"treasury"}),
    ("GET", "/v1/accounts/%40mint", None, AUDITS),
    ("GET", "/v1/accounts/shop-1/balance?currency=USD", None, READS),
    ("GET", "/v1/accounts/u-1/balance?currency=USD", None, AUDITS),
    *[("POST", f"/v1/accounts/shop-1/{action}", {}, MANAGES) for action in ("freeze", "unfreeze", "close")],
    *[("POST", f"/v1/accounts/u-1/{action}", {}, ADMIN) for action in ("freeze", "unfreeze", "close")],
    *[
        ("POST", f"/v1/holds{step}", {"account_id": account, "transaction_id": TXID, **body}, allowed)
        for account, receiver, allowed in (
            ("shop-1", "u-1", PAYS),
            ("u-1", "shop-1", ADMIN),
            ("shop-1", "@fees", SYSTEM),
        )
        for step, body in (
            ("", {"amount": "1.00", "currency": "USD", "to_account": receiver}),
            (f"/{TXID}/capture", {"to_account": receiver}),
        )
    ],
    (
        "POST",
        f"/v1/holds/{TXID}/increase",
        {"account_id": "shop-1", "transaction_id": TXID, "amount": "1.00"},
        PAYS,
    ),
    (
        "POST",
        f"/v1/holds/{TXID}/increase",
        {"account_id": "u-1", "transaction_id": TXID, "amount": "1.00"},
        ADMIN,
    ),
    ("POST", f"/v1/holds/{TXID}/void", {"account_id": "shop-1"}, PAYS),
    ("POST", f"/v1/holds/{TXID}/void", {"account_id": "u-1"}, ADMIN),
    ("GET", f"/v1/holds/{TXID}?account_id=shop-1", None, READS),
    ("GET", f"/v1/holds/{TXID}?account_id=u-1", None, AUDITS),
    # The payer of a refund is the receiver of the original.
    *[
        ("POST", f"/v1/transfers/{TXID}/refunds", {"from_account": payer, "transaction_id": TXID}, allowed)
        for payer, allowed in (("u-1", PAYS), ("shop-1", ADMIN), ("@bank", SYSTEM), ("@mint", ADMIN))
    ],
    ("GET", "/v1/events", None, AUDITS),
    ("GET", "/v1/events?account=shop-1", None, READS),
    ("GET", "/v1/events?account=u-1", None, AUDITS),
    ("POST", "/v1/webhooks", {"url": "https://example.com/", "types": ["*"]}, ADMIN),
    ("GET", "/v1/webhooks", None, AUDITS),
    ("GET", f"/v1/webhooks/{WEBHOOK_ID}", None, AUDITS),
    ("GET", f"/v1/webhooks/{WEBHOOK_ID}/deliveries", None, AUDITS),
    ("PATCH", f"/v1/webhooks/{WEBHOOK_ID}", {"status": "disabled"}, ADMIN),
    ("DELETE", f"/v1/webhooks/{WEBHOOK_ID}", None, ADMIN),
    ("POST", f"/v1/webhooks/{WEBHOOK_ID}/replay", {"from": "2026-11-21T10:00:00Z"}, ADMIN),
    *[("POST", f"/v1/webhooks/{WEBHOOK_ID}/{action}", {}, ADMIN) for action in ("rotate", "test")],
    ("GET", "/metrics", None, {"metrics", "auditor", "admin"}),
]
PUBLIC = {"/healthz", "/readyz", "/openapi.json", "/docs"}


def test_the_cases_are_every_endpoint() -> None:
    assert {endpoint.template for endpoint in ENDPOINTS if endpoint.public} == PUBLIC
    guarded = {(e.method, e.template.partition("{")[0]) for e in ENDPOINTS if not e.public}
    for method, begin in guarded:
        assert any(call[0] == method and call[1].startswith(begin) for call in CALLS), (method, begin)


def test_rights_come_before_an_id_that_no_webhook_can_have() -> None:
    async def scenario() -> None:
        async with door() as it:
            for method, path, body, allowed in CALLS:
                for other in ("nope", "x%00"):
                    for role in ROLES if WEBHOOK_ID in path else ():
                        asked = path.replace(WEBHOOK_ID, other)
                        status, answer = await it.ask(method, asked, it.keys[role], body)
                        assert status in ((200, 202, 204) if role in allowed else (403,)), (
                            asked,
                            role,
                            answer,
                        )

    uvloop.run(scenario())


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
def test_each_role_may_what_it_may_and_nothing_else_is_done(pieces: bool) -> None:
    async def scenario() -> None:
        async with door() as it:
            for method, path, body, allowed in CALLS:
                for role in ROLES:
                    it.wallet.calls.clear()
                    status, answer = await it.ask(method, path, it.keys[role], body, pieces=pieces)
                    if role in allowed:
                        assert status in (200, 201, 202, 204), (method, path, role, answer)
                        continue
                    assert (status, '"code":"forbidden"' in answer) == (403, True), (
                        method,
                        path,
                        role,
                        answer,
                    )
                    assert "application/problem+json" in answer
                    assert '"retryable":false' in answer
                    # The accounts of a transfer must be looked up first.
                    done = [name for name, _ in it.wallet.calls if name != "request_of"]
                    assert done == [], (method, path, role)

    uvloop.run(scenario())


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
def test_without_a_good_key_nobody_gets_anything_but_the_probes(pieces: bool) -> None:
    async def scenario() -> None:
        async with door() as it:
            good = it.keys["admin"]
            guesses = [None, "", "x", good[:-1] + ("0" if good[-1] != "0" else "1"), good + "0", good.upper()]
            guesses += [good.replace("wk_", "wk_ "), "wk_aaaaaaaa_" + good.rpartition("_")[2]]
            for guess in guesses:
                for method, path, body, _ in [
                    *CALLS,
                    ("GET", "/nowhere", None, set()),
                    ("PUT", SINGLE, {}, set()),
                ]:
                    status, answer = await it.ask(method, path, guess, body, pieces=pieces)
                    assert (status, '"code":"unauthenticated"' in answer) == (401, True), (
                        method,
                        path,
                        guess,
                        answer,
                    )
                    assert 'www-authenticate: Bearer realm="wallet-engine"' in answer
                for path in PUBLIC:
                    assert (await it.ask("GET", path, guess, pieces=pieces))[0] == 200
            assert it.wallet.calls == []

    uvloop.run(scenario())


def test_a_key_counts_from_one_request_to_the_next_on_one_connection() -> None:
    async def scenario() -> None:
        async with door() as it:
            key, shown = new_key(ApiKey(id="", name="new", role="payer"))
            request = request_bytes(json.dumps(GOOD).encode(), f"authorization: Bearer {shown}")
            client = Client(*await asyncio.open_connection("127.0.0.1", it.port))
            assert b" 401 " in await client.ask(request)
            it.ring.replace({key.id: key})
            for _ in range(2):
                assert b" 200 " in await client.ask(request)
                assert b" 200 " in await client.ask_in_pieces(request)
            it.ring.replace({})
            assert b" 401 " in await client.ask(request)
            assert b" 401 " in await client.ask_in_pieces(request)
            client.writer.transport.abort()

    uvloop.run(scenario())


def test_two_authorizations_are_none() -> None:
    async def scenario() -> None:
        async with door() as it:
            header = f"authorization: Bearer {it.keys['admin']}"
            client = Client(*await asyncio.open_connection("127.0.0.1", it.port))
            for headers in ((header, header), (header, "Authorization: Basic eDp5")):
                assert b" 401 " in await client.ask(request_bytes(json.dumps(GOOD).encode(), *headers))
            assert it.wallet.calls == []
            client.writer.transport.abort()

    uvloop.run(scenario())


def test_what_is_refused_names_the_transfer_and_the_grant() -> None:
    async def scenario() -> None:
        async with door() as it:
            _, answer = await it.ask("POST", SINGLE, it.keys["payer"], transfer(*THEIRS))
            assert f'"transaction_id":"{TXID}"' in answer
            assert "may not pay from u-1: it needs --accounts for it" in answer
            _, answer = await it.ask("POST", BATCH, it.keys["payer"], batch(OURS, ("shop-1", "@mint")))
            assert "transfers[1]: key " in answer
            assert "may not pay to @mint" in answer

    uvloop.run(scenario())
