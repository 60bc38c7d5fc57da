"""Webhooks from the event log of a real PostgreSQL to receivers that misbehave; the test moves the clock."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import asyncpg
import pytest
from standardwebhooks import Webhook
from support.webhook_server import Received, WebhookServer, never, status

from wallet_engine.domain.errors import text_of
from wallet_engine.events.event import Event
from wallet_engine.history.database import connect, migrate, settings
from wallet_engine.history.stalled import DELIVERIES_WRITER
from wallet_engine.webhooks import dispatcher as dispatching
from wallet_engine.webhooks import outbox, queue
from wallet_engine.webhooks.dispatcher import Dispatcher
from wallet_engine.webhooks.endpoint import Endpoint, new_webhook_id
from wallet_engine.webhooks.log import LogRow, append
from wallet_engine.webhooks.outbox import QUEUED_MAX, STEP_DELIVERIES
from wallet_engine.webhooks.queue import FAILED_MIN, LINE_MAX, RETRY_S
from wallet_engine.webhooks.signing import new_secret
from wallet_engine.webhooks.store import WebhookStore

pytestmark = pytest.mark.anyio

NOON_MS = 1_795_255_200_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def pool(history_url: str) -> AsyncIterator[Any]:
    connection = await connect(history_url, "test")
    await migrate(connection)
    await connection.close()
    made = await asyncpg.create_pool(history_url, min_size=1, max_size=8, server_settings=settings("test"))
    yield made
    made.terminate()


@pytest.fixture
async def server() -> AsyncIterator[WebhookServer]:
    async with WebhookServer() as running:
        yield running


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def delivering(pool: Any, worker: str = "f1", **options: Any) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher as the sink does: it is restarted after a failure."""
    running = Dispatcher(pool, worker, allow_private=True, **options)

    async def run() -> None:
        while True:
            try:
                await running.run()
            except Exception as error:
                print(f"{worker}: {text_of(error)}")
                await asyncio.sleep(0.05)

    task = asyncio.create_task(run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def endpoint(url: str, types: Sequence[str] = ("*",), accounts: Sequence[str] = ()) -> Endpoint:
    return Endpoint(
        *(
            new_webhook_id(),
            url,
            tuple(types),
            tuple(accounts),
            "",
            "enabled",
            "",
            new_secret(),
            "",
            0.0,
            0.0,
        ),
        *(0, 0, 0),
    )


def event(seq: int, subject: str = "alice", type_: str = "posting", partition: int = 0) -> Event:
    data = {"account_id": subject, "delta": "1.00"}
    return Event(f"{partition}.{seq}.0", type_, subject, NOON_MS + seq * 1000, data, (subject,))


async def log_events(pool: Any, *events: Event) -> None:
    """Log each event as an entry of its own."""
    rows = [LogRow(*map(int, each.id.split(".")[:2]), each.time_ms, [each]) for each in events]
    async with pool.acquire() as connection, connection.transaction():
        await append(connection, rows, "test")


async def statuses(store: WebhookStore, webhook_id: str) -> list[tuple[str, str, int]]:
    return [
        (d.event_id, d.status, d.attempts) for d in reversed(await store.deliveries(webhook_id, None, 100))
    ]


async def until(condition: Any, what: str, timeout_s: float = 30) -> None:
    """Wait for a condition, which may be a coroutine's."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(0.02)


def ids(received: Sequence[Received]) -> list[str]:
    return [each.headers["webhook-id"] for each in received]


async def test_an_event_arrives_signed_and_is_listed(pool: Any, server: WebhookServer) -> None:
    store, secret = WebhookStore(pool), ""
    made = await store.create(endpoint(server.url("/hook")))
    secret = made.secret
    async with delivering(pool):
        await log_events(pool, event(1), event(2, "bob"))
        received = await server.until(2, "/hook")
        assert sorted(ids(received)) == ["0.1.0", "0.2.0"]
        for each in received:
            assert each.headers["content-type"] == "application/cloudevents+json"
            told = Webhook(secret).verify(each.body, each.headers)
            assert told["specversion"] == "1.0"
            assert told["id"] == each.headers["webhook-id"]
            assert told["data"]["delta"] == "1.00"

        async def delivered() -> bool:
            return {status for _, status, _ in await statuses(store, made.webhook_id)} == {"delivered"}

        await until(delivered, "delivered")
    view = (await store.deliveries(made.webhook_id, "delivered", 10))[0]
    assert (view.answer, view.error) == (204, "")
    assert view.tried_s is not None


async def test_only_what_is_asked_for_and_only_from_then_on(pool: Any, server: WebhookServer) -> None:
    store = WebhookStore(pool)
    await log_events(pool, event(1, "shop-1"))
    await store.create(endpoint(server.url("/shops"), ["posting"], ["shop-*"]))
    await store.create(endpoint(server.url("/accounts"), ["account.*"]))
    await log_events(
        pool,
        event(2, "shop-1"),
        event(3, "alice"),
        event(4, "shop-2", "account.opened"),
        event(5, "shop-3"),
        event(6, "alice", "account.frozen"),
    )
    async with delivering(pool):
        assert sorted(ids(await server.until(2, "/shops"))) == ["0.2.0", "0.5.0"]
        assert sorted(ids(await server.until(2, "/accounts"))) == ["0.4.0", "0.6.0"]
        await log_events(pool, event(7, "shop-1"), event(8, "bob", "account.closed"))
        await server.until(3, "/shops")
        await server.until(3, "/accounts")
    assert len(server.received) == 6


async def test_one_that_hangs_delays_no_other(pool: Any, server: WebhookServer) -> None:
    store = WebhookStore(pool)
    server.behaviours["/never"] = never
    await store.create(endpoint(server.url("/never")))
    await store.create(endpoint(server.url("/quick")))
    unfit = await store.create(replace(endpoint(server.url("/unsigned")), secret="whsec_x"))
    await log_events(pool, *(event(seq, f"a{seq}") for seq in range(1, 201)))
    # It hangs for as long as this test runs.
    async with delivering(pool, answer_s_max=600.0):
        await server.until(dispatching.AT_ONCE_MAX, "/never", timeout_s=60)
        await server.until(200, "/quick", timeout_s=90)
        # It has only got as many as may be under way to it at a time.
        assert len(server.at("/never")) == dispatching.AT_ONCE_MAX

        # What cannot even be signed is an attempt that failed: its account waited for ever, and nothing said why.
        async def tried() -> bool:
            listed = await store.deliveries(unfit.webhook_id, "pending", 100)
            return {(each.attempts, each.error.partition(":")[2]) for each in listed} == {
                (1, " it could not be sent")
            }

        await until(tried, "each attempt has failed")


async def test_g9_an_account_that_fails_for_long_holds_up_no_other(pool: Any, server: WebhookServer) -> None:
    """It filled the queue, and no event was sent to the endpoint any more."""
    store, clock, count = WebhookStore(pool), Clock(), QUEUED_MAX + STEP_DELIVERIES + 500
    healed = asyncio.Event()

    async def refuses_one(received: Received) -> bytes | None:
        failing = b'"subject":"hot"' in received.body and not healed.is_set()
        return await status(500 if failing else 200)(received)

    server.behaviours["/hook"] = refuses_one
    made = await store.create(endpoint(server.url("/hook")))
    await log_events(pool, *(event(seq, "hot") for seq in range(1, count + 1)))
    async with delivering(pool, now_s=clock):
        await server.until(1, "/hook")
        await log_events(pool, event(1, "cold", partition=1))
        await until(lambda: "1.1.0" in ids(server.at("/hook")), "the other account's event")
    healed.set()
    clock.now += 400
    # Another process reads on, several times as many as a line has.
    async with delivering(pool, "f2", now_s=clock):
        await server.until(4 * LINE_MAX, "/hook", timeout_s=60)
    hot = [name for name in ids(server.at("/hook")) if name.startswith("0.")]
    first = list(dict.fromkeys(hot))
    assert first == [f"0.{seq}.0" for seq in range(1, len(first) + 1)]
    assert len(first) > 3 * LINE_MAX
    assert await store.pending(made.webhook_id) + len(first) >= count


async def test_g10_what_waits_for_an_account_has_a_limit_and_the_rest_is_listed(
    pool: Any, server: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of deliveries grew for as long as an endpoint failed for one account. Nothing is dropped unseen."""
    for module in (queue, outbox):
        monkeypatch.setattr(module, "WAITING_MAX", 2 * LINE_MAX)
    store, clock, count = WebhookStore(pool), Clock(), 5 * LINE_MAX
    made, server.behaviours["/hook"] = await store.create(endpoint(server.url("/hook"))), status(500)
    await log_events(pool, *(event(seq, "hot") for seq in range(1, count + 1)), event(1, "cold", partition=1))

    async def of(status: str) -> list[str]:
        found = await store.deliveries(made.webhook_id, status, 2 * count)
        return [each.event_id for each in reversed(found) if each.subject == "hot"]

    async with delivering(pool, now_s=clock):

        async def tried(attempts: int) -> bool:
            oldest = (await store.deliveries(made.webhook_id, None, 2 * count))[-1:]
            return bool(oldest) and oldest[0].attempts == attempts

        for number, wait_s in enumerate((0, *RETRY_S[: FAILED_MIN - 1]), 1):
            assert await of("parked") == []
            clock.now += 2 * wait_s
            await until(partial(tried, number), f"attempt {number}")
        await until(lambda: "1.1.0" in ids(server.at("/hook")), "the other account's event")
        waiting, parked = await of("pending"), await of("parked")
        assert 2 * LINE_MAX <= len(waiting) < 2 * LINE_MAX + outbox.STEP_ROWS
        assert waiting + parked == [f"0.{seq}.0" for seq in range(1, count + 1)]
        view = (await store.deliveries(made.webhook_id, "parked", 1))[0]
        assert (view.attempts, view.error) == (0, f"{2 * LINE_MAX} earlier events of this account wait")
        server.behaviours.clear()
        clock.now += 2 * RETRY_S[FAILED_MIN - 1]

        async def delivered() -> bool:
            return await of("delivered") == waiting

        await until(delivered, "all that waited", timeout_s=60)
        # None of them is parked while they go: the log is read on more slowly.
        await log_events(pool, *(event(count + seq, "hot") for seq in range(1, count + 1)))
        await until(lambda: f"0.{2 * count}.0" in ids(server.at("/hook")), "the last event", timeout_s=90)
        assert await of("parked") == parked


async def test_g9_the_removal_of_old_events_delays_no_delivery(pool: Any, server: WebhookServer) -> None:
    """It was waited for where the leases are renewed: when it took some seconds, all deliveries stopped."""
    store = WebhookStore(pool)
    await log_events(pool, event(1))
    async with pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE event_log IN SHARE ROW EXCLUSIVE MODE")  # nothing can be removed now
        async with delivering(pool, events_kept_s=-1e6) as running:
            await until(lambda: running.leased_until_s, "leased")
            await store.create(endpoint(server.url("/hook")))
            first_s = running.leased_until_s
            await until(lambda: running.leased_until_s > first_s + 1, "the leases are renewed", timeout_s=10)
            assert await pool.fetchval("SELECT count(*) FROM event_log") == 1


async def test_deliveries_that_ended_long_ago_are_forgotten(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "REMOVED_ROWS", 2)
    store, now_s, day_s = WebhookStore(pool), time.time(), 86_400
    made = await store.create(endpoint("https://shop.example/"))
    ages = [
        (40, "pending"),
        (40, "parked"),
        (31, "delivered"),
        (29, "parked"),
        (8, "delivered"),
        (8, "pending"),
    ]
    ages += [(6, "delivered"), (6, "parked")]
    for number, (days, ended) in enumerate(ages):
        await pool.execute(
            "INSERT INTO webhook_deliveries (webhook_id, number, event_id, type, subject, body, status, created_at) "
            "VALUES ($1, $2, $3, 'posting', 'alice', '', $4, to_timestamp($5))",
            *(made.webhook_id, number, f"0.{number}.0", ended, now_s - days * day_s),
        )
    await outbox.Outbox(pool, "f1").forget(now_s)
    kept = [int(name.split(".")[1]) for name, _, _ in await statuses(store, made.webhook_id)]
    assert [ages[number] for number in kept] == [
        *((40, "pending"), (29, "parked"), (8, "pending"), (6, "delivered"), (6, "parked")),
    ]


async def test_g9_an_endpoint_that_a_stopped_process_holds_keeps_no_other_from_being_leased(
    pool: Any, history_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped while it made deliveries kept its endpoint's row: no other process leased anything."""
    monkeypatch.setattr(outbox, "IDLE_S_MAX", 1.0)
    store, healthy = WebhookStore(pool), outbox.Outbox(pool, "f2")
    held, free = [(await store.create(endpoint("https://shop.example/"))).webhook_id for _ in "ab"]

    goes_on = asyncio.Event()

    async def rows() -> AsyncIterator[tuple[Any, ...]]:
        await goes_on.wait()
        for row in ():
            yield row

    stopped = await connect(history_url, DELIVERIES_WRITER)
    transaction = stopped.transaction()
    await transaction.start()
    await stopped.execute("UPDATE webhooks SET position = position WHERE webhook_id = $1", held)
    copying = asyncio.create_task(stopped.copy_records_to_table("webhook_deliveries", records=rows()))
    async with asyncio.timeout(20):
        assert [each.webhook_id for each in await healthy.lease()] == [free]
        await asyncio.sleep(1)
        await until(lambda: _leased(healthy, {held, free}), "the endpoint of the stopped process is leased")
    goes_on.set()
    with pytest.raises(asyncpg.PostgresConnectionError):
        await copying


async def _leased(healthy: outbox.Outbox, wanted: set[str]) -> bool:
    return {each.webhook_id for each in await healthy.lease()} == wanted


async def test_a_page_of_deliveries_reads_no_more_than_the_page(pool: Any) -> None:
    """PostgreSQL's plan for all endpoints read the deliveries of all of them to find those of one."""
    few, many = [
        (await WebhookStore(pool).create(endpoint("https://shop.example/"))).webhook_id for _ in "ab"
    ]
    fill = """
    INSERT INTO webhook_deliveries (webhook_id, number, event_id, type, subject, body, status)
    SELECT CASE WHEN n % 100 = 0 AND n <= 4000 THEN $1 ELSE $2 END, n, n, 'posting', 'alice', '',
        (ARRAY['delivered', 'pending', 'parked'])[1 + CASE WHEN n <= 4000 THEN n / 100 % 3 ELSE 0 END]
    FROM generate_series(1, 10000) AS n
    """
    read = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'webhook_deliveries'"
    async with pool.acquire() as connection:
        await connection.execute(fill, few, many)
        await connection.execute("ANALYZE webhook_deliveries")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        all_of_few = await connection.fetch(
            "SELECT event_id, status FROM webhook_deliveries WHERE webhook_id = $1 ORDER BY delivery_id DESC",
            few,
        )
        for wanted in (None, *queue.STATUSES):
            for webhook_id in (few, many):
                before, walked = None, []
                for _ in range(5):
                    async with connection.transaction():
                        rows = await connection.fetchval(read)
                        page = await WebhookStore(connection).deliveries(webhook_id, wanted, 10, before)
                        assert await connection.fetchval(read) - rows <= 10 * (3 if wanted is None else 1)
                    walked += [(each.event_id, each.status) for each in page]
                    before = page[-1].delivery_id if page else 0
                if webhook_id == few:
                    assert walked == [tuple(row) for row in all_of_few if wanted in (None, row["status"])]
                else:
                    assert len(walked) == 50
                    assert walked == sorted(walked, key=lambda each: -int(each[0]))


async def test_the_schedule_until_it_is_parked(pool: Any, server: WebhookServer) -> None:
    store, clock = WebhookStore(pool), Clock()
    server.behaviours["/broken"] = status(500)
    made = await store.create(endpoint(server.url("/broken")))
    await log_events(pool, event(1), event(2))
    async with delivering(pool, now_s=clock, jitter=lambda: 0.5) as dispatcher:
        for attempt, wait_s in enumerate(RETRY_S, 1):
            await server.until(attempt, "/broken")

            async def noted(attempts: int = attempt) -> bool:
                return (await statuses(store, made.webhook_id))[0] == ("0.1.0", "pending", attempts)

            await until(noted, f"attempt {attempt} is recorded")
            view = (await store.deliveries(made.webhook_id, "pending", 10))[-1]
            assert view.next_s == pytest.approx(clock.now + wait_s * 1.05, abs=0.01)
            clock.now += wait_s * 1.05 - 1
            await asyncio.sleep(0.05)
            assert len(server.at("/broken")) == attempt, "tried before its time"
            clock.now += 1.01
        # Only now the account's next event is sent.
        assert set(ids(server.at("/broken"))) == {"0.1.0"}
        assert ids(await server.until(11, "/broken"))[9:] == ["0.1.0", "0.2.0"]

        async def parked() -> bool:
            return (await statuses(store, made.webhook_id))[0] == ("0.1.0", "parked", 10)

        await until(parked, "parked")
        attempts = dispatcher.metrics.webhook_attempts

        def counted() -> list[float]:
            return [attempts.labels(status)._value.get() for status in ("pending", "parked")]

        await until(lambda: counted() == [10, 1], "counted")
    (view,) = await store.deliveries(made.webhook_id, "parked", 10)
    assert (view.event_id, view.answer) == ("0.1.0", 500)


async def test_retries_survive_the_process(pool: Any, server: WebhookServer) -> None:
    store, clock = WebhookStore(pool), Clock()
    server.behaviours["/hook"] = status(503)
    made = await store.create(endpoint(server.url("/hook")))
    await log_events(pool, event(1))
    async with delivering(pool, now_s=clock):
        await server.until(1, "/hook")

        async def noted() -> bool:
            return (await statuses(store, made.webhook_id)) == [("0.1.0", "pending", 1)]

        await until(noted, "recorded")
    async with delivering(pool, "f2", now_s=clock):
        await asyncio.sleep(1.2)
        assert len(server.at("/hook")) == 1
        server.behaviours["/hook"] = status(200)
        clock.now += 6
        await server.until(2, "/hook")


async def test_gone_disables_until_somebody_enables_it(pool: Any, server: WebhookServer) -> None:
    store, clock = WebhookStore(pool), Clock()
    server.behaviours["/gone"] = status(410)
    made = await store.create(endpoint(server.url("/gone")))
    await log_events(pool, event(1))
    async with delivering(pool, now_s=clock):

        async def disabled() -> bool:
            found = await store.get(made.webhook_id)
            assert found is not None
            return found.status == "disabled" and found.reason == "it answered 410 Gone"

        await until(disabled, "disabled")
        await log_events(pool, event(2))
        await asyncio.sleep(1)
        assert len(server.at("/gone")) == 1
        server.behaviours["/gone"] = status(200)
        clock.now += 6
        await store.change(made.webhook_id, enabled=True)
        assert ids(await server.until(3, "/gone")) == ["0.1.0", "0.1.0", "0.2.0"]


async def test_gone_from_an_old_url_does_not_disable_the_new_one(pool: Any, server: WebhookServer) -> None:
    """The URL was changed while an attempt at the old one was under way."""
    store, changed = WebhookStore(pool), asyncio.Event()

    async def gone_later(received: Received) -> bytes | None:
        await changed.wait()
        return await status(410)(received)

    server.behaviours["/old"] = gone_later
    made = await store.create(endpoint(server.url("/old")))
    await log_events(pool, event(1))
    clock = Clock()
    async with delivering(pool, now_s=clock) as running:
        await server.until(1, "/old")
        await store.change(made.webhook_id, url=server.url("/new"))
        leased_s = running.leased_until_s

        async def noticed() -> bool:
            return running.leased_until_s > leased_s

        await until(noticed, "the new URL was noticed")
        changed.set()

        async def recorded() -> bool:
            row = await pool.fetchrow("SELECT attempts FROM webhook_deliveries")
            return bool(row["attempts"] == 1)

        await until(recorded, "recorded")
        found = await store.get(made.webhook_id)
        assert found is not None
        assert (found.status, found.reason) == ("enabled", "")
        clock.now += 600
        assert ids(await server.until(1, "/new")) == ["0.1.0"]


async def test_both_secrets_sign_while_they_are_exchanged(pool: Any, server: WebhookServer) -> None:
    store, clock = WebhookStore(pool), Clock()
    made = await store.create(endpoint(server.url("/hook")))
    newer = new_secret()
    async with delivering(pool, now_s=clock):
        await log_events(pool, event(1))
        await server.until(1, "/hook")
        await store.rotate(made.webhook_id, newer)

        async def both() -> bool:
            count = len(server.received)
            await log_events(pool, event(count + 1))
            received = (await server.until(count + 1, "/hook"))[-1]
            return " " in received.headers["webhook-signature"]

        await until(both, "two signatures")
        last = server.received[-1]
        for secret in (made.secret, newer):
            Webhook(secret).verify(last.body, last.headers)
        clock.now += 86_400 + 60
        await log_events(pool, event(1_000))
        last = (await server.until(len(server.received) + 1, "/hook"))[-1]
        assert " " not in last.headers["webhook-signature"]


async def test_a_replay_sends_everything_since_then_again_in_order(pool: Any, server: WebhookServer) -> None:
    store = WebhookStore(pool)
    made = await store.create(endpoint(server.url("/hook")))
    async with delivering(pool):
        await log_events(pool, *(event(seq) for seq in range(1, 11)))
        await server.until(10, "/hook")
        await store.replay(made.webhook_id, (NOON_MS + 4_000) / 1000)
        received = await server.until(17, "/hook")
        assert ids(received)[10:17] == [f"0.{seq}.0" for seq in range(4, 11)]
        bodies = {each.headers["webhook-id"]: each.body for each in received[:10]}
        assert all(bodies[each.headers["webhook-id"]] == each.body for each in received)
        await log_events(pool, event(11))
        assert ids(await server.until(18, "/hook"))[17:] == ["0.11.0"]


async def test_a_test_is_sent_once(pool: Any, server: WebhookServer) -> None:
    store = WebhookStore(pool)
    server.behaviours["/hook"] = status(500)
    made = await store.create(endpoint(server.url("/hook")))
    async with delivering(pool):
        assert await store.add_test(made.webhook_id, "test.1", "webhook.test", b'{"id":"test.1"}')
        received = await server.until(1, "/hook")
        assert ids(received) == ["test.1"]

        async def parked() -> bool:
            return await statuses(store, made.webhook_id) == [("test.1", "parked", 1)]

        await until(parked, "parked")
    assert not await store.add_test("wh_" + "0" * 24, "test.2", "webhook.test", b"{}")


async def test_an_account_with_the_name_of_tests_is_tried_again_as_any_other(
    pool: Any, server: WebhookServer
) -> None:
    """Deliveries about the account `-` were parked after one attempt, as tests are, and waited for those."""
    store, clock = WebhookStore(pool), Clock()
    server.behaviours["/hook"] = status(500)
    made = await store.create(endpoint(server.url("/hook")))
    async with delivering(pool, now_s=clock):
        await log_events(pool, event(1, "-"))
        await server.until(1, "/hook")
        assert await store.add_test(made.webhook_id, "test.1", "webhook.test", b'{"id":"test.1"}')
        assert ids(await server.until(2, "/hook"))[1] == "test.1"
        server.behaviours.clear()
        clock.now += 2 * RETRY_S[0]
        assert ids(await server.until(3, "/hook"))[2] == "0.1.0"

        async def ended() -> bool:
            found = [("0.1.0", "delivered", 2), ("test.1", "parked", 1)]
            return await statuses(store, made.webhook_id) == found

        await until(ended, "both have ended")


async def test_of_two_processes_one_delivers_and_the_other_takes_over(
    pool: Any, server: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LEASE_S", 1.5)
    monkeypatch.setattr(dispatching, "LEASE_S", 1.5)
    store = WebhookStore(pool)
    await store.create(endpoint(server.url("/hook")))
    first = Dispatcher(pool, "f1", allow_private=True)
    task = asyncio.create_task(first.run())
    async with delivering(pool, "f2"):
        await log_events(pool, *(event(seq) for seq in range(1, 6)))
        await server.until(5, "/hook")
        # As after a kill, it releases nothing.
        monkeypatch.setattr(first.outbox, "release", _nothing)
        task.cancel()
        await log_events(pool, *(event(seq) for seq in range(6, 11)))
        await until(lambda: "0.10.0" in ids(server.received), "the last one")
        assert list(dict.fromkeys(ids(server.received))) == [f"0.{seq}.0" for seq in range(1, 11)]
    await asyncio.gather(task, return_exceptions=True)


async def _nothing() -> None:
    pass


class Unreliable:
    """A pool whose `fail_at`-th statement fails, before or after it has been carried out."""

    def __init__(self, pool: Any, fail_at: int, after: bool) -> None:
        self.pool, self.fail_at, self.after, self.count = pool, fail_at, after, 0

    async def _call(self, method: Any, *arguments: Any, **named: Any) -> Any:
        self.count += 1
        fails = self.count == self.fail_at
        if fails and not self.after:
            raise ConnectionResetError("gone before")
        found = await method(*arguments, **named)
        if fails:
            raise ConnectionResetError("gone after")
        return found

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.pool, name)
        return lambda *arguments, **named: self._call(method, *arguments, **named)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        async with self.pool.acquire() as connection:
            yield _Connection(self, connection)


class _Connection:
    def __init__(self, unreliable: Unreliable, connection: Any) -> None:
        self._unreliable, self._connection = unreliable, connection

    def transaction(self) -> Any:
        return self._connection.transaction()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)
        return lambda *arguments, **named: self._unreliable._call(method, *arguments, **named)


@pytest.mark.parametrize(
    "after", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["before", "after"]
)
async def test_a_failure_at_every_statement_loses_nothing(
    pool: Any, server: WebhookServer, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "BACKOFF_S", 0.05)
    monkeypatch.setattr(dispatching, "LOOK_S", 0.05)
    store = WebhookStore(pool)
    seq = 0
    for fail_at in range(1, 13):
        path = f"/{fail_at}"
        made = await store.create(endpoint(server.url(path)))
        events = [event(seq + number, f"a{number % 3}") for number in range(1, 10)]
        seq += 9
        unreliable = Unreliable(pool, fail_at, after)
        async with delivering(unreliable):
            await log_events(pool, *events)

            async def all_delivered(webhook_id: str = made.webhook_id) -> bool:
                found = await statuses(store, webhook_id)
                return len(found) == 9 and {status for _, status, _ in found} == {"delivered"}

            await until(all_delivered, f"all delivered, statement {fail_at} having failed")
        assert unreliable.count > fail_at
        received = server.at(path)
        for subject in ("a0", "a1", "a2"):
            first = list(dict.fromkeys(ids([r for r in received if r.event["subject"] == subject])))
            assert first == [each.id for each in events if each.subject == subject]
        assert len({(r.headers["webhook-id"], r.body) for r in received}) == 9
        await store.delete(made.webhook_id)
