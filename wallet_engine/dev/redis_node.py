"""One Redis node in cluster mode: its address and commands, and the local process behind it."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import redis

from wallet_engine.dev.binaries import RedisBinary
from wallet_engine.dev.config_files import config_path
from wallet_engine.dev.process import Child
from wallet_engine.domain.addresses import join_address
from wallet_engine.redis_store.login import login

START_S_MAX: Final = 10.0
COMMAND_S_MAX: Final = 5.0
#: Time-out of repeated checks: a node that hangs must not delay the thread that watches it.
PROBE_S_MAX: Final = 1.0


class RedisEndpoint:
    """The address of a node, and the commands that `dev` sends to it. `host` is an IP address."""

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
        """A new connection for administration, without retries. The caller closes it."""
        return login().client(self.host, self.port, timeout_s)

    def command(self, *arguments: str | int, timeout_s: float = COMMAND_S_MAX) -> Any:
        """The answer to one command, over a new connection. Raises `redis.RedisError`.

        Give a subcommand as a separate word (`"CLUSTER", "NODES"`): then redis-py does not parse the answer.
        """
        with contextlib.closing(self.client(timeout_s)) as client:
            return client.execute_command(*arguments)  # type: ignore[no-untyped-call]

    def answers(self) -> bool:
        try:
            return bool(self.command("PING", timeout_s=PROBE_S_MAX))
        except redis.RedisError:
            return False

    def node_id(self) -> str:
        """The node's id in its cluster. It survives restarts as long as nodes.conf is kept."""
        return _text(self.command("CLUSTER", "MYID"))

    def cluster_ok(self) -> bool:
        """Whether the node says `cluster_state:ok`. False when it does not answer."""
        return self.cluster_info().get("cluster_state") == "ok"

    def cluster_info(self) -> dict[str, str]:
        """The fields of `CLUSTER INFO`; empty when the node does not answer."""
        try:
            answer = _text(self.command("CLUSTER", "INFO", timeout_s=PROBE_S_MAX))
        except redis.RedisError:
            return {}
        return dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)

    def cluster_nodes(self) -> list[list[str]]:
        """The words of each line of `CLUSTER NODES`: id, address, flags, …; the slots begin at the ninth word."""
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
        """Text to append to an error message about this node."""
        return f" ({self.address})"


class RedisNode(Child, RedisEndpoint):
    """A node of a Redis Cluster on 127.0.0.1, with its own directory.

    The data are lost when the process ends: only `nodes.conf` is on disk. A restarted node reads its id, its
    slots and its peers from that file.
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
        """`tls`: the node listens for TLS only; `flags` must then name its certificate."""
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
        """Delete `nodes.conf` and any dump, so that the node forgets its cluster. Only while it is stopped."""
        for leftover in ("nodes.conf", "dump.rdb"):
            (self.directory / leftover).unlink(missing_ok=True)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
