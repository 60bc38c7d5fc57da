"""Starts a cluster for a run: `wallet-engine dev` as a subprocess, in a temporary folder."""

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec
import redis

from bench.apis import OwnApis, make_key, peer_files, server_pair
from wallet_engine.dev.binaries import find_zookeeper, system_redis
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.state import DevState, StateFiles
from wallet_engine.domain.errors import ConfigError
from wallet_engine.journal import peer_tls
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect, find_primary
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.slots import tag_of

READY_S_MAX: Final = 120.0
STOP_S_MAX: Final = 40.0
KILL_S_MAX: Final = 10.0
_LOG_SHOWN_BYTES: Final = 3000
_ROLES: Final = ("redis", "api", "journal", "zookeeper")

Say = Callable[[str], None]


class ClusterFailed(Exception):
    """The cluster did not start, or is not in the expected state."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The cluster to start."""

    shards: int
    partitions: int
    apis: int
    embedded: bool
    #: With PostgreSQL, and a follower that writes the history into it.
    history: bool = False
    #: Callers may send a key; runs with and without one are measured in turns.
    auth: bool = False
    #: Mutual TLS between the journal and the services.
    tls: bool = False
    #: Callers use HTTPS.
    https: bool = False
    #: Journal copies.
    journals: int = 1


@dataclass(frozen=True, slots=True)
class Place:
    """One partition in Redis: its key names, and a client of the primary that has them."""

    partition: int
    keys: PartitionKeys
    client: redis.Redis


def system_is_there() -> bool:
    """Whether the system has Redis and ZooKeeper. Without them the embedded mode is used."""
    try:
        system_redis()
        find_zookeeper()
    except ConfigError:
        return False
    return True


