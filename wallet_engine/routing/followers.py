"""The position of each follower of the feed: `/wallet/followers/<sink>/<partition>`, a seq in digits.

It is the seq behind which a new process would read on. If the sink has taken more, which a new process would read
again, a blank and that seq follow.

Other parts use it: segments with entries that a follower has not taken stay on disk (`wallet-admin journal prune`), and
`doctor` sees followers that are behind. A follower itself continues from the position in its own store.

A sink exists from its first `note` until `forget`, running or not. For a partition without a note, it counts
as having taken nothing.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from wallet_engine.domain.errors import Corruption, WalletError
from wallet_engine.routing.model import check_name
from wallet_engine.routing.roster import passing_over
from wallet_engine.routing.tree import NodeExists, NodeMissing, Tree, VersionConflict

FOLLOWERS: Final = "/wallet/followers"
#: Minimum time between a follower's notes; it notes only partitions that advanced.
NOTE_S: Final = 10.0
NOTHING: Final[Mapping[int, int]] = MappingProxyType({})

_note_match: Final = re.compile(rb"[0-9]{1,19}(?: [0-9]{1,19})?\Z").match


class Followers:
    """The positions of all sinks. Calls are synchronous, like the tree's."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def __repr__(self) -> str:
        return f"<Followers of {self._tree!r}>"

    def note(self, sink: str, seqs: Mapping[int, int], taken: Mapping[int, int] = NOTHING) -> None:
        """The sink has durably taken these partitions up to these seqs: it never asks for those entries again.

        `taken`: the last entries that it has taken, where that is more. A partition has one writer at a time. A sink
        that is rebuilt notes 0 before it begins.
        """
        folder = f"{FOLLOWERS}/{check_name(sink, 'name of a sink')}"
        for partition, seq in seqs.items():
            path, data = f"{folder}/{partition}", b"%d" % seq
            if taken.get(partition, seq) > seq:
                data += b" %d" % taken[partition]
            node = self._tree.get(path)
            with suppress(NodeExists, NodeMissing, VersionConflict):  # another process has taken it over
                if node is None:
                    self._tree.create(path, data)
                elif node.data != data:
                    self._tree.set(path, data, node.version)

    def seqs(self, damaged: list[str] | None = None) -> dict[str, dict[int, int]]:
        """sink -> partition -> seq up to which it needs no entry again.

        A note that cannot be read counts as that of a sink that has taken nothing. `damaged` gets a sentence about each
        of these, else the log does.
        """
        noted = self._found(damaged)
        return {sink: {p: seqs[0] for p, seqs in each.items()} for sink, each in noted.items()}

    def taken(self, damaged: list[str] | None = None) -> dict[str, dict[int, int]]:
        """sink -> partition -> last entry that it has taken; `damaged` as in `seqs`."""
        noted = self._found(damaged)
        return {sink: {p: seqs[-1] for p, seqs in each.items()} for sink, each in noted.items()}

    def _found(self, damaged: list[str] | None) -> dict[str, dict[int, list[int]]]:
        unreadable = passing_over(damaged)
        return {
            sink: self._below(f"{FOLLOWERS}/{sink}", unreadable) for sink in self._tree.children(FOLLOWERS)
        }

    def _below(self, folder: str, unreadable: Callable[[WalletError], object]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for name in self._tree.children(folder):
            node = self._tree.get(f"{folder}/{name}")
            if node is None:
                continue
            if not (name.isdecimal() and _note_match(node.data)):
                path = f"{folder}/{name}"
                unreadable(Corruption(f"{path} is not the seq of a partition: {node.data[:40]!r}"))
                continue
            found[int(name)] = [int(seq) for seq in node.data.split(b" ")]
        return found

    def forget(self, sink: str) -> None:
        """Forget the sink: no segment is kept for it any more."""
        folder = f"{FOLLOWERS}/{check_name(sink, 'name of a sink')}"
        for name in self._tree.children(folder):
            with suppress(NodeMissing):
                self._tree.delete(f"{folder}/{name}")
        with suppress(NodeMissing):
            self._tree.delete(folder)
