"""Retries of a call, their waits, and the final answer or error, against a server with scripted answers."""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from wallet_engine import client
from wallet_engine.client import AsyncWallet, InsufficientFunds, OutcomeUnknown, Wallet, asynchronous, wallet
from wallet_engine.client.calls import transfer
from wallet_engine.client.http import CONNECTIONS_MAX
from wallet_engine.client.tries import Again, Policy, Tries

Answer = httpx.Response | Exception
TXID = "6f1c1a3e-0f4b-4c53-9a53-0d6f2f4e8b11"


def problem(
    status: int, code: str, *, retryable: bool = False, retry_after: str | None = None
) -> httpx.Response:
    body = {"code": code, "detail": "so it is", "retryable": retryable, "status": status}
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return httpx.Response(status, json=body, headers=headers)


def paid() -> httpx.Response:
    return httpx.Response(200, json={"status": "success", "transaction_id": TXID})


class Scripted:
    """A server that gives these answers, one after another. It keeps the bodies of the requests."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = iter(answers)
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content or b"{}"))
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have slept. It does not really sleep."""
    slept: list[float] = []
    monkeypatch.setattr(wallet.time, "sleep", slept.append)
    return slept


def connected(server: Callable[[httpx.Request], httpx.Response], **options: Any) -> Wallet:
    return Wallet("http://wallet.test", transport=httpx.MockTransport(server), **options)


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.WriteError("broken pipe"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("hung up"),
        httpx.DecodingError("not gzip"),
        problem(429, "rate_limited", retryable=True),
        httpx.Response(429, text="<html>Too Many Requests"),
        problem(503, "outcome_unknown", retryable=True),
        problem(500, "internal_error", retryable=True),
        problem(409, "hold_busy", retryable=True),
    ],
    ids=repr,
)
def test_is_tried_again_with_the_same_id(waits: list[float], trouble: Answer) -> None:
    server = Scripted(trouble, trouble, paid())
    with connected(server) as made:
        assert made.transfer("ann", "bob", 1, "USD").transaction_id == TXID
    ids = {body["transaction_id"] for body in server.bodies}
    assert (len(server.bodies), len(ids), len(waits)) == (3, 1, 2)


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (problem(400, "invalid_amount"), client.Malformed),
        (problem(401, "unauthenticated"), client.Unauthenticated),
        (problem(403, "forbidden"), client.Forbidden),
        (problem(404, "account_not_found"), client.AccountNotFound),
        (problem(409, "idempotency_conflict"), client.IdempotencyConflict),
        (problem(413, "request_too_large"), client.Malformed),
        (problem(422, "insufficient_funds"), client.InsufficientFunds),
        (problem(422, "of_tomorrow"), client.Declined),
    ],
    ids=repr,
)
def test_a_refusal_is_not_tried_again(
    waits: list[float], refusal: httpx.Response, kind: type[client.WalletError]
) -> None:
    server = Scripted(refusal)
    with connected(server) as made, pytest.raises(kind) as raised:
        made.transfer("ann", "bob", 1, "USD", transaction_id=TXID)
    assert raised.value.transaction_id == TXID
    assert not raised.value.retryable
    assert (len(server.bodies), waits) == (1, [])


@pytest.mark.parametrize(
    "trouble", [httpx.ConnectError("refused"), problem(503, "overloaded", retryable=True)]
)
def test_five_tries_and_then_nobody_knows(waits: list[float], trouble: Answer) -> None:
    server = Scripted(*[trouble] * 9)
    with connected(server) as made, pytest.raises(client.OutcomeUnknown) as raised:
        made.transfer("ann", "bob", 1, "USD", transaction_id=TXID)
    error = raised.value
    assert (error.code, error.retryable, error.transaction_id) == ("outcome_unknown", True, TXID)
    assert error.status == (None if isinstance(trouble, Exception) else 503)
    assert (len(server.bodies), len(waits)) == (5, 4)


REFUSALS = [
    (401, "unauthenticated"),
    (403, "forbidden"),
    (400, "invalid_request"),
    (413, "request_too_large"),
]


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize(
    "trouble", [httpx.ReadError("reset"), problem(503, "outcome_unknown", retryable=True)]
)
def test_a_refusal_does_not_tell_what_an_earlier_try_has_done(
    waits: list[float], trouble: Answer, refusal: tuple[int, str]
) -> None:
    """The key was revoked in between: "nothing was done" was said of a payment that had been made."""
    with connected(Scripted(trouble, problem(*refusal))) as made, pytest.raises(OutcomeUnknown) as raised:
        made.transfer("ann", "bob", 1, "USD", transaction_id=TXID)
    assert (raised.value.transaction_id, raised.value.status) == (TXID, refusal[0])
    assert getattr(raised.value.__cause__, "code", "") == refusal[1]


