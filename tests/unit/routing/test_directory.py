"""The directory (the typed view), on a tree in a file."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.routing import directory as directory_module
from wallet_engine.routing.directory import Directory, on_loop, open_directory
from wallet_engine.routing.model import ClusterConfig, JournalInfo, PartitionMap, ServiceInfo, Shard, spread
from wallet_engine.routing.tree import LockTimeout, VersionConflict

CONFIG = ClusterConfig(partitions=4)
SHARDS = [Shard("b", ("h:2",)), Shard("a", ("h:1",))]
PLACEMENT = spread(4, ["a", "b"])


def journal(
    name: str = "j1", address: str = "h:7000", pid: int | None = None, host: str = "here"
) -> JournalInfo:
    return JournalInfo(name, address, "/data", os.getpid() if pid is None else pid, host)


def wait_for(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def open_one(tmp_path: Path) -> Iterator[Callable[[], Directory]]:
    opened: list[Directory] = []

    def one() -> Directory:
        opened.append(open_directory(None, tmp_path / "map.json"))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


@pytest.fixture
def directory(open_one: Callable[[], Directory]) -> Directory:
    directory = open_one()
    directory.initialise(CONFIG, SHARDS, PLACEMENT)
    return directory


def test_a_new_cluster_is_written_down(directory: Directory) -> None:
    assert directory.initialised
    assert directory.config() == CONFIG
    assert directory.shards() == {"a": SHARDS[1], "b": SHARDS[0]}
    assert directory.partition_map() == PLACEMENT


def test_a_second_initialise_is_refused_and_changes_nothing(directory: Directory) -> None:
    with pytest.raises(ConfigError, match="already"):
        directory.initialise(ClusterConfig(partitions=2), [Shard("z", ("h:9",))], spread(2, ["z"]))
    assert directory.config() == CONFIG
    assert directory.shards().keys() == {"a", "b"}


def test_initialise_goes_on_after_a_crash_half_way(open_one: Callable[[], Directory]) -> None:
    directory = open_one()
    directory.put_shard(Shard("old", ("h:9",)))
    directory.tree.create("/wallet/map", b"half")
    assert not directory.initialised
    directory.initialise(CONFIG, SHARDS, PLACEMENT)
    assert directory.shards().keys() == {"a", "b"}
    assert directory.partition_map().partitions == PLACEMENT.partitions


def test_parts_that_disagree_are_refused(open_one: Callable[[], Directory]) -> None:
    directory = open_one()
    with pytest.raises(ConfigError, match="8 partitions, the config 4"):
        directory.initialise(CONFIG, SHARDS, spread(8, ["a"]))
    with pytest.raises(ConfigError, match="unknown shards: c"):
        directory.initialise(CONFIG, SHARDS, spread(4, ["a", "c"]))
    assert not directory.initialised


def test_before_initialise_the_text_says_what_to_run(open_one: Callable[[], Directory]) -> None:
    directory = open_one()
    for call in (directory.config, directory.partition_map):
        with pytest.raises(ConfigError, match="wallet-admin init"):
            call()
    assert directory.shards() == {}
    assert directory.journals() == {}


def test_a_shard_is_replaced_and_forgotten_when_nothing_is_on_it(directory: Directory) -> None:
    directory.put_shard(Shard("a", ("h:1", "h:3")))
    assert directory.shards()["a"].nodes == ("h:1", "h:3")
    with pytest.raises(ConfigError, match="still serves 2"):
        directory.remove_shard("a")
    directory.put_shard(Shard("c", ("h:5",)))
    directory.remove_shard("c")
    with pytest.raises(ConfigError, match="no shard c"):
        directory.remove_shard("c")


def test_the_map_is_replaced_only_by_who_knows_it(directory: Directory) -> None:
    old = directory.partition_map()
    new = directory.replace_map(old, old.with_shard(0, "b"))
    assert new == directory.partition_map()
    assert (new.version, new.shard_of(0)) == (old.version + 1, "b")
    with pytest.raises(VersionConflict):
        directory.replace_map(old, old.with_shard(3, "a"))
    with pytest.raises(ValueError, match="never changes"):
        directory.replace_map(new, PartitionMap(0, new.partitions[:2]))


def test_epochs_are_not_raised_for_a_shard_that_has_lost_the_partition(directory: Directory) -> None:
    """A recovery must not undo a move that happened meanwhile."""
    before = directory.partition_map()
    home = before.shard_of(0)
    with pytest.raises(VersionConflict, match="not on shard elsewhere any more"):
        directory.raise_epochs([0], on_shard="elsewhere")
    assert directory.partition_map() == before
    assert directory.raise_epochs([0], on_shard=home).epoch_of(0) == before.epoch_of(0) + 1


def test_epochs_raised_at_the_same_time_all_count(
    open_one: Callable[[], Directory], directory: Directory
) -> None:
    others = [open_one() for _ in range(3)]
    threads = [
        threading.Thread(target=lambda each=each: [each.raise_epochs([0, 2]) for _ in range(5)])
        for each in others
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = directory.partition_map()
    assert [now.epoch_of(p) for p in range(4)] == [16, 1, 16, 1]


def test_raising_epochs_gives_up_at_its_limit(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    def conflict(path: str, data: bytes, version: int) -> int:
        raise VersionConflict("always")

    monkeypatch.setattr(directory.tree, "set", conflict)
    monkeypatch.setattr(directory_module, "ATTEMPTS_MAX", 3)
    with pytest.raises(VersionConflict, match="3 times"):
        directory.raise_epochs([0])


def test_watching_the_map(directory: Directory, caplog: pytest.LogCaptureFixture) -> None:
    maps: list[PartitionMap] = []
    stop = directory.watch_map(maps.append)
    wait_for(lambda: maps == [PLACEMENT])
    directory.tree.set("/wallet/map", b"garbage", 0)
    wait_for(lambda: "passed over" in caplog.text)
    with pytest.raises(Corruption, match="/wallet/map"):
        directory.partition_map()
    directory.tree.set("/wallet/map", b'{"partitions": [{"shard": "a", "epoch": 9}]}', 1)
    wait_for(lambda: len(maps) == 2)
    assert (maps[1].version, maps[1].epoch_of(0)) == (2, 9)
    stop()
    directory.tree.delete("/wallet/map")
    time.sleep(0.15)
    assert len(maps) == 2


def test_journals_come_change_and_go(open_one: Callable[[], Directory], directory: Directory) -> None:
    seen: list[dict[str, JournalInfo]] = []
    directory.watch_journals(seen.append)
    wait_for(lambda: seen == [{}])
    first, second = open_one(), open_one()
    first.register_journal(journal("j1"))
    wait_for(lambda: seen[-1] == {"j1": journal("j1")})
    second.register_journal(journal("j2", "h:7002"))
    wait_for(lambda: seen[-1].keys() == {"j1", "j2"})
    assert directory.journals() == seen[-1]
    first.close()
    again = open_one()
    again.register_journal(journal("j1", "h:7999"))
    wait_for(lambda: seen[-1].get("j1") == journal("j1", "h:7999"))
    second.close()
    wait_for(lambda: seen[-1].keys() == {"j1"})


def test_a_journal_replaces_the_registration_of_a_dead_one_on_its_host(
    open_one: Callable[[], Directory], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, new = open_one(), open_one()
    dead_pid = 2**22 + 1  # above any pid that Linux gives
    left.register_journal(journal(pid=dead_pid))
    new.register_journal(journal(address="h:7001"))
    assert new.journals() == {"j1": journal(address="h:7001")}
    monkeypatch.setattr(directory_module, "REGISTER_WAIT_S_MAX", 0.0)
    with pytest.raises(ConfigError, match="another live process"):
        left.register_journal(journal(pid=dead_pid, host="elsewhere"))


def test_a_journal_waits_for_the_earlier_one_to_go(open_one: Callable[[], Directory]) -> None:
    left, new = open_one(), open_one()
    left.register_journal(journal(host="elsewhere"))
    closing = threading.Timer(0.3, left.close)
    closing.start()
    new.register_journal(journal(host="here"))
    closing.join()
    assert new.journals()["j1"].host == "here"


def test_a_service_replaces_who_had_its_address(open_one: Callable[[], Directory]) -> None:
    left, new = open_one(), open_one()
    left.register_service(ServiceInfo("api", "h:8080", 1))
    new.register_service(ServiceInfo("api", "h:8080", 2))
    assert new.services() == {"api": ServiceInfo("api", "h:8080", 2)}


def test_a_lock_names_its_holder(open_one: Callable[[], Directory]) -> None:
    one, other = open_one(), open_one()
    with one.lock("partition-3"):
        with other.lock("partition-4", holder="x"):
            pass
        with (
            pytest.raises(LockTimeout, match=f"pid {os.getpid()}"),
            other.lock("partition-3", timeout_s=0.05),
        ):
            pass
    with other.lock("partition-3", timeout_s=0.05) as lock:
        assert lock.held
    with pytest.raises(ConfigError, match="lock name"):
        one.lock("a/b")


@pytest.mark.parametrize(("zookeeper", "map_file"), [(None, None), ("h:1", Path("f")), ("", None)])
def test_exactly_one_place_is_named(zookeeper: str | None, map_file: Path | None) -> None:
    with pytest.raises(ConfigError, match=r"either --zookeeper .* or --map-file"):
        open_directory(zookeeper, map_file)


def test_news_reach_the_loop_and_a_closed_loop_is_left_alone(directory: Directory) -> None:
    deliver: list[Callable[[PartitionMap], None]] = []

    async def main() -> tuple[PartitionMap, str]:
        arrived: asyncio.Future[tuple[PartitionMap, str]] = asyncio.get_running_loop().create_future()

        def take(partition_map: PartitionMap) -> None:
            arrived.set_result((partition_map, threading.current_thread().name))

        deliver.append(on_loop(asyncio.get_running_loop(), take))
        stop = directory.watch_map(deliver[0])
        try:
            return await asyncio.wait_for(arrived, 5)
        finally:
            stop()

    assert asyncio.run(main()) == (PLACEMENT, threading.current_thread().name)
    deliver[0](PLACEMENT)


def test_g9_a_text_that_nobody_can_read_stops_only_what_needs_it(directory: Directory) -> None:
    directory.register_journal(journal())
    for path in ("/wallet/shards/c", "/wallet/journals/j2", "/wallet/services/x"):
        directory.tree.create(path, b"{")
    damaged: list[str] = []
    assert list(directory.readable_shards(damaged)) == ["a", "b"]
    assert list(directory.readable_journals(damaged)) == ["j1"]
    assert list(directory.readable_services(damaged)) == []
    assert [said.partition(" does not hold a ")[0] for said in damaged] == [
        *("/wallet/shards/c", "/wallet/journals/j2", "/wallet/services/x")
    ]
    assert (directory.shard_names(), directory.journal_ids()) == (["a", "b", "c"], ["j1", "j2"])
    for read in (directory.shards, directory.journals, directory.services):
        with pytest.raises(Corruption, match="does not hold a"):
            read()


def test_followers_say_how_far_they_are(directory: Directory) -> None:
    followers = directory.followers
    assert followers.seqs() == {}
    followers.note("history", {0: 0, 3: 17})
    followers.note("webhooks", {0: 5})
    followers.note("history", {3: 20})
    assert followers.seqs() == {"history": {0: 0, 3: 20}, "webhooks": {0: 5}}
    assert followers.taken() == followers.seqs()
    followers.note("webhooks", {0: 4}, {0: 9})
    assert (followers.seqs()["webhooks"], followers.taken()["webhooks"]) == ({0: 4}, {0: 9})
    followers.note("webhooks", {0: 5}, {0: 5})
    assert followers.taken()["webhooks"] == {0: 5}
    followers.forget("history")
    followers.forget("history")
    assert followers.seqs() == {"webhooks": {0: 5}}
    directory.tree.create("/wallet/followers/webhooks/1", b"many")
    damaged: list[str] = []
    assert followers.seqs(damaged) == {"webhooks": {0: 5}}  # for what is pruned, it has taken nothing
    assert damaged == ["/wallet/followers/webhooks/1 is not the seq of a partition: b'many'"]
