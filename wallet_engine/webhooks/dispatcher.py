"""Delivers events: each endpoint that this process has leased has its own task, connections and queue.

These are bounded for each endpoint, so no endpoint waits for one that is slow or never answers. A delivery is
recorded after the answer, so a crash between the two sends it again, with the same id.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from wallet_engine.domain.errors import text_of
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics
from wallet_engine.webhooks.endpoint import Endpoint, Filter
from wallet_engine.webhooks.outbox import EVENTS_KEPT_DAYS, LEASE_S, QUEUED_MAX, LeaseLost, Outbox
from wallet_engine.webhooks.queue import Delivery, Queue, Result
from wallet_engine.webhooks.reply import Reply
from wallet_engine.webhooks.sending import ANSWER_S_MAX, AT_ONCE_MAX, Sender
from wallet_engine.webhooks.signing import signed_headers

#: How often leases are renewed, and changed endpoints, the log and the clock checked.
LOOK_S: Final = 0.5
FORGET_S: Final = 3_600.0
BACKOFF_S: Final = 2.0
_USER_AGENT: Final = "wallet-engine"

log = get_logger(__name__)


class Dispatcher:
    """Runs until it is cancelled. `now_s` is the clock of signatures and retries, Unix seconds."""

    def __init__(
        self,
        pool: Any,
        worker: str,
        *,
        allow_private: bool,
        now_s: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        answer_s_max: float = ANSWER_S_MAX,
        metrics: Metrics | None = None,
        events_kept_s: float = EVENTS_KEPT_DAYS * 86_400,
    ) -> None:
        self.outbox = Outbox(pool, worker)
        self._events_kept_s = events_kept_s
        self.now_s = now_s
        self.jitter = jitter
        self._allow_private = allow_private
        self._answer_s_max = answer_s_max
        self.metrics = metrics or Metrics()
        self._workers: dict[str, _Worker] = {}
        self._wake = asyncio.Event()
        self._forgotten_s = float("-inf")
        self._forgetting: asyncio.Task[None] | None = None
        #: Number of the log's newest known row.
        self.last_number = 0
        #: When the leases end, by `time.monotonic`.
        self.leased_until_s = 0.0

    def __repr__(self) -> str:
        return f"<Dispatcher endpoints={len(self._workers)} last={self.last_number}>"

    def wake(self) -> None:
        """Check the log now: something may have been committed."""
        self._wake.set()

    def sender(self) -> Sender:
        """Connections for one endpoint."""
        return Sender(allow_private=self._allow_private, answer_s_max=self._answer_s_max)

    async def run(self) -> None:
        """Deliver until cancelled. Raises PostgreSQL's errors; then run it again."""
        try:
            while True:
                self._wake.clear()
                await self._look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._wake.wait()
        finally:
            await self._stop(list(self._workers))
            if self._forgetting is not None:
                self._forgetting.cancel()
                await asyncio.gather(self._forgetting, return_exceptions=True)
            with suppress(Exception):
                await self.outbox.release()

    async def _look(self) -> None:
        asked_s = time.monotonic()
        if asked_s > self.leased_until_s - LEASE_S + LOOK_S:
            endpoints = {endpoint.webhook_id: endpoint for endpoint in await self.outbox.lease()}
            self.leased_until_s = asked_s + LEASE_S
            await self._stop([name for name in self._workers if name not in endpoints])
            for name, endpoint in endpoints.items():
                if name in self._workers:
                    self._workers[name].see(endpoint)
                else:
                    self._workers[name] = _Worker(self, endpoint)
        self.last_number = await self.outbox.last_number()
        for worker in self._workers.values():
            worker.look_at(self.last_number)
        due = self.now_s() - self._forgotten_s > FORGET_S
        if due and (self._forgetting is None or self._forgetting.done()):
            self._forgotten_s = self.now_s()
            self._forgetting = asyncio.create_task(self._forget(), name="webhooks-forget")

    async def _forget(self) -> None:
        """Remove what is old. It may take minutes, and the leases must be renewed meanwhile."""
        try:
            await self.outbox.forget(self.now_s())
            await self.outbox.remove_events(self.now_s() - self._events_kept_s)
        except Exception as error:
            log.warning("old events and deliveries are not removed", error=text_of(error))

    async def _stop(self, names: list[str]) -> None:
        await asyncio.gather(*(self._workers.pop(name).close() for name in names))


