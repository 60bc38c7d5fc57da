"""Reads a folder of nodes, and watches it together with their contents.

The names alone are not enough: a process that restarts quickly is gone and back between two looks, under the
same name and with another address.
"""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from wallet_engine.domain.errors import ConfigError, Corruption, WalletError, text_of
from wallet_engine.routing.model import decode
from wallet_engine.routing.tree import Node, Tree, Unsubscribe

logger = logging.getLogger(__name__)

T = TypeVar("T")


def read_roster(
    tree: Tree, folder: str, kind: type[T], unreadable: Callable[[WalletError], object] | None = None
) -> dict[str, T]:
    """name -> value of the folder's children.

    `unreadable` is called for each that does not hold a `kind`. Without it, that raises `Corruption` or `ConfigError`.
    """
    found: dict[str, T] = {}
    for name in tree.children(folder):
        node = tree.get(f"{folder}/{name}")
        if node is None:
            continue
        try:
            found[name] = decode(node.data, kind, f"{folder}/{name}")
        except (ConfigError, Corruption) as error:
            if unreadable is None:
                raise
            unreadable(error)
    return found


def passing_over(damaged: list[str] | None) -> Callable[[WalletError], object]:
    """What to do with an error about one child: add its text to `damaged`, or log it."""
    if damaged is None:
        return lambda error: logger.error("passed over: %s", error)
    return lambda error: damaged.append(text_of(error))


def watch_roster(
    tree: Tree, folder: str, kind: type[T], callback: Callable[[dict[str, T]], object]
) -> Unsubscribe:
    """Call back with name -> value of the folder's children soon, and whenever that changes.

    A child that does not hold a `kind` is logged and left out. Calls come as those of `Tree.watch` do.
    """
    roster = _Roster(tree, folder, kind, callback)
    stop_names = tree.watch_children(folder, roster.names_changed)

    def unsubscribe() -> None:
        stop_names()
        roster.stop()

    return unsubscribe


class _Roster(Generic[T]):
    """Only the tree's one watching thread changes it, so it needs no lock."""

    def __init__(
        self, tree: Tree, folder: str, kind: type[T], callback: Callable[[dict[str, T]], object]
    ) -> None:
        self._tree = tree
        self._folder = folder
        self._kind = kind
        self._callback = callback
        self._stops: dict[str, Unsubscribe] = {}
        #: The value of each child; absent until its first read, None when it is gone or unreadable.
        self._members: dict[str, T | None] = {}
        self._told: dict[str, T] | None = None
        self._stopped = False

    def names_changed(self, names: list[str]) -> None:
        if self._stopped:
            return
        for name in self._stops.keys() - set(names):
            self._stops.pop(name)()
            self._members.pop(name, None)
        for name in names:
            if name not in self._stops:
                self._stops[name] = self._watch(name)
        self._tell()

    def stop(self) -> None:
        self._stopped = True
        for stop in tuple(self._stops.values()):
            stop()

    def _watch(self, name: str) -> Unsubscribe:
        path = f"{self._folder}/{name}"

        def changed(node: Node | None) -> None:
            value: T | None = None
            if node is not None:
                try:
                    value = decode(node.data, self._kind, path)
                except WalletError as error:
                    logger.error("passed over: %s", error)
            self._members[name] = value
            self._tell()

        return self._tree.watch(path, changed)

    def _tell(self) -> None:
        if self._stopped or len(self._members) < len(self._stops):
            return  # some child was not read yet: the list would be incomplete
        present = {name: value for name, value in sorted(self._members.items()) if value is not None}
        if present != self._told:
            self._told = present
            self._callback(dict(present))