@pytest.mark.parametrize(
    "trouble",
    [httpx.ConnectError("refused"), problem(503, "overloaded", retryable=True), problem(429, "rate_limited")],
)
def test_a_refusal_after_tries_that_did_nothing_is_told(waits: list[float], trouble: Answer) -> None:
    with connected(Scripted(trouble, problem(403, "forbidden"))) as made, pytest.raises(client.Forbidden):
        made.transfer("ann", "bob", 1, "USD")


def test_a_decision_is_told_whatever_was_before(waits: list[float]) -> None:
    answers = httpx.ReadError("reset"), problem(422, "insufficient_funds")
    with connected(Scripted(*answers)) as made, pytest.raises(InsufficientFunds):
        made.transfer("ann", "bob", 1, "USD")


def test_a_read_that_nobody_answers_is_no_question_of_outcome(waits: list[float]) -> None:
    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with connected(down) as made, pytest.raises(client.Unavailable) as raised:
        made.account("ann")
    assert type(raised.value) is client.Unavailable
    assert len(waits) == 4


def test_an_answer_of_a_proxy_is_not_tried_again(waits: list[float]) -> None:
    server = Scripted(httpx.Response(502, text="<html>Bad Gateway"))
    with connected(server) as made, pytest.raises(client.OutcomeUnknown):
        made.transfer("ann", "bob", 1, "USD")
    assert len(server.bodies) == 1


def test_retry_after_is_obeyed(waits: list[float]) -> None:
    """The service sends seconds; a proxy may send a date."""
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=9), usegmt=True)
    dated = httpx.Response(429, headers={"retry-after": then})
    server = Scripted(problem(503, "overloaded", retryable=True, retry_after="3"), dated, paid())
    with connected(server) as made:
        made.transfer("ann", "bob", 1, "USD")
    assert 3 <= waits[0] <= 3.1
    assert 5 <= waits[1] <= 9.2


@pytest.mark.parametrize(
    "asked", ["²", "soon", "-3", "Fri, 31 Feb 2026 00:00:00 GMT", "1 Jan 2026 00:00 +" + "9" * 20]
)
def test_a_retry_after_that_is_none_is_passed_over(waits: list[float], asked: str) -> None:
    refusal = httpx.Response(429, headers={"retry-after": asked.encode("latin-1")})
    with connected(Scripted(refusal, paid())) as made:
        made.transfer("ann", "bob", 1, "USD")
    assert 0 <= waits[0] <= 0.1


@pytest.mark.parametrize(
    "answer",
    [httpx.ReadError("reset"), httpx.Response(502, text="<html>Bad Gateway"), httpx.Response(200, text="{}")],
    ids=repr,
)
def test_an_unknown_outcome_has_the_error_of_the_last_try_as_its_cause(
    waits: list[float], answer: Answer
) -> None:
    with connected(Scripted(*[answer] * 5)) as made, pytest.raises(OutcomeUnknown) as raised:
        made.transfer("ann", "bob", 1, "USD")
    assert isinstance(raised.value.__cause__, client.Unavailable)


def test_the_deadline_covers_the_wait_for_a_connection() -> None:
    """All connections are in use by calls that wait for events."""

    async def silent(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError("never answered")

    async def main() -> float:
        async with AsyncWallet(
            "http://wallet.test", transport=httpx.MockTransport(silent), deadline_s=0.2
        ) as made:
            events = [asyncio.create_task(made.events_page(wait_s=30)) for _ in range(CONNECTIONS_MAX)]
            await asyncio.sleep(0)
            began_s = time.monotonic()
            async with asyncio.timeout(10):
                with pytest.raises(OutcomeUnknown):
                    await made.transfer("ann", "bob", 1, "USD")
            took_s = time.monotonic() - began_s
            for task in events:
                task.cancel()
            await asyncio.gather(*events, return_exceptions=True)
        return took_s

    assert asyncio.run(main()) < 5


def test_a_call_without_an_id_is_tried_again_only_when_nothing_was_done(waits: list[float]) -> None:
    made_it = httpx.Response(200, json={"webhook_id": "wh_1", "event_id": "e"})
    with connected(Scripted(problem(429, "rate_limited", retryable=True), made_it)) as made:
        assert made.test_webhook("wh_1").event_id == "e"
    for trouble in (httpx.ReadError("reset"), problem(503, "outcome_unknown", retryable=True)):
        with connected(Scripted(trouble, made_it)) as made, pytest.raises(client.OutcomeUnknown):
            made.test_webhook("wh_1")


def test_what_a_lost_answer_said_was_deleted_is_deleted(waits: list[float]) -> None:
    gone = problem(404, "webhook_not_found")
    with connected(Scripted(httpx.ReadError("reset"), gone, gone)) as made:
        made.delete_webhook("wh_1")
        with pytest.raises(client.WebhookNotFound):
            made.delete_webhook("wh_1")


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "wallet.test", "ftp://wallet.test", ""])
@pytest.mark.parametrize("kind", [Wallet, client.AsyncWallet])
def test_a_url_of_no_service_is_refused_at_once(kind: type[Wallet | client.AsyncWallet], url: str) -> None:
    with pytest.raises(ValueError, match="http://"):
        kind(url)


