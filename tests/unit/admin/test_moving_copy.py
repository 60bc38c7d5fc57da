"""Compares a copy with a partition that changes while it is read."""

from types import SimpleNamespace
from typing import Any

from wallet_engine.admin.moving.copying import Copy
from wallet_engine.redis_store.keys import PartitionKeys

KIND = b"balance:USD"
META = {"state": "live", "epoch": "1", "window": "1", "seq": "0", "trimmed": "0"}


class Node:
    """A node with one hash of one account. A scan returns the account once with each value of `scanned`.

    The last value is the final one.
    """

    def __init__(self, scanned: list[bytes]) -> None:
        self.keys = PartitionKeys("3")
        self.epoch = 1
        self.scanned = scanned
        self.wire = SimpleNamespace(call=self.call)

    def __repr__(self) -> str:
        return f"<Node {self.scanned}>"

    def meta(self) -> dict[str, str]:
        return META

    def kinds(self) -> set[bytes]:
        return {KIND}

    def key(self, kind: bytes) -> bytes:
        return kind

    def call(self, name: str, *words: Any) -> Any:
        if name == "HSCAN":
            turn = int(words[1]) + 1
            return [b"%d" % (turn if turn < len(self.scanned) else 0), [b"a", self.scanned[turn - 1]]]
        return [self.scanned[-1]] if name == "HMGET" else []

    def read(self, *commands: Any) -> list[Any]:
        return [self.call(*command) for command in commands]

    def write(self, commands: Any, *, after: Any = ()) -> list[Any]:
        for name, _, *pairs in commands:
            if name == "HSET":
                self.scanned = [pairs[1]]
        return self.read(*after)


def test_a_field_that_a_scan_returns_twice_counts_once() -> None:
    """A scan may return a field twice, changed in between. The sides are equal once the last value is copied."""
    for scanned in (
        [b"1", b"2", b"3"],
        [b"2", b"3"],
        [b"2", b"1", b"3"],
        [b"1", b"1", b"1"],
        [b"2", b"3", b"1"],
    ):
        source, target = Node(scanned), Node([b"1"])
        copy = Copy(source, target, lambda fields: None)  # type: ignore[arg-type]
        copy._dirty.add((KIND, b"a"))
        copy.verify()
        assert target.scanned == scanned[-1:]
        ours, theirs = copy.digests
        assert ours == theirs, scanned
