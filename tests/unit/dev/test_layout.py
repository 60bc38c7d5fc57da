"""The settings that a data directory keeps, and the flags that contradict them."""

from pathlib import Path

import pytest

from wallet_engine.dev.layout import Layout, Wishes, ownership_of, settle
from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.domain.limits import SLOTS
from wallet_engine.routing.model import spread

HERE = Path("data")
STORED = Layout(embedded=False, shards=3, replicas=1, partitions=64)


def test_the_first_start_takes_the_wishes_or_the_defaults() -> None:
    assert settle(None, Wishes(), HERE) == Layout(False, 1, 0, 64)
    assert settle(None, Wishes(3, 1, 16, True), HERE) == Layout(True, 3, 1, 16)


@pytest.mark.parametrize("wishes", [Wishes(), Wishes(3), Wishes(3, 1, 64), Wishes(replicas=1)])
def test_later_starts_keep_what_is_stored(wishes: Wishes) -> None:
    assert settle(STORED, wishes, HERE) == STORED


def test_an_embedded_directory_stays_embedded_without_being_told() -> None:
    embedded = Layout(True, 1, 0, 64)
    assert settle(embedded, Wishes(), HERE) == embedded


@pytest.mark.parametrize(
    ("wishes", "complaint"),
    [
        (Wishes(shards=2), "data was made with --shards 3, not 2"),
        (Wishes(replicas=0), "data was made with --replicas 1, not 0"),
        (Wishes(partitions=128), "data was made with --partitions 64, not 128"),
        (Wishes(stream_entries_max=500), "data was made with --stream-entries-max 100000, not 500"),
        (Wishes(embedded=True), "data was made with ZooKeeper: leave --embedded out"),
    ],
)
def test_a_contradiction_is_refused(wishes: Wishes, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        settle(STORED, wishes, HERE)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "layout.json"
    assert Layout.load(path) is None
    STORED.save(path)
    assert Layout.load(path) == STORED
    path.write_text('{"shards": "three"}')
    with pytest.raises(Corruption, match=r"layout\.json is damaged"):
        Layout.load(path)


def test_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """For example a file of root, when another user starts `dev`."""
    (tmp_path / "layout.json").mkdir()
    with pytest.raises(ConfigError, match=r"cannot read .*layout\.json: Is a directory"):
        Layout.load(tmp_path / "layout.json")


@pytest.mark.parametrize(("partitions", "shards"), [(1, 1), (16, 3), (64, 3), (64, 64), (4096, 5)])
def test_the_first_placement_gives_each_shard_one_range(partitions: int, shards: int) -> None:
    names = [f"s{i}" for i in range(shards)]
    ownership = ownership_of(spread(partitions, names), names)
    assert list(ownership) == names
    ranges = [slots for name in names for slots in ownership[name]]
    assert len(ranges) == shards
    assert [slot for slots in ranges for slot in slots] == list(range(SLOTS))


def test_moved_partitions_split_the_ranges() -> None:
    placement = spread(4, ["a", "b"]).with_shard(1, "b").with_shard(3, "a")
    assert ownership_of(placement, ["a", "b", "empty"]) == {
        "a": [range(0, 4096), range(12288, 16384)],
        "b": [range(4096, 12288)],
        "empty": [],
    }