class _Worker:
    """Delivers to one endpoint."""

    def __init__(self, dispatcher: Dispatcher, endpoint: Endpoint) -> None:
        self._dispatcher = dispatcher
        self._endpoint = endpoint
        self._wanted = Filter(endpoint.types, endpoint.accounts)
        self._wake = asyncio.Event()
        self._sends: set[asyncio.Task[None]] = set()
        self._results: list[Result] = []
        self._queue = Queue(dispatcher.jitter)
        self._seen_number = 0
        self._task = asyncio.create_task(self._run(), name=f"webhook-{endpoint.webhook_id}")

    def __repr__(self) -> str:
        return f"<_Worker {self._endpoint.webhook_id} {self._queue!r} sends={len(self._sends)}>"

    def see(self, endpoint: Endpoint) -> None:
        """Note the endpoint's present state."""
        if endpoint != self._endpoint:
            self._endpoint = endpoint
            self._wanted = Filter(endpoint.types, endpoint.accounts)
        self._wake.set()

    def look_at(self, number: int) -> None:
        """Note that the log reaches this number."""
        if number != self._seen_number:
            self._seen_number = number
            self._wake.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            sender = self._dispatcher.sender()
            try:
                await self._deliver(sender)
            except LeaseLost as lost:
                log.debug("deliveries are read anew", error=str(lost))
                await asyncio.sleep(LOOK_S)
            except Exception as error:
                log.warning("deliveries wait", webhook=self._endpoint.webhook_id, error=text_of(error))
                await asyncio.sleep(BACKOFF_S)
            finally:
                sends, self._sends = self._sends, set()
                for send in sends:
                    send.cancel()
                await asyncio.gather(*sends, return_exceptions=True)
                await sender.close()

    async def _deliver(self, sender: Sender) -> None:
        """Read the deliveries from the tables and send them, until the lease or version changes.

        Raises `LeaseLost`.
        """
        outbox, begun = self._dispatcher.outbox, self._endpoint
        queue = self._queue = Queue(self._dispatcher.jitter)
        self._results = []
        position, behind, poked = begun.position, 0, -1
        while True:
            self._wake.clear()
            endpoint = self._endpoint
            if endpoint.version != begun.version:
                raise LeaseLost(f"{endpoint.webhook_id} is to be replayed")
            reached = position
            if position < self._seen_number and self._has_room:
                reached = await outbox.queue_more(endpoint, position, self._wanted, queue.failing)
            if reached != position or poked != endpoint.poked:
                position, poked = reached, endpoint.poked
                more, waiting, behind = await outbox.queued(endpoint, behind)
                queue.add(more)
                queue.waits(waiting)
            await self._keep_results()
            for subject in list(queue.short):
                queue.refill(subject, await outbox.line(endpoint, subject, behind))
            self._begin_sends(sender)
            more_in_log = position < self._seen_number and self._has_room
            if not self._results and not more_in_log:
                await self._wait()

    @property
    def _has_room(self) -> bool:
        """Whether more deliveries may be made of the log."""
        return len(self._queue) < QUEUED_MAX and not self._queue.crowded

    async def _wait(self) -> None:
        """Wait until something changes, or a delivery is due."""
        wait_s = LOOK_S
        if self._queue.next_s is not None and self._may_send:
            wait_s = min(LOOK_S, max(0.0, self._queue.next_s - self._dispatcher.now_s()))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()

    async def _keep_results(self) -> None:
        results, self._results = self._results, []
        if results:
            await self._dispatcher.outbox.record(self._endpoint, results, self._dispatcher.now_s())
            for result in results:
                self._queue.ended(result)
                self._dispatcher.metrics.webhook_attempts.labels(result.status).inc()

    def _begin_sends(self, sender: Sender) -> None:
        while self._may_send:
            delivery = self._queue.take(self._dispatcher.now_s())
            if delivery is None:
                return
            send = asyncio.create_task(self._send(sender, delivery))
            self._sends.add(send)
            send.add_done_callback(self._sends.discard)

    @property
    def _may_send(self) -> bool:
        """Whether there is room for another attempt, and the lease certainly stands."""
        return len(self._sends) < AT_ONCE_MAX and time.monotonic() < self._dispatcher.leased_until_s

    async def _send(self, sender: Sender, delivery: Delivery) -> None:
        now_s, endpoint = self._dispatcher.now_s, self._endpoint
        try:
            headers = {
                "content-type": "application/cloudevents+json",
                "user-agent": _USER_AGENT,
                **signed_headers(endpoint.secrets_at(now_s()), delivery.event_id, now_s(), delivery.body),
            }
            reply = await sender.post(endpoint.url, headers, delivery.body)
        except Exception as error:  # without a result its account would wait for ever
            log.exception("an attempt to deliver failed", webhook=endpoint.webhook_id)
            reply = Reply(None, f"{type(error).__name__}: it could not be sent")
        self._results.append(self._queue.decide(delivery, endpoint.url, reply, now_s()))
        self._wake.set()
