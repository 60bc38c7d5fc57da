"""Help for tests that strike shards with replicas: finding the primary, making a replica lag, restarting by hand."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError
from support.dev_process import DevCluster, end

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect, view_node
from wallet_engine.routing.slots import tag_of

Process = dict[str, Any]

WAIT_S_MAX = 40.0
#: How long Redis remembers the votes that a node got: four times `cluster-node-timeout`.
ELECTION_S_MAX = 12.0
#: Until Redis has given up a failover that came to nothing: 5 s.
LAPSE_S = 6.0


def wait_until(
    true: Callable[[], object], what: str, timeout_s: float = WAIT_S_MAX, seen: Callable[[], object] = str
) -> None:
    """Return when `true()` holds; fail with `what` and `seen()` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"not in {timeout_s:.0f} s: {what}\n{seen()}"
        time.sleep(0.03)


def command(process: Process, *words: str | int) -> Any:
    """One command on a node (as in `dev.json`)."""
    client = connect(process["address"])
    try:
        return client.execute_command(*words)  # type: ignore[no-untyped-call]
    finally:
        client.close()


class ReplicatedShard:
    """One shard of a `DevCluster` with one replica each."""

    def __init__(self, cluster: DevCluster, name: str, partitions: int) -> None:
        self.cluster = cluster
        self.name = name
        self._tags = [tag_of(partition, partitions) for partition in range(partitions)]

    def __repr__(self) -> str:
        return f"<ReplicatedShard {self.name}>"

    @property
    def nodes(self) -> list[Process]:
        return [process for process in self.cluster.processes("redis") if process["shard"] == self.name]

    def primary(self) -> Process:
        """Of the nodes that call themselves primary, the newest."""
        views = [(view, node) for node in self.nodes if (view := view_node(node["address"])) is not None]
        found = [(view.config_epoch, node["name"], node) for view, node in views if view.is_primary]
        assert found, f"{self} has no primary: {views}"
        return max(found)[2]

    def replica(self) -> Process:
        primary = self.primary()
        return next(node for node in self.nodes if node["name"] != primary["name"])

    def in_sync(self) -> bool:
        """Whether there is a primary and a replica with all of its data."""
        try:
            primary, nodes = self.primary(), self.nodes
            if len(nodes) < 2:
                return False
            info = {node["name"]: command(node, "INFO", "replication") for node in nodes}
        except (AssertionError, RedisError, OSError):
            return False
        mine = info.pop(primary["name"])
        return mine["connected_slaves"] == len(nodes) - 1 and all(
            other["role"] == "slave" and other["master_link_status"] == "up" for other in info.values()
        )

    def wait_in_sync(self) -> None:
        wait_until(self.in_sync, f"{self} has a replica in sync", seen=self._told)

    def _told(self) -> str:
        """What the nodes report about each other, and the ends of their logs."""
        told = []
        for node in self.nodes:
            with contextlib.suppress(RedisError, OSError):
                told += [f"{node['name']}: {command(node, 'INFO', 'replication')}"]
                told += [str(command(node, "CLUSTER", "NODES"))]
            told += self._log(node)[-25:]
        return "\n".join(told)

    def seqs(self, node: Process) -> dict[str, int]:
        """Tag -> seq of each partition that the node holds, as primary or replica."""
        found = {}
        client = connect(node["address"])
        try:
            client.execute_command("READONLY")  # type: ignore[no-untyped-call]
            for tag in self._tags:
                with contextlib.suppress(RedisError):  # MOVED: another shard's
                    seq = client.hget(PartitionKeys(tag).meta, "seq")
                    if seq is not None:
                        found[tag] = int(seq)
        finally:
            client.close()
        return found

    def cut_replication(self, primary: Process) -> None:
        """From now on no replica gets anything from this node."""
        command(primary, "ACL", "SETUSER", _replicates_as(primary), "-psync", "-sync")
        command(primary, "CLIENT", "KILL", "TYPE", "replica")

    def allow_replication(self, primary: Process) -> None:
        command(primary, "ACL", "SETUSER", _replicates_as(primary), "+psync", "+sync")

    def promote(self, replica: Process, *how: str) -> None:
        """`CLUSTER FAILOVER`, planned or with FORCE or TAKEOVER; returns when it is primary under a new epoch.

        It is repeated when Redis lets it lapse, which happens when the primary, or a voter, does not know yet that the
        node is a replica.
        """
        if "TAKEOVER" not in how:
            wait_until(
                lambda: self._votes_are_old(replica), f"nobody's vote for {replica['name']} counts any more"
            )
        before = max(
            view.config_epoch for node in self.nodes if (view := view_node(node["address"])) is not None
        )
        deadline = time.monotonic() + WAIT_S_MAX
        while not self._is_primary(replica, before):
            assert time.monotonic() < deadline, f"{replica['name']} is not promoted\n{self._told()}"
            with contextlib.suppress(RedisError):  # one is under way, or it is primary by now
                command(replica, "CLUSTER", "FAILOVER", *how)
            self._settled(replica, before)

    def _settled(self, replica: Process, before: int) -> None:
        """Wait until it is primary, or its attempt has lapsed."""
        lapses = time.monotonic() + LAPSE_S
        while time.monotonic() < lapses and not self._is_primary(replica, before):
            time.sleep(0.03)

    def _votes_are_old(self, node: Process) -> bool:
        """Whether the node's last election is forgotten.

        Redis does not forget the election when the node wins. A winner that is a replica again, and is told to fail
        over within that time, counts the old votes: it serves for a moment under its old epoch, and may keep slots.
        """
        said = f"{node['pid']}:"
        won = [line for line in self._log(node) if line.startswith(said) and "Failover election won" in line]
        if not won:
            return True
        at = datetime.strptime(" ".join(won[-1].split()[1:5]), "%d %b %Y %H:%M:%S.%f")
        return (datetime.now() - at).total_seconds() > ELECTION_S_MAX

    def _log(self, node: Process) -> list[str]:
        return (self.cluster.data_dir / "logs" / f"redis-{node['name']}.log").read_text().splitlines()

    def _is_primary(self, node: Process, above: int = -1) -> bool:
        view = view_node(node["address"])
        return view is not None and view.is_primary and view.config_epoch > above

    def wait_promoted(self, replica: Process) -> None:
        wait_until(lambda: self._is_primary(replica), f"{replica['name']} is promoted")


