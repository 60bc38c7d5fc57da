"""G6: a snapshot and the entries after it give exactly the fold of the whole journal."""

import asyncio
import fcntl
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.recovery.random_journal import RandomJournal

from wallet_engine.app import snapshots as schedule
from wallet_engine.app.archiver import run_in_group
from wallet_engine.app.snapshots import SnapshotSchedule
from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_state import RedisImage, image_digest, redis_image, state_of_image
from wallet_engine.journal import JournalWriter, snapshots
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.reader import read
from wallet_engine.journal.segments import segment_numbers, segment_path
from wallet_engine.journal.snapshots import (
    Snapshot,
    bytes_since_made,
    list_snapshots,
    newest_usable,
    snapshots_directory,
)
from wallet_engine.recovery import snapshotting
from wallet_engine.recovery.snapshotting import make_snapshots
from wallet_engine.telemetry.metrics import Metrics


def rebuilt(directory: Path) -> dict[int, RedisImage]:
    """Partition -> its image from the newest snapshot and the entries after it."""
    states = {}
    for partition, paths in list_snapshots(directory).items():
        snapshot, refused = newest_usable(directory, paths)
        assert snapshot is not None, refused
        with snapshot:
            states[partition] = state_of_image(snapshot.image(), snapshot.head.epoch)
    for record in read(directory, after={partition: state.seq for partition, state in states.items()}):
        apply_payload(states[record.partition], record.payload)
    return {partition: redis_image(state) for partition, state in states.items()}


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 6))]
)
def test_snapshot_and_later_entries_are_the_full_fold(tmp_path: Path, seed: int) -> None:
    journal = RandomJournal(tmp_path, seed)
    for _round in range(4):
        journal.grow(60)
        made = make_snapshots(tmp_path)
        assert made.refused == []
        assert made.broken == {}
        journal.grow(journal.random.randrange(25))
        expected = journal.images()
        found = rebuilt(tmp_path)
        assert {p: image_digest(image) for p, image in found.items()} == {
            p: image_digest(image) for p, image in expected.items()
        }, f"seed {seed}"
    windows = {state.state.window for state in journal.batches}
    assert max(windows) > 1, f"seed {seed} rotates no window"


def test_only_the_entries_since_the_last_snapshot_are_folded(tmp_path: Path) -> None:
    journal = RandomJournal(tmp_path, 1)
    journal.grow(90)
    assert make_snapshots(tmp_path).entries == 90
    journal.grow(7)
    made = make_snapshots(tmp_path)
    assert made.entries == 7
    assert len(made.written) + made.unchanged == 3
    again = make_snapshots(tmp_path)
    assert (again.entries, again.written, again.unchanged) == (0, [], 3)


def test_two_snapshots_of_each_partition_are_kept(tmp_path: Path) -> None:
    journal = RandomJournal(tmp_path, 2, partitions=1)
    seqs = []
    for _ in range(4):
        journal.grow(5)
        seqs.append(make_snapshots(tmp_path).written[0].seq)
    kept = list_snapshots(tmp_path)[0]
    assert [int(path.stem[-16:]) for path in kept] == [seqs[3], seqs[2]]
    assert not list(snapshots_directory(tmp_path).glob("*.tmp"))


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_or_missing_byte_anywhere_is_named_and_the_older_snapshot_is_used(
    tmp_path: Path, seed: int
) -> None:
    journal = RandomJournal(tmp_path, seed, partitions=1)
    journal.grow(15)
    make_snapshots(tmp_path)
    journal.grow(5)
    make_snapshots(tmp_path)
    newest, older = list_snapshots(tmp_path)[0]
    whole = newest.read_bytes()
    parts_from = whole.index(b"}\n")
    draw = random.Random(seed)
    places = {*range(0, 300, 3), *range(len(whole) - 80, len(whole)), *draw.sample(range(len(whole)), 60)}
    for place in sorted(places):
        for damaged in (
            whole[:place] + bytes((whole[place] ^ 1 << draw.randrange(8),)) + whole[place + 1 :],
            whole[:place],
        ):
            newest.write_bytes(damaged)
            snapshot, refused = newest_usable(tmp_path, [newest, older])
            assert snapshot is not None, place
            with snapshot:
                assert snapshot.path == older, f"damage at {place} of {len(whole)} was not seen, seed {seed}"
            assert [damage.path for damage in refused] == [newest]
            if place > parts_from:  # the head has no checksum
                assert refused[0].offset <= place, f"named behind the damage at {place}, seed {seed}"
            assert str(newest) in str(refused[0])


