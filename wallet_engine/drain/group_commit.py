"""Group commit: entries that arrive at the same time share one fdatasync. Then their receipts are published."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wallet_engine.domain.entry import EntryHeader, parse_header
from wallet_engine.domain.errors import Corruption, Outage, WalletError
from wallet_engine.journal.copy import JournalCopy, Receipt
from wallet_engine.journal.errors import Fork
from wallet_engine.journal.link_server import LinkServer
from wallet_engine.journal.threads import in_thread
from wallet_engine.telemetry.metrics import Metrics

#: Maximum time that a group waits for the fetches of other shards; under load a fetch takes a few milliseconds. A shard
#: that takes longer is not waited for until its next fetch: so a shard that hangs delays the others only once.
GATHER_S_MAX: Final = 0.008

#: Entries on their way to the disk: (partition, payload), and with the parsed header.
Taken = tuple[int, bytes]
Brought = tuple[int, bytes, EntryHeader]


class Unconfirmed(WalletError):
    """Entries have a new epoch: they are durable, but receipted only when the keeper has confirmed the epoch."""


class Unreadable(Corruption):
    """A partition has something that nobody can read, such as an entry that no journal takes. It must be recovered."""

    def __init__(self, partition: int, why: str) -> None:
        super().__init__(f"partition {partition}: {why}")
        self.partition = partition


class GroupCommit:
    """Appends the entries of all shards with one fdatasync per group, then publishes the receipts.

    `failed` gets the exception when the disk failed: then the process must end.
    """

    def __init__(self, copy: JournalCopy, server: LinkServer, metrics: Metrics) -> None:
        self._copy = copy
        self._writer = copy.writer
        self._server = server
        self._metrics = metrics
        self._entries = metrics.journal_entries.labels()
        self._bytes = metrics.journal_bytes.labels()
        self._sync_seconds = metrics.journal_sync_seconds.labels()
        self._written = 0
        self._loop = asyncio.get_running_loop()
        self._group: list[tuple[Sequence[Taken], asyncio.Future[None]]] = []
        #: Entries that services brought, with the function that is called with partitions to fetch instead.
        self._brought: list[tuple[Sequence[Brought], Callable[[Iterable[int]], None]]] = []
        #: Fetches in progress that the group waits for.
        self._gathering: set[object] = set()
        #: The planned commit of the group: after these fetches, or after `GATHER_S_MAX`.
        self._turn: asyncio.Handle | None = None
        #: Set while the segments are rewritten: fetched entries wait, brought ones are fetched later.
        self._rewriting: asyncio.Future[dict[int, Path]] | None = None
        self.failed: asyncio.Future[None] = self._loop.create_future()

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Mark the block as a fetch of a shard: the group waits for it, at most `GATHER_S_MAX`."""
        fetch = object()
        self._gathering.add(fetch)
        try:
            yield
        finally:
            self._gathering.discard(fetch)
            if self._turn is not None and not self._gathering:
                self._turn.cancel()
                self._turn = self._loop.call_soon(self._commit)

    def add(self, entries: Sequence[Taken]) -> asyncio.Future[None]:
        """Put fetched entries into the next group; call it inside `gathering`.

        The future is done when they are durable and receipted. It raises `Fork` when entries do not continue a chain,
        and `Unreadable` when they are too long or unreadable (none of these are written), `Unconfirmed` when entries
        are durable but not receipted yet, and an `ExceptionGroup` of these for several partitions.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        self._plan()
        self._group.append((entries, done))
        return done

    def bring(self, entries: Sequence[Brought], fetch: Callable[[Iterable[int]], None]) -> None:
        """Put entries that a service brought into the next group. Never causes a `Fork`.

        An entry is written only if it continues this copy's chain in the epoch that the copy has confirmed. Others are
        ignored, and `fetch` is called with their partitions: the stream of the certified node decides.
        """
        if self._rewriting is not None:
            fetch({partition for partition, _, _ in entries})
            return
        self._plan()
        self._brought.append((entries, fetch))

    def _plan(self) -> None:
        if self._turn is None and self._rewriting is None:
            self._turn = (
                self._loop.call_later(GATHER_S_MAX, self._commit_without)
                if self._gathering
                else self._loop.call_soon(self._commit)
            )

    def install(self, entries: Sequence[Taken]) -> None:
        """Make entries durable that come from another copy, or that a recovery has read from Redis.

        Their epochs may be ones that this copy has promised to refuse. They are receipted only after the next
        confirmation. Entries that this copy has already are skipped. Raises `Fork`, `Outage` while the journal is being
        rewritten, and the error of a failed disk.
        """
        self._check_writable()
        headers = []
        try:
            for partition, payload in entries:
                header = parse_header(payload)
                if not self._writer.contains(partition, header):
                    self._writer.append(partition, payload, header, bound=False)
                    headers.append((partition, header))
        finally:
            self.sync()
        for partition, header in headers:
            self._copy.withhold(partition, header)
        self._entries.inc(len(headers))

    def sync(self) -> None:
        """Make the appended entries durable. A failed disk ends the process (`failed`). Raises `Outage` and OSError."""
        self._check_writable()
        try:
            self._sync()
        except Exception as error:
            if not self.failed.done():
                self.failed.set_exception(error)
            raise

    async def set_aside(self, after: Mapping[int, int]) -> dict[int, Path]:
        """Remove the entries of these partitions after these seqs from the journal: `JournalWriter.rewrite`.

        Runs in a thread. Meanwhile nothing is written and no receipt is published. Raises `Outage` when a rewrite is
        in progress.
        """
        self._check_writable()
        self._writer.begin_rewrite()
        self._rewriting = in_thread(self._writer.rewrite, after)
        self._rewriting.add_done_callback(self._rewritten)
        return await asyncio.shield(self._rewriting)  # the rewrite must not be cancelled half-way

    def _rewritten(self, done: "asyncio.Future[dict[int, Path]]") -> None:
        self._rewriting = None
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            if not self.failed.done():
                self.failed.set_exception(error)
        elif self._group or self._brought:
            self._plan()

    def _check_writable(self) -> None:
        if self._rewriting is not None:
            raise Outage("journal_unavailable", "the journal is being rewritten without orphaned entries")

    def lags(self, partition: int, entries: int) -> None:
        """Set the metric: this many entries of the partition are in Redis but not on this disk."""
        self._metrics.journal_lag_entries.labels(str(partition)).set(entries)

    def recovered(self, shard: str, result: str) -> None:
        """Count the recovery of a shard. `result`: `certified` or `failed`."""
        self._metrics.shard_recoveries.labels(shard, result).inc()

    def follows(self, epochs: Mapping[int, int]) -> None:
        """Record that the chains of these partitions follow these epochs, then publish the withheld receipts.

        The epochs are in force. A partition for which a newer epoch was promised is skipped. Raises `Outage`.
        """
        self._check_writable()
        mine = {p: epoch for p, epoch in epochs.items() if not self._copy.superseded(p, epoch)}
        for partition, epoch in mine.items():
            if self._writer.view(partition) < epoch:
                self._writer.mark_base(partition, epoch)
        self.sync()
        self.confirm(mine.items())

    def confirm(self, epochs: Iterable[tuple[int, int]]) -> None:
        """Confirm these (partition, epoch), which are in force and followed here: publish the withheld receipts."""
        self._server.confirmed(self._copy.confirm(epochs))

    def _sync(self) -> None:
        before = self._writer.committed_bytes
        self._writer.sync()
        self._bytes.inc(self._writer.committed_bytes - before)

    def _commit_without(self) -> None:
        """Commit without the drains that are still fetching."""
        self._gathering.clear()
        self._commit()

    def _commit(self) -> None:
        self._turn = None
        if self._rewriting is not None:
            return
        group, self._group = self._group, []
        brought, self._brought = self._brought, []
        receipts: list[tuple[int, str, int]] = []
        outcomes: list[tuple[asyncio.Future[None], list[WalletError]]] = []
        written = self._written
        try:
            outcomes = [(done, self._take_fetched(entries, receipts)) for entries, done in group]
            to_fetch = [(fetch, self._take_brought(entries, receipts)) for entries, fetch in brought]
            started_s = self._loop.time()
            self._sync()
        except Exception as error:
            # The disk failed: no entry of the group may be receipted, and the process must not write any more.
            for _, done in group:
                if not done.done():
                    done.set_exception(error)
            if not self.failed.done():
                self.failed.set_exception(error)
            return
        self._sync_seconds.observe(self._loop.time() - started_s)
        self._entries.inc(self._written - written)
        self._server.publish(receipts)
        for fetch, partitions in to_fetch:
            if partitions:
                fetch(partitions)
        for done, refused in outcomes:
            if done.done():
                continue
            if not refused:
                done.set_result(None)
            elif len(refused) == 1:
                done.set_exception(refused[0])
            else:
                done.set_exception(ExceptionGroup("entries not receipted", refused))

    def _take_fetched(self, entries: Sequence[Taken], receipts: list[Receipt]) -> list[WalletError]:
        """Append fetched entries, and add those that may be receipted to `receipts`.

        Returns the first error of each partition that has one.
        """
        refused: dict[int, WalletError] = {}
        for partition, payload in entries:
            try:
                header = parse_header(payload)
            except Corruption as error:
                refused.setdefault(partition, Unreadable(partition, str(error)))
                continue
            try:
                self._writer.append(partition, payload, header)
            except Fork as fork:
                # It may be here already: brought by a service, or taken from another copy.
                if not self._writer.contains(partition, header):
                    refused.setdefault(partition, fork)
            except Corruption as error:
                refused.setdefault(partition, Unreadable(partition, str(error)))
            else:
                self._written += 1
                if self._copy.receiptable(partition, header):
                    receipts.append((partition, header.nonce, header.seq))
                else:
                    new = Unconfirmed(f"partition {partition}: epoch {header.epoch} is new")
                    refused.setdefault(partition, new)
        return list(refused.values())

    def _take_brought(self, entries: Sequence[Brought], receipts: list[Receipt]) -> set[int]:
        """Append brought entries that continue a chain in its confirmed epoch. Returns the partitions of the others."""
        missing: set[int] = set()
        for partition, payload, header in entries:
            if self._copy.confirmed.get(partition) == header.epoch:
                try:
                    self._writer.append(partition, payload, header)
                except Corruption as error:
                    if isinstance(error, Fork) and self._writer.contains(partition, header):
                        continue
                else:
                    self._written += 1
                    receipts.append((partition, header.nonce, header.seq))
                    continue
            missing.add(partition)
        return missing
