"""Writes one entry without effect to every partition, and waits for its receipt from every journal copy.

The write is the operation `n`, made by the same script as every entry. It needs what a payment needs, and nothing
else: Redis must take writes, the node must be the certified owner, the stream must have room, and the copies must
write the entry to their disks. It goes straight to Redis and to the copies, so the result does not depend on API
processes; those are only asked whether they are ready.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.limits import ISSUED_AGE_MS_MAX
from wallet_engine.domain.operation import Words
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.conditions import Condition, condition_of, condition_of_error
from wallet_engine.engine.refusals import batch_refusal_in, error_in
from wallet_engine.journal.link_client import LinkClient
from wallet_engine.journal.receipts_tracker import ReceiptTracker
from wallet_engine.redis_store.apply_call import apply_command
from wallet_engine.redis_store.connection import Connection, ConnectionLost, NotSent
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.node_clock import NodeClock
from wallet_engine.redis_store.refusals import Meaning
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import JournalInfo, PartitionMap
from wallet_engine.routing.slots import tag_of

#: A node that takes longer counts as not answering.
REDIS_S_MAX: Final = 2.0
#: How long refusals are retried: the cause may pass (a partition that moves, a new map).
REFUSED_S_MAX: Final = 3.0
REFUSED_RETRY_S: Final = 0.2
#: How long the journal copies may take to give all receipts.
RECEIPT_S_MAX: Final = 5.0

_SHA: Final = {extended: load_script("apply", extended=extended).sha for extended in (False, True)}
#: A first send, and two more: refusals may tell first the window, then that accounts have limits.
SENDS_MAX: Final = 3
_OPERATION: Final[Words] = ("n", "doctor", "-", "-", 0, "-", "", "")


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of the write to one partition. `condition` is None if the partition takes payments."""

    partition: int
    condition: Condition | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Probes:
    """`late`: journal copy that answers -> number of test writes that it did not confirm, if any."""

    of_partition: tuple[Probe, ...]
    late: Mapping[str, int]
    written: int

    @property
    def refused(self) -> tuple[Probe, ...]:
        return tuple(probe for probe in self.of_partition if probe.condition is not None)


@dataclass(slots=True)
class _Try:
    """The write to one partition while it is being made."""

    partition: int
    shard: str = ""
    window: int = 1
    #: Whether an account of the partition has an upper limit: then the extended script decides.
    limits: bool = False
    condition: Condition | None = Condition.UNREACHABLE
    detail: str = ""
    #: Journal copies that have the entry on disk.
    confirmed: set[str] = field(default_factory=set)


def probe_partitions(
    directory: Directory, primaries: Callable[[], Mapping[str, str]], journals: Iterable[JournalInfo]
) -> Probes:
    """Try every partition. `primaries()` returns shard -> address of its present primary, if one answers.

    Takes about ten seconds at most, even if parts do not answer.
    """
    return asyncio.run(_Probing(directory, primaries, journals).run())


class _Copy:
    """The receipts of one journal copy."""

    def __init__(self, info: JournalInfo) -> None:
        self.journal_id = info.journal_id
        self.tracker = ReceiptTracker(quorum=1)
        self.client = LinkClient(
            info.journal_id, split_address(info.address), self.tracker, service_id="doctor"
        )
        self.client.tls = info.tls