def test_damaged_snapshots_are_set_aside_and_made_again(tmp_path: Path) -> None:
    journal = RandomJournal(tmp_path, 3, partitions=1)
    journal.grow(20)
    make_snapshots(tmp_path)
    (path,) = list_snapshots(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-40])
    made = make_snapshots(tmp_path)
    assert len(made.refused) == 1
    assert str(path) in made.refused[0]
    assert made.entries == 20
    assert path.with_name(path.name + ".damaged").exists()
    assert rebuilt(tmp_path) == journal.images()


def test_a_snapshot_of_entries_that_were_lost_before_they_were_durable_is_not_used(tmp_path: Path) -> None:
    """The snapshot was made from entries that were not synced yet. Then the machine died, and other entries came."""
    journal = RandomJournal(tmp_path, 4, partitions=1, segment_bytes_max=10**9)
    journal.grow(10)
    last = segment_path(tmp_path, segment_numbers(tmp_path)[-1])
    durable = last.read_bytes()
    journal.grow(5)
    make_snapshots(tmp_path)
    ahead = list_snapshots(tmp_path)[0]
    last.write_bytes(durable)
    other = RandomJournal(tmp_path / "other", 4, partitions=1, segment_bytes_max=10**9)
    other.grow(10)  # the same ten entries
    other.random.seed(99)
    other.directory = tmp_path
    assert newest_usable(tmp_path, ahead)[0] is None
    other.grow(5)  # other entries at the same seqs
    snapshot, refused = newest_usable(tmp_path, ahead)
    assert snapshot is None
    assert "is not in this journal" in str(refused[0])


def test_a_snapshot_under_a_name_that_is_not_its_own_is_refused(tmp_path: Path) -> None:
    journal = RandomJournal(tmp_path, 5, partitions=2)
    journal.grow(20)
    make_snapshots(tmp_path)
    found = list_snapshots(tmp_path)
    os.replace(found[0][0], found[1][0])
    snapshot, refused = newest_usable(tmp_path, found[1])
    assert snapshot is None
    assert "holds partition 0" in str(refused[0])


def test_an_entry_that_does_not_add_up_makes_no_snapshot(tmp_path: Path) -> None:
    journal = RandomJournal(tmp_path, 6, partitions=2)
    journal.grow(20)
    writer = JournalWriter(tmp_path, "random")
    state = journal.batches[0].state
    text = f"{state.seq + 1} {state.nonce} {'a' * 16} 9 {state.clock} {state.window} +\nt T99999 nobody alice 5 USD\n"
    writer.append(0, text.encode(), parse_header(text.encode()))
    writer.sync()
    writer.close()
    made = make_snapshots(tmp_path)
    assert "must come out as" in made.broken[0]
    assert [head.partition for head in made.written] == [1]


def test_one_process_makes_snapshots_at_a_time(tmp_path: Path) -> None:
    journal = RandomJournal(tmp_path, 7, partitions=1)
    journal.grow(3)
    make_snapshots(tmp_path)
    with open(snapshots_directory(tmp_path) / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="being made by another process"):
            make_snapshots(tmp_path)


def test_who_finds_another_at_it_tries_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed journal leaves its snapshot process running. To wait five minutes for it kept segments on the disk."""
    RandomJournal(tmp_path, 8).grow(20)
    snapshots_directory(tmp_path).mkdir()
    said: list[str] = []
    statuses: list[int] = []

    async def run(command: list[str]) -> int:
        statuses.append(await run_in_group(command))
        lock.close()
        return statuses[-1]

    async def main() -> None:
        task = asyncio.create_task(SnapshotSchedule(tmp_path, 1000, Metrics(), said.append, None).run())
        async with asyncio.timeout(60):
            while 0 not in statuses:
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    monkeypatch.setattr(schedule, "POLL_S", 0.02)
    monkeypatch.setattr(schedule, "run_in_group", run)
    with open(snapshots_directory(tmp_path) / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asyncio.run(main())
    assert statuses == [snapshotting.NOT_NOW, 0]
    assert set(said) <= {""}
    assert list_snapshots(tmp_path)


def test_a_process_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For want of memory, for a moment, a fork fails. It ended snapshots until the journal was started again."""
    RandomJournal(tmp_path, 8).grow(20)
    said: list[str] = []
    program = tmp_path / "python"

    async def main() -> None:
        task = asyncio.create_task(SnapshotSchedule(tmp_path, 1000, Metrics(), said.append, None).run())
        async with asyncio.timeout(60):
            while not said:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.02)
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} "$@"\n')
            program.chmod(0o755)
            while said[-1]:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    monkeypatch.setattr(schedule, "POLL_S", 0.02)
    monkeypatch.setattr(schedule, "RETRY_S", 0.02)
    python = sys.executable
    monkeypatch.setattr(sys, "executable", str(program))
    asyncio.run(main())
    assert "snapshots fail: [Errno 2] No such file or directory" in said[0]
    assert list_snapshots(tmp_path)