def _replicates_as(node: Process) -> str:
    """The user that its replicas log in as."""
    _, name = command(node, "CONFIG", "GET", "masteruser")
    return str(name) or "default"


def wait_agreed(cluster: DevCluster) -> None:
    """Return when all nodes agree on slots, their epochs and the replicas of each primary: gossip takes a second.

    A node that becomes primary before that, or is given slots by hand, may lose them to an older claim.
    """
    wait_until(lambda: len({_known_to(node) for node in cluster.processes("redis")}) == 1, "gossip")


def _known_to(node: Process) -> frozenset[tuple[str, ...]]:
    """Id, primary's id, epoch and slots of each node, as the asked node sees them."""
    with contextlib.closing(connect(node["address"])) as client:
        lines = str(client.execute_command("CLUSTER", "NODES")).splitlines()
    return frozenset(
        (words[0], words[3], words[6], *words[8:]) for line in map(str.split, lines) if (words := line)
    )


def kill(process: Process) -> None:
    """SIGKILL; returns when it is dead. It may be gone already."""
    end(process["pid"])


@contextlib.contextmanager
def supervisor_sleeps(cluster: DevCluster) -> Iterator[None]:
    """The supervisor is stopped: no process that dies meanwhile is restarted."""
    assert cluster.process is not None
    cluster.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        cluster.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def restarted_by_hand(shard: ReplicatedShard, node: Process, *options: str) -> Iterator[None]:
    """Kill the node and restart it at once, before a replica is promoted, with `options` added to its command line.

    At the end it is handed back to the supervisor, as a replica.
    """
    argv = Path(f"/proc/{node['pid']}/cmdline").read_bytes().decode().split("\0")[:-1]
    folder = Path(argv[argv.index("--dir") + 1])
    with supervisor_sleeps(shard.cluster):
        kill(node)
        child = subprocess.Popen([*argv, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: view_node(node["address"]) is not None, f"{node['name']} answers again")
            yield
            shard.wait_in_sync()
            shard.promote(next(other for other in shard.nodes if other["name"] != node["name"]))
        finally:
            child.kill()
            child.wait()
            (folder / "dump.rdb").unlink(missing_ok=True)
    shard.cluster.wait_replaced(node["pid"])
    shard.wait_in_sync()
