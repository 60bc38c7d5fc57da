"""Redis nodes that refuse with CLUSTERDOWN although they miss nothing.

A node that has just started, or was in a minority, lets some seconds pass by its wall clock before it serves. If the
clock is set back meanwhile it waits for as long as the step was (redis/redis#6416). Another start ends that.
"""

import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from wallet_engine.dev.redis_node import RedisNode
from wallet_engine.domain.limits import SLOTS

LOOK_S: Final = 3.0
#: In a row. Redis itself waits for at most 5 s.
LOOKS_MAX: Final = 3


def is_stuck(info: Mapping[str, str]) -> bool:
    """Whether a node (its `CLUSTER INFO`) says that the cluster is down, and that all slots are served."""
    return info.get("cluster_state") == "fail" and info.get("cluster_slots_ok") == str(SLOTS)


class StuckNodes:
    """Looks at the nodes from a thread of its own, and kills those that stay stuck: their keeper starts them again."""

    def __init__(self, nodes: Callable[[], list[RedisNode]], say: Callable[[str], None]) -> None:
        self._nodes = nodes
        self._say = say
        self._seen: Counter[str] = Counter()
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
        if not is_stuck(node.cluster_info()):
            self._seen.pop(node.name, None)
            return
        self._seen[node.name] += 1
        if self._seen[node.name] >= LOOKS_MAX and not self._stopping.is_set():
            self._seen.pop(node.name)
            self._say(f"{node.name} waits for a clock that was set back: it is started again")
            node.send_signal(signal.SIGKILL)
