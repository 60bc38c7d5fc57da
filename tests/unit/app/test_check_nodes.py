"""The look at the Redis nodes when a process starts."""

import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path

from wallet_engine.app.running import check_nodes
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.model import ClusterConfig, Shard, spread

HANG = 5


def test_g9_nodes_that_hang_are_waited_for_together(tmp_path: Path) -> None:
    """One after the other, a host with many nodes kept a process from starting for a second each."""
    with ExitStack() as open_ones, closing(open_directory(None, tmp_path / "map.json")) as directory:
        hanging = [open_ones.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(HANG)]
        nodes = [f"127.0.0.1:{server.getsockname()[1]}" for server in hanging]
        directory.initialise(ClusterConfig(partitions=1), [Shard("s1", tuple(nodes))], spread(1, ["s1"]))
        directory.put("/wallet/shards/s2", b"{")
        began_s = time.monotonic()
        check_nodes(directory)
        assert time.monotonic() - began_s < HANG / 2
