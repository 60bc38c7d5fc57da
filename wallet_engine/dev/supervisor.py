"""The supervisor behind `wallet-engine dev`: starts everything in order, keeps it running, stops it in order.

    start   ZooKeeper -> partition map -> Redis Cluster with the slots of the map -> journal -> API -> oracle -> `ready`
            (at the first start the Redis Cluster forms while ZooKeeper starts; with --history PostgreSQL starts
            before Redis, and a follower after the journal)
    stop    oracle -> API -> follower -> journal -> Redis -> PostgreSQL -> ZooKeeper

Redis holds only the present: each start makes a new, empty cluster, and the engine's recovery fills it from the
journal.
"""

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Final, TextIO

from wallet_engine.dev.beginning import (
    DevOptions,
    claim_ports,
    first_map,
    first_names,
    metrics_port,
    port_again,
    ports_of,
)
from wallet_engine.dev.binaries import (
    RedisBinary,
    ZooKeeperInstall,
    bundled_redis,
    find_zookeeper,
    system_redis,
)
from wallet_engine.dev.credentials import Credentials
from wallet_engine.dev.keeper import Keeper, Kept
from wallet_engine.dev.keys import provide_keys
from wallet_engine.dev.layout import Layout, ownership_of, settle
from wallet_engine.dev.postgresql import PostgresInstall, PostgresProcess, find_postgresql
from wallet_engine.dev.probing import probe
from wallet_engine.dev.process import Child, StartFailed
from wallet_engine.dev.redis_cluster import FAILOVER_S_MAX, RedisCluster
from wallet_engine.dev.redis_node import RedisNode
from wallet_engine.dev.state import DevState, StateFiles
from wallet_engine.dev.stuck import StuckNodes
from wallet_engine.dev.zookeeper import ZooKeeperProcess
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import ClusterConfig, PartitionMap, Shard
from wallet_engine.routing.tree import StoreUnavailable

HOST: Final = "127.0.0.1"
#: How long an API process still answers after SIGTERM. Callers that use their connections more often notice nothing.
LEAVE_S: Final = 0.25
TEND_S: Final = 0.05
#: The replay of a long journal takes minutes. A process that keeps dying is noticed sooner (`START_DEATHS_MAX`).
READY_S_MAX: Final = 600.0
PROGRESS_S: Final = 5.0
#: Time between retries when dev.json could not be written.
REWRITE_S: Final = 1.0
START_DEATHS_MAX: Final = 3

#: Flags that the supervisor sets for its children. The variables of these flags are removed from their environment.
DECIDED_HERE: Final = (
    *(
        "DATA_DIR",
        "SHARDS",
        "REPLICAS",
        "PARTITIONS",
        "EMBEDDED",
        "APIS",
        "JOURNALS",
        "HOST",
        "PORT",
        "ADVERTISE",
    ),
    *("ZOOKEEPER", "MAP_FILE", "DIRECTORY", "JOURNAL_ID", "REPLACES", "SERVICE_ID"),
    *("ARCHIVE_COMMAND", "SEGMENT_BYTES", "SNAPSHOT_BYTES", "INSECURE"),
    *("DATABASE", "DATABASE_PASSWORD_FILE", "HISTORY", "TO", "FOLLOWER_ID", "WEBHOOKS_ALLOW_PRIVATE"),
    *(f"REDIS_{what}" for what in ("USER", "PASSWORD_FILE", "CA", "CERT", "KEY")),
    *(f"ZOOKEEPER_{what}" for what in ("USER", "PASSWORD_FILE", "CA", "CERT", "KEY")),
    *("PEER_CA", "PEER_CERT", "PEER_KEY", "PEER_TLS"),
    *("TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA"),
)


class Stopped(Exception):
    """SIGTERM or SIGINT was received during the start."""


