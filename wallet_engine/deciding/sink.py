"""The oracle as a sink of the feed: decides entries, stops partitions that differ, keeps checkpoints.

A restart continues from the newest checkpoint and finds later differences again. A partition stays stopped
while it has a difference. This is checked once a second, because a node that lost its memory is recovered
from the journal and does not know that it was stopped. `wallet-admin rebuild --accept` accepts a difference.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from wallet_engine.deciding.checkpoints import Checkpoints, image_of, matching_of
from wallet_engine.deciding.decider import Decider, Difference
from wallet_engine.deciding.stopping import stop_partition
from wallet_engine.domain.errors import Outage, WalletError, text_of
from wallet_engine.journal.feed import FeedEntry, FeedPosition
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

#: Entries decided in one turn of the event loop.
SLICE_ENTRIES: Final = 32
#: How often it checks for missing ends.
LOOK_S: Final = 0.5
#: How often it checks that stopped partitions are still stopped.
AGAIN_S: Final = 1.0
#: Minimum time between two checkpoints, and the same as a multiple of the time that one takes.
CHECKPOINT_S: Final = 60.0
CHECKPOINT_REST: Final = 20
#: Time until a checkpoint that could not be saved is tried again.
CHECKPOINT_AGAIN_S: Final = 10.0
#: If it lags more than this, the money of an entry may be spent before the oracle has decided the entry.
LAG_S_MAX: Final = 5.0
#: How long one look waits for nodes that are to stop partitions. One that takes longer delays only its own.
STOP_S_MAX: Final = 1.0

#: partition -> seq of the last durable entry, and whether every journal copy has answered
Ends = Callable[[], Awaitable[tuple[Mapping[int, int], bool]]]

#: Text for operators: who made and brought an entry of a partition.
Origin = Callable[[int, int], Awaitable[str]]

log = get_logger(__name__)


class OracleSink:
    """One directory of checkpoints. It needs all partitions, because matching needs both ends."""

    name = "oracle"

    def __init__(
        self,
        folder: Path,
        directory: Directory,
        partitions: int,
        ends: Ends,
        origin: Origin,
        metrics: Metrics,
    ) -> None:
        self._checkpoints = Checkpoints(folder)
        self._directory = directory
        self._partitions = partitions
        self._ends = ends
        self._origin = origin
        #: First difference of a partition -> origin of its entry.
        self._origins: dict[Difference, str] = {}
        self._metrics = metrics
        self._decider: Decider | None = None
        self._watching: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._alone = False
        self._accepted: Mapping[int, frozenset[int]] = {}
        #: Partition -> when it was last seen stopped (monotonic).
        self._stopped_s: dict[int, float] = {}
        #: Partition -> why it could not be stopped.
        self._unstopped: dict[int, str] = {}
        #: Shard -> task that stops some of its partitions.
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._asking: dict[Difference, asyncio.Task[None]] = {}
        #: What cannot be read of the accepted entries.
        self._damaged: list[str] = []
        self._checkpoint_s = time.monotonic() + CHECKPOINT_S
        self._saved_operations = 0
        #: Why the last checkpoint could not be saved.
        self._unsaved = ""
        self._lag_s = 0.0
        #: partition -> seq after which a restart reads on
        self._kept: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<OracleSink {self._checkpoints!r} {self._decider!r}>"

    @property
    def trouble(self) -> str:
        """Text for operators: what differs, and the lag if it is too large."""
        said = [
            f"partition {p}: {self._told(each[0])}"
            + (f" (not stopped yet: {self._unstopped[p]})" if p in self._unstopped else "")
            for p, each in self._standing().items()
        ]
        if self._lag_s > LAG_S_MAX:
            said.append(f"decides what was written {self._lag_s:.0f} s ago")
        said += self._damaged
        if self._unsaved:
            said.append(f"cannot save its checkpoint in {self._checkpoints.directory}: {self._unsaved}")
        return "; ".join(said)

    # What the follower calls ----------------------------------------------------------------------------------

    async def start(self) -> None:
        if self._decider is None:
            await asyncio.to_thread(self._checkpoints.open)
            self._decider = await asyncio.to_thread(self._checkpoints.load, self._partitions)
            self._kept = {p: at.seq for p, at in self._decider.positions(range(self._partitions)).items()}
            self._wake.set()
        self._watching = asyncio.create_task(self._watch(self._decider), name="oracle")

    async def positions(self, partitions: Collection[int]) -> dict[int, FeedPosition]:
        decider = self._opened()
        decider.leave_out(set(range(self._partitions)).difference(partitions))
        return decider.positions(partitions)

    async def take(self, batch: Sequence[FeedEntry]) -> None:
        decider = self._opened()
        for start in range(0, len(batch), SLICE_ENTRIES):
            before = decider.operations
            self._found(decider.take(batch[start : start + SLICE_ENTRIES]))
            self._metrics.oracle_operations.inc(decider.operations - before)
            await asyncio.sleep(0)
        self._lag_s = max(0.0, time.time() - batch[-1].time_ms / 1000)

    async def flush(self) -> None:
        self._lag_s = 0.0

    def resumes_after(self) -> Mapping[int, int]:
        """Entries after the last checkpoint are decided again."""
        return self._kept

    async def caught_up(self, partitions: Collection[int], at_ms: int) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        if self._watching is not None:
            tasks = (self._watching, *self._stopping.values(), *self._asking.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._watching = None
            await self._checkpoint_or_tell(self._opened())

    # Beside it ------------------------------------------------------------------------------------------------

    def _opened(self) -> Decider:
        if self._decider is None:
            raise Outage("journal_unavailable", "the oracle's directory is not open")
        return self._decider

    def _found(self, differences: Iterable[Difference]) -> None:
        for difference in differences:
            log.critical(
                "an entry is not what the rules decide",
                partition=difference.partition,
                seq=difference.seq,
                what=difference.what,
            )
            self._wake.set()

    async def _watch(self, decider: Decider) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._look(decider)
                await self._stop(decider)
                if time.monotonic() >= self._checkpoint_s and decider.operations > self._saved_operations:
                    await self._checkpoint_or_tell(decider)
            except Exception as error:  # without this task no partition would be stopped
                unforeseen = not isinstance(error, WalletError | OSError)
                log.warning(
                    "the oracle could not look", error=text_of(error), exc_info=error if unforeseen else None
                )

    async def _look(self, decider: Decider) -> None:
        """Check whether something will never get its other end."""
        ends = None
        if decider.overdue(time.monotonic(), alone=self._alone):
            ends, complete = await self._ends()
            if not complete and not self._alone:
                ends = None  # a copy has just died: what only it knew may take a while
            self._alone = not complete
        self._found(decider.look(time.monotonic(), ends))

    def _told(self, difference: Difference) -> str:
        origin = self._origins.get(difference)
        return f"{difference.what} ({origin})" if origin else difference.what

    def _standing(self) -> dict[int, list[Difference]]:
        """Partition -> differences that no operator has accepted."""
        every = {} if self._decider is None else self._decider.differences
        standing = {
            p: [difference for difference in each if difference.seq not in self._accepted.get(p, ())]
            for p, each in every.items()
        }
        return {p: each for p, each in standing.items() if each}

    async def _stop(self, decider: Decider) -> None:
        """Stop the partitions that differ. A node that hangs delays only those of its own shard."""
        if decider.differences:
            damaged: list[str] = []
            self._accepted = await asyncio.to_thread(self._directory.accepted.seqs, damaged)
            self._damaged = damaged
        standing = self._standing()
        self._metrics.oracle_partitions_differ.set(len(standing))
        now_s = time.monotonic()
        due = {
            p: each[0] for p, each in standing.items() if now_s >= self._stopped_s.get(p, -AGAIN_S) + AGAIN_S
        }
        if due:
            partition_map = await asyncio.to_thread(self._directory.partition_map)
            for shard in sorted({partition_map.shard_of(partition) for partition in due}):
                if shard not in self._stopping or self._stopping[shard].done():
                    mine = {p: first for p, first in due.items() if partition_map.shard_of(p) == shard}
                    self._stopping[shard] = asyncio.create_task(self._stop_each(mine))
                    for partition in mine.keys() - self._stopped_s.keys():
                        self._unstopped.setdefault(partition, "its node has not answered yet")
            await asyncio.wait(self._stopping.values(), timeout=STOP_S_MAX)
        for partition, (first, *_) in standing.items():
            if first not in self._origins and first not in self._asking and partition not in self._unstopped:
                self._asking[first] = asyncio.create_task(self._learn_origin(partition, first))

    async def _stop_each(self, differences: Mapping[int, Difference]) -> None:
        """Stop partitions of one shard, one after the other."""
        for partition, first in differences.items():
            why = self._told(first)
            try:
                before = await asyncio.to_thread(stop_partition, self._directory, partition, why)
            except Exception as error:
                self._unstopped[partition] = text_of(error)
                if not isinstance(error, WalletError | OSError):
                    log.exception("a partition could not be stopped", partition=partition)
                continue
            if before in ("absent", "moving", "copying"):
                self._unstopped[partition] = f"it is {before}"
                continue
            if before != "stopped":
                log.critical("partition stopped by the oracle", partition=partition, was=before, why=why)
            self._unstopped.pop(partition, None)
            if first in self._origins:
                self._stopped_s[partition] = time.monotonic()

    async def _learn_origin(self, partition: int, first: Difference) -> None:
        try:
            self._origins[first] = await self._origin(partition, first.seq)
            self._wake.set()  # now the reason can name the origin
        finally:
            del self._asking[first]

    async def _checkpoint_or_tell(self, decider: Decider) -> None:
        """Save; a failure is logged and told, and tried again with the next checkpoint."""
        try:
            await self._checkpoint(decider)
            self._unsaved = ""
        except OSError as error:
            self._unsaved = error.strerror or str(error)
            self._checkpoint_s = time.monotonic() + CHECKPOINT_AGAIN_S
            log.warning("checkpoint not saved", why=self._unsaved, again_in_s=CHECKPOINT_AGAIN_S)

    async def _checkpoint(self, decider: Decider) -> None:
        """Save one partition after the other; each file is of a different moment. Raises OSError."""
        began_s = time.monotonic()
        operations = decider.operations
        matched = {partition: at.seq for partition, at in decider.matched.items()}
        await asyncio.to_thread(self._checkpoints.save_matching, matching_of(decider))
        for partition in range(self._partitions):
            state = decider.states.get(partition)
            if state is not None and state.seq > self._checkpoints.seqs.get(partition, 0):
                made = image_of(decider, partition)
                if made is not None:
                    await asyncio.to_thread(self._checkpoints.save_state, *made)
        self._saved_operations = operations
        self._kept = {p: min(seq, self._checkpoints.seqs.get(p, 0)) for p, seq in matched.items()}
        took_s = time.monotonic() - began_s
        self._checkpoint_s = time.monotonic() + max(CHECKPOINT_S, CHECKPOINT_REST * took_s)
