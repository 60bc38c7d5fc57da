"""One attempt with a receiver that misbehaves, and signatures that receivers can check."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from support.webhook_server import Received, WebhookServer, hang_up, never, status

from wallet_engine.webhooks.reply import Reply
from wallet_engine.webhooks.sending import Sender
from wallet_engine.webhooks.signing import new_secret, signed_headers

pytestmark = pytest.mark.anyio

#: Time-out: enough for an answer on a busy machine, and the whole wait for one that never comes.
ANSWER_S_MAX = 3.0


@pytest.fixture
async def server() -> AsyncIterator[WebhookServer]:
    async with WebhookServer() as running:
        yield running


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    made = Sender(allow_private=True, answer_s_max=ANSWER_S_MAX)
    yield made
    await made.close()


async def test_any_2xx_is_delivered(server: WebhookServer, sender: Sender) -> None:
    for code in (200, 201, 202, 204):
        server.behaviours["/hook"] = status(code)
        assert await sender.post(server.url("/hook?a=b"), {"x": "y"}, b'{"a":1}') == Reply(code)
    assert [received.body for received in server.received] == [b'{"a":1}'] * 4
    assert server.received[0].headers["x"] == "y"


async def test_a_redirect_is_not_followed(server: WebhookServer, sender: Sender) -> None:
    server.behaviours["/from"] = status(307, "Location: /to")
    reply = await sender.post(server.url("/from"), {}, b"{}")
    assert reply == Reply(307)
    assert not reply.delivered
    assert server.at("/to") == []


async def test_who_never_answers_is_given_up(server: WebhookServer, sender: Sender) -> None:
    server.behaviours["/never"] = never
    assert await sender.post(server.url("/never"), {}, b"{}") == Reply(
        None, f"no answer within {ANSWER_S_MAX:g} s"
    )


async def test_who_sends_a_head_without_end_is_given_up(server: WebhookServer, sender: Sender) -> None:
    async def trickle(received: Received) -> bytes | None:
        return b"HTTP/1.1 200 OK\r\nX: y\r\n"

    server.behaviours["/head"] = trickle
    assert (await sender.post(server.url("/head"), {}, b"{}")).status is None


async def test_a_body_without_end_changes_nothing_about_its_status(
    server: WebhookServer, sender: Sender
) -> None:
    async def endless(received: Received) -> bytes | None:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1_000_000

    server.behaviours["/long"] = endless
    assert await sender.post(server.url("/long"), {}, b"{}") == Reply(200)


async def test_who_hangs_up_or_is_not_there_has_not_answered(server: WebhookServer, sender: Sender) -> None:
    server.behaviours["/hangs-up"] = hang_up
    assert (await sender.post(server.url("/hangs-up"), {}, b"{}")).status is None

    async def nonsense(received: Received) -> bytes | None:
        return b"SMTP ready\r\n\r\n"

    server.behaviours["/nonsense"] = nonsense
    assert (await sender.post(server.url("/nonsense"), {}, b"{}")).status is None
    reply = await sender.post("http://127.0.0.1:1/", {}, b"{}")
    assert reply.status is None
    assert reply.error
    assert (await sender.post("https://no-such-host.invalid/", {}, b"{}")).status is None


async def test_one_that_hangs_leaves_room_for_its_others(server: WebhookServer, sender: Sender) -> None:
    server.behaviours["/never"] = never
    hanging = [asyncio.create_task(sender.post(server.url("/never"), {}, b"{}")) for _ in range(20)]
    replies = await asyncio.gather(*hanging)
    assert {reply.status for reply in replies} == {None}
    assert await sender.post(server.url("/hook"), {}, b"{}") == Reply(204)


def test_both_secrets_of_a_rotation_verify() -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    assert old.startswith("whsec_")
    body = b'{"id":"3.17.0"}'
    headers = signed_headers([new, old], "3.17.0", time.time(), body)
    assert headers["webhook-id"] == "3.17.0"
    for secret in (old, new):
        assert Webhook(secret).verify(body, headers) == {"id": "3.17.0"}
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(b'{"id":"3.17.1"}', headers)