def test_what_would_be_past_the_deadline_is_not_waited_for(waits: list[float]) -> None:
    server = Scripted(problem(503, "overloaded", retryable=True, retry_after="60"))
    with connected(server, deadline_s=30) as made, pytest.raises(client.OutcomeUnknown):
        made.transfer("ann", "bob", 1, "USD")
    assert waits == []


@pytest.mark.parametrize("looping", [False, True])
def test_g4_who_stood_still_in_a_wait_does_not_try_again(
    monkeypatch: pytest.MonkeyPatch, looping: bool
) -> None:
    """The service may have forgotten that an earlier try paid."""
    clock_s = [1.0]

    def stand_still(_: float) -> None:
        clock_s[0] += 86_400.0

    async def stand_still_too(wait_s: float) -> None:
        stand_still(wait_s)

    server = Scripted(httpx.ReadError("reset"), paid())
    for module in (wallet, asynchronous):
        monkeypatch.setattr(module, "now_s", lambda: clock_s[0])
    monkeypatch.setattr(wallet.time, "sleep", stand_still)

    async def loop() -> None:
        async with AsyncWallet("http://wallet.test", transport=httpx.MockTransport(server)) as made:
            monkeypatch.setattr(asynchronous.asyncio, "sleep", stand_still_too)
            await made.transfer("ann", "bob", 1, "USD")

    def blocking() -> None:
        with connected(server) as made:
            made.transfer("ann", "bob", 1, "USD")

    with pytest.raises(OutcomeUnknown, match="reset"):
        asyncio.run(loop()) if looping else blocking()
    assert len(server.bodies) == 1


