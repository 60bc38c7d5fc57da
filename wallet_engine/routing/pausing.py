"""The node `/wallet/pause`: while it exists, the cluster is paused and takes no new payments."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from wallet_engine.domain.errors import WalletError
from wallet_engine.routing.model import decode
from wallet_engine.routing.tree import Node, NodeExists, NodeMissing, Tree, Unsubscribe

PAUSE: Final = "/wallet/pause"

logger = logging.getLogger(__name__)


class Pause(Struct, frozen=True):
    """Why the cluster is paused, who paused it, and since when (Unix ms)."""

    reason: str
    by: str
    since_ms: int


class Pausing:
    """Sets, ends and watches the pause."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def __repr__(self) -> str:
        return f"<Pausing {self._tree!r}>"

    def get(self) -> Pause | None:
        """The pause; None while payments are taken."""
        node = self._tree.get(PAUSE)
        return None if node is None else decode(node.data, Pause, PAUSE)

    def begin(self, pause: Pause) -> Pause:
        """Take no new payments. Returns the present pause, which may be an earlier one."""
        with suppress(NodeExists):
            self._tree.create(PAUSE, msgspec.json.encode(pause))
        return self.get() or pause

    def end(self) -> None:
        """Take payments again."""
        with suppress(NodeMissing):
            self._tree.delete(PAUSE)

    def watch(self, callback: Callable[[Pause | None], object]) -> Unsubscribe:
        """Call back soon and after every change. A node that cannot be read counts as a pause."""

        def decoded(node: Node | None) -> None:
            try:
                callback(None if node is None else decode(node.data, Pause, PAUSE))
            except WalletError as error:
                logger.error("%s cannot be read: %s", PAUSE, error)
                callback(Pause("the reason cannot be read", "", 0))

        return self._tree.watch(PAUSE, decoded)
