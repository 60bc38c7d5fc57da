"""Entries that a person accepted although the oracle gets another result: `/wallet/accepted/<partition>`,
seqs.

The wrong entry stays in the journal, which is never rewritten. The partition serves again, and a transfer takes the
money back. `wallet-admin rebuild P --accept SEQ` writes the node, the oracle reads it.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec

from wallet_engine.domain.errors import Corruption
from wallet_engine.routing.tree import NodeExists, NodeMissing, Tree, VersionConflict

ACCEPTED: Final = "/wallet/accepted"
_ATTEMPTS_MAX: Final = 20


class Accepted:
    """The accepted entries in one tree. Calls are synchronous, like the tree's."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def __repr__(self) -> str:
        return f"<Accepted of {self._tree!r}>"

    def seqs(self, damaged: list[str]) -> Mapping[int, frozenset[int]]:
        """partition -> seqs. For a node that cannot be read, nothing is accepted, and `damaged` gets a sentence."""
        found: dict[int, frozenset[int]] = {}
        for name in self._tree.children(ACCEPTED):
            path = f"{ACCEPTED}/{name}"
            node = self._tree.get(path)
            if node is not None and name.isdecimal():
                try:
                    found[int(name)] = _read(node.data, path)
                except Corruption as error:
                    damaged.append(str(error))
        return found

    def add(self, partition: int, seq: int) -> None:
        """Accept an entry. Raises `VersionConflict` when others keep changing the node."""
        path = f"{ACCEPTED}/{partition}"
        for _attempt in range(_ATTEMPTS_MAX):
            node = self._tree.get(path)
            known = frozenset[int]() if node is None else _read(node.data, path)
            data = msgspec.json.encode(sorted(known | {seq}))
            with suppress(NodeExists, NodeMissing, VersionConflict):
                if node is None:
                    self._tree.create(path, data)
                else:
                    self._tree.set(path, data, node.version)
                return
        raise VersionConflict(f"{path} was changed by others {_ATTEMPTS_MAX} times in a row")


def _read(data: bytes, path: str) -> frozenset[int]:
    try:
        return msgspec.json.decode(data, type=frozenset[int])
    except msgspec.MsgspecError as error:
        raise Corruption(f"{path} is damaged: {error}") from None
