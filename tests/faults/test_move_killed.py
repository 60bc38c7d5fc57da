"""`kill -9` at each step of a move: of its driver, of the source, of the target, of ZooKeeper (G9, G11).

One cluster and one stream of payments for all of it. After each kill the partition serves again, by itself or by
`resume` or `abort`; in the end every answer is accounted for and `verify` folds the whole journal.
"""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from support.dev_process import DevCluster
from support.paying import Paying, cluster_directory
from support.verification import verified
from unit.admin.made import answer

from wallet_engine.admin.moving.driver import Driver
from wallet_engine.admin.moving.sides import TakenOver
from wallet_engine.domain.errors import ConfigError, Corruption, WalletError
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect, find_primary
from wallet_engine.routing.model import PartitionMap
from wallet_engine.routing.slots import slot_range, tag_of

PARTITIONS = 8
#: Before the switch a move can be aborted; behind it it ends by itself, but for its record.
STEPS_BEFORE = (
    *("planned", "copying", "copied", "verified", "frozen recorded", "frozen", "durable", "certified"),
)
STEPS_BEHIND = ("switched", "released", "open", "switch recorded", "slots given")
SERVES_S_MAX = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Killed in every way; the payments run through all tests and are checked at the end."""
    cluster = DevCluster(tmp_path_factory.mktemp("killed") / "dev", shards=3, partitions=PARTITIONS)
    try:
        cluster.start()
        paying = Paying(cluster, callers_count=4)
        with paying.running():
            yield cluster
        paying.check()
        verified(cluster)
        print(dict(paying.books.answers))
    finally:
        cluster.kill_all()


class Scene:
    """One partition and where it may move to."""

    def __init__(self, cluster: DevCluster, partition: int) -> None:
        self.cluster = cluster
        self.partition = partition
        with cluster_directory(cluster) as directory:
            self.source = directory.partition_map().shard_of(partition)
            self.target = next(name for name in directory.shards() if name != self.source)

    @property
    def home(self) -> str:
        with cluster_directory(self.cluster) as directory:
            return directory.partition_map().shard_of(self.partition)

    def start_and_kill(self, step: str) -> None:
        """The driver dies by SIGKILL at the step."""
        argv = (self.cluster.state()["zookeeper"], str(self.partition), self.source, self.target, step)
        run = subprocess.run(
            [sys.executable, "-m", "support.move_run", *argv],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=SERVES_S_MAX,
            check=False,
        )
        assert run.returncode == -signal.SIGKILL, run.stderr

    def serves(self) -> bool:
        with cluster_directory(self.cluster) as directory:
            entry = directory.partition_map().partitions[self.partition]
            node = find_primary(directory.shards()[entry.shard].nodes)
        if node is None:
            return False
        with closing(connect(node.address)) as client:
            try:
                meta = client.hmget(
                    PartitionKeys(tag_of(self.partition, PARTITIONS)).meta, ["state", "epoch", "owner"]
                )
            except Exception:
                return False
        return meta == ["live", str(entry.epoch), node.node_id]

    def wait_serving(self) -> float:
        began_s = time.monotonic()
        while not self.serves():
            assert time.monotonic() - began_s < SERVES_S_MAX, f"partition {self.partition} does not serve"
            time.sleep(0.02)
        return time.monotonic() - began_s

    def check_whole(self, home: str) -> None:
        """It serves at home, nothing is left elsewhere, the move is over."""
        assert self.home == home
        self.wait_serving()
        slot = slot_range(self.partition, PARTITIONS)[0]
        with cluster_directory(self.cluster) as directory:
            assert directory.moves.get(self.partition) is None
            for shard in directory.shards().values():
                node = find_primary(shard.nodes)
                assert node is not None
                with closing(connect(node.address)) as client:
                    names = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10)
                    importing = f"[{slot}-" in str(client.execute_command("CLUSTER", "NODES"))
                assert (bool(names), node.owns(slot), importing) == ((shard.name == home,) * 2 + (False,))


def _end(scene: Scene, verb: str) -> None:
    answer(verb, str(scene.partition), *scene.cluster.coordination_flags(), "--yes")


def _kill_driver(cluster: DevCluster, step: str, verb: str) -> None:
    scene = Scene(cluster, 1)
    scene.start_and_kill(step)
    if verb == "resume" and step in STEPS_BEHIND:
        scene.wait_serving()  # by itself
        assert scene.home == scene.target
    [moving] = answer("moves", *cluster.coordination_flags())["moves"]
    assert moving["can_abort"] == (step in STEPS_BEFORE)
    _end(scene, verb)
    scene.check_whole(scene.source if verb == "abort" else scene.target)


#: In `make test`; the soak kills the driver at every step, and ends each move in both ways.
DRIVER_KILLED = [
    *(("copying", "abort"), ("verified", "resume"), ("frozen", "abort"), ("durable", "resume")),
    *(("certified", "abort"), ("switched", "resume"), ("open", "resume"), ("slots given", "resume")),
]
DRIVER_KILLED_SOAK = [
    (step, verb)
    for step in (*STEPS_BEFORE, *STEPS_BEHIND)
    for verb in ("resume", "abort")
    if (step, verb) not in DRIVER_KILLED and (step, verb) not in ((step, "abort") for step in STEPS_BEHIND)
]


@pytest.mark.parametrize(("step", "verb"), DRIVER_KILLED)
def test_the_driver_is_killed(cluster: DevCluster, step: str, verb: str) -> None:
    _kill_driver(cluster, step, verb)


@pytest.mark.soak
@pytest.mark.parametrize(("step", "verb"), DRIVER_KILLED_SOAK)
def test_the_driver_is_killed_at_every_step(cluster: DevCluster, step: str, verb: str) -> None:
    _kill_driver(cluster, step, verb)


def test_a_freeze_that_nobody_ends_is_ended(cluster: DevCluster) -> None:
    """The journal process recovers a partition that its mover left frozen; the move can go on afterwards."""
    scene = Scene(cluster, 1)
    scene.start_and_kill("frozen")
    assert scene.wait_serving() > 1.0, "it was frozen"
    assert scene.home == scene.source
    _end(scene, "resume")
    scene.check_whole(scene.target)


def _kill_another(cluster: DevCluster, role: str, step: str) -> None:
    scene = Scene(cluster, 2)
    killed: list[int] = []

    def on_step(name: str) -> None:
        if name == step and not killed:
            shard = {"source": scene.source, "target": scene.target}.get(role)
            processes = cluster.processes("redis" if shard else role)
            [process] = [p for p in processes if shard in (None, p.get("shard"))]
            killed.append(process["pid"])
            os.kill(process["pid"], signal.SIGKILL)

    deadline_s = time.monotonic() + SERVES_S_MAX
    for attempt in itertools.count(1):
        with suppress(WalletError), cluster_directory(cluster) as directory:
            driver = Driver(directory, scene.partition, f"{step}-{attempt}", "test", on_step=on_step)
            if directory.moves.get(scene.partition) is not None:
                driver.resume()
            elif scene.home == scene.source:
                driver.begin(scene.source, scene.target)
            break
        assert time.monotonic() < deadline_s, f"partition {scene.partition} could not be moved"
    assert killed
    cluster.wait_replaced(killed[0])
    scene.check_whole(scene.target)


#: In `make test`; the soak kills each of the three at every step.
AMONG_STEPS = [("source", "frozen"), ("target", "certified"), ("zookeeper", "frozen")]
ALL_STEPS = [
    (role, step)
    for role in ("source", "target", "zookeeper", "journal")
    for step in (*STEPS_BEFORE, *STEPS_BEHIND)
    if (role, step) not in AMONG_STEPS
]


@pytest.mark.parametrize(("role", "step"), AMONG_STEPS)
def test_another_process_is_killed(cluster: DevCluster, role: str, step: str) -> None:
    _kill_another(cluster, role, step)


@pytest.mark.soak
@pytest.mark.parametrize(("role", "step"), ALL_STEPS)
def test_another_process_is_killed_at_every_step(cluster: DevCluster, role: str, step: str) -> None:
    _kill_another(cluster, role, step)


def test_a_copy_that_is_not_equal_is_refused(cluster: DevCluster) -> None:
    """A balance on the target is changed behind the back of the move: it says so, and the source goes on serving."""
    scene = Scene(cluster, 5)

    def spoil(name: str) -> None:
        if name == "copied":
            with cluster_directory(cluster) as directory:
                node = find_primary(directory.shards()[scene.target].nodes)
            assert node is not None
            with closing(connect(node.address)) as client, client.pipeline(transaction=False) as pipe:
                pipe.execute_command("ASKING")
                pipe.hincrby(
                    PartitionKeys(tag_of(scene.partition, PARTITIONS)).balance("USD"), "an intruder's", 1
                )
                pipe.execute()

    with cluster_directory(cluster) as directory, pytest.raises(Corruption, match="sizes"):
        Driver(directory, scene.partition, "spoilt", "test", on_step=spoil).begin(scene.source, scene.target)
    assert scene.serves()
    _end(scene, "abort")
    scene.check_whole(scene.source)


def _overtaken(cluster: DevCluster, partition: int, verb: str, moment: str) -> Scene:
    """A run stops at the moment, loses its lock, another run ends the move by the verb, and the first goes on."""
    scene = Scene(cluster, partition)
    overtaken: list[object] = []

    def overtake(at: str) -> None:
        if at != moment or overtaken:
            return
        with cluster_directory(cluster) as elsewhere:
            elsewhere.tree.delete(f"/wallet/locks/move-{partition}")
            other = Driver(elsewhere, partition, "the other", "test")
            overtaken.append(other.abort() if verb == "abort" else other.resume())

    with cluster_directory(cluster) as directory:
        replace_map = directory.replace_map

        def stopped_before(old: PartitionMap, new: PartitionMap) -> PartitionMap:
            overtake("before the switch")
            return replace_map(old, new)

        directory.replace_map = stopped_before  # type: ignore[method-assign]
        driver = Driver(directory, partition, "the first", "test", on_step=overtake)
        with pytest.raises((TakenOver, ConfigError)):
            driver.begin(scene.source, scene.target)
    assert overtaken
    return scene


@pytest.mark.parametrize("moment", ["copied", "frozen", "certified", "before the switch"])
def test_a_run_that_was_overtaken_changes_nothing(cluster: DevCluster, moment: str) -> None:
    """The other has aborted, and the source takes payments: the switch of the first must not happen any more."""
    scene = _overtaken(cluster, 4, "abort", moment)
    scene.check_whole(scene.source)


def test_a_run_that_wakes_up_after_the_move_changes_nothing(cluster: DevCluster) -> None:
    """The other has finished the move: the target takes payments, and the first has copies of old balances in hand."""
    scene = _overtaken(cluster, 4, "resume", "copied")
    scene.check_whole(scene.target)


def test_a_recovery_during_the_copy_begins_it_again(cluster: DevCluster) -> None:
    """The source is recovered under the move: what was copied under the old epoch counts for nothing."""
    scene = Scene(cluster, 3)
    epochs: list[int] = []

    def on_step(name: str) -> None:
        if name == "verified" and not epochs:
            with cluster_directory(cluster) as directory:
                epochs.append(directory.partition_map().epoch_of(scene.partition))
                node = find_primary(directory.shards()[scene.source].nodes)
            assert node is not None
            with closing(connect(node.address)) as client:
                client.hset(
                    PartitionKeys(tag_of(scene.partition, PARTITIONS)).meta, "owner", "a promoted replica"
                )
            scene.wait_serving()

    with cluster_directory(cluster) as directory:
        outcome = Driver(directory, scene.partition, "again", "test", on_step=on_step).begin(
            scene.source, scene.target
        )
    assert outcome.epoch > epochs[0] + 1
    assert outcome.attempts > 1
    scene.check_whole(scene.target)
