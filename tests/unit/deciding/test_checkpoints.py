"""A restart continues from a checkpoint with the same result. A damaged one is replaced by reading the journal."""

import os
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from unit.deciding.test_decider import Journal, decided, opened, paid

from wallet_engine.deciding.checkpoints import Checkpoints, image_of, matching_of
from wallet_engine.deciding.decider import Decider
from wallet_engine.domain.errors import ConfigError, NewerFormat
from wallet_engine.domain.oracle_state import redis_image
from wallet_engine.journal.feed import START, FeedEntry
from wallet_engine.journal.snapshots import snapshots_directory


def save(checkpoints: Checkpoints, decider: Decider) -> None:
    checkpoints.save_matching(matching_of(decider))
    for partition in decider.states:
        made = image_of(decider, partition)
        if made is not None:
            checkpoints.save_state(*made)


def go_on(decider: Decider, entries: list[FeedEntry]) -> list[FeedEntry]:
    """The entries that the feed gives: all after its positions."""
    positions = decider.positions(range(decider.partitions))
    return [entry for entry in entries if entry.seq > positions[entry.partition].seq]


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    journal = Journal()
    entries = [*opened(journal, (0, "ann"), (1, "bob")), *paid(journal), *paid(journal, 2)]
    for cut in range(len(entries) + 1):
        checkpoints = Checkpoints(tmp_path / str(cut))
        checkpoints.open()
        first, _ = decided(entries[:cut])
        save(checkpoints, first)
        checkpoints.close()
        again = Checkpoints(tmp_path / str(cut))
        again.open()
        second = again.load(first.partitions)
        left = go_on(second, entries)
        assert len(left) == len(entries) - cut
        assert not second.take(left)
        assert not list(second.transit.unmet())
        whole, _ = decided(entries)
        assert [redis_image(s) for s in second.states.values()] == [
            redis_image(s) for s in whole.states.values()
        ]
        assert second.matched == whole.matched
        again.close()


def test_a_full_disk_leaves_no_half_of_a_snapshot_behind(tmp_path: Path) -> None:
    """Each attempt left another file, of another name, which nobody removed."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.open()
    decider, _ = decided(opened(Journal(), (0, "ann")))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))  # as a full disk
    try:
        made = image_of(decider, 0)
        assert made is not None
        with pytest.raises(OSError, match="File too large"):
            checkpoints.save_state(*made)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(snapshots_directory(tmp_path).iterdir()) == []
    checkpoints.close()


def test_matching_and_snapshots_may_be_of_different_moments(tmp_path: Path) -> None:
    journal = Journal()
    entries = [*opened(journal, (0, "ann"), (1, "bob")), *paid(journal), *paid(journal, 2)]
    checkpoints = Checkpoints(tmp_path)
    checkpoints.open()
    early, _ = decided(entries[:3])
    checkpoints.save_matching(matching_of(early))
    late, _ = decided(entries[:6])
    for partition in (0, 1):
        made = image_of(late, partition)
        assert made is not None
        checkpoints.save_state(*made)
    loaded = checkpoints.load(early.partitions)
    assert not loaded.take(go_on(loaded, entries))
    assert not list(loaded.transit.unmet())
    checkpoints.close()


def test_a_difference_is_remembered(tmp_path: Path) -> None:
    journal = Journal()
    funds = opened(journal, (0, "ann"), (1, "bob"))
    first, found = decided(funds, [journal.entry(1, "+ c 0.1 bob 0 5 USD")])
    found += first.look(0.0)
    assert found
    checkpoints = Checkpoints(tmp_path)
    checkpoints.open()
    save(checkpoints, first)
    second = checkpoints.load(first.partitions)
    assert second.differences == first.differences
    assert not second.look(0.0), "said before"
    checkpoints.close()


@pytest.mark.parametrize("name", ["matching", "snapshots/00000-0000000000000003.snapshot"])
def test_what_is_damaged_is_set_aside(tmp_path: Path, name: str) -> None:
    journal = Journal()
    entries = [*opened(journal, (0, "ann"), (1, "bob")), *paid(journal)]
    first, _ = decided(entries)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.open()
    save(checkpoints, first)
    path = tmp_path / name
    text = path.read_bytes()
    path.write_bytes(text[:20] + b"?" + text[21:-3])
    loaded = checkpoints.load(first.partitions)
    assert not path.exists()
    assert loaded.positions([0])[0] == START
    assert not loaded.take(go_on(loaded, entries))
    assert not list(loaded.transit.unmet())
    checkpoints.close()


def test_what_a_later_version_has_left_is_kept(tmp_path: Path) -> None:
    """It is not damaged. To set it aside and begin with the first entry would be wrong."""
    first, _ = decided([*opened(Journal(), (0, "ann"))])
    checkpoints = Checkpoints(tmp_path)
    checkpoints.open()
    save(checkpoints, first)
    snapshot = next((tmp_path / "snapshots").iterdir())
    _, _, rest = snapshot.read_bytes().partition(b"\n")
    snapshot.write_bytes(b"wallet snapshot 99\n" + rest)
    with pytest.raises(NewerFormat, match="is a snapshot of version 99, and this program knows them up to"):
        checkpoints.load(first.partitions)
    assert snapshot.exists()
    checkpoints.close()


def test_one_process_uses_a_directory(tmp_path: Path) -> None:
    first, second = Checkpoints(tmp_path), Checkpoints(tmp_path)
    first.open()
    with pytest.raises(ConfigError, match="another oracle uses"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_a_save_waits_for_one_whose_caller_was_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle that ends during a checkpoint makes its last one at once, and a thread cannot be cancelled."""
    checkpoints = Checkpoints(tmp_path)
    fsync, on_disk = os.fsync, threading.Event()
    slow = iter([True])

    def fsync_slowly(descriptor: int) -> None:
        if next(slow, False):
            on_disk.set()
            time.sleep(0.3)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync_slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(checkpoints.save_matching, b"first" * 1000)
        assert on_disk.wait(10)
        second = pool.submit(checkpoints.save_matching, b"second")
        first.result(10)
        second.result(10)
    assert (tmp_path / "matching").read_bytes() == b"second"
