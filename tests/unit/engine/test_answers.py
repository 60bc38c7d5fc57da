"""Callers are told behind the wave that the same news has called for, each of them, and none too late."""

import asyncio

from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.answers import Answers
from wallet_engine.engine.wave import Wave
from wallet_engine.redis_store.keys import PartitionKeys


def run(scene) -> list[str]:
    """What happened, in order, until nothing was left to do."""

    async def main() -> list[str]:
        seen: list[str] = []
        scene(seen, Answers())
        for _ in range(5):
            await asyncio.sleep(0)
        return seen

    return asyncio.run(main())


def test_a_wave_of_the_same_turn_leaves_first_even_if_it_is_called_for_last():
    def scene(seen: list[str], answers: Answers) -> None:
        wave = Wave(lambda waiting: seen.append("wave"))
        answers.add(lambda: seen.append("answer"))
        wave.join(Accumulator(1, PartitionKeys("1"), "s1", 1))
        answers.add(lambda: seen.append("another"))

    assert run(scene) == ["wave", "answer", "another"]


def test_one_that_fails_keeps_no_other_waiting():
    def scene(seen: list[str], answers: Answers) -> None:
        answers.add(lambda: seen.append(str(1 // 0)))
        answers.add(lambda: seen.append("answer"))

    assert run(scene) == ["answer"]


def test_what_is_added_by_an_answer_is_given_later():
    def scene(seen: list[str], answers: Answers) -> None:
        answers.add(lambda: answers.add(lambda: seen.append("later")))
        answers.add(lambda: seen.append("first"))

    assert run(scene) == ["first", "later"]


def test_at_the_end_they_are_given_at_once_and_only_once():
    def scene(seen: list[str], answers: Answers) -> None:
        answers.add(lambda: seen.append("answer"))
        answers.give()
        seen.append("end")

    assert run(scene) == ["answer", "end"]
