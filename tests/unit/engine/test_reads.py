"""G8: a read is answered when its entry is on disk, and is at least as new as every earlier answer to anyone."""

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.reads import Reader
from wallet_engine.journal.receipts_tracker import ReceiptTracker
from wallet_engine.redis_store.keys import PartitionKeys

ANSWER_S_MAX = 10.0


class Scene:
    """A reader, the journal as its service knows it, and a node with scripted answers."""

    def __init__(self) -> None:
        self.tracker = ReceiptTracker(quorum=1)
        asked: Any = SimpleNamespace(ask=lambda _: None)
        self._copy = self.tracker.connected("j1", asked, [])
        self.replies: list[list[Any]] = []
        self.recoveries: list[str] = []
        cluster: Any = SimpleNamespace(
            accumulators=[Accumulator(0, PartitionKeys("3"), "s1", 1)],
            lanes={"s1": self},
            tracker=self.tracker,
            ask_recovery=lambda shard, _: self.recoveries.append(shard),
        )
        self.reader = Reader(cast(Any, SimpleNamespace(cluster=cluster, tracker=self.tracker)))

    async def call(self, *_: object) -> list[Any]:
        """The lane's call. The last scripted answer is repeated."""
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def durable(self, seq: int) -> None:
        self.tracker.receipts(self._copy, [(0, [nonce(seq)], seq)])


def nonce(seq: int) -> str:
    return f"{seq:016x}"


def answer(seq: int) -> list[Any]:
    """The answer of `read_account.lua` for an account without anything."""
    return [b"OK", seq, nonce(seq).encode(), None, None]


def run(check: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(ANSWER_S_MAX):
            await check(Scene())

    asyncio.run(main())


def test_nothing_is_handed_out_before_it_is_on_disk() -> None:
    async def check(scene: Scene) -> None:
        scene.replies = [answer(7)]
        reading = asyncio.create_task(scene.reader.position(0))
        await asyncio.sleep(0.05)
        assert not reading.done()
        scene.durable(7)
        assert await reading == (7, nonce(7))

    run(check)


def test_what_both_windows_have_is_one_record_of_credits_and_two_of_a_transfer() -> None:
    """A group that was interrupted in the window before may have been paid in this one."""

    async def check(scene: Scene) -> None:
        scene.durable(7)
        scene.replies = [[b"OK", 7, nonce(7).encode(), b"+HAAAAAAAA", b"uGAAAAAAAA", None]]
        assert (await scene.reader.transfer(0, "F" * 30)).record == "+HAAAAAAAA"
        scene.replies = [[b"OK", 7, nonce(7).encode(), b"aAA+", b"aABi", None]]
        assert (await scene.reader.transfer(0, "3.24")).record == "aAA+aABi"

    run(check)


def test_what_a_node_has_that_is_behind_the_journal_is_asked_for_again() -> None:
    """The node was promoted with old data, or another service has just written."""

    async def check(scene: Scene) -> None:
        scene.durable(7)
        scene.durable(8)
        scene.replies = [answer(7), answer(8)]
        assert await scene.reader.position(0) == (8, nonce(8))
        assert scene.recoveries == []

    run(check)


def test_a_node_that_stays_behind_the_journal_is_to_be_recovered() -> None:
    async def check(scene: Scene) -> None:
        scene.durable(7)
        scene.durable(8)
        scene.replies = [answer(7), answer(7), answer(8)]
        assert await scene.reader.position(0) == (8, nonce(8))
        assert scene.recoveries == ["s1"]

    run(check)


def test_g10_nothing_waits_for_a_receipt_when_its_reader_is_gone() -> None:
    """G10: the caller has hung up, and the journal is away. Its callback used to stay until the receipt came."""

    async def check(scene: Scene) -> None:
        scene.replies = [answer(7)]
        readings = [asyncio.create_task(scene.reader.position(0)) for _ in range(2)]
        await asyncio.sleep(0.05)
        readings[0].cancel()
        await asyncio.wait(readings[:1])
        scene.durable(7)
        assert await readings[1] == (7, nonce(7)), "another reader of the same entry still gets its answer"
        alone = asyncio.create_task(scene.reader.durable(0, 8, nonce(8)))
        await asyncio.sleep(0)
        assert scene.tracker.pending == 1
        alone.cancel()
        await asyncio.wait([alone])
        assert scene.tracker.pending == 0

    run(check)
