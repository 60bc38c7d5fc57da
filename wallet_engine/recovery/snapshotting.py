"""Makes snapshots from the journal alone: the newest usable one and the entries since, folded by the oracle.

It does not read Redis, so a fault there cannot get into a snapshot. The oracle decides every entry again, so a journal
that does not add up gives no snapshot. It costs the replay of the entries since the last snapshot, and
reading and writing the partitions that have such entries.

The journal process runs this as a separate process, which rests until BYTES more were journaled:

    python -m wallet_engine.recovery.snapshotting DIRECTORY BYTES [RESTORE_COMMAND]
"""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wallet_engine.domain.errors import ConfigError, Corruption, WalletError
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_state import PartitionState, redis_image, state_of_image
from wallet_engine.journal.reader import Record, read
from wallet_engine.journal.restore import restore_with
from wallet_engine.journal.segments import fsync_directory, read_segment_header
from wallet_engine.journal.snapshots import (
    Snapshot,
    SnapshotHead,
    bytes_behind,
    hash_behind,
    journal_end,
    list_snapshots,
    newest_usable,
    note_made,
    prune_snapshots,
    snapshots_directory,
    write_snapshot,
)
from wallet_engine.telemetry.logging import configure_logging, get_logger

#: The journal is read this many times, each time for a part of the partitions, so only their states are in
#: memory.
PASSES: Final = 4
_PARTITIONS_MAX: Final = 16384
_NICENESS: Final = 19
#: Exit status when another process or a change of the journal was in the way: start it again soon.
NOT_NOW: Final = os.EX_TEMPFAIL
#: At leisure, it rests `REST_S` after each `WORK_S` of CPU time: it uses at most a fifth of a core.
WORK_S: Final = 0.004
REST_S: Final = 0.016

log = get_logger(__name__)


class NotNow(ConfigError):
    """Nothing is wrong, but it cannot be done now."""


@dataclass(slots=True)
class Made:
    """`written`: the new snapshots. `unchanged`: partitions whose newest snapshot is at the journal's end.

    `refused`: the damage of snapshots that were set aside as `<name>.damaged`. `broken`: partition -> why its
    entries do not add up; no snapshot is made of it.
    """

    written: list[SnapshotHead] = field(default_factory=list)
    unchanged: int = 0
    entries: int = 0
    refused: list[str] = field(default_factory=list)
    broken: dict[int, str] = field(default_factory=dict)


def make_snapshots(journal: Path) -> Made:
    """Bring the snapshots of all partitions to the present end of the journal, which may grow meanwhile.

    Raises `NotNow` when another process is making them or rewrites the journal, `ConfigError` when the directory
    cannot be written; `Damaged`.
    """
    made = Made()
    try:
        with _alone(journal):
            end = journal_end(journal)
            for number in range(PASSES):
                _make_some(journal, range(number, _PARTITIONS_MAX, PASSES), made)
            note_made(journal, end)
    except OSError as error:
        where = snapshots_directory(journal)
        raise ConfigError(f"snapshots cannot be written to {where}: {error.strerror}") from error
    return made


@contextmanager
def _alone(journal: Path) -> Iterator[None]:
    directory = snapshots_directory(journal)
    if not directory.exists():
        directory.mkdir(exist_ok=True)
        fsync_directory(journal)
    with open(directory / "lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotNow(f"snapshots of {journal} are being made by another process: wait for it") from None
        for unfinished in directory.glob("*.tmp"):
            unfinished.unlink()
        yield


def _make_some(journal: Path, partitions: range, made: Made) -> None:
    bases: dict[int, Path] = {}
    after: dict[int, int] = {}
    for partition, paths in list_snapshots(journal).items():
        if partition in partitions:
            base = _base(journal, paths, made)
            if base is not None:
                bases[partition], after[partition] = base
    states: dict[int, PartitionState] = {}
    last: dict[int, Record] = {}
    for record in read(journal, partitions=partitions, after=after):
        partition = record.partition
        if partition in made.broken:
            continue
        state = states.get(partition)
        if state is None:
            state = states[partition] = _state_of(bases.get(partition))
        try:
            apply_payload(state, record.payload)
        except Corruption as error:
            made.broken[partition] = str(error)
            states.pop(partition)
            continue
        last[partition] = record
        made.entries += 1
    made.unchanged += len(bases.keys() - states.keys() - made.broken.keys())
    for partition in sorted(states):
        state = states.pop(partition)  # the image is a second copy: free the first one
        try:
            state.check()
        except Corruption as error:
            made.broken[partition] = str(error)
            continue
        made.written.append(_write(journal, state, last[partition]))


def _base(journal: Path, paths: list[Path], made: Made) -> tuple[Path, int] | None:
    """The newest usable snapshot, and its seq. Sets unusable ones aside, so they do not count as kept."""
    snapshot, refused = newest_usable(journal, paths)
    for damage in refused:
        made.refused.append(str(damage))
        os.replace(damage.path, damage.path.with_name(damage.path.name + ".damaged"))
    if snapshot is None:
        return None
    with snapshot:
        return snapshot.path, snapshot.head.seq


def _state_of(base: Path | None) -> PartitionState:
    if base is None:
        return PartitionState()
    with Snapshot(base) as snapshot:
        return state_of_image(snapshot.image(), snapshot.head.epoch)


def _write(journal: Path, state: PartitionState, record: Record) -> SnapshotHead:
    partition = record.partition
    running_hash = hash_behind(journal, partition, record.segment, record.offset)
    if running_hash is None:
        raise NotNow(f"the journal {journal} was changed while it was read: make the snapshots again")
    head = SnapshotHead(
        read_segment_header(journal, record.segment).journal_id,
        partition,
        state.seq,
        state.nonce,
        state.epoch,
        record.segment,
        record.offset,
        running_hash,
    )
    write_snapshot(journal, head, redis_image(state))
    prune_snapshots(list_snapshots(journal)[partition])
    return head


@contextmanager
def at_leisure(journal: Path, bytes_most: int) -> Iterator[None]:
    """Rest most of the time until `bytes_most` more bytes were journaled: then the work is urgent.

    A low priority is not enough on a machine without an idle core: a process that never rests takes half of a
    core from another process that shares its caches and units. Main thread only.
    """
    segment, begun = journal_end(journal)

    def rest(*_: object) -> None:
        if bytes_behind(journal, segment, begun) > bytes_most:
            signal.setitimer(signal.ITIMER_PROF, 0)
        else:
            time.sleep(REST_S)

    before = signal.signal(signal.SIGPROF, rest)
    signal.setitimer(signal.ITIMER_PROF, WORK_S, WORK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def main(journal: Path, bytes_most: int, restore_command: str | None = None) -> int:
    """Make snapshots once, with low priority, and log the result. Returns the exit status."""
    configure_logging("info")
    restore_with(restore_command)
    os.nice(_NICENESS)
    try:
        with at_leisure(journal, bytes_most):
            made = make_snapshots(journal)
    except NotNow as error:
        log.info("snapshots wait", why=str(error))
        return NOT_NOW
    except WalletError as error:
        log.error("snapshots not made", error=str(error))
        return 1
    for why in made.refused:
        log.error("snapshot set aside", error=why)
    for partition, why in made.broken.items():
        log.error("no snapshot of a journal that does not add up", partition=partition, error=why)
    log.info("snapshots made", partitions=len(made.written), unchanged=made.unchanged, entries=made.entries)
    return 1 if made.broken else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