def test_g4_who_stood_still_in_the_wait_for_a_connection_does_not_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All connections are in use when the next try begins."""
    clock_s = [1.0]
    server = Scripted(httpx.ReadError("reset"), paid())
    monkeypatch.setattr(asynchronous, "now_s", lambda: clock_s[0])

    async def loop() -> None:
        async with AsyncWallet("http://wallet.test", transport=httpx.MockTransport(server)) as made:
            made._policy = Policy(random=lambda: 0.01)
            paying = asyncio.create_task(made.transfer("ann", "bob", 1, "USD"))
            while not server.bodies:
                await asyncio.sleep(0)
            for _ in range(CONNECTIONS_MAX):
                await made._free.acquire()
            await asyncio.sleep(0.05)
            clock_s[0] += 86_400.0
            made._free.release()
            await paying

    with pytest.raises(OutcomeUnknown, match="reset"):
        asyncio.run(loop())
    assert len(server.bodies) == 1


def test_waits_are_random_below_a_bound_that_doubles() -> None:
    for luck in (0.0, 0.5, 1.0):
        policy = Policy(random=lambda luck=luck: luck)  # type: ignore[misc]
        tries = Tries(transfer("a", "b", 1, "USD"), policy, 0.0)
        waits = [tries.lost(httpx.ReadError(""), 0.0) for _ in range(4)]
        assert waits == [Again(luck * bound) for bound in (0.1, 0.2, 0.4, 0.8)]


def test_where_nobody_listens_the_tries_outlast_a_restart(waits: list[float]) -> None:
    """Four waits with a mean of 0.75 s in sum did not."""
    with connected(Scripted(*[httpx.ConnectError("refused")] * 5)) as made:
        made._policy = Policy(random=lambda: 1.0)
        with pytest.raises(OutcomeUnknown):
            made.transfer("ann", "bob", 1, "USD")
    assert waits == [1.0, 2.0, 4.0, 5.0]


def test_where_nobody_listens_the_tries_of_a_loop_outlast_a_restart() -> None:
    async def main() -> float:
        server = httpx.MockTransport(Scripted(*[httpx.ConnectError("refused")] * 5))
        async with AsyncWallet("http://wallet.test", transport=server) as made:
            made._policy = Policy(random=lambda: 0.02)
            began_s = time.monotonic()
            with pytest.raises(OutcomeUnknown):
                await made.transfer("ann", "bob", 1, "USD")
            return time.monotonic() - began_s

    assert asyncio.run(main()) >= 0.02 * 12


def test_a_try_ends_with_the_deadline() -> None:
    tries = Tries(transfer("a", "b", 1, "USD"), Policy(deadline_s=30), 100.0)
    assert tries.timeout_s(100.0) == 20
    assert tries.timeout_s(125.0) == 5


def test_pages_are_walked_to_their_end() -> None:
    def listing(request: httpx.Request) -> httpx.Response:
        asked = dict(request.url.params)
        assert asked.pop("limit") == "2"
        following = {None: "a", "a": "b", "b": None}[asked.get("cursor")]
        return httpx.Response(200, json={"lines": [following or "end"], "next_cursor": following})

    with connected(listing) as made:
        assert list(made.pages("/v1/lines", "lines", limit=2)) == ["a", "b", "end"]


def test_an_error_says_by_which_id_the_service_knows_the_request(waits: list[float]) -> None:
    def named(answer: httpx.Response, request_id: str) -> httpx.Response:
        answer.headers["x-request-id"] = request_id
        return answer

    declined = named(problem(422, "insufficient_funds"), "r-1")
    foreign = named(httpx.Response(502, text="bad gateway"), "r-2")
    unread = named(httpx.Response(200, text="{}"), "r-8")
    late = [named(problem(503, "overloaded", retryable=True), f"r-{number}") for number in range(3, 8)]
    for answers, kind, known in (
        ([declined], InsufficientFunds, "r-1"),
        ([foreign], OutcomeUnknown, "r-2"),
        ([unread], OutcomeUnknown, "r-8"),
        (late, OutcomeUnknown, "r-7"),
        ([httpx.ConnectError("no")] * 5, OutcomeUnknown, None),
    ):
        with connected(Scripted(*answers)) as client, pytest.raises(kind) as raised:
            client.transfer("alice", "bob", "1.00", "USD")
        assert raised.value.request_id == known


def drip(listening: socket.socket, hung_up: threading.Event) -> None:
    """Answer one request with a body that comes byte by byte, until the caller closes the connection."""
    link, _ = listening.accept()
    with link:
        link.recv(65536)
        link.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        give_up_s = time.monotonic() + 30
        try:
            while time.monotonic() < give_up_s:
                link.sendall(b" ")
                time.sleep(0.01)
        except OSError:
            hung_up.set()


def pay_plainly(url: str) -> None:
    with Wallet(url, deadline_s=0.2) as client:
        client.transfer("alice", "bob", "1.00", "USD")


def pay_in_a_loop(url: str) -> None:
    async def main() -> None:
        async with AsyncWallet(url, deadline_s=0.2) as client:
            await client.transfer("alice", "bob", "1.00", "USD")

    asyncio.run(main())


@pytest.mark.parametrize("pay", [pay_plainly, pay_in_a_loop])
def test_an_answer_that_comes_byte_by_byte_is_waited_for_until_the_deadline(
    pay: Callable[[str], None],
) -> None:
    hung_up = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=drip, args=(listening, hung_up))
        server.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(OutcomeUnknown):
            pay(url)
        server.join()
    assert hung_up.is_set()


def asked(link: socket.socket) -> bytes:
    """The body of the next request."""
    said = link.recv(65536)
    while not said.endswith(b"}"):
        said += link.recv(65536)
    return said.partition(b"\r\n\r\n")[2]


def end_as_asked(listening: socket.socket, bodies: list[bytes], *, reset: bool) -> None:
    """Answer on a kept connection. Close it at its second request, as servers do with idle ones. Serve the next one."""
    body = paid().content
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    link, _ = listening.accept()
    with link:
        bodies.append(asked(link))
        link.sendall(answer)
        bodies.append(asked(link))
        if reset:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link, _ = listening.accept()
    with link:
        bodies.append(asked(link))
        link.sendall(answer)


@pytest.mark.parametrize("reset", [False, True])
def test_a_kept_connection_that_ends_under_a_request_is_no_error(reset: bool) -> None:
    bodies: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=end_as_asked, args=(listening, bodies), kwargs={"reset": reset})
        server.start()
        with Wallet(f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
            for _ in range(2):
                client.transfer("alice", "bob", "1.00", "USD")
        server.join()
    first, ended, again = (json.loads(body)["transaction_id"] for body in bodies)
    assert first != ended == again
