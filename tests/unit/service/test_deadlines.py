"""Calls that wait too long are given up. Answered calls are ignored."""

import asyncio

from wallet_engine.saga.deadlines import Deadlines
from wallet_engine.saga.transfer import Call


def test_a_call_is_given_up_when_its_time_is_over():
    async def scene() -> None:
        deadlines = Deadlines(0.05)
        loop = asyncio.get_running_loop()
        calls, answers = zip(*(Call.awaited(1) for _ in range(3)), strict=True)
        began_s = loop.time()
        for call in calls:
            deadlines.add(call)
        deadlines.discard(calls[1])
        await asyncio.wait_for(asyncio.gather(answers[0], answers[2]), 10)
        assert loop.time() - began_s >= 0.05
        assert not answers[1].done()
        assert repr(deadlines).endswith("calls=0>")

    asyncio.run(scene())


def test_it_goes_on_after_a_time_without_calls():
    async def scene() -> None:
        deadlines = Deadlines(0.01)
        for _ in range(2):
            call, answered = Call.awaited(1)
            deadlines.add(call)
            await asyncio.wait_for(answered, 10)

    asyncio.run(scene())


def test_one_that_is_not_due_stays_when_an_older_one_is_given_up():
    async def scene() -> None:
        deadlines = Deadlines(0.3)
        loop = asyncio.get_running_loop()
        (old, old_answered), (young, young_answered) = Call.awaited(1), Call.awaited(1)
        deadlines.add(old)
        await asyncio.sleep(0.2)
        deadlines.add(young)
        began_s = loop.time()
        await asyncio.wait_for(old_answered, 10)
        assert not young_answered.done() or loop.time() - began_s >= 0.29
        await asyncio.wait_for(young_answered, 10)

    asyncio.run(scene())
