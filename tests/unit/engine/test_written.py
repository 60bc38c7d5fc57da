"""The journal gets new entries when Redis has answered all calls, or after a millisecond."""

import asyncio

from wallet_engine.engine.written import WAIT_S_MAX, Written
from wallet_engine.journal.link_wire import NewEntry


class Journal:
    """Records the entries that it gets, and the time since its creation."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.began_s = self._loop.time()
        self.told: list[list[int]] = []
        self.told_s: list[float] = []
        self.written = Written(self.tell)

    def tell(self, entries: list[NewEntry]) -> None:
        self.told.append([partition for partition, _, _ in entries])
        self.told_s.append(self._loop.time() - self.began_s)

    def answered(self, *partitions: int) -> None:
        for partition in partitions:
            self.written.add((partition, b"header", b"columns"))
            self.written.answered()


def run(scene) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            await scene(Journal())

    asyncio.run(main())


def test_it_is_told_once_of_all_that_was_sent_together():
    async def scene(journal: Journal) -> None:
        for _ in range(3):
            journal.written.sent()
        journal.answered(7, 8)
        assert journal.told == []
        journal.answered(9)
        assert journal.told == [[7, 8, 9]]
        await asyncio.sleep(3 * WAIT_S_MAX)
        assert journal.told == [[7, 8, 9]]

    run(scene)


def test_an_answer_without_an_entry_ends_the_waiting_too():
    async def scene(journal: Journal) -> None:
        journal.written.sent()
        journal.written.sent()
        journal.answered(7)
        journal.written.answered()  # a refusal, or a lost connection
        assert journal.told == [[7]]

    run(scene)


def test_nothing_is_told_when_nothing_was_written():
    async def scene(journal: Journal) -> None:
        journal.written.sent()
        journal.written.answered()
        await asyncio.sleep(3 * WAIT_S_MAX)
        assert journal.told == []

    run(scene)


def test_a_node_that_does_not_answer_is_waited_for_only_so_long():
    async def scene(journal: Journal) -> None:
        for _ in range(4):
            journal.written.sent()
        journal.answered(7, 8)
        while not journal.told:
            await asyncio.sleep(WAIT_S_MAX / 4)
        assert journal.told == [[7, 8]]
        assert journal.told_s[0] >= WAIT_S_MAX
        journal.answered(9)  # later entries have their own millisecond
        assert journal.told == [[7, 8]]
        journal.answered(10)
        assert journal.told == [[7, 8], [9, 10]]

    run(scene)