def test_what_is_journaled_while_a_snapshot_hangs_is_in_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, metrics = RandomJournal(tmp_path, 8), Metrics()
    journal.grow(20)
    hung = asyncio.Event()

    async def hang(command: list[str]) -> int:
        hung.set()
        await asyncio.sleep(600)
        return 0

    def shown() -> float | None:
        return metrics.registry.get_sample_value("wallet_journal_bytes_since_snapshot")

    async def main() -> None:
        task = asyncio.create_task(SnapshotSchedule(tmp_path, 1000, metrics, lambda _: None, None).run())
        async with asyncio.timeout(60):
            await hung.wait()
            journal.grow(20)
            while shown() != bytes_since_made(tmp_path):
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    monkeypatch.setattr(schedule, "POLL_S", 0.02)
    monkeypatch.setattr(schedule, "run_in_group", hang)
    asyncio.run(main())


def test_what_was_interrupted_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for partitions that have a new snapshot already."""
    journal = RandomJournal(tmp_path, 8)
    journal.grow(40)
    whole = bytes_since_made(tmp_path)
    make_some, left = snapshotting._make_some, [None]

    def dies(*arguments: Any) -> None:
        left.pop()
        make_some(*arguments)

    monkeypatch.setattr(snapshotting, "_make_some", dies)
    with pytest.raises(IndexError):
        make_snapshots(tmp_path)
    monkeypatch.undo()
    assert list_snapshots(tmp_path)
    assert bytes_since_made(tmp_path) == whole > 0
    make_snapshots(tmp_path)
    assert bytes_since_made(tmp_path) == 0


def test_the_command_of_the_journal_process_makes_them_while_the_journal_is_open(tmp_path: Path) -> None:
    journal = RandomJournal(tmp_path, 8)
    journal.grow(40)
    writer = JournalWriter(tmp_path, "random")
    command = [sys.executable, "-m", "wallet_engine.recovery.snapshotting", str(tmp_path), "1000000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    writer.close()
    assert done.returncode == 0, done.stderr
    assert '"snapshots made"' in done.stderr
    assert rebuilt(tmp_path) == journal.images()


def test_the_journal_process_has_them_made_at_leisure_until_that_is_urgent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that never rests doubles the latency of a machine without an idle core."""
    RandomJournal(tmp_path, 10).grow(5)
    rests: list[float] = []
    monkeypatch.setattr(time, "sleep", rests.append)

    def work_until(done: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 20
        while not done() and time.monotonic() < deadline_s:
            sum(range(1000))
        assert done()

    def resting() -> bool:
        return signal.getitimer(signal.ITIMER_PROF) != (0.0, 0.0)

    before = signal.getsignal(signal.SIGPROF)
    with snapshotting.at_leisure(tmp_path, 1000):
        work_until(lambda: len(rests) >= 3)
        assert set(rests) == {snapshotting.REST_S}
        newest = segment_path(tmp_path, segment_numbers(tmp_path)[-1])
        with open(newest, "ab") as grown:
            grown.write(bytes(1000))
        assert resting()
        segment_path(tmp_path, segment_numbers(tmp_path)[-1] + 1).write_bytes(b"x")
        work_until(lambda: not resting())
    with snapshotting.at_leisure(tmp_path, 1000):
        assert resting()
    assert not resting()
    assert signal.getsignal(signal.SIGPROF) == before


def test_parts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no part blocks a Redis node for long."""
    monkeypatch.setattr(snapshots, "PART_FIELDS_MAX", 3)
    journal = RandomJournal(tmp_path, 9, partitions=1)
    journal.grow(20)
    make_snapshots(tmp_path)
    with Snapshot(list_snapshots(tmp_path)[0][0]) as snapshot:
        sizes = [len(part.words) // 2 for part in snapshot.parts()]
    assert max(sizes) == 3
    assert rebuilt(tmp_path) == journal.images()


def test_damage_in_the_journal_is_named(tmp_path: Path) -> None:
    journal = RandomJournal(tmp_path, 10)
    journal.grow(40)
    first = segment_path(tmp_path, 1)
    data = bytearray(first.read_bytes())
    data[700] ^= 1
    first.write_bytes(data)
    with pytest.raises(Damaged, match=r"00000001\.wal at offset"):
        make_snapshots(tmp_path)
