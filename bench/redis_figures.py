"""Figures that Redis reports: the time inside each command, and the memory of each kind of key."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from bench.cluster import Cluster

_SCAN_COUNT: Final = 1_000


@dataclass(frozen=True, slots=True)
class RedisFigures:
    """Sums over all primaries. `usec`: microseconds inside each command; a script includes the commands it calls."""

    version: str
    memory_bytes: int
    usec: dict[str, int]

    def usec_since(self, before: "RedisFigures") -> dict[str, int]:
        """Microseconds inside each command between two readings; only commands that took any time."""
        spent = {name: usec - before.usec.get(name, 0) for name, usec in self.usec.items()}
        return {name: usec for name, usec in spent.items() if usec > 0}


def read_figures(cluster: Cluster) -> RedisFigures:
    """Read the figures of every primary now."""
    version, memory, usec = "", 0, Counter[str]()
    with cluster.primaries() as clients:
        for client in clients.values():
            info: dict[str, Any] = client.info("everything")
            version = str(info["redis_version"])
            memory += int(info["used_memory"])
            for name, figures in info.items():
                if name.startswith("cmdstat_"):
                    usec[name.removeprefix("cmdstat_")] += int(figures["usec"])
    return RedisFigures(version, memory, dict(usec))


@dataclass(frozen=True, slots=True)
class KeyMemory:
    """The memory of one kind of key, and the number of fields of all its keys (0 for keys that are no hashes)."""

    bytes: int
    fields: int


def key_memory(cluster: Cluster) -> dict[str, KeyMemory]:
    """Kind of key (its name up to the first `:` or `{`) -> the memory of all its keys.

    Measured by `MEMORY USAGE … SAMPLES 0`: fields, values, table and the allocator's rounding, without fragmentation.
    It blocks Redis for some 0.1 µs per field, so call it outside the measured part.
    """
    found: dict[str, KeyMemory] = {}
    with cluster.primaries() as clients:
        for client in clients.values():
            for key in client.scan_iter(count=_SCAN_COUNT):
                kind = str(key).partition("{")[0].partition(":")[0]
                known = found.get(kind, KeyMemory(0, 0))
                size = int(client.memory_usage(key, samples=0) or 0)
                fields = int(client.hlen(key)) if client.type(key) == "hash" else 0
                found[kind] = KeyMemory(known.bytes + size, known.fields + fields)
    return found
