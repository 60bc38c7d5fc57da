"""One Redis node in cluster mode: an address to talk to, and a process of this machine behind it."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from wallet_engine.dev.binaries import RedisBinary
from wallet_engine.dev.config_files import config_path
from wallet_engine.dev.process import Child
from wallet_engine.domain.addresses import join_address
from wallet_engine.redis_store.login import login

START_S_MAX: Final = 10.0
COMMAND_S_MAX: Final = 5.0
#: For questions that are asked again and again: a node that hangs must not hold up who watches it.
PROBE_S_MAX: Final = 1.0


class RedisEndpoint:
    """A node that listens somewhere: what can be asked of it and told to it. `host` is an IP address."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self.host = host
        self.port = port

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.address}>"

    @property
    def address(self) -> str:
        """`host:port` of the node."""
        return join_address(self.host, self.port)

    def client(self, timeout_s: float = COMMAND_S_MAX) -> redis.Redis:
        """A new connection for administration: nothing is retried. The caller closes it."""
        return redis.Redis(
            host=self.host,
            port=self.port,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            **login().options(),
        )

    def command(self, *arguments: str | int, timeout_s: float = COMMAND_S_MAX) -> Any:
        """The answer to one command; raises what redis-py raises.

        Give a subcommand as a word of its own (`"CLUSTER", "NODES"`): redis-py then leaves the answer alone.
        """
        with contextlib.closing(self.client(timeout_s)) as client:
            return client.execute_command(*arguments)  # type: ignore[no-untyped-call]

    def answers(self) -> bool:
        try:
            return bool(self.command("PING", timeout_s=PROBE_S_MAX))
        except redis.RedisError:
            return False

    def node_id(self) -> str:
        """The node's id in its cluster: stable over restarts as long as nodes.conf is kept."""
        return _text(self.command("CLUSTER", "MYID"))

    def cluster_ok(self) -> bool:
        """Whether the node is in a cluster that it believes to be up."""
        return self.cluster_info().get("cluster_state") == "ok"

    def cluster_info(self) -> dict[str, str]:
        """`CLUSTER INFO`, or nothing while the node does not answer."""
        try:
            answer = _text(self.command("CLUSTER", "INFO", timeout_s=PROBE_S_MAX))
        except redis.RedisError:
            return {}
        return dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)

    def cluster_nodes(self) -> list[list[str]]:
        """The words of each line of `CLUSTER NODES` (id, address, flags, ...; slots from the ninth on)."""
        return [line.split() for line in _text(self.command("CLUSTER", "NODES")).splitlines()]

    def is_primary(self) -> bool:
        """Whether the node answers and says that it is a primary."""
        try:
            answer: Sequence[object] = self.command("ROLE", timeout_s=PROBE_S_MAX)
        except redis.RedisError:
            return False
        return _text(answer[0]) == "master"

    def replica_in_sync(self) -> bool:
        """Whether the node is a replica whose link to its primary is up."""
        try:
            answer: Sequence[object] = self.command("ROLE", timeout_s=PROBE_S_MAX)
        except redis.RedisError:
            return False
        return _text(answer[0]) == "slave" and _text(answer[3]) == "connected"

    def last_words(self) -> str:
        """What to append to an error about this node."""
        return f" ({self.address})"


class RedisNode(Child, RedisEndpoint):
    """A node of a Redis Cluster on 127.0.0.1, in a directory of its own.

    Its memory ends with the process: nothing is kept on disk but `nodes.conf`, from which a node started
    again knows its identity, its slots and its peers.
    """

    def __init__(
        self,
        binary: RedisBinary,
        shard: str,
        name: str,
        directory: Path,
        port: int,
        *,
        log: Path | None = None,
        flags: Sequence[str] = (),
        tls: bool = False,
    ) -> None:
        """With `tls` it speaks nothing else; `flags` then name its certificate."""
        self.shard = shard
        self.directory = directory
        argv = [
            *(str(binary.path), str(config_path("redis.conf"))),
            *(("--port", "0", "--tls-port", str(port)) if tls else ("--port", str(port))),
            *("--bind", "127.0.0.1", "--dir", str(directory), *flags),
        ]
        Child.__init__(self, name, argv, log or directory / "redis.log")
        RedisEndpoint.__init__(self, name, "127.0.0.1", port)

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        super().start()

    def start_and_wait(self) -> None:
        """Start, and return when the node answers. Raises `StartFailed`."""
        self.start()
        self.wait_answering()

    def wait_answering(self) -> None:
        """Return when the node answers PING. Raises `StartFailed`."""
        self.wait_ready(self.answers, START_S_MAX)

    def wipe(self) -> None:
        """Forget the cluster this node was part of. Only while it is stopped."""
        for leftover in ("nodes.conf", "dump.rdb"):
            (self.directory / leftover).unlink(missing_ok=True)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
