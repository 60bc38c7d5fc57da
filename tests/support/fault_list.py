"""Faults drawn from a seed, one after another and overlapping, on a cluster with replicas."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError
from support.clocks import Clocks
from support.dev_process import DevCluster, run_admin
from support.replicated import Process, ReplicatedShard, command, kill, wait_until
from unit.admin.made import answer

HOUR_S: Final = 3600
#: Longer than a ZooKeeper session, and than Redis Cluster takes to declare a node failed.
LONG_STOP_S: Final = 12.0
#: A move that meets faults retries for a minute.
MOVE_S_MAX: Final = 75.0
#: How long ZooKeeper may take to serve after a kill: Java starts on a busy machine.
ZOOKEEPER_S_MAX: Final = 120.0


@dataclass(frozen=True, slots=True)
class Injected:
    """One fault, when it began (`time.monotonic`) and what it struck."""

    kind: str
    at_s: float
    struck: str


class FaultList:
    """Every public method is a kind of fault; `strike` injects the next one.

    Each kind comes once before any comes a second time, in an order that the seed decides. A thread of its own
    continues each stopped process, so that further faults can meet it stopped.
    """

    def __init__(
        self,
        cluster: DevCluster,
        shards: int,
        partitions: int,
        rng: random.Random,
        *,
        long: bool,
        clocks: Clocks | None = None,
    ) -> None:
        """`long`: also faults that last more than some seconds. `clocks`: of the processes, for faults of clocks."""
        self.kinds = sorted(
            kind
            for kind in KINDS
            if (long or kind not in LONG) and (clocks is not None or kind not in OF_CLOCKS)
        )
        self._cluster = cluster
        self._clocks = clocks
        self._rng = rng
        self._partitions = partitions
        self._shards = [ReplicatedShard(cluster, f"s{n + 1}", partitions) for n in range(shards)]
        self._stopped: list[threading.Thread] = []
        self._deck: list[str] = []
        self.injected: list[Injected] = []
        #: Faults that found no process to strike.
        self.missed: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<FaultList injected={len(self.injected)}>"

    def strike(self) -> str:
        """Inject the next fault; returns what it was, in words."""
        if not self._deck:
            self._deck = list(self.kinds)
            self._rng.shuffle(self._deck)
        kind = self._deck.pop()
        at_s = time.monotonic()
        try:
            struck = KINDS[kind](self)
        except (AssertionError, RedisError, OSError, StopIteration, IndexError) as error:
            # An earlier fault is not over: there is no primary, no replica, no such process now.
            self.missed[kind] += 1
            return f"{kind}: nobody to strike ({type(error).__name__})"
        self.injected.append(Injected(kind, at_s, struck))
        return f"{kind}: {struck}"

    def calm(self) -> None:
        """Return when nothing is stopped, clocks are right, ZooKeeper answers and shards have their replicas."""
        for thread in self._stopped:
            thread.join()
        self._stopped.clear()
        if self._clocks is not None:
            self._clocks.step(0)
        for shard in self._shards:
            for node in shard.nodes:
                with contextlib.suppress(RedisError, OSError):
                    shard.allow_replication(node)
                    command(node, "CONFIG", "SET", "min-replicas-to-write", 0)
        for shard in self._shards:
            shard.wait_in_sync()
        if "move_partition" in self.kinds:
            # It may have been killed a moment ago. A subprocess asks it: a socket that kazoo leaks here fails the test.
            wait_until(
                lambda: run_admin(self._cluster, "moves")[0] == 0, "ZooKeeper answers", ZOOKEEPER_S_MAX
            )
            flags = self._cluster.admin_flags()
            for move in answer("moves", *flags)["moves"]:
                answer("resume", str(move["partition"]), *flags, "--yes")

    # Victims -----------------------------------------------------------------------------------------------------

    def _shard(self) -> ReplicatedShard:
        return self._rng.choice(self._shards)

    def _process(self, role: str) -> Process:
        return self._rng.choice(self._cluster.processes(role))

    def _stop_for(self, process: Process, seconds: float) -> str:
        os.kill(process["pid"], signal.SIGSTOP)

        def go_on() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process["pid"], signal.SIGCONT)

        self._later(seconds, go_on)
        return f"{process['name']} for {seconds:.1f} s"

    def _later(self, seconds: float, end: Callable[[], None]) -> None:
        """End the fault after `seconds`; `calm` waits for it."""

        def wait() -> None:
            time.sleep(seconds)
            end()

        thread = threading.Thread(target=wait)
        thread.start()
        self._stopped.append(thread)

    @contextlib.contextmanager
    def _held(self, process: Process) -> Iterator[None]:
        """The process is stopped meanwhile."""
        os.kill(process["pid"], signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process["pid"], signal.SIGCONT)

    # Deaths ------------------------------------------------------------------------------------------------------

    def _kill(self, process: Process) -> str:
        kill(process)
        return str(process["name"])

    def kill_primary(self) -> str:
        return self._kill(self._shard().primary())

    def kill_replica(self) -> str:
        return self._kill(self._shard().replica())

    def kill_journal(self) -> str:
        return self._kill(self._process("journal"))

    def kill_api(self) -> str:
        return self._kill(self._process("api"))

    def kill_zookeeper(self) -> str:
        return self._kill(self._process("zookeeper"))

    def kill_shard(self) -> str:
        return " ".join(self._kill(node) for node in self._shard().nodes)

    def kill_everything(self) -> str:
        """Except the supervisor, which restarts all the others."""
        return f"{len([self._kill(process) for process in self._cluster.processes()])} processes"

    # At named points ---------------------------------------------------------------------------------------------

    def api_dies_between_debit_and_credit(self) -> str:
        """The journal hangs, so debits are made and no credit leaves; then the API process dies."""
        with self._held(self._process("journal")):
            time.sleep(0.3)
            return self._kill(self._process("api"))

    def journal_dies_before_its_receipts(self) -> str:
        """The streams have entries that it has not read."""
        journal = self._process("journal")
        with self._held(journal):
            time.sleep(0.3)
            return self._kill(journal)

    def primary_dies_with_entries_not_on_disk(self) -> str:
        with self._held(self._process("journal")):
            time.sleep(0.2)
            return self._kill(self._shard().primary())

    def primary_dies_while_its_replica_lags(self) -> str:
        shard = self._shard()
        primary = shard.primary()
        shard.cut_replication(primary)
        time.sleep(self._rng.uniform(0.1, 1.5))
        return self._kill(primary)

    def flush_entries_not_on_disk(self) -> str:
        with self._held(self._process("journal")):
            time.sleep(0.2)
            return self.flush()

    def journal_dies_while_it_recovers(self) -> str:
        journal = self._process("journal")
        struck = self.flush()
        time.sleep(self._rng.uniform(0.05, 0.4))
        return f"{struck}, {self._kill(journal)}"

    # Others ------------------------------------------------------------------------------------------------------

    def flush(self) -> str:
        primary = self._shard().primary()
        command(primary, "FLUSHALL")
        return str(primary["name"])

    def failover_planned(self) -> str:
        replica = self._shard().replica()
        command(replica, "CLUSTER", "FAILOVER")
        return str(replica["name"])

    def failover_takeover(self) -> str:
        replica = self._shard().replica()
        command(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
        return str(replica["name"])

    def failover_to_a_replica_that_lags(self) -> str:
        shard = self._shard()
        primary, replica = shard.primary(), shard.replica()
        shard.cut_replication(primary)
        time.sleep(self._rng.uniform(0.1, 1.0))
        command(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
        shard.allow_replication(primary)
        return str(replica["name"])

    def stop_primary(self) -> str:
        return self._stop_for(self._shard().primary(), self._rng.uniform(0.1, 2.0))

    def stop_primary_long(self) -> str:
        """Stopped until after its replica was promoted."""
        return self._stop_for(self._shard().primary(), self._rng.uniform(5.0, LONG_STOP_S))

    def stop_shard(self) -> str:
        """All of its nodes: no replica is promoted, and payments into the shard wait. Other shards go on."""
        seconds = self._rng.uniform(1.0, 3.0)
        return " ".join(self._stop_for(node, seconds) for node in self._shard().nodes)

    def stop_shard_long(self) -> str:
        """Stopped until long after services have given it up; transfers already begun towards it stay open."""
        return " ".join(self._stop_for(node, LONG_STOP_S) for node in self._shard().nodes)

    def refuse_writes(self) -> str:
        """NOREPLICAS: the node answers reads and takes no write."""
        primary, seconds = self._shard().primary(), self._rng.uniform(0.5, 4.0)
        command(primary, "CONFIG", "SET", "min-replicas-to-write", 5)

        def take_them_again() -> None:
            with contextlib.suppress(RedisError, OSError):  # a restarted node has lost the setting
                command(primary, "CONFIG", "SET", "min-replicas-to-write", 0)

        self._later(seconds, take_them_again)
        return f"{primary['name']} for {seconds:.1f} s"

    def stop_journal(self) -> str:
        return self._stop_for(self._process("journal"), self._rng.uniform(0.1, 4.0))

    def stop_journal_long(self) -> str:
        return self._stop_for(self._process("journal"), LONG_STOP_S)

    def stop_api(self) -> str:
        return self._stop_for(self._process("api"), self._rng.uniform(0.1, 4.0))

    def stop_api_long(self) -> str:
        """Stopped until its session, and every operation that it held, has expired."""
        return self._stop_for(self._process("api"), LONG_STOP_S)

    def stop_zookeeper(self) -> str:
        return self._stop_for(self._process("zookeeper"), self._rng.uniform(0.5, LONG_STOP_S))

    # Moves -------------------------------------------------------------------------------------------------------

    def move_partition(self) -> str:
        """An admin process moves a partition, and may be killed during the move; `calm` resumes the move."""
        partition, shard = self._rng.randrange(self._partitions), self._rng.choice(self._shards).name
        dies_s = self._rng.uniform(0.5, 3.0) if self._rng.random() < 0.5 else MOVE_S_MAX
        words = ("move", str(partition), shard, *self._cluster.admin_flags(), "--yes")
        admin = Path(sys.executable).with_name("wallet-admin")
        process = subprocess.Popen([admin, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def end() -> None:
            try:
                process.wait(dies_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        self._later(0.0, end)
        return f"{partition} to {shard}{'' if dies_s == MOVE_S_MAX else f', dies after {dies_s:.1f} s'}"

    # Clocks ------------------------------------------------------------------------------------------------------

    def step_a_clock(self) -> str:
        """Step it by 3 s, or by more than an operation may be old, forward or back; it is set right after a while."""
        assert self._clocks is not None
        clocks, name = self._clocks, self._rng.choice(self._clocks.names)
        ahead_s, seconds = (
            self._rng.choice((3, 400, -400, 30 * HOUR_S, -30 * HOUR_S)),
            self._rng.uniform(0.5, 9.0),
        )
        clocks.step(ahead_s, name)
        self._later(seconds, lambda: clocks.step(0, name))
        return f"{name} by {ahead_s} s for {seconds:.1f} s"

    def step_all_clocks_twice(self) -> str:
        """Each step is longer than the retention, within seconds; then the clocks are set right."""
        assert self._clocks is not None
        clocks, seconds = self._clocks, self._rng.uniform(0.5, 3.0)
        clocks.step(25 * HOUR_S)
        self._later(seconds, lambda: clocks.step(50 * HOUR_S))
        self._later(3 * seconds, lambda: clocks.step(0))
        return f"by 25 and 50 h within {seconds:.1f} s"


KINDS: Final[dict[str, Callable[[FaultList], str]]] = {
    name: method
    for name, method in vars(FaultList).items()
    if callable(method) and not name.startswith("_") and name not in ("strike", "calm")
}
LONG: Final = {
    "move_partition",
    "stop_primary_long",
    "stop_shard_long",
    "stop_journal_long",
    "stop_api_long",
    "stop_zookeeper",
}
OF_CLOCKS: Final = {"step_a_clock", "step_all_clocks_twice"}
