"""Frees Redis nodes that are stuck in a state which they do not leave by themselves.

**A clock that was set back.** A node that has just started, or was in a minority, waits some seconds of its wall clock
before it serves. When the clock is set back meanwhile, the node refuses with CLUSTERDOWN until the clock has
caught up (redis/redis#6416). A restart ends that.

**A primary without slots.** When replicas may not leave their shard, a restarted primary follows its successor only
if the successor owns exactly the slots that it had itself. That is not so when the shard got a partition meanwhile.
Then this module tells the node whom to follow.
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
#: Looks in a row that must find the same before anything is done. Redis itself waits for at most 5 s.
LOOKS_MAX: Final = 3


def is_stuck(info: Mapping[str, str]) -> bool:
    """Whether `CLUSTER INFO` says both that the cluster is down and that all slots are served."""
    return info.get("cluster_state") == "fail" and info.get("cluster_slots_ok") == str(SLOTS)


def has_slots(cluster_nodes: str) -> bool:
    """Whether the node that gave this text of `CLUSTER NODES` owns any slot."""
    for line in cluster_nodes.splitlines():
        words = line.split(" ")
        if "myself" in words[2].split(","):
            return any(not word.startswith("[") for word in words[8:])
    return False


class StuckNodes:
    """Checks the nodes every `LOOK_S` in its own thread. Kills a node that waits, so that it is restarted; gives a
    primary without slots its new primary.
    """

    def __init__(self, nodes: Callable[[], list[RedisNode]], say: Callable[[str], None]) -> None:
        self._nodes = nodes
        self._say = say
        #: (name of a node, what is wrong with it) -> looks in a row that found it.
        self._seen: Counter[tuple[str, str]] = Counter()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stuck-nodes", daemon=True)

    def __repr__(self) -> str:
        return f"<StuckNodes {dict(self._seen)}>"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. Returns when it has ended."""
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
        """Whether the condition was true for the last `LOOKS_MAX` looks; then the count begins again."""
        if not true:
            self._seen.pop((node.name, what), None)
            return False
        self._seen[node.name, what] += 1
        if self._seen[node.name, what] < LOOKS_MAX or self._stopping.is_set():
            return False
        del self._seen[node.name, what]
        return True

    def _owner_beside(self, node: RedisNode) -> RedisNode | None:
        """The other primary of the shard, which owns its slots, if this node is a primary without slots."""
        others = [other for other in self._nodes() if other.shard == node.shard and other is not node]
        if not others or not node.is_primary():
            return None
        owner = next((other for other in others if other.is_primary() and _has_slots(other)), None)
        return None if owner is None or _has_slots(node) is not False else owner

    def _follow(self, node: RedisNode, owner: RedisNode) -> None:
        """Make the node a replica of the owner. A node with data refuses that: it is restarted empty first.

        Its data are stale, so nothing is lost.
        """
        try:
            node.command("CLUSTER", "REPLICATE", owner.node_id(), timeout_s=PROBE_S_MAX)
        except redis.ResponseError as error:
            self._say(f"{node.name} says {error}: it is started again, empty")
            (node.directory / "dump.rdb").unlink(missing_ok=True)
            node.send_signal(signal.SIGKILL)
        except redis.RedisError as error:
            self._say(f"{node.name} says {error}")


def _has_slots(node: RedisNode) -> bool | None:
    """Whether the node owns any slot; None when it does not answer."""
    try:
        return has_slots(node.command("CLUSTER", "NODES", timeout_s=PROBE_S_MAX).decode())
    except redis.RedisError:
        return None
