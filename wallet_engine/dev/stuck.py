"""Redis nodes that stay as they are although nothing is wrong with them.

**Started again before a clock was set back.** A node that has just started, or was in a minority, lets some seconds
pass by its wall clock before it serves. If the clock is set back meanwhile it refuses with CLUSTERDOWN for as long as
the step was (redis/redis#6416). Another start ends that.

**A primary without slots.** A primary that died becomes the replica of who took its slots only if these are all that
the other one has, where replicas may not leave their shard: not when the shard has got a partition meanwhile. It is
told whom to follow.
"""

import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import redis

from wallet_engine.dev.redis_node import PROBE_S_MAX, RedisNode
from wallet_engine.domain.limits import SLOTS

LOOK_S: Final = 3.0
#: In a row. Redis itself waits for at most 5 s.
LOOKS_MAX: Final = 3


def is_stuck(info: Mapping[str, str]) -> bool:
    """Whether a node (its `CLUSTER INFO`) says that the cluster is down, and that all slots are served."""
    return info.get("cluster_state") == "fail" and info.get("cluster_slots_ok") == str(SLOTS)


def has_slots(cluster_nodes: str) -> bool:
    """Whether the node whose `CLUSTER NODES` this is owns any slot."""
    for line in cluster_nodes.splitlines():
        words = line.split(" ")
        if "myself" in words[2].split(","):
            return any(not word.startswith("[") for word in words[8:])
    return False


class StuckNodes:
    """Looks at the nodes from its own thread, and kills those that stay stuck, so that they are started again."""

    def __init__(self, nodes: Callable[[], list[RedisNode]], say: Callable[[str], None]) -> None:
        self._nodes = nodes
        self._say = say
        #: What is so of a node -> how often in a row.
        self._seen: Counter[tuple[str, str]] = Counter()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stuck-nodes", daemon=True)

    def __repr__(self) -> str:
        return f"<StuckNodes {dict(self._seen)}>"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when no node is killed any more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            for node in self._nodes():
                self._look(node)

    def _look(self, node: RedisNode) -> None:
        if self._lasts(node, "waits", is_stuck(node.cluster_info())):
            self._say(f"{node.name} waits for a clock that was set back: it is started again")
            node.send_signal(signal.SIGKILL)
        owner = self._owner_beside(node)
        if self._lasts(node, "beside", owner is not None) and owner is not None:
            self._say(f"{node.name} is a primary without slots: it follows {owner.name} now")
            self._follow(node, owner)

    def _lasts(self, node: RedisNode, what: str, true: bool) -> bool:
        """Whether it was so for the last looks; then it is counted anew."""
        if not true:
            self._seen.pop((node.name, what), None)
            return False
        self._seen[node.name, what] += 1
        if self._seen[node.name, what] < LOOKS_MAX or self._stopping.is_set():
            return False
        del self._seen[node.name, what]
        return True

    def _owner_beside(self, node: RedisNode) -> RedisNode | None:
        """Who has the slots of its shard, if the node is a primary too and has none."""
        others = [other for other in self._nodes() if other.shard == node.shard and other is not node]
        if not others or not node.is_primary():
            return None
        owner = next((other for other in others if other.is_primary() and _has_slots(other)), None)
        return None if owner is None or _has_slots(node) is not False else owner

    def _follow(self, node: RedisNode, owner: RedisNode) -> None:
        """Its data count for nothing: if it is not empty, restart it empty first."""
        try:
            node.command("CLUSTER", "REPLICATE", owner.node_id(), timeout_s=PROBE_S_MAX)
        except redis.ResponseError as error:
            self._say(f"{node.name} says {error}: it is started again, empty")
            (node.directory / "dump.rdb").unlink(missing_ok=True)
            node.send_signal(signal.SIGKILL)
        except redis.RedisError as error:
            self._say(f"{node.name} says {error}")


def _has_slots(node: RedisNode) -> bool | None:
    """None while it does not answer."""
    try:
        return has_slots(node.command("CLUSTER", "NODES", timeout_s=PROBE_S_MAX).decode())
    except redis.RedisError:
        return None
