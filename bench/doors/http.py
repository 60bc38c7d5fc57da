"""The door of payment services: HTTP, single transfers or batches."""

import asyncio
import os
from functools import partial
from typing import Final

from bench.doors.base import Load
from bench.http_client import Caller, connect, request_bytes
from bench.pacing import Pacing
from bench.recorder import Recorder
from bench.ring import Request, Ring, chunks, declined_of
from bench.scrape import scrape, script_counters
from bench.workload import CURRENCY, Pair, account_name
from wallet_engine.domain.money import format_amount

#: Stands where the number of a sending goes: the first eight digits of every transaction id.
PLACEHOLDER: Final = b"########"
STOP_S_MAX: Final = 30.0

_SUCCESS: Final = b'"status":"success"'
_DECLINED: Final = b'"status":"declined","code":"insufficient_funds"'


def encode(pairs: list[Pair] | tuple[Pair, ...], host: str, *, single: bool) -> bytes:
    """The request for these transfers, with random transaction ids behind the placeholder."""
    transfers = []
    for pair in pairs:
        digits = os.urandom(12).hex()
        transaction = f"{PLACEHOLDER.decode()}-{digits[:4]}-4{digits[5:8]}-a{digits[9:12]}-{digits[12:24]}"
        transfers.append(
            f'{{"from_account":"{account_name(pair.sender)}","to_account":"{account_name(pair.receiver)}",'
            f'"amount":"{format_amount(pair.amount_minor, CURRENCY)}","currency":"{CURRENCY}",'
            f'"transaction_id":"{transaction}"}}'
        )
    if single:
        return request_bytes("/v1/wallet/balance_transfer", transfers[0].encode(), host=host)
    body = f'{{"transfers":[{",".join(transfers)}]}}'
    return request_bytes("/v1/transfers/batch", body.encode(), host=host)


def count_answers(status: int, body: bytes, *, single: bool) -> tuple[int, int] | None:
    """`(succeeded, declined for want of money)`; None for an answer of any other kind."""
    if single:
        if status == 200 and _SUCCESS in body:
            return 1, 0
        return (0, 1) if status == 422 and b'"insufficient_funds"' in body else None
    return (body.count(_SUCCESS), body.count(_DECLINED)) if status == 200 else None


class HttpDoor:
    """Implements `Door`: one connection per caller, spread over the API processes."""

    own_role = "load"

    def __init__(
        self,
        addresses: list[str],
        recorder: Recorder,
        ring: Ring[bytes],
        callers: int,
        pacing: Pacing,
        *,
        single: bool,
    ):
        self._addresses = addresses
        self._recorder = recorder
        self._ring = ring
        self._callers_wanted = callers
        self._pacing = pacing
        self._single = single
        self._callers: list[Caller] = []
        #: By caller: its last request, as sent, and whether that was a repeat.
        self._last: list[tuple[Request[bytes], bytes, bool] | None] = [None] * callers
        self._stopping = False
        self._idle = asyncio.Event()
        self._waiting = 0

    @classmethod
    def make(cls, load: Load) -> "HttpDoor":
        addresses, single = load.cluster.api_addresses, load.batch == 1
        requests = [
            Request(encode(list(part), addresses[0], single=single), len(part), declined_of(part))
            for part in chunks(load.pairs, load.batch)
        ]
        return cls(
            addresses,
            load.recorder,
            Ring(requests, repeats=load.repeats),
            load.callers,
            load.pacing,
            single=single,
        )

    async def start(self) -> None:
        addresses = self._addresses
        self._callers = [
            await connect(addresses[number % len(addresses)], number, self._answered, self._lost)
            for number in range(self._callers_wanted)
        ]
        self._pacing.start()
        for caller in self._callers:
            self._next(caller)

    async def stop(self) -> None:
        self._stopping = True
        self._pacing.stop()
        if self._waiting:
            try:
                await asyncio.wait_for(self._idle.wait(), STOP_S_MAX)
            except TimeoutError:
                self._recorder.surprised(f"{self._waiting} requests were not answered in {STOP_S_MAX:.0f} s")
        for caller in self._callers:
            caller.close()

    async def figures(self) -> dict[str, float]:
        """Asked of the API processes, which takes some milliseconds."""
        return await asyncio.to_thread(lambda: script_counters(map(scrape, self._addresses)))

    def _next(self, caller: Caller) -> None:
        """Send when the next request is due, which may be now."""
        since_s = self._pacing.take()
        if since_s is None:
            self._pacing.park(partial(self._send, caller))
        else:
            self._send(caller, since_s)

    def _send(self, caller: Caller, since_s: float) -> None:
        drawn = self._ring.next()
        last = self._last[caller.number]
        if drawn is None and last is None:
            drawn = self._ring.next()  # nothing to repeat yet
        if drawn is not None:
            request, number = drawn
            sent = request.payload.replace(PLACEHOLDER, b"%08x" % number)
            self._last[caller.number] = request, sent, False
        else:
            assert last is not None
            request, sent, _ = last
            self._last[caller.number] = request, sent, True
        self._waiting += 1
        caller.send(sent, since_s)

    def _answered(self, caller: Caller, status: int, body: bytes, latency_s: float) -> None:
        last = self._last[caller.number]
        assert last is not None
        request, _, repeated = last
        counts = count_answers(status, body, single=self._single)
        if counts == (request.transfers - request.declined, request.declined):
            self._recorder.answered(latency_s, request.transfers, request.declined, repeated=repeated)
        else:
            self._recorder.surprised(f"{status} {body[:250].decode(errors='replace')}")
        self._ended()
        if not self._stopping:
            self._next(caller)

    def _lost(self, caller: Caller) -> None:
        if caller.waiting:
            self._recorder.surprised("the connection was closed before the answer")
            self._ended()

    def _ended(self) -> None:
        self._waiting -= 1
        if self._stopping and self._waiting == 0:
            self._idle.set()
