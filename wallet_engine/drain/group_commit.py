"""What comes in at the same time becomes one group: it costs one fdatasync, and then its receipts are published."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wallet_engine.domain.entry import EntryHeader, parse_header
from wallet_engine.domain.errors import Outage, WalletError
from wallet_engine.journal.copy import JournalCopy, Receipt
from wallet_engine.journal.errors import Fork
from wallet_engine.journal.link_server import LinkServer
from wallet_engine.journal.threads import in_thread
from wallet_engine.telemetry.metrics import Metrics

#: A group waits no longer than this for what other shards are fetching: a few milliseconds behind script calls, under
#: load. A shard that takes longer is not waited for until it fetches again: one that hangs costs the others one wait.
GATHER_S_MAX: Final = 0.008

#: One entry on its way to the disk.
Taken = tuple[int, bytes]
Brought = tuple[int, bytes, EntryHeader]


class Unconfirmed(WalletError):
    """Entries of a new epoch came in: they are durable, and receipted once the keeper has confirmed the epoch."""


class GroupCommit:
    """Appends what the shards bring, one fdatasync per group, then publishes the receipts."""

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
        #: What services have brought: entries with their headers, and who is told of partitions to be fetched instead.
        self._brought: list[tuple[Sequence[Brought], Callable[[Iterable[int]], None]]] = []
        #: What is being fetched, and waited for.
        self._gathering: set[object] = set()
        #: When the group goes: once these have brought what they found, or without it.
        self._turn: asyncio.Handle | None = None
        #: The segments are being written anew; what comes in waits or is fetched later.
        self._rewriting: asyncio.Future[dict[int, Path]] | None = None
        self.failed: asyncio.Future[None] = self._loop.create_future()

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """For as long as a shard fetches: a group waits a little while for what it will `add`."""
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
        """Put entries into the next group, while `gathering`. The future is done when they are durable and receipted.

        It raises `Fork` with nothing of the fork written, `Unconfirmed` when some are durable and not receipted yet; a
        group of these when there are several.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        self._plan()
        self._group.append((entries, done))
        return done

    def bring(self, entries: Sequence[Brought], fetch: Callable[[Iterable[int]], None]) -> None:
        """Put entries into the next group that nobody has fetched from a stream. Never a `Fork`.

        Those that do not continue what this copy has, in the epoch that it has confirmed, are passed over, and their
        partitions given to `fetch`: the stream of the certified node decides.
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
        """Make entries durable that were taken over from another copy, or from Redis by a recovery.

        They may be of epochs that were promised to be refused, and are not receipted before the next confirmation.
        Those that are here already are passed over. Raises `Fork`, and `Outage` when the disk fails or the journal is
        being rewritten.
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
        """Make durable what was appended to the writer; a failure ends the process. Raises `Outage`."""
        self._check_writable()
        try:
            self._sync()
        except Exception as error:
            if not self.failed.done():
                self.failed.set_exception(error)
            raise

    async def set_aside(self, after: Mapping[int, int]) -> dict[int, Path]:
        """Take the entries of these partitions behind these seqs out of the journal: `JournalWriter.rewrite`.

        That takes a while, in a thread: meanwhile nothing is written, and no receipt given.
        """
        self._check_writable()
        self._writer.begin_rewrite()
        self._rewriting = in_thread(self._writer.rewrite, after)
        self._rewriting.add_done_callback(self._rewritten)
        return await asyncio.shield(self._rewriting)  # it cannot be given up half-way

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
        """So many entries of the partition are in Redis and not on this disk."""
        self._metrics.journal_lag_entries.labels(str(partition)).set(entries)

    def recovered(self, shard: str, result: str) -> None:
        """A shard was `certified`, or its recovery `failed`."""
        self._metrics.shard_recoveries.labels(shard, result).inc()

    def follows(self, epochs: Mapping[int, int]) -> None:
        """The chains here are those of these epochs, which are in force: note that, and receipt what was withheld.

        Those of which a newer epoch was promised are passed over. Raises `Outage`.
        """
        self._check_writable()
        mine = {p: epoch for p, epoch in epochs.items() if not self._copy.superseded(p, epoch)}
        for partition, epoch in mine.items():
            if self._writer.view(partition) < epoch:
                self._writer.mark_base(partition, epoch)
        self.sync()
        self.confirm(mine.items())

    def confirm(self, epochs: Iterable[tuple[int, int]]) -> None:
        """These (partition, epoch) are in force and followed here: receipt what was withheld."""
        self._server.confirmed(self._copy.confirm(epochs))

    def _sync(self) -> None:
        before = self._writer.committed_bytes
        self._writer.sync()
        self._bytes.inc(self._writer.committed_bytes - before)

    def _commit_without(self) -> None:
        """Drains that are still fetching are late."""
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
            # The disk failed: nothing of the group may be receipted, and the process must not go on writing.
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
        """Append entries of streams, note those that may be receipted; what is first wrong with each partition."""
        refused: dict[int, WalletError] = {}
        for partition, payload in entries:
            header = parse_header(payload)
            try:
                self._writer.append(partition, payload, header)
            except Fork as fork:
                # A service or another copy may have brought it meanwhile.
                if not self._writer.contains(partition, header):
                    refused.setdefault(partition, fork)
            else:
                self._written += 1
                if self._copy.receiptable(partition, header):
                    receipts.append((partition, header.nonce, header.seq))
                else:
                    new = Unconfirmed(f"partition {partition}: epoch {header.epoch} is new")
                    refused.setdefault(partition, new)
        return list(refused.values())

    def _take_brought(self, entries: Sequence[Brought], receipts: list[Receipt]) -> set[int]:
        """Append what continues a chain in its confirmed epoch; the partitions of all else."""
        missing: set[int] = set()
        for partition, payload, header in entries:
            if self._copy.confirmed.get(partition) == header.epoch:
                try:
                    self._writer.append(partition, payload, header)
                except Fork:
                    if self._writer.contains(partition, header):
                        continue
                else:
                    self._written += 1
                    receipts.append((partition, header.nonce, header.seq))
                    continue
            missing.add(partition)
        return missing