class _Probing:
    def __init__(
        self,
        directory: Directory,
        primaries: Callable[[], Mapping[str, str]],
        journals: Iterable[JournalInfo],
    ) -> None:
        self._directory = directory
        self._primaries = primaries
        self._config = directory.config()
        self._copies = [_Copy(info) for info in journals]
        self._tries = [_Try(partition) for partition in range(self._config.partitions)]
        self._changed = asyncio.Event()

    async def run(self) -> Probes:
        for copy in self._copies:
            copy.client.start()
        try:
            await self._write()
            await self._wait_for_receipts()
        finally:
            await asyncio.gather(*(copy.client.close() for copy in self._copies))
        written = [one for one in self._tries if one.condition is None]
        late = {
            copy.journal_id: missing
            for copy in self._copies
            if copy.client.connected
            and (missing := sum(copy.journal_id not in one.confirmed for one in written))
        }
        return Probes(tuple(map(self._judge, self._tries)), late, len(written))

    def _judge(self, one: _Try) -> Probe:
        needed = self._config.journal_quorum
        if one.condition is None and len(one.confirmed) < needed:
            missing = [copy for copy in self._copies if copy.journal_id not in one.confirmed]
            names = ", ".join(
                copy.journal_id + ("" if copy.client.connected else " (does not answer)") for copy in missing
            )
            what = (
                f"{len(one.confirmed)} of {needed} journal copies confirmed it within {RECEIPT_S_MAX:.0f} s"
            )
            return Probe(
                one.partition, Condition.NO_RECEIPT, f"{what}; not: {names or 'there are no others'}"
            )
        return Probe(one.partition, one.condition, one.detail)

    async def _write(self) -> None:
        """Write to every partition; retry refused writes for `REFUSED_S_MAX`."""
        until_s = time.monotonic() + REFUSED_S_MAX
        while True:
            partition_map = await asyncio.to_thread(self._directory.partition_map)
            primaries = await asyncio.to_thread(self._primaries)
            waiting: dict[str, list[_Try]] = {}
            for one in self._tries:
                if one.condition is not None:
                    waiting.setdefault(partition_map.shard_of(one.partition), []).append(one)
            await asyncio.gather(
                *(
                    self._write_to_shard(shard, primaries.get(shard), mine, partition_map)
                    for shard, mine in waiting.items()
                )
            )
            refused = any(one.condition is not None for one in self._tries)
            if not refused or time.monotonic() > until_s:
                return
            await asyncio.sleep(REFUSED_RETRY_S)

    async def _write_to_shard(
        self, shard: str, address: str | None, tries: Sequence[_Try], partition_map: PartitionMap
    ) -> None:
        for one in tries:
            one.shard = shard
            one.condition, one.detail = Condition.UNREACHABLE, f"no primary of shard {shard} answers"
        if address is None:
            return
        with suppress(OSError, TimeoutError, ConnectionLost, NotSent):
            async with asyncio.timeout(REDIS_S_MAX):
                connection = await Connection.open(address, lambda _: None)
                try:
                    for one in tries:
                        one.detail = f"{address} does not answer within {REDIS_S_MAX:.0f} s"
                    clock = NodeClock()
                    await clock.measure(connection)
                    again = tries
                    for _ in range(SENDS_MAX):
                        again = await self._send(connection, clock, again, partition_map) if again else []
                finally:
                    connection.close()

    async def _send(
        self, connection: Connection, clock: NodeClock, tries: Sequence[_Try], partition_map: PartitionMap
    ) -> list[_Try]:
        """Send one write to each; returns those to send again at once."""
        now_s = asyncio.get_running_loop().time()
        batches = [Batch(one.partition, [_OPERATION], [], now_s) for one in tries]
        commands = [
            apply_command(
                _SHA[one.limits],
                [
                    batch.part(
                        PartitionKeys(tag_of(one.partition, self._config.partitions)),
                        partition_map.epoch_of(one.partition),
                        clock.ms_at(now_s),
                        one.window,
                        (),
                        limits=one.limits,
                    )
                ],
                window_ms=self._config.retention_ms,
                stream_entries_max=self._config.stream_entries_max,
                issued_age_ms_max=ISSUED_AGE_MS_MAX,
            )
            for one, batch in zip(tries, batches, strict=True)
        ]
        again = []
        replies = await connection.call_all(commands)
        for one, batch, answers in zip(tries, batches, replies, strict=True):
            reply = answers[0] if type(answers) is list else answers
            if type(reply) is list and reply[0] == b"WINDOW":
                one.window = int(reply[1])
                again.append(one)
            elif type(reply) is list and reply[0] == b"LIMITS":
                one.limits = True
                again.append(one)
            else:
                self._take(one, batch, reply)
        return again

    def _take(self, one: _Try, batch: Batch, reply: Any) -> None:
        if type(reply) is bytes:
            batch.accept(reply)
            one.condition, one.detail = None, ""
            for copy in self._copies:
                confirm = partial(self._confirm, one, copy.journal_id)
                copy.tracker.ask_needed(one.partition, batch.seq, batch.nonce, confirm)
        elif refusal := error_in(reply):
            # As a service does: without payments, no other process would ask for recovery.
            if refusal.meaning is Meaning.RECOVER:
                for copy in self._copies:
                    copy.tracker.request_recovery(one.shard, refusal.text)
            one.condition, one.detail = condition_of_error(refusal), refusal.text
        elif type(reply) is list:
            refused = batch_refusal_in(reply)
            one.condition, one.detail = condition_of(refused), _refusal_text(refused.code, refused.shown)

    def _confirm(self, one: _Try, journal_id: str) -> None:
        one.confirmed.add(journal_id)
        self._changed.set()

    async def _wait_for_receipts(self) -> None:
        """Wait until every copy that answers has confirmed everything, for at most `RECEIPT_S_MAX`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RECEIPT_S_MAX):
                while self._incomplete():
                    self._changed.clear()
                    await self._changed.wait()

    def _incomplete(self) -> bool:
        written = [one for one in self._tries if one.condition is None]
        needed = self._config.journal_quorum
        answering = {copy.journal_id for copy in self._copies if copy.client.connected}
        return any(len(one.confirmed) < needed or answering - one.confirmed for one in written)


def _refusal_text(code: str, shown: str) -> str:
    """A refusal of the script, in words."""
    match code:
        case "EPOCH":
            return f"Redis serves it under epoch {shown}, which is not that of the map"
        case "OWNER":
            return f"it was certified for another node, {shown}"
        case "STATE":
            return f"it is {shown}"
        case "FULL":
            return f"its stream holds {shown} entries that are not trimmed yet"
        case "EXPIRED":
            return "the clock of its Redis node was just changed"
        case _:
            return f"the script says {code} {shown}"