class Cluster:
    """A context manager: the cluster runs in the block. Then it is stopped and deleted, also after Ctrl-C.

    `keep`: do not delete its folder. Raises `ClusterFailed` and `ApisFailed` when it does not start.
    """

    def __init__(self, shape: Shape, say: Say, *, folder: Path | None = None, keep: bool = False) -> None:
        self.shape = shape
        self.root = Path(tempfile.mkdtemp(prefix="wallet-bench-", dir=folder))
        self.data_dir = self.root / "data"
        self._say = say
        self._keep = keep
        self._port = free_port(run=shape.apis)
        self._apis: OwnApis | None = None
        #: TLS settings of callers; None for plain HTTP.
        self.caller_tls: ssl.SSLContext | None = None
        #: The key of callers that send one.
        self.caller_key = ""
        #: `host:port` of the journal's metrics.
        self.journal_metrics = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._files = StateFiles(self.data_dir)

    def __repr__(self) -> str:
        return f"<Cluster {self.shape} {self.root}>"

    def __enter__(self) -> "Cluster":
        try:
            self._start()
            self._close_door()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def state(self) -> DevState:
        """The present `dev.json`. Raises `ClusterFailed` without one."""
        state = self._files.read()
        if state is None:
            raise ClusterFailed(f"the cluster has no {self._files.dev_json}")
        return state

    @property
    def api_addresses(self) -> list[str]:
        """`host:port` of every API process."""
        if self._apis is not None:
            return self._apis.addresses
        return [process.address for process in self.state.processes if process.role == "api"]

    def pids(self) -> dict[str, list[int]]:
        """Role -> process ids. The cluster has no replicas of Redis, so all of `redis` are primaries."""
        found: dict[str, list[int]] = {role: [] for role in _ROLES}
        for process in self.state.processes:
            found.setdefault(process.role, []).append(process.pid)
        if self._process is not None:
            found["dev"] = [self._process.pid]
        if self._apis is not None:
            found["standby"], found["api"] = found["api"], self._apis.pids
        return found

    def journal_bytes(self) -> int:
        """The size of the journal's segments, bytes; of the first copy."""
        return sum(path.stat().st_size for path in (self.data_dir / "journal").rglob("*.wal"))

    def open_directory(self) -> Directory:
        """The cluster's directory. The caller closes it."""
        zookeeper = self.state.zookeeper
        return open_directory(zookeeper, None if zookeeper else self.data_dir / "map.json")

    @contextlib.contextmanager
    def primaries(self) -> Iterator[dict[str, redis.Redis]]:
        """Shard -> a client of its present primary. Raises `ClusterFailed` when a shard has none."""
        with contextlib.closing(self.open_directory()) as directory:
            shards = directory.shards()
        clients: dict[str, redis.Redis] = {}
        try:
            for name, shard in shards.items():
                primary = find_primary(shard.nodes)
                if primary is None:
                    raise ClusterFailed(f"shard {name} has no primary")
                clients[name] = connect(primary.address, timeout_s=30)
            yield clients
        finally:
            for client in clients.values():
                client.close()

    @contextlib.contextmanager
    def places(self) -> Iterator[list[Place]]:
        """All partitions, each with a client of the primary that has it now."""
        with contextlib.closing(self.open_directory()) as directory:
            placement = directory.partition_map()
        with self.primaries() as clients:
            count = len(placement.partitions)
            yield [
                Place(partition, PartitionKeys(tag_of(partition, count)), clients[entry.shard])
                for partition, entry in enumerate(placement.partitions)
            ]

    def _start(self) -> None:
        shape = self.shape
        argv = [
            *(sys.executable, "-m", "wallet_engine", "dev", "--data-dir", str(self.data_dir)),
            *("--port", str(self._port), "--shards", str(shape.shards), "--replicas", "0"),
            *("--partitions", str(shape.partitions), "--apis", str(shape.apis)),
            *(("--embedded",) if shape.embedded else ()),
            *(("--history",) if shape.history else ()),
            *(("--certificates",) if shape.tls else ()),
            *(("--journals", str(shape.journals)) if shape.journals > 1 else ()),
        ]
        self._say(
            f"starting {shape.shards} shards, {shape.partitions} partitions, {shape.apis} API processes"
        )
        # Of the cluster's processes only the journal has this flag; further copies have other ports.
        environ = _environ() | {"WALLET_METRICS_PORT": self.journal_metrics.rpartition(":")[2]}
        log = self.root / "dev.log"
        with log.open("wb") as stderr:
            # A separate session: Ctrl-C must reach only this process, which then stops the cluster in order.
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environ,
                start_new_session=True,
            )
        timer = threading.Timer(READY_S_MAX, self._process.kill)
        timer.start()
        try:
            assert self._process.stdout is not None
            said = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not said.startswith(b"ready "):
            raise ClusterFailed(f"the cluster did not start:\n{log.read_text('utf-8')[-_LOG_SHOWN_BYTES:]}")

    def _close_door(self) -> None:
        """Start API processes with the keys and certificates that this run needs, if any."""
        shape, authority = self.shape, self.data_dir / "ca" if self.shape.tls else None
        if authority is not None:
            peer_tls.use(peer_tls.PeerTls(*peer_files(authority, "bench")))
        if not (shape.auth or shape.https):
            return
        pair = server_pair(self.root / "https") if shape.https else None
        if pair is not None:
            self.caller_tls = ssl.create_default_context(cafile=pair.cert.with_name("ca.pem"))
        apis = self._apis = OwnApis(self.root, pair, authority, self.caller_tls)
        self._say(f"starting {shape.apis} API processes of the benchmark's own")
        apis.start(shape.apis, self.directory_flags, _environ())
        if shape.auth:
            with contextlib.closing(self.open_directory()) as directory:
                self.caller_key = make_key(directory, apis)

    @property
    def directory_flags(self) -> tuple[str, str]:
        """The flags with which processes find the cluster's directory."""
        zookeeper = self.state.zookeeper
        return ("--zookeeper", zookeeper) if zookeeper else ("--map-file", str(self.data_dir / "map.json"))

    def _stop(self) -> None:
        peer_tls.use(None)
        if self._apis is not None:
            self._apis.stop()
        process, self._process = self._process, None
        if process is not None:
            pids = self._known_pids()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self._say("the cluster did not stop: killing its processes")
                process.kill()
                process.wait()
                pids |= self._known_pids()
            _kill(pids)
            if process.stdout is not None:
                process.stdout.close()
        if self._keep:
            self._say(f"kept {self.root}")
        else:
            shutil.rmtree(self.root, ignore_errors=True)

    def _known_pids(self) -> set[int]:
        try:
            state = self._files.read()
        except (OSError, msgspec.MsgspecError):
            return set()
        return {process.pid for process in state.processes} if state else set()


def _environ() -> dict[str, str]:
    """The environment without settings of the engine, except for the range of ports."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "WALLET_DEV_PORTS" or not name.startswith("WALLET_")
    }


def _kill(pids: set[int]) -> None:
    """Kill processes that an orderly stop has left over. Usually there is none."""
    deadline = time.monotonic() + KILL_S_MAX
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            # Another program may have the id by now: only processes of this cluster have this name in their command.
            if b"wallet-bench-" in _command_line(pid):
                os.kill(pid, signal.SIGKILL)
    while any(b"wallet-bench-" in _command_line(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)


def _command_line(pid: int) -> bytes:
    """Command line and working directory of a process: Redis changes its command line, but runs in its folder."""
    try:
        process = Path(f"/proc/{pid}")
        return (process / "cmdline").read_bytes() + os.readlink(process / "cwd").encode()
    except OSError:
        return b""
