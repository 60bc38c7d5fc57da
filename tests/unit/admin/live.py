"""A cluster without an engine: partitions on a real Redis, written by the scripts and journaled at once."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from lua.partition import LuaPartition
from unit.admin.made import answer_as_copy, make_map, register_journal

from wallet_engine.dev.redis_cluster import RedisCluster
from wallet_engine.domain.entry import parse_header
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.redis_store.stream import from_stream
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.model import Shard
from wallet_engine.routing.slots import tag_of


@contextmanager
def some_of_everything(cluster: RedisCluster, directory: Path) -> Iterator["LiveCluster"]:
    """Four partitions: 1 has operations of every kind, 0 and 2 have some, 3 has no entry."""
    live = LiveCluster(cluster, directory, 4)
    try:
        for partition in range(3):
            live.apply(partition, "o - alice - 0 USD", "o - bob 500 0 USD", "o - alice - 0 JPY")
            live.apply(partition, "t 1 @bank alice 1000 USD", "t 2 @bank alice 7 JPY")
        live.apply(1, "t 3 alice bob 250 USD", "d 4 alice far 66 USD", "d 5 bob far 1 USD")
        live.apply(2, "c 1.3 far 1 66 USD", "d 6 alice alice 5 USD")
        live.apply(1, "f - bob freeze 0 -", "c 2.3 alice 1 5 USD", "r 4 alice 3.1.g 66 USD")
        yield live
    finally:
        live.close()


class LiveCluster:
    """`apply` runs a batch on a partition, `drain` journals new entries; a copy at `address` says that it has them."""

    def __init__(self, cluster: RedisCluster, directory: Path, partitions: int = 2) -> None:
        shards = [Shard(name, tuple(nodes)) for name, nodes in cluster.addresses().items()]
        self.map_file = directory / "map.json"
        self.directory = make_map(self.map_file, partitions, shards)
        self.writer = JournalWriter(directory / "journal", "j1", segment_bytes_max=20_000)
        #: Partitions for which the copy gives no receipts now.
        self.silent: set[int] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._say_hello, daemon=True)
        self._thread.start()
        address = f"127.0.0.1:{self._server.getsockname()[1]}"
        register_journal(self.directory, self.writer.directory, address)
        partition_map = self.directory.partition_map()
        self.clients: list[redis.Redis] = []
        self.partitions = []
        for partition in range(partitions):
            node = cluster.primary(partition_map.shard_of(partition))
            self.clients.append(connect(node.address, timeout_s=5))
            self.partitions.append(LuaPartition(self.clients[-1], tag_of(partition, partitions)))

    def apply(self, partition: int, *lines: str, drain: bool = True) -> str:
        """Run a batch on a partition. Returns the outcomes."""
        reply = self.partitions[partition].apply(list(lines))
        assert reply[0] == "OK", reply
        if drain:
            self.drain(partition)
        return str(reply[4])

    def drain(self, partition: int) -> None:
        lua = self.partitions[partition]
        seq = self.writer.position(partition).seq
        entries = lua.client.xrange(lua.keys.journal, f"({seq}-0", "+")
        for _, fields in entries:
            payload = from_stream(*map(str.encode, fields.values()))
            self.writer.append(partition, payload, parse_header(payload))
        self.writer.sync()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for client in self.clients:
            client.close()
        self.writer.close()
        self.directory.close()

    def _say_hello(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                held = [(p, at.seq, at.nonce) for p, at in self.writer.positions().items()]
                answer_as_copy(connection, [at for at in held if at[0] not in self.silent], held)
