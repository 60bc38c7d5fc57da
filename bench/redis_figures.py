"""What Redis says about itself: memory, and the time its commands took."""

import time
from dataclasses import dataclass
from typing import Any, Final

from bench.cluster import Cluster

#: The journal trims the streams about once a second; memory is read after they are short.
TRIM_S_MAX: Final = 10.0
#: Entries of one stream that trimming leaves: Redis removes whole nodes of a stream only.
STREAM_LEFT_MAX: Final = 110
_COMMANDS: Final = ("evalsha", "xread", "xtrim", "zrange", "hmget", "hset", "xadd")


@dataclass(frozen=True, slots=True)
class RedisFigures:
    """Sums over all primaries; `usec` is time inside each command, that of a script including what it calls."""

    version: str
    memory_bytes: int
    usec: dict[str, int]

    def usec_since(self, before: "RedisFigures") -> dict[str, int]:
        """Time inside each command between two readings."""
        return {name: usec - before.usec.get(name, 0) for name, usec in self.usec.items()}


def read_figures(cluster: Cluster) -> RedisFigures:
    """Ask every primary now."""
    version, memory, usec = "", 0, dict.fromkeys(_COMMANDS, 0)
    with cluster.primaries() as clients:
        for client in clients.values():
            info: dict[str, Any] = client.info("everything")
            version = str(info["redis_version"])
            memory += int(info["used_memory"])
            for name in _COMMANDS:
                usec[name] += int(info.get(f"cmdstat_{name}", {}).get("usec", 0))
    return RedisFigures(version, memory, usec)


def read_trimmed(cluster: Cluster) -> RedisFigures:
    """As `read_figures`, once the streams are as short as they get."""
    deadline = time.monotonic() + TRIM_S_MAX
    with cluster.places() as places:
        while time.monotonic() < deadline:
            time.sleep(0.5)
            if all(int(place.client.xlen(place.keys.journal)) <= STREAM_LEFT_MAX for place in places):
                break
    return read_figures(cluster)
