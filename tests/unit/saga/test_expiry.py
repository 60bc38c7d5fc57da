"""Expired holds are released, also behind many that cannot be released yet (G9)."""

import asyncio
from types import SimpleNamespace
from typing import Any, Final

import pytest

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.saga import expiry
from wallet_engine.saga.expiry import Expirer

KEYS: Final = PartitionKeys("3")
#: Milliseconds.
NOW, LATER = 1_000_000, 2_000_000


def field_of(number: int) -> bytes:
    return b"%022d12345678" % number


class Node:
    """A lane with the holds of one partition, by field, and when each expires; `stuck` ones cannot be released."""

    def __init__(self, stuck: int, free: int, later: int) -> None:
        self.holds = {field_of(number): NOW - 2000 + number for number in range(stuck + free)}
        self.stuck = set(list(self.holds)[:stuck])
        #: Whether the records of stuck ones can be read.
        self.readable = True
        self.holds |= {field_of(9000 + number): LATER for number in range(later)}

    async def call(self, name: str, *words: Any) -> Any:
        if name == "ZRANGE":
            some = sorted(self.holds.items(), key=lambda item: item[1])[words[1] : words[2] + 1]
            return [part for field, due in some for part in (field, b"%d" % due)]
        if name == "HMGET":
            fields = words[1:]
            broken = set() if self.readable else self.stuck
            said = b"O alice - USD 5 0 0 0 %d MARK 1.0 - -"
            return [b"broken" if field in broken else said % self.holds[field] for field in fields]
        return (NOW // 1000, 0) if name == "TIME" else b"0"


@pytest.mark.parametrize(("stuck", "free"), [(0, 200), (64, 3), (65, 200), (1000, 70)])
@pytest.mark.parametrize("readable", [True, False])
def test_g9_holds_that_cannot_be_released_hide_no_others(stuck: int, free: int, readable: bool) -> None:
    node = Node(stuck, free, later=5)
    node.readable = readable
    accumulator: Any = SimpleNamespace(partition=3, keys=KEYS, shard="s1")

    def submit(partition: int, words: Any, *_: object) -> None:
        field = next(field for field in node.holds if field.startswith(words[1].encode()))
        assert (partition, node.holds[field] <= NOW) == (3, True)
        if field not in node.stuck:
            del node.holds[field]

    engine: Any = SimpleNamespace(
        cluster=SimpleNamespace(lanes={"s1": node}), submit=submit, now_s=lambda: 1.0
    )

    async def run() -> None:
        expirer = Expirer(engine)
        for _ in range(8 * (stuck // expiry.EXPIRIES_MAX) + free // expiry.EXPIRIES_MAX + 1):
            await expirer._tick(accumulator)

    asyncio.run(run())
    assert set(node.holds) == node.stuck | {field_of(9000 + number) for number in range(5)}
