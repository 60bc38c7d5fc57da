"""The reactions of a service to error replies of a shard's node."""

import asyncio
from typing import Any, Final

import pytest

from wallet_engine.engine.cluster import ClusterView
from wallet_engine.routing.model import PartitionMap, spread

MAP: Final = spread(2, ["s1"])


class Lane:
    """The lane of a shard. Counts how often it looked for the primary."""

    def __init__(self) -> None:
        self.looked = 0

    async def refresh(self) -> None:
        self.looked += 1


class Directory:
    """Counts how often the map was read."""

    def __init__(self) -> None:
        self.read = 0

    def partition_map(self) -> PartitionMap:
        self.read += 1
        return MAP


async def heeded(error: str) -> tuple[int, int, bool]:
    """(looks for the primary, reads of the map, whether recovery was requested) after this error."""
    directory: Any = Directory()
    view = ClusterView(directory, lambda: None, lambda _: None)
    view.map = MAP
    lane: Any = Lane()
    view.lanes["s1"] = lane
    asked: list[str] = []
    view.tracker.request_recovery = lambda shard, _: asked.append(shard)  # type: ignore[method-assign]
    for _ in range(2):
        view.heed("s1", error)
    await asyncio.sleep(0.02)
    for task in list(view._tasks):
        task.cancel()
    return lane.looked, directory.read, asked == ["s1"]


@pytest.mark.parametrize(
    ("error", "what"),
    [
        ("MOVED 6 127.0.0.1:6379", (1, 1, False)),
        ("READONLY You can't write against a read only replica.", (1, 1, False)),
        # The node has restarted, and may be a replica now. It answers no MOVED to a call without keys.
        ("NOSCRIPT No matching script. Please use EVAL.", (1, 0, True)),
        ("LOADING Redis is loading the dataset in memory", (0, 0, False)),
    ],
)
def test_an_error_is_heeded(error: str, what: tuple[int, int, bool]) -> None:
    assert asyncio.run(heeded(error)) == what