class Supervisor:
    """Runs the cluster of one data directory; `run` covers its whole life."""

    def __init__(self, options: DevOptions) -> None:
        self._options = options
        self._data_dir = options.data_dir.absolute()
        self._logs = self._data_dir / "logs"
        self._files = StateFiles(self._data_dir)
        self._keeper = Keeper(self._say, self._write_state)
        self._redis: list[RedisNode] = []
        self._stuck = StuckNodes(lambda: self._redis, self._say)
        self._began = time.monotonic()
        self._stopping = False
        #: When dev.json could last not be written (monotonic seconds); None when it is up to date.
        self._unwritten_since: float | None = None
        self._zookeeper: ZooKeeperProcess | None = None
        self._database: PostgresProcess | None = None
        self._map_file = self._data_dir / "map.json"
        self._zookeeper_folder = self._data_dir / "zookeeper"
        self._environ = {
            name: value
            for name, value in os.environ.items()
            if name not in {f"WALLET_{flag}" for flag in DECIDED_HERE}
        }

    @property
    def url(self) -> str:
        """`http://…` of the first API process."""
        return f"http://{HOST}:{self._options.port}"

    def run(self) -> None:
        """Start, print `ready`, keep everything running until SIGTERM or SIGINT, then stop.

        Raises `ConfigError` and `StartFailed`; then nothing is left running.
        """
        stored = Layout.load(self._data_dir / "layout.json")
        layout = settle(stored, self._options.wishes, self._options.data_dir)
        ClusterConfig(partitions=layout.partitions)
        redis_binary = bundled_redis() if layout.embedded else system_redis()
        zookeeper_install = None if layout.embedded else find_zookeeper()
        postgres_install = find_postgresql(self._data_dir / "postgresql") if self._options.history else None
        tls = self._options.auth and redis_binary.speaks_tls
        self._credentials = Credentials(self._data_dir, self._options, redis_tls=tls)
        # All settings are checked by now. From here on the data directory is changed.
        self._make_data_dir()
        with self._files.lock(), self._signals():
            self._say(f"uses the {redis_binary} and {zookeeper_install or 'map.json in place of ZooKeeper'}")
            if stored is not None:
                self._say(f"continues with the data in {self._options.data_dir}: {layout}")
            for orphan in self._files.stop_orphans():
                self._say(f"stopped process {orphan.pid}, left over from a killed dev: {orphan.argv[0]}")
            claim_ports(self._options, layout.journals, self._environ)
            try:
                if stored is None:
                    layout.save(self._data_dir / "layout.json")
                self._start(layout, redis_binary, zookeeper_install, postgres_install)
                self._say(f"for wallet-admin: set -a; . {shlex.quote(str(self._files.admin_environment))}")
                _print(f"ready {self.url}", sys.stdout)
                self._stuck.start()
                while not self._stopping:
                    self._keeper.tend()
                    self._write_state_late()
                    time.sleep(TEND_S)
            except Stopped:
                pass
            except OSError as error:
                raise StartFailed(f"cannot use --data-dir {self._options.data_dir}: {error}") from None
            finally:
                self._say("stopping")
                self._stuck.stop()
                self._keeper.stop()
                self._write_state()
        self._say("stopped")

    def _make_data_dir(self) -> None:
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make --data-dir {self._data_dir}: {error.strerror}") from None

    def _start(
        self,
        layout: Layout,
        binary: RedisBinary,
        install: ZooKeeperInstall | None,
        postgres: PostgresInstall | None,
    ) -> None:
        last = self._files.read()
        never_ran = not (self._map_file.exists() or self._zookeeper_folder.exists())
        if install is not None:
            self._start_zookeeper(install, last)
        if postgres is not None:
            self._start_database(postgres, last)
        # At a first start the layout is known without ZooKeeper: form the Redis Cluster while ZooKeeper starts.
        cluster = self._start_redis(layout, binary, {}, first_map(layout)) if never_ran else None
        if self._zookeeper is not None:
            self._zookeeper.wait_serving()
        self._check_stopping()
        with contextlib.closing(self._open_directory()) as directory:
            known = directory.shards() if directory.initialised else {}
            placement = directory.partition_map() if known else first_map(layout)
            if cluster is None:
                cluster = self._start_redis(layout, binary, known, placement)
            self._enter(cluster, layout, directory, known, placement)
            self._credentials.protect(directory)
            self._files.write_admin_environment(self._admin_environment(directory))
        self._check_stopping()
        if self._database is not None:
            self._database.migrate()
        journals = [self._start_journal(number, last) for number in range(1, layout.journals + 1)]
        if self._database is not None:
            self._start_follower(last)
        apis = [self._start_api(index) for index in range(self._options.apis)]
        if self._options.oracle:
            self._start_oracle(last)
        if layout.journals > 1:
            self._wait_counted([*journals, *apis], layout.journals)
        self._wait_ready([*journals, *apis])

    def _start_zookeeper(self, install: ZooKeeperInstall, last: DevState | None) -> None:
        port = port_again(last.zookeeper if last else None)
        log = self._logs / "zookeeper.log"
        self._say("starting ZooKeeper")
        secured = self._credentials.for_zookeeper()
        self._zookeeper = ZooKeeperProcess(install, self._zookeeper_folder, port, log=log, secured=secured)
        self._keeper.start(Kept("zookeeper", self._zookeeper, self._zookeeper.address))

    def _start_database(self, install: PostgresInstall, last: DevState | None) -> None:
        port = port_again(last.address_of("postgresql") if last else None)
        self._say(f"starting {install}")
        folder, log = self._data_dir / "postgresql", self._logs / "postgresql.log"
        self._database = PostgresProcess(install, folder, port, log=log)
        self._database.start_and_wait()
        self._keeper.keep(Kept("database", self._database, self._database.address))

    def _start_follower(self, last: DevState | None) -> None:
        port = port_again(last.address_of("follower-1") if last else None)
        self._say("starting the follower")
        sinks = ("--to", "history", "--to", "webhooks", "--metrics-port", str(port))
        flags = ("--follower-id", "follower-1", *sinks, *self._database_flags())
        self._keeper.start(Kept("follower", self._python("follower-1", "follow", *flags), f"{HOST}:{port}"))

    def _database_flags(self) -> tuple[str, ...]:
        database = self._database
        if database is None:
            return ()
        flags = ("--database", database.url, "--database-password-file", str(database.password_file))
        return (*flags, "--webhooks-allow-private") if self._options.webhooks_allow_private else flags

    def _open_directory(self) -> Directory:
        zookeeper = None if self._zookeeper is None else self._zookeeper.address
        return self._credentials.open_directory(zookeeper, self._map_file)

    def _admin_environment(self, directory: Directory) -> dict[str, str]:
        """The variables that `wallet-admin` needs, with their prefix."""
        zookeeper = self._zookeeper
        where = {"MAP_FILE": str(self._map_file)} if zookeeper is None else {"ZOOKEEPER": zookeeper.address}
        where |= self._credentials.variables(zookeeper=zookeeper is not None) | dict(self._options.admin)
        if self._options.auth:
            where["KEY"] = provide_keys(directory, self._data_dir)
        if self._database is not None:
            where["DATABASE"] = self._database.url
            where["DATABASE_PASSWORD_FILE"] = str(self._database.password_file)
        return {f"WALLET_{name}": value for name, value in where.items()}

    def _start_redis(
        self, layout: Layout, binary: RedisBinary, known: Mapping[str, Shard], placement: PartitionMap
    ) -> RedisCluster:
        """Form a Redis Cluster of the known shards, or of the layout's shards when none is known."""
        names = list(known) or first_names(layout)
        cluster = RedisCluster(
            binary,
            self._data_dir / "redis",
            ownership_of(placement, names),
            replicas={name: len(known[name].nodes) - 1 if known else layout.replicas for name in names},
            wanted_ports=ports_of(known),
            logs=self._logs,
            node_flags=self._credentials.node_flags(),
            tls=self._credentials.redis_tls,
        )
        self._say(f"forming a Redis Cluster of {len(names)} shards, {cluster.size} nodes")
        cluster.start(lambda node: self._keep_redis(cluster, node))
        return cluster

    def _enter(
        self,
        cluster: RedisCluster,
        layout: Layout,
        directory: Directory,
        known: Mapping[str, Shard],
        placement: PartitionMap,
    ) -> None:
        """Write a new cluster into the directory, or update the addresses of a known one."""
        shards = [Shard(name, tuple(nodes)) for name, nodes in cluster.addresses().items()]
        if not known:
            config = ClusterConfig(
                partitions=layout.partitions,
                journal_quorum=layout.journal_quorum,
                stream_entries_max=layout.stream_entries_max,
            )
            directory.initialise(config, shards, placement)
        for shard in shards:
            if known and known[shard.name] != shard:
                self._say(f"shard {shard.name} is at {', '.join(shard.nodes)} now: its ports were taken")
                directory.put_shard(shard)

    def _keep_redis(self, cluster: RedisCluster, node: RedisNode) -> None:
        """Keep a node running. A dead primary is restarted only after its replica's promotion, if one is possible.

        Restarted at once, it would come back empty and still believe to be the primary. It would then empty its
        replicas too, and the whole shard would need a replay.
        """

        def may_restart(dead_s: float) -> bool:
            if dead_s > FAILOVER_S_MAX or not cluster.failover_possible(node):
                return True
            return any(other.is_primary() for other in cluster.shard_nodes(node.shard) if other is not node)

        self._redis.append(node)
        self._keeper.keep(Kept("redis", node, node.address, node.shard, may_restart))

    def _start_journal(self, number: int, last: DevState | None) -> Kept:
        name = f"journal-j{number}"
        port = port_again(last.address_of(name) if last else None)
        self._say(f"starting journal copy {number}")
        folder = "journal" if number == 1 else f"journal-{number}"
        metrics = metrics_port(number, self._environ, last.metrics_of(name) if last else None)
        flags: tuple[str, ...] = ("--directory", str(self._data_dir / folder), "--journal-id", f"j{number}")
        flags += ("--metrics-port", str(metrics), *self._options.journal_flags)
        child = self._python(name, "journal", *flags, port=port)
        return self._keeper.start(Kept("journal", child, f"{HOST}:{port}", metrics=f"{HOST}:{metrics}"))

    def _start_api(self, index: int) -> Kept:
        port = self._options.port + index
        name = f"api-{index + 1}"
        self._say(f"starting API process {index + 1} on port {port}")
        flags = ("--service-id", name, "--leave-s", str(LEAVE_S), *self._database_flags())
        child = self._python(name, "serve", *flags, port=port)
        return self._keeper.start(Kept("api", child, f"{HOST}:{port}"))

    def _start_oracle(self, last: DevState | None) -> None:
        port = port_again(last.address_of("oracle") if last else None)
        self._say("starting the oracle")
        where = f"oracle:{self._data_dir / 'oracle'}"
        flags = ("--to", where, "--follower-id", "oracle", "--metrics-port", str(port))
        self._keeper.start(Kept("oracle", self._python("oracle", "follow", *flags), f"{HOST}:{port}"))

    def _python(self, name: str, verb: str, *flags: str, port: int | None = None) -> Child:
        coordination: tuple[str, ...] = ("--map-file", str(self._map_file))
        if self._zookeeper is not None:
            secured = self._credentials.zookeeper_flags(verb, name)
            coordination = ("--zookeeper", self._zookeeper.address, *secured)
        argv = [sys.executable, "-m", "wallet_engine", verb, *coordination, "--host", HOST]
        argv += self._credentials.flags(verb, name)
        log = self._logs / f"{name}.log"
        if port is not None:
            argv += ["--port", str(port)]
        return Child(name, [*argv, *flags], log, environ=self._environ)

    def _wait_counted(self, engine: list[Kept], copies: int) -> None:
        """Return when every journal copy counts. Copies are admitted one after the other. Raises as `_wait` does.

        A quorum is enough for payments. But a backup taken then would not count the other copies.
        """
        with contextlib.closing(self._open_directory()) as directory:

            def lacking() -> str | None:
                try:
                    counted = directory.members().copies
                except StoreUnavailable as error:
                    return str(error)
                return None if len(counted) >= copies else f"journal copies that count: {', '.join(counted)}"

            self._wait(engine, lacking)

    def _wait_ready(self, engine: list[Kept]) -> None:
        """Return when every API process takes transfers of every partition, stopped partitions aside.

        A stopped partition needs a person. Raises as `_wait` does.
        """
        waiting = [kept for kept in engine if kept.role == "api"]

        def lacking() -> str | None:
            answers = {kept.child.name: probe(kept.address) for kept in waiting}
            waiting[:] = [kept for kept in waiting if not answers[kept.child.name][0]]
            return f"{waiting[0].child.name}: {answers[waiting[0].child.name][1]}" if waiting else None

        self._wait(engine, lacking)

    def _wait(self, engine: list[Kept], lacking: Callable[[], str | None]) -> None:
        """Return when `lacking()` is None; its text says what is missing. Raises `StartFailed` and `Stopped`."""
        began = said = time.monotonic()
        while (missing := lacking()) is not None:
            self._check_stopping()
            self._keeper.tend()
            self._keeper.check_deaths(engine, START_DEATHS_MAX)
            now = time.monotonic()
            if now - began > READY_S_MAX:
                raise StartFailed(f"not ready after {READY_S_MAX:.0f} s: {missing}")
            if now - said > PROGRESS_S:
                said = now
                self._say(f"waiting for {missing}")
            time.sleep(TEND_S)

    def _write_state(self) -> None:
        """Write dev.json. A failure to write ends nothing: it is reported, and retried later."""
        living = self._keeper.living
        order = ("redis", "zookeeper", "database", "journal", "follower", "api", "oracle")
        processes = sorted((kept.info for kept in living), key=lambda info: order.index(info.role))
        zookeeper = self._zookeeper.address if self._zookeeper else None
        identities = [kept.child.identity for kept in living if kept.child.identity]
        try:
            self._files.write(DevState(tuple(processes), self.url, zookeeper), identities)
        except OSError as error:
            if self._unwritten_since is None:
                self._say(
                    f"cannot write {self._files.dev_json}: {error.strerror}; until it can be written, it is out of date"
                )
            self._unwritten_since = time.monotonic()
        else:
            if self._unwritten_since is not None:
                self._say(f"{self._files.dev_json} is written again")
            self._unwritten_since = None

    def _write_state_late(self) -> None:
        """Retry a failed write of dev.json every `REWRITE_S`."""
        since = self._unwritten_since
        if since is not None and time.monotonic() - since > REWRITE_S:
            self._write_state()

    def _check_stopping(self) -> None:
        if self._stopping:
            raise Stopped

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self._stopping = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _say(self, text: str) -> None:
        _print(f"dev {time.monotonic() - self._began:5.1f} s  {text}", sys.stderr)


def _print(text: str, stream: TextIO) -> None:
    with contextlib.suppress(OSError):  # the stream may be a file on a full disk
        print(text, file=stream, flush=True)
