"""The sink `parquet:DIR`: events in columns, for DuckDB, ClickHouse and other readers of Parquet.

    DIR/date=2026-11-29/hour=00/group-03-000017.parquet     events of one hour and one group of partitions
    DIR/.positions/03.json                                  the group's positions, and its last file
    DIR/.folds/…                                            saved balances (`parquet_folds`)
    DIR/.writing/…                                          incomplete files

A file is written in `.writing`. When it is complete and on disk, the positions are replaced: this is the commit, and
names the file; then the file is renamed to its place. A process that opens the group renames a file that was
committed but not renamed. So each event is in one file even after interruptions, and readers see only
complete files.

A file ends with its hour, once no entry can follow, or with the process; then the hour gets a second file.
The hours of a group end in order, so a position never passes an event that is in no file.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec

from wallet_engine.domain.errors import Corruption, WalletError, WrongUsage
from wallet_engine.events.event import Event
from wallet_engine.events.maker import Maker, from_first
from wallet_engine.events.saved import Pace, save_book
from wallet_engine.exports.extras import needed
from wallet_engine.exports.parquet_folds import ParquetFolds
from wallet_engine.journal.feed import START, Feed, FeedEntry, FeedPosition

HOUR_MS: Final = 3_600_000
#: Wait after the end of an hour: a node whose clock is behind may still add entries of that hour.
GRACE_MS: Final = 10_000
#: Rows of one file in memory that are written as one row group.
ROWS_MAX: Final = 50_000
#: Maximum open hours of one group, while old entries are read.
HOURS_MAX: Final = 4
_ID_CHARACTERS: Final = 8

#: Columns with amounts: up to 16 digits of major units and 4 decimals.
_AMOUNTS: Final = ("amount", "delta", "balance", "available", "held", "pending")
_encode: Final = msgspec.json.Encoder().encode


class TakenOver(WalletError):
    """Another process has written events of this group, so this one must not."""


class ParquetSink:
    """See the module; `follow.sink.Sink`."""

    def __init__(self, target: str, feed: Feed, groups: int) -> None:
        """`groups`: number of groups; partition p is in group p modulo `groups`. Raises `ConfigError`."""
        scheme, _, folder = target.partition(":")
        if scheme != "parquet" or not folder:
            raise WrongUsage(f"--to {target} is none such as parquet:/var/lib/wallet/events")
        self._arrow = needed("pyarrow", "parquet", "--to parquet:")
        self._files = needed("pyarrow.parquet", "parquet", "--to parquet:")
        self._directory = Path(folder)
        self._groups = groups
        self._maker = Maker(feed)
        self._folds = ParquetFolds(self._directory)
        self._pace = Pace()
        self._open: dict[int, Group] = {}
        #: Partition -> time before which none of its entries will come any more, apart from late ones (`GRACE_MS`).
        self._passed: dict[int, int] = {}
        #: Partition -> seq of its saved fold that is behind nothing but files, with which a new process would begin.
        self._kept: dict[int, int] = {}
        self._broken = False
        #: The last work in a thread.
        self._work: asyncio.Future[Any] | None = None

    def __repr__(self) -> str:
        return f"<ParquetSink {self._directory} {self._maker!r}>"

    @property
    def name(self) -> str:
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in self._directory.name)
        return f"parquet-{plain or 'root'}"[:64]

    async def start(self) -> None:
        """Create the folders. Raises OSError when they cannot be written."""
        self._broken = False
        await asyncio.to_thread(self._make_folders)

    def _make_folders(self) -> None:
        for folder in (self._directory, self._directory / ".positions", self._directory / ".writing"):
            folder.mkdir(parents=True, exist_ok=True)
        self._folds.make()
        for folder in (self._directory, self._directory.absolute().parent):
            _sync(folder)

    async def positions(self, partitions: Collection[int]) -> dict[int, FeedPosition]:
        self._maker.keep(partitions)
        self._passed.clear()
        wanted = {partition % self._groups for partition in partitions}
        for number, group in list(self._open.items()):
            await self._in_thread(group.commit_all)
            if number not in wanted:
                del self._open[number]
        for number in wanted - self._open.keys():
            self._open[number] = await asyncio.to_thread(
                Group, self._directory, number, self._arrow, self._files
            )
        for partition in partitions:
            told = self._open[partition % self._groups].reached.get(partition, START)
            if not self._maker.knows(partition, told):
                saved = await asyncio.to_thread(self._folds.load, partition, told)
                self._maker.begin(partition, saved or from_first(told))
        await self._in_thread(self._look, self._open, list(partitions))
        return dict(self._maker.folded)

    async def take(self, batch: Sequence[FeedEntry]) -> None:
        """Take a batch; its events are in a file once their hour or this process has ended."""
        told = {partition: self._maker.told(partition) for partition in {at.partition for at in batch}}
        try:
            made = await self._maker.make(batch)
            new = [each for each in made if each.entry.seq > told[each.entry.partition].seq]
            await self._in_thread(self._add, new)
            self._passed |= {at.partition: at.time_ms for at in batch}
            await self._save_when_due(batch[-1].time_ms)
        except BaseException:
            self._broken = True
            raise

    def _add(self, made: Sequence[Any]) -> None:
        for at, events in made:
            self._open[at.partition % self._groups].add(at, events)

    async def _save_when_due(self, clock_ms: int) -> None:
        if self._pace.due():
            await asyncio.to_thread(self._save, clock_ms)

    def _save(self, clock_ms: int) -> None:
        """Save the folds that have advanced."""
        with self._pace.saving():
            there = self._folds.seqs()
            for partition, folded in self._maker.folded.items():
                if folded == START or folded.seq in there.get(partition, ()):
                    continue
                reached = self._open[partition % self._groups].reached.get(partition, START)
                book = save_book(self._maker.books[partition], clock_ms)
                self._folds.save(partition, folded, book, reached.seq)
            self._look(self._open, list(self._maker.folded))

    def _look(self, groups: Mapping[int, "Group"], partitions: Collection[int]) -> None:
        """Find the folds with which a new process would begin."""
        there = self._folds.seqs()
        reached = {p: groups[p % self._groups].reached.get(p, START).seq for p in partitions}
        self._kept = {
            p: max((seq for seq in there.get(p, ()) if seq <= reached[p]), default=0) for p in partitions
        }

    async def flush(self) -> None:
        """Nothing to do: events are stored when their hour ends."""

    def resumes_after(self) -> Mapping[int, int]:
        """Entries after the folds are folded again, and those in no file yet are written."""
        return self._kept

    async def caught_up(self, partitions: Collection[int], at_ms: int) -> None:
        """End the past hours of groups whose partitions are all beyond them.

        Under load some partition of a group always has an entry that is not taken yet.
        """
        for partition in partitions:
            self._passed[partition] = max(at_ms, self._passed.get(partition, 0))
        for number, group in self._open.items():
            mine = [partition for partition in self._maker.folded if partition % self._groups == number]
            passed_ms = min((self._passed.get(partition, 0) for partition in mine), default=0)
            await self._in_thread(group.commit_until, passed_ms - GRACE_MS)
        await self._in_thread(self._look, self._open, list(self._maker.folded))
        await self._save_when_due(at_ms)

    async def _in_thread(self, work: Callable[..., None], *arguments: Any) -> None:
        """Run the work, which changes groups, in a thread. Cancelling it does not end it: `close` waits for its end."""
        self._work = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
        await asyncio.shield(self._work)

    async def close(self) -> None:
        """Commit the open hours, unless something failed: then their entries come again."""
        opened, self._open = self._open, {}
        partitions = list(self._maker.folded)
        self._maker.keep(())
        if self._work is not None:  # a cancelled call's thread goes on
            await asyncio.wait((self._work,))
        for group in opened.values():
            await asyncio.to_thread(group.abandon if self._broken else group.commit_all)
        if opened:
            await asyncio.to_thread(self._look, opened, partitions)


class Group:
    """The files of one group of partitions."""

    def __init__(self, directory: Path, number: int, arrow: Any, files: Any) -> None:
        """Raises OSError, `Corruption`."""
        self._directory = directory
        self._number = number
        self._arrow = arrow
        self._files = files
        self._state = directory / ".positions" / f"{number:02d}.json"
        self._hours: dict[int, Hour] = {}
        with self._locked():
            self._said = self._read()
            self._finish(self._said)
            for left in (directory / ".writing").glob(f"{number:02d}-*"):
                left.unlink(missing_ok=True)  # from a process that died, or lost the group
        #: Partition -> its position in committed files.
        self.reached = _positions(self._said)
        self._owner = uuid4().hex[:_ID_CHARACTERS]

    def __repr__(self) -> str:
        return f"<Group {self._number} hours={len(self._hours)}>"

    def add(self, at: FeedEntry, events: Sequence[Event]) -> None:
        """Take the events of one entry."""
        hour = at.time_ms // HOUR_MS
        if hour not in self._hours:
            path = self._directory / ".writing" / f"{self._number:02d}-{hour}-{self._owner}"
            self._hours[hour] = Hour(path, self._arrow, self._files)
        self._hours[hour].add(at, events)
        while len(self._hours) > HOURS_MAX:
            self._commit(min(self._hours))

    def commit_until(self, time_ms: int) -> None:
        """Commit the hours that ended by this time."""
        for hour in sorted(self._hours):
            if (hour + 1) * HOUR_MS > time_ms:
                return
            self._commit(hour)

    def commit_all(self) -> None:
        for hour in sorted(self._hours):
            self._commit(hour)

    def abandon(self) -> None:
        for hour in self._hours.values():
            hour.abandon()
        self._hours.clear()

    def _commit(self, hour: int) -> None:
        """Finish an hour's file and commit it. Raises `TakenOver`, OSError.

        After an error no later hour is committed, because its positions would pass the events of this one.
        """
        try:
            self._commit_file(hour, self._hours[hour])
        except Exception:
            self.abandon()
            raise

    def _commit_file(self, hour: int, ended: "Hour") -> None:
        has_rows = ended.finish()
        with self._locked():
            # Who opens the group removes the files that are not committed, also that of a paused process.
            if self._read() != self._said or (has_rows and not ended.path.exists()):
                raise TakenOver(f"another process writes {self._state}: positions are read anew")
            said = {
                "positions": self._said["positions"]
                | {str(partition): list(position) for partition, position in ended.reached.items()},
                "files": self._said["files"] + has_rows,
                "last": [],
            }
            if has_rows:
                said["last"] = [
                    str(ended.path.relative_to(self._directory)),
                    f"{_folder_of(hour)}/group-{self._number:02d}-{said['files']:06d}.parquet",
                ]
            del self._hours[hour]  # from here on its file may be committed, so it is not to be removed
            _replace(self._state, _encode(said))
            self._finish(said)
            self._said = said
        self.reached = _positions(said)

    def _finish(self, said: Mapping[str, Any]) -> None:
        """Rename the last committed file, if that is not done yet, and have the name on disk."""
        if not said["last"]:
            return
        written, place = (self._directory / path for path in said["last"])
        if written.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            written.rename(place)
        if place.exists():  # who renamed it may have died before the name was on disk
            for folder in (place.parent, place.parent.parent, self._directory):
                _sync(folder)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._state.read_bytes())
        except FileNotFoundError:
            return {"positions": {}, "files": 0, "last": []}
        except ValueError as error:
            raise Corruption(f"{self._state} is damaged: {error}") from None
        if not isinstance(found, dict) or found.keys() != {"positions", "files", "last"}:
            raise Corruption(f"{self._state} is none of ours")
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._state.with_suffix(".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Hour:
    """One file that is being written."""

    def __init__(self, path: Path, arrow: Any, files: Any) -> None:
        self.path = path
        #: Partition -> its last entry in the file.
        self.reached: dict[int, FeedPosition] = {}
        self._arrow = arrow
        self._files = files
        self._schema = _schema(arrow)
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None

    def __repr__(self) -> str:
        return f"<Hour {self.path.name} rows={len(self._rows)}>"

    def add(self, at: FeedEntry, events: Sequence[Event]) -> None:
        self.reached[at.partition] = at.position
        self._rows += [_row(at, event) for event in events]
        if len(self._rows) >= ROWS_MAX:
            self._write()

    def finish(self) -> bool:
        """Write the file to disk. Returns whether there is one: entries without events make none."""
        if self._rows:
            self._write()
        if self._writer is None:
            return False
        self._writer.close()
        self._writer = None
        _sync(self.path)
        _sync(self.path.parent)  # a commit names the file
        return True

    def abandon(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):  # closing writes too, and the disk may be full
                writer.close()
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._writer is None:
            self._writer = self._files.ParquetWriter(self.path, self._schema, compression="zstd")
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, self._schema))
        self._rows = []


def _schema(arrow: Any) -> Any:
    """The columns; null where a type of event has no such value. `data` is the event's data as JSON."""
    text, words = arrow.string(), arrow.dictionary(arrow.int32(), arrow.string())
    amount = arrow.decimal128(20, 4)
    return arrow.schema(
        [
            ("id", text),
            ("type", words),
            ("time", arrow.timestamp("ms", tz="UTC")),
            ("partition", arrow.int32()),
            ("seq", arrow.int64()),
            ("account", text),
            ("counterparty", text),
            ("transaction_id", text),
            ("currency", words),
            *((name, amount) for name in _AMOUNTS),
            ("code", words),
            ("reference", text),
            ("key", words),
            ("data", text),
        ]
    )


def _row(at: FeedEntry, event: Event) -> dict[str, Any]:
    data = event.data
    row = {
        "id": event.id,
        "type": event.type,
        "time": event.time_ms,
        "partition": at.partition,
        "seq": at.seq,
        "account": data.get("account_id") or data.get("from_account") or event.subject,
        "counterparty": data.get("counterparty") or data.get("to_account"),
        "data": _encode(data).decode(),
    }
    for name in ("transaction_id", "currency", "code", "reference", "key"):
        row[name] = data.get(name)
    for name in _AMOUNTS:
        row[name] = Decimal(data[name]) if name in data else None
    return row


def _positions(said: Mapping[str, Any]) -> dict[int, FeedPosition]:
    return {int(partition): FeedPosition(*at) for partition, at in said["positions"].items()}


def _folder_of(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * 3600, UTC):date=%Y-%m-%d/hour=%H}"


def _replace(path: Path, data: bytes) -> None:
    """Replace the file atomically and durably."""
    beside = path.with_suffix(".next")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
