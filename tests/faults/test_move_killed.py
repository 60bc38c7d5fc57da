"""`kill -9` at each step of a move: of its driver, the source, the target, ZooKeeper or the journal (G9, G11).

All tests share one cluster and one stream of payments. After each kill the partition serves again, by itself or by
`resume` or `abort`; in the end every answer is accounted for and `verify` folds the whole journal.
"""

import itertools
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import pytest
from support.dev_process import DevCluster
from support.move_run import signalled
from support.paying import THROUGHOUT_S, Paying, cluster_directory
from support.stopped import stopped
from support.verification import verified, verify
from support.wallet_api import WalletApi
from unit.admin.made import admin, answer, refusal

from wallet_engine.admin.moving.copying import Copy
from wallet_engine.admin.moving.driver import Driver
from wallet_engine.admin.moving.sides import Source, TakenOver, Target
from wallet_engine.admin.moving.wire import Command, Setback
from wallet_engine.domain.errors import ConfigError, Corruption, WalletError
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect, find_primary
from wallet_engine.routing.model import PartitionMap
from wallet_engine.routing.slots import slot_range, tag_of

PARTITIONS = 8
#: Before the switch a move can be aborted; after it the move ends by itself, except for its record.
STEPS_BEFORE = (
    *("planned", "copying", "copied", "verified", "frozen recorded", "frozen", "durable", "certified"),
)
STEPS_BEHIND = ("switched", "released", "open", "switch recorded", "slots given")
SERVES_S_MAX = 60.0
#: (who was killed, how it ended) -> step -> seconds from the kill until the partition served and the move was over.
ENDED: dict[tuple[str, str], dict[str, float]] = {}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Payments run through all tests and are checked at the end."""
    cluster = DevCluster(tmp_path_factory.mktemp("killed") / "dev", shards=3, partitions=PARTITIONS)
    try:
        cluster.start()
        paying = Paying(cluster, callers_count=4, pause_s=THROUGHOUT_S)
        with paying.running():
            yield cluster
        paying.check()
        verified(cluster)
        print(dict(paying.books.answers), table(), sep="\n")
    finally:
        cluster.kill_all()


def table() -> str:
    """A line for each victim and ending: seconds for each step, "-" where it was not run."""
    steps = (*STEPS_BEFORE, *STEPS_BEHIND)
    rows = [("killed", "ending", *steps)]
    for (victim, ending), took in ENDED.items():
        rows.append((victim, ending, *(f"{took[step]:.1f}" if step in took else "-" for step in steps)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cases(every: Sequence[tuple[str, ...]], among: Sequence[tuple[str, ...]]) -> list[Any]:
    """Cases in `among` run in `make test`, the others only in the soak."""
    assert set(among) <= set(every)
    return [pytest.param(*case, marks=() if case in among else pytest.mark.soak) for case in every]


class Scene:
    """One partition and where it may move to."""

    def __init__(self, cluster: DevCluster, partition: int) -> None:
        self.cluster = cluster
        self.partition = partition
        #: `time.monotonic()` of the kill, and 0 before it.
        self.killed_s = 0.0
        with cluster_directory(cluster) as directory:
            self.source = directory.partition_map().shard_of(partition)
            self.target = next(name for name in directory.shards() if name != self.source)

    @property
    def home(self) -> str:
        with cluster_directory(self.cluster) as directory:
            return directory.partition_map().shard_of(self.partition)

    def pid_of(self, role: str) -> int:
        """Of the source's or target's Redis, of ZooKeeper or of the journal; it may still be starting."""
        shard = {"source": self.source, "target": self.target}.get(role)
        return int(self.cluster.living(f"{shard}-1" if shard else role)["pid"])

    def start_and_kill(self, step: str, *others: int) -> None:
        """The driver dies by SIGKILL at the step; these other processes die right before it."""
        run = signalled(
            self.cluster, "SIGKILL", 1, step, "move", str(self.partition), self.target, others=others
        )
        self.killed_s = time.monotonic()
        assert run.returncode == -signal.SIGKILL, run.stderr

    def end(self, verb: str) -> None:
        """Repeat the verb until it succeeds; each time it cannot yet, it says so in one line."""
        words = (verb, str(self.partition), *self.cluster.coordination_flags(), "--yes")
        while (result := admin(*words)).exit_code:
            print(refusal(result))
            assert time.monotonic() - self.killed_s < SERVES_S_MAX

    def over(self, victim: str, ending: str, step: str) -> None:
        ENDED.setdefault((victim, ending), {})[step] = time.monotonic() - self.killed_s

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


#: A move that has switched can only be finished, and mostly does so by itself.
ENDINGS = [
    (step, verb)
    for step in (*STEPS_BEFORE, *STEPS_BEHIND)
    for verb in ("resume", "abort")
    if (step, verb) not in ((behind, "abort") for behind in STEPS_BEHIND)
]
AMONG_ENDINGS = [
    *(("copying", "abort"), ("verified", "resume"), ("frozen", "abort"), ("durable", "resume")),
    *(("certified", "abort"), ("switched", "resume"), ("open", "resume"), ("slots given", "resume")),
]


@pytest.mark.parametrize(("step", "verb"), cases(ENDINGS, AMONG_ENDINGS))
def test_the_driver_is_killed(cluster: DevCluster, step: str, verb: str) -> None:
    scene = Scene(cluster, 1)
    scene.start_and_kill(step)
    if step in STEPS_BEHIND:
        scene.wait_serving()  # by itself
        assert scene.home == scene.target
        said = refusal(admin("abort", "1", *cluster.coordination_flags(), "--yes"))
        assert (
            said
            == f"partition 1 is on {scene.target} already, and can only be finished: wallet-admin resume 1"
        )
    [moving] = answer("moves", *cluster.coordination_flags())["moves"]
    assert moving["can_abort"] == (step in STEPS_BEFORE)
    scene.end(verb)
    scene.check_whole(scene.source if verb == "abort" else scene.target)
    scene.over("driver", verb, step)


ROLES = ("source", "target", "zookeeper", "journal")


@pytest.mark.soak
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("step", "verb"), ENDINGS)
def test_the_driver_and_another_are_killed(cluster: DevCluster, role: str, step: str, verb: str) -> None:
    """They die at once; the verb ends the move while the other process comes back."""
    scene = Scene(cluster, 6)
    pid = scene.pid_of(role)
    scene.start_and_kill(step, pid)
    scene.end(verb)
    cluster.wait_replaced(pid)
    scene.check_whole(scene.source if verb == "abort" else scene.target)
    scene.over(f"driver and {role}", verb, step)


def interrupted(cluster: DevCluster, number: int, step: str, *verb: str) -> str:
    """Send Ctrl-C to a verb at a step of its `number`-th move; returns the line that it prints."""
    run = signalled(cluster, "SIGINT", number, step, *verb)
    assert (run.returncode, run.stdout) == (1, ""), run.stderr
    [said] = run.stderr.splitlines()
    return said


@pytest.mark.parametrize("step", ["copied", "frozen"])
def test_ctrl_c_leaves_a_partition_that_serves(cluster: DevCluster, step: str) -> None:
    """During the copy Ctrl-C acts at once; during the freeze, only after it, so that no partition stays frozen."""
    scene = Scene(cluster, 7)
    said = interrupted(cluster, 1, step, "move", "7", scene.target)
    assert scene.serves()
    if step == "frozen":
        assert scene.home == scene.target
        finish = "finish its move with wallet-admin resume 7"
        assert said == f"Error: interrupted: partition 7 serves on {scene.target} already, {finish}"
    else:
        assert scene.home == scene.source
        undo = "or undo it with wallet-admin abort 7"
        assert said == f"Error: interrupted: go on with wallet-admin resume 7, {undo}"
    answer("resume", *cluster.coordination_flags(), "--yes")
    scene.check_whole(scene.target)


def test_ctrl_c_is_not_lost_when_the_freeze_fails(
    monkeypatch: pytest.MonkeyPatch, cluster: DevCluster
) -> None:
    """The attempt is undone, and no other is begun."""
    scene = Scene(cluster, 0)
    monkeypatch.setattr("wallet_engine.admin.moving.driver.FREEZE_S_MAX", 0.0)

    def press(step: str) -> None:
        if step == "frozen":
            os.kill(os.getpid(), signal.SIGINT)

    with cluster_directory(cluster) as directory:
        driver = Driver(directory, scene.partition, "pressed", "test", on_step=press)
        with pytest.raises(KeyboardInterrupt):
            driver.begin(scene.source, scene.target)
    assert scene.serves()
    scene.killed_s = time.monotonic()
    scene.end("abort")
    scene.check_whole(scene.source)


@pytest.mark.soak
@pytest.mark.parametrize(("step", "verb"), [("verified", "abort"), ("frozen", "resume")])
def test_drain_and_rebalance_are_interrupted_and_gone_on_with(
    cluster: DevCluster, step: str, verb: str
) -> None:
    """`drain` half way by Ctrl-C, `rebalance` by SIGKILL; another process ends the move and repeats the command."""
    flags = cluster.coordination_flags()
    with cluster_directory(cluster) as directory:
        before = directory.partition_map()
        shard = max(directory.shards(), key=lambda name: len(before.partitions_of(name)))
        leaving = before.partitions_of(shard)
    said = interrupted(cluster, 2, step, "drain", shard)
    assert f"then give this command again for the other {len(leaving) - 2}" in said
    [moving] = answer("moves", *flags)["moves"]
    assert moving["partition"] == leaving[1]
    answer(verb, str(leaving[1]), *flags, "--yes")
    left = [one["partition"] for one in answer("drain", shard, *flags, "--yes")["moved"]]
    assert left == [p for p in leaving if p != leaving[0] and (p != leaving[1] or verb == "abort")]

    killed = signalled(cluster, "SIGKILL", 2, step, "rebalance")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    [moving] = answer("moves", *flags)["moves"]
    refused = refusal(admin("move", str(moving["partition"]), shard, *flags, "--yes"))
    assert "is being moved already: wallet-admin resume" in refused
    answer(verb, str(moving["partition"]), *flags, "--yes")
    answer("rebalance", *flags, "--yes")
    with cluster_directory(cluster) as directory:
        counts = [len(directory.partition_map().partitions_of(name)) for name in directory.shards()]
    assert sorted(counts) == [2, 3, 3]


def test_a_freeze_that_nobody_ends_is_ended(cluster: DevCluster) -> None:
    """The journal process recovers a partition that its mover left frozen; the move can go on afterwards."""
    scene = Scene(cluster, 1)
    scene.start_and_kill("frozen")
    assert scene.wait_serving() > 1.0, "it was frozen"
    assert scene.home == scene.source
    scene.end("resume")
    scene.check_whole(scene.target)


AMONG_KILLED = [("source", "frozen"), ("target", "certified")]
KILLED = [(role, step) for role in ROLES for step in (*STEPS_BEFORE, *STEPS_BEHIND)]


@pytest.mark.parametrize(("role", "step"), cases(KILLED, AMONG_KILLED))
def test_another_process_is_killed(cluster: DevCluster, role: str, step: str) -> None:
    """The driver lives and goes on, or fails and is run again."""
    scene = Scene(cluster, 2)
    pid = scene.pid_of(role)

    def on_step(name: str) -> None:
        if name == step and scene.killed_s == 0.0:
            scene.killed_s = time.monotonic()
            os.kill(pid, signal.SIGKILL)

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
    assert scene.killed_s
    cluster.wait_replaced(pid)
    scene.check_whole(scene.target)
    scene.over(role, "goes on", step)


@pytest.mark.parametrize(
    ("account", "said"), [("an intruder's", "sizes"), ("", "1 fields differ, and no entry has changed them")]
)
def test_a_copy_that_is_not_equal_is_refused(cluster: DevCluster, account: str, said: str) -> None:
    """A balance on the target is changed during the move: the move says so, and the source goes on serving."""
    scene = Scene(cluster, 5)
    if not account:  # one that exists, and that gets no payments
        with WalletApi(cluster.url, PARTITIONS) as api:
            account = api.account(scene.partition)

    def spoil(name: str) -> None:
        if name == "copied":
            with cluster_directory(cluster) as directory:
                node = find_primary(directory.shards()[scene.target].nodes)
            assert node is not None
            with closing(connect(node.address)) as client, client.pipeline(transaction=False) as pipe:
                pipe.execute_command("ASKING")
                pipe.hincrby(PartitionKeys(tag_of(scene.partition, PARTITIONS)).balance("USD"), account, 1)
                pipe.execute()

    with cluster_directory(cluster) as directory, pytest.raises(Corruption, match=said):
        Driver(directory, scene.partition, "spoilt", "test", on_step=spoil).begin(scene.source, scene.target)
    assert scene.serves()
    scene.killed_s = time.monotonic()
    scene.end("abort")
    scene.check_whole(scene.source)


def test_nothing_moves_whose_last_entry_is_on_no_disk(
    monkeypatch: pytest.MonkeyPatch, cluster: DevCluster
) -> None:
    """The journal is stopped: the move gives up, and the source goes on serving."""
    scene = Scene(cluster, 5)
    monkeypatch.setattr("wallet_engine.admin.moving.driver.SETBACKS_S_MAX", 0.0)
    with stopped(cluster.living("journal")), cluster_directory(cluster) as directory:
        with pytest.raises(Setback, match="is on 0 journal copies, 1 are needed"):
            Driver(directory, scene.partition, "undurable", "test").begin(scene.source, scene.target)
        assert scene.serves()
    scene.killed_s = time.monotonic()
    scene.end("abort")
    scene.check_whole(scene.source)


def _overtaken(cluster: DevCluster, partition: int, verb: str, moment: str) -> Scene:
    """The first run pauses at the moment and loses its lock; a second ends the move by the verb; the first goes on."""
    scene = Scene(cluster, partition)
    overtaken: list[object] = []
    balances = PartitionKeys(tag_of(partition, PARTITIONS)).balance("USD").encode()

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

        def with_balances_in_hand(side: Target, commands: Sequence[Command], **behind: Any) -> list[Any]:
            if side.token == "the first" and commands[0][:2] == ("HSET", balances):
                overtake("before a write")
            return write(side, commands, **behind)

        write = Target.write
        directory.replace_map = stopped_before  # type: ignore[method-assign]
        driver = Driver(directory, partition, "the first", "test", on_step=overtake)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Target, "write", with_balances_in_hand)
            with pytest.raises((TakenOver, ConfigError)):
                driver.begin(scene.source, scene.target)
    assert overtaken
    return scene


@pytest.mark.parametrize("moment", ["copied", "frozen", "certified", "before the switch"])
def test_a_run_that_was_overtaken_changes_nothing(cluster: DevCluster, moment: str) -> None:
    """The second run has aborted, and the source takes payments: the first run must not switch any more."""
    scene = _overtaken(cluster, 4, "abort", moment)
    scene.check_whole(scene.source)


@pytest.mark.parametrize("moment", [pytest.param("before a write", marks=pytest.mark.soak), "copied"])
def test_a_run_that_wakes_up_after_the_move_changes_nothing(cluster: DevCluster, moment: str) -> None:
    """The second run has finished the move: the target takes payments, and the first still has old copies to write."""
    scene = _overtaken(cluster, 4, "resume", moment)
    scene.check_whole(scene.target)
    assert verify(cluster)["ok"]


def test_a_recovery_during_the_copy_begins_it_again(cluster: DevCluster) -> None:
    """The source is recovered during the move: what was copied under the old epoch is not used."""
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


def test_a_recovery_during_the_freeze_forbids_the_switch(cluster: DevCluster) -> None:
    """The epoch is raised, and the frozen node does not know it: another node may serve newer entries by now."""
    scene = Scene(cluster, 3)
    epochs: list[int] = []
    with cluster_directory(cluster) as directory:
        replace_map = directory.replace_map

        def raised_before(old: PartitionMap, new: PartitionMap) -> PartitionMap:
            if not epochs:
                with cluster_directory(cluster) as elsewhere:
                    epochs.append(elsewhere.raise_epochs([scene.partition]).epoch_of(scene.partition))
            return replace_map(old, new)

        directory.replace_map = raised_before  # type: ignore[method-assign]
        outcome = Driver(directory, scene.partition, "raised", "test").begin(scene.source, scene.target)
    assert outcome.attempts > 1
    assert outcome.epoch > epochs[0] + 1
    scene.check_whole(scene.target)


def test_an_entry_that_left_the_stream_unread_begins_the_copy_again(
    monkeypatch: pytest.MonkeyPatch, cluster: DevCluster
) -> None:
    """The copy never reads the last entry before the freeze: without it the target would serve older balances."""
    scene = Scene(cluster, 2)
    freeze, follow = Source.freeze, Copy.follow
    copies: list[Copy] = []
    unread: list[Copy] = []

    def follows(copy: Copy) -> None:
        copies.append(copy)
        if copy not in unread:
            follow(copy)

    def freezes(source: Source, token: str) -> tuple[int, str]:
        if not unread:
            unread.append(copies[-1])
            api.paid(payer, receiver, "1.00")
        return freeze(source, token)

    with WalletApi(cluster.url, PARTITIONS) as api, cluster_directory(cluster) as directory:
        payer, receiver = api.account(2, "5.00"), api.account(2)
        monkeypatch.setattr(Source, "freeze", freezes)
        monkeypatch.setattr(Copy, "follow", follows)
        outcome = Driver(directory, 2, "unread", "test").begin(scene.source, scene.target)
    assert unread
    assert outcome.attempts > 1
    scene.check_whole(scene.target)
    assert verify(cluster)["ok"]
