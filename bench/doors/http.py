"""The HTTP door, which payment services use: single transfers or batches."""

import asyncio
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Final

from bench.doors.base import Load
from bench.doors.forms import PLACEHOLDER, Form, form_of
from bench.http_client import Caller, connect, with_key
from bench.pacing import Pacing
from bench.recorder import Recorder
from bench.ring import Request, Ring, chunks, declined_of
from bench.scrape import scrape, script_counters
from bench.workload import Pair

STOP_S_MAX: Final = 30.0

#: The calls of one request. Each is sent when the previous one is answered.
Calls = tuple[bytes, ...]


class HttpDoor:
    """Implements `Door`. Each caller has one connection; callers are spread over the API processes."""

    own_role = "load"

    def __init__(
        self,
        addresses: list[str],
        recorder: Recorder,
        ring: Ring[Calls],
        callers: int,
        pacing: Pacing,
        form: Form,
        tls: ssl.SSLContext | None = None,
    ):
        self._addresses = addresses
        self._recorder = recorder
        self._ring = ring
        self._callers_wanted = callers
        self._pacing = pacing
        self._form = form
        self._tls = tls
        self._callers: list[Caller] = []
        #: By caller: its last request, the calls as they were sent, and whether it was a repetition.
        self._last: list[tuple[Request[Calls], Calls, bool] | None] = [None] * callers
        #: By caller: index of the call that is not answered yet, and the arrival of its request (`perf_counter`).
        self._step = [0] * callers
        self._since_s = [0.0] * callers
        self._stopping = False
        self._idle = asyncio.Event()
        self._waiting = 0

    @classmethod
    def make(cls, load: Load) -> "HttpDoor":
        addresses, form = load.cluster.api_addresses, form_of(load.workload, load.batch)

        def calls(part: Sequence[Pair]) -> Calls:
            made = form.calls(part, addresses[0])
            return tuple(with_key(call, load.key) for call in made) if load.key else made

        requests = [
            Request(calls(part), len(part), declined_of(part)) for part in chunks(load.pairs, load.batch)
        ]
        return cls(
            addresses,
            load.recorder,
            Ring(requests, repeats=load.repeats),
            load.callers,
            load.pacing,
            form,
            load.cluster.caller_tls,
        )

    async def start(self) -> None:
        addresses = self._addresses
        self._callers = [
            await connect(addresses[number % len(addresses)], number, self._answered, self._lost, self._tls)
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
        """Read from the API processes, which takes some milliseconds."""
        return await asyncio.to_thread(
            lambda: script_counters(scrape(each, self._tls) for each in self._addresses)
        )

    def _next(self, caller: Caller) -> None:
        """Send the next request as soon as it arrives, perhaps now."""
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
            sent = tuple(call.replace(PLACEHOLDER, b"%08x" % number) for call in request.payload)
            self._last[caller.number] = request, sent, False
        else:
            assert last is not None
            request, sent, _ = last
            self._last[caller.number] = request, sent, True
        self._waiting += 1
        self._step[caller.number], self._since_s[caller.number] = 0, since_s
        caller.send(sent[0], since_s)

    def _answered(self, caller: Caller, status: int, body: bytes, latency_s: float) -> None:
        last = self._last[caller.number]
        assert last is not None
        request, sent, repeated = last
        step = self._step[caller.number]
        counts = self._form.counts[step](status, body)
        if counts is not None and step + 1 < len(sent):
            self._step[caller.number] = step + 1
            caller.send(sent[step + 1], self._since_s[caller.number])
            return
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
