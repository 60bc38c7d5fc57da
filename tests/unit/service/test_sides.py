"""A refused payment names the side whose partition refuses it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.refund_command import Original, RefundCommand
from wallet_engine.domain.returns import CREDITED
from wallet_engine.engine.batch import Pending
from wallet_engine.engine.conditions import Condition
from wallet_engine.engine.headroom import Headroom
from wallet_engine.engine.reads import TransferRead
from wallet_engine.routing.homes import Homes
from wallet_engine.saga.transfer import Call
from wallet_engine.service.api import OF_RECEIVER
from wallet_engine.service.sides import check_sides, side_refused
from wallet_engine.service.transfers import Transfers
from wallet_engine.service.wallet import ClusterWallet

HOMES, ID = Homes(4), "A" * 21 + "Q"
#: A partition other than the home of (`@fees`, `ID`).
PLACE = (HOMES.of_payer("@fees", ID) + 1) % 4
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


@pytest.mark.parametrize("closed", range(3), ids=["home", "receiver", "payer"])
def test_a_refund_by_a_system_account_that_cannot_begin_takes_no_id(closed: int) -> None:
    """It is refused with 503, which is not remembered: the same id with another body is no conflict then."""
    payer = next(
        name for name in map(str, range(99)) if HOMES.of(name) not in {PLACE, HOMES.of_payer("@fees", ID)}
    )
    places = [HOMES.of_payer("@fees", ID), PLACE, HOMES.of(payer)]
    room = Headroom(SimpleNamespace(accumulators=[SimpleNamespace(shard="s1")] * 4))  # type: ignore[arg-type]
    taken: list[int] = []

    async def nothing(*_: object) -> TransferRead:
        return TransferRead(None, open=False, operation=None)

    def submit(partition: int, _words: object, item: Pending, _issued_s: float) -> None:
        taken.append(partition)
        item.failed(Outage("overloaded", "the test ends here"))

    async def run() -> None:
        cluster = SimpleNamespace(homes=HOMES)
        engine: Any = SimpleNamespace(headroom=room, cluster=cluster, now_s=lambda: 1.0, submit=submit)
        reader: Any = SimpleNamespace(transfer=nothing)
        original = Original(payer, "F" * 30, "@fees", 5, "USD", 0, 7, 0, PLACE, CREDITED, 0)
        with pytest.raises(Outage):
            await ClusterWallet(engine, reader).refund(RefundCommand(payer, ID, ID, None), original)

    asyncio.run(run())
    assert taken == places[:1]
    room.close_door(places[closed], Condition.UNREACHABLE, UNSERVED)
    asyncio.run(run())
    assert taken == places[:1]


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
