"""A refused payment names the side whose partition refuses it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from wallet_engine.domain.errors import Outage
from wallet_engine.engine.conditions import Condition
from wallet_engine.engine.headroom import Headroom
from wallet_engine.saga.transfer import Call
from wallet_engine.service.api import OF_RECEIVER
from wallet_engine.service.sides import check_sides, side_refused
from wallet_engine.service.transfers import Transfers

UNSERVED = Outage("partition_unavailable", "not served now")


@pytest.fixture
def headroom() -> Headroom:
    """Headroom in which partition 1 of two takes no new work."""
    cluster: Any = SimpleNamespace(accumulators=[SimpleNamespace(shard="s1")] * 2)
    room = Headroom(cluster)
    room.close_door(1, Condition.UNREACHABLE, UNSERVED)
    return room


def test_who_is_refused_is_named(headroom: Headroom) -> None:
    check_sides(headroom, 0, 0)
    with pytest.raises(Outage, match=r"^on the payer's side: not served now$") as refused:
        check_sides(headroom, 1, 0)
    assert refused.value.code == "partition_unavailable"
    with pytest.raises(Outage, match=r"^on the receiver's side: not served now$"):
        check_sides(headroom, 0, 1)


def test_the_payer_comes_first(headroom: Headroom) -> None:
    assert side_refused(headroom, 0, 0) is None
    found = side_refused(headroom, 1, 1)
    assert found is not None
    assert (found[0].code, found[1]) == ("partition_unavailable", False)


@pytest.mark.parametrize(("p", "q", "side"), [(1, 0, ""), (0, 1, OF_RECEIVER)])
def test_a_result_says_whether_it_is_the_receivers(headroom: Headroom, p: int, q: int, side: str) -> None:
    async def nothing(*_: object) -> None:
        return None

    async def run() -> list[str]:
        engine: Any = SimpleNamespace(headroom=headroom)
        repeats: Any = SimpleNamespace(outcome_of=nothing)
        transfers = Transfers(engine, repeats)
        call, answered = Call.awaited(1)
        command: Any = ("ann", "bob", 1, "USD", "1", "", "")
        assert transfers._is_refused(command, p, q, call, 0)
        await answered
        return list(call.results)

    assert asyncio.run(run()) == ["partition_unavailable" + side]
