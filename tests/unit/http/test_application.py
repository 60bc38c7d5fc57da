"""Paths and methods, limits, cancelled requests, and metrics."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message
from unit.http.test_malformed import BATCH, GOOD, SINGLE
from unit.http.wallet_double import WalletDouble, assert_problem, call

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.limits import BODY_BYTES_MAX
from wallet_engine.http import body as body_module
from wallet_engine.http.application import create_app
from wallet_engine.http.body import BodyReader, ClientGone
from wallet_engine.http.gate import Gate
from wallet_engine.http.problems import Refused
from wallet_engine.service.api import AccountView, TransferAnswer, TransferCommand
from wallet_engine.telemetry.metrics import Metrics


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v2/accounts", "/v1/accounts/", "/v1/accounts/a/b", "/v1/transfer", "/v1/accounts%0A"],
)
def test_unknown_path(app: ASGIApp, path: str) -> None:
    assert_problem(call(app, "GET", path), 404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/transfers%2Fbatch",
        "/v1%2Fwallet/balance_transfer",
        "/v1/%77allet/balance_transfer",
        "/v1/%68olds",
    ],
)
def test_an_encoded_path_is_another_path(app: ASGIApp, wallet: WalletDouble, path: str) -> None:
    """A proxy that takes such a path for another one, and lets it pass, must be right."""
    assert_problem(call(app, "POST", path, json=GOOD), 404, "not_found")
    assert wallet.calls == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", SINGLE, "POST"),
        ("PUT", BATCH, "POST"),
        ("GET", BATCH, "POST"),
        ("GET", "/v1/accounts", "POST"),
        ("DELETE", "/v1/accounts/alice", "GET, HEAD, PATCH"),
        ("GET", "/v1/accounts/alice/freeze", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
def test_unknown_method(app: ASGIApp, method: str, path: str, allowed: str) -> None:
    response = call(app, method, path)
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allowed


class SlowWallet(WalletDouble):
    """A wallet whose transfers end when `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def transfer(self, command: TransferCommand) -> TransferAnswer:
        self.begun.set()
        await self.go.wait()
        self.ended.set()
        return TransferAnswer("+", False)

    async def open_account(self, *asked: Any) -> tuple[str, AccountView | None]:
        self.begun.set()
        await self.go.wait()
        self.ended.set()
        return await super().open_account(*asked)


def test_cancelled_request_does_not_cancel_what_it_began() -> None:
    """Opening an account has several steps. (`tests/unit/service` tests that a caller cannot cancel a transfer.)"""

    async def scenario() -> None:
        wallet = SlowWallet()
        client = client_of(create_app(wallet))
        request = asyncio.create_task(
            client.post("/v1/accounts", json={"account_id": "a", "currency": "USD"})
        )
        await wallet.begun.wait()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        assert request.cancelled()
        wallet.go.set()
        await asyncio.wait_for(wallet.ended.wait(), 5)

    asyncio.run(scenario())


def test_requests_in_flight_are_bounded() -> None:
    async def scenario() -> None:
        wallet = SlowWallet()
        client = client_of(create_app(wallet, gate=Gate(Metrics(), in_flight_max=1)))
        first = asyncio.create_task(client.post(SINGLE, json=GOOD))
        await wallet.begun.wait()
        assert_problem(await client.post(SINGLE, json=GOOD), 503, "overloaded")
        assert (await client.get("/healthz")).status_code == 200
        wallet.go.set()
        assert (await first).status_code == 200
        assert (await client.post(SINGLE, json=GOOD)).status_code == 200

    asyncio.run(scenario())


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://wallet")


class Parts:
    """An ASGI `receive` that gives a body in parts, then the disconnection of the client."""

    def __init__(self, *parts: bytes, ends: bool = True) -> None:
        self.messages: list[Message] = [
            {"type": "http.request", "body": part, "more_body": True} for part in parts
        ]
        if ends:
            self.messages[-1]["more_body"] = False
        self.taken = 0

    async def __call__(self) -> Message:
        self.taken += 1
        return self.messages.pop(0) if self.messages else {"type": "http.disconnect"}


def read(reader: BodyReader, parts: Any, *headers: tuple[bytes, bytes]) -> bytes:
    return asyncio.run(reader.read({"type": "http", "headers": list(headers)}, parts))


def test_body_in_parts_is_joined() -> None:
    reader = BodyReader()
    assert read(reader, Parts(b"a", b"", b"bc")) == b"abc"
    assert repr(reader) == "<BodyReader bytes_reserved=0>"


def test_announced_length_is_refused_unread() -> None:
    parts = Parts(b"x")
    with pytest.raises(Refused, match="at most"):
        read(BodyReader(), parts, (b"content-length", b"%d" % (BODY_BYTES_MAX + 1)))
    assert parts.taken == 0


def test_unannounced_length_is_refused_while_streaming() -> None:
    mebibyte = b" " * 2**20
    parts = Parts(*[mebibyte] * 100)
    with pytest.raises(Refused, match="at most"):
        read(BodyReader(), parts)
    assert parts.taken == 5


def test_client_that_hangs_up_while_sending_is_not_answered(app: ASGIApp, wallet: WalletDouble) -> None:
    with pytest.raises(ClientGone):
        read(BodyReader(), Parts(b"{", ends=False))
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": SINGLE, "headers": []}
    asyncio.run(app(scope, Parts(b"{", ends=False), send))
    assert (sent, wallet.calls) == ([], [])


def test_bodies_arriving_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        reader = BodyReader(bytes_max=BODY_BYTES_MAX)
        hold = asyncio.Event()

        async def slow() -> AsyncIterator[Message]:
            yield {"type": "http.request", "body": b"{", "more_body": True}
            await hold.wait()
            yield {"type": "http.request", "body": b"}", "more_body": False}

        scope = {"type": "http", "headers": []}
        first = asyncio.create_task(reader.read(scope, slow().__anext__))
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await reader.read(scope, Parts(b"{", b"}"))
        assert refused.value.code == "overloaded"
        hold.set()
        assert await first == b"{}"
        assert await reader.read(scope, Parts(b"{", b"}")) == b"{}"

        hold.clear()
        monkeypatch.setattr(body_module, "BODY_SECONDS_MAX", 0.01)
        with pytest.raises(Refused, match="the body took longer"):
            await reader.read(scope, slow().__anext__)
        assert repr(reader) == "<BodyReader bytes_reserved=0>"

    asyncio.run(scenario())


def test_requests_and_transfers_are_counted(wallet: WalletDouble) -> None:
    metrics = Metrics()
    app = create_app(wallet, metrics=metrics)
    call(app, "POST", SINGLE, json=GOOD)
    wallet.answers["transfer"] = TransferAnswer("i", False)
    call(app, "POST", SINGLE, json=GOOD)
    wallet.answers["transfer"] = Outage("overloaded", "why")
    call(app, "POST", SINGLE, json=GOOD)
    wallet.answers["transfer_many"] = ["+", "+", "f", "outcome_unknown"]
    call(app, "POST", BATCH, json={"transfers": [GOOD] * 4})
    wallet.answers["transfer_many"] = Outage("journal_unavailable", "why")
    call(app, "POST", BATCH, json={"transfers": [GOOD] * 2})
    call(app, "GET", "/v1/accounts/alice")
    call(app, "PUT", "/v1/accounts/alice")
    call(app, "GET", "/nowhere")

    def requests(route: str, status: int) -> float | None:
        labels = {"route": route, "status": str(status)}
        return metrics.registry.get_sample_value("wallet_http_requests_total", labels)

    assert [requests(SINGLE, status) for status in (200, 422, 503)] == [1, 1, 1]
    assert [requests(BATCH, status) for status in (200, 503)] == [1, 1]
    assert [requests("/v1/accounts/{account_id}", status) for status in (200, 405)] == [1, 1]
    assert requests("unmatched", 404) == 1
    counted = {
        outcome: metrics.registry.get_sample_value("wallet_transfers_total", {"outcome": outcome})
        for outcome in (
            "success",
            "insufficient_funds",
            "overloaded",
            "account_frozen",
            "outcome_unknown",
            "journal_unavailable",
        )
    }
    assert list(counted.values()) == [3, 1, 1, 1, 1, 2]
    response = call(app, "GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'wallet_http_request_duration_seconds_count{route="/v1/transfers/batch"} 2.0' in response.text
    assert "wallet_http_call_transfers_sum 6.0" in response.text
    assert "wallet_http_requests_in_flight 1.0" in response.text
