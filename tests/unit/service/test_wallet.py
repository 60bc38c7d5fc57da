"""`ClusterWallet` without a cluster: transfers whose callers are gone (G9), and look-ups of transfers."""

import asyncio
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.group_commands import GroupCommand
from wallet_engine.domain.hold_commands import HoldCommand
from wallet_engine.domain.limits import IN_FLIGHT_TRANSFERS_MAX
from wallet_engine.domain.memory import TransferRecord, credit_memory, transfer_field
from wallet_engine.domain.operation import Operation, Words
from wallet_engine.domain.refund_command import Original, RefundCommand
from wallet_engine.domain.returns import CREDITED
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.batch import Batch, Pending
from wallet_engine.engine.conditions import Condition
from wallet_engine.engine.headroom import Headroom
from wallet_engine.engine.reads import TransferRead
from wallet_engine.routing.homes import Homes
from wallet_engine.routing.slots import partition_of
from wallet_engine.service.api import OF_RECEIVER, LimitsCommand
from wallet_engine.service.wallet import ClusterWallet

PARTITIONS = 64
TXID = "A" * 21 + "Q"
OTHER_ID = "B" * 21 + "Q"
#: Two payers that share the field of this id.
PAYER, NAMESAKE = "payer-789353", "payer-14654864"


class EngineDouble:
    """Keeps submitted operations, except probes, which are durable at once."""

    def __init__(self) -> None:
        self.cluster = SimpleNamespace(homes=Homes(PARTITIONS))
        self.headroom: Any = SimpleNamespace(wary=False)
        self.now_s = asyncio.get_running_loop().time
        self.submitted: list[tuple[int, str, Pending]] = []
        self.settled: list[tuple[int, int]] = []
        #: Partitions in which a probe succeeded.
        self.proved: list[int] = []

    def submit(self, partition: int, line: str, item: Pending, issued_s: float) -> None:
        self.submitted.append((partition, line, item))
        if line[0] == "n":
            self.proved.append(partition)
            durable(self, "+")

    @property
    def riders(self) -> "EngineDouble":
        return self

    def add(self, partition: int, operation: Words) -> None:
        self.settled.append((partition, int(operation[1])))


def durable(engine: EngineDouble, outcome: str) -> None:
    partition, line, item = engine.submitted.pop()
    batch = Batch(partition, [line], [item], 0)
    batch.seq, batch.outcomes = 7, outcome
    batch.commit()


@pytest.mark.parametrize("many", [False, True])
def test_cancelled_call_does_not_cancel_its_transfer(many: bool) -> None:
    async def scenario() -> None:
        engine = EngineDouble()
        wallet = ClusterWallet(cast(Any, engine), cast(Any, None))
        command = TransferCommand("alice", "bob", 5, "USD", TXID)
        waiting: Any = wallet.transfer_many([command]) if many else wallet.transfer(command)
        call = asyncio.create_task(waiting)
        await asyncio.sleep(0)
        assert [line[0] for _, line, _ in engine.submitted] == ["d"]
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert call.cancelled()
        assert wallet.in_flight == 1
        durable(engine, "+")
        assert [line[0] for _, line, _ in engine.submitted] == ["c"]
        durable(engine, "+")
        assert wallet.in_flight == 0
        assert len(engine.settled) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["single", "many", "group"])
def test_g10_transfers_in_flight_are_bounded(how: str) -> None:
    """The legs of groups count too."""

    async def scenario() -> None:
        engine = EngineDouble()
        wallet = ClusterWallet(cast(Any, engine), cast(Any, None))
        wallet._transfers.in_flight = IN_FLIGHT_TRANSFERS_MAX
        command = TransferCommand("alice", "bob", 5, "USD", TXID)
        calls = {
            "single": lambda: wallet.transfer(command),
            "many": lambda: wallet.transfer_many([command]),
            "group": lambda: wallet.transfer_group(GroupCommand(TXID, (command,))),
        }
        with pytest.raises(Outage) as refused:
            await cast(Any, calls[how]())
        assert (refused.value.code, engine.submitted) == ("overloaded", [])

    asyncio.run(scenario())


class Forgetful:
    """A reader that remembers nothing."""

    async def remembers(self, partition: int, field: str) -> bool:
        return False


@pytest.mark.parametrize("count", [1, PARTITIONS + 1])
@pytest.mark.parametrize("closed", ["alice", "bob"])
def test_g10_no_transfer_begins_where_a_partition_takes_no_new_work(closed: str, count: int) -> None:
    """On either side, and for any number of transfers in a call."""

    async def scenario() -> None:
        engine = EngineDouble()
        accumulators = [SimpleNamespace(shard="s1")] * PARTITIONS
        engine.headroom = room = Headroom(cast(Any, SimpleNamespace(accumulators=accumulators)))
        full = Outage("journal_unavailable", "its stream is full")
        room.close_door(partition_of(closed, PARTITIONS), Condition.FULL, full)
        wallet = ClusterWallet(cast(Any, engine), cast(Any, Forgetful()))
        results = await wallet.transfer_many([TransferCommand("alice", "bob", 5, "USD", TXID)] * count)
        assert {result.removesuffix(OF_RECEIVER) for result in results} == {"journal_unavailable"}
        assert (len(results), engine.submitted, wallet.in_flight) == (count, [], 0)

    asyncio.run(scenario())


class ReaderDouble:
    """The memory of partitions: (partition, field) -> its value."""

    def __init__(self) -> None:
        self.memory: dict[tuple[int, str], TransferRead] = {}

    async def transfer(self, partition: int, field: str) -> TransferRead:
        return self.memory.get((partition, field), TransferRead(None, False, None))

    async def seen(self, _partition: int, _field: str) -> list[str]:
        return []


#: The place of the cases' debit in its partition. Its payer and another one have the same CRC-32.
SEQ, IDX = 7, 3
DEBIT, TRANSFER = (Operation(kind, TXID, PAYER, "bob", 5, "USD") for kind in "dt")
NAMESAKES = Operation("d", TXID, NAMESAKE, "bob", 5, "USD")


@pytest.mark.parametrize(
    ("outcome", "is_open", "operation", "credit", "found"),
    [
        (None, False, None, None, None),
        ("i", False, None, None, "i"),
        ("+", False, None, None, "+"),
        ("i", True, DEBIT, None, "i"),  # the entry is open because of others
        ("+", True, TRANSFER, None, "+"),  # the same here
        ("+", True, DEBIT, None, "~"),
        ("+", True, DEBIT, "a", "~"),  # the refund is not made yet
        ("+", True, DEBIT, "+", "+"),
        ("+", True, None, "+", "~"),  # the entry is not in the stream, so the payer of the debit is unknown
        ("+", True, NAMESAKES, "+", None),
        ("i", True, NAMESAKES, None, None),
    ],
)
def test_what_the_memories_say_of_a_transfer(
    outcome: str | None, is_open: bool, operation: Operation | None, credit: str | None, found: str | None
) -> None:
    p, q = partition_of(PAYER, PARTITIONS), partition_of("bob", PARTITIONS)
    reader = ReaderDouble()
    if outcome is not None:
        record = TransferRecord(outcome, "AAAAAA", SEQ, IDX).text()
        reader.memory[p, transfer_field(PAYER, TXID)] = TransferRead(record, is_open, operation)
    # Another credit of the same entry was paid, which says nothing about this one.
    field, paid = credit_memory(f"{p}.{SEQ}", IDX + 1)
    mark = credit_memory(f"{p}.{SEQ}", IDX)[1]
    reader.memory[q, field] = TransferRead(f"{paid}+" + (f"{mark}{credit}" if credit else ""), False, None)

    async def look() -> tuple[str | None, list[int]]:
        engine = EngineDouble()
        wallet = ClusterWallet(cast(Any, engine), cast(Any, reader))
        return await wallet.find_transfer(PAYER, TXID), engine.proved

    assert asyncio.run(look()) == (found, [p] if found is None else [])


@pytest.mark.parametrize("later", [False, True])
def test_that_a_refund_by_a_system_account_is_absent_is_said_behind_a_proof(later: bool) -> None:
    """Its id is kept at home. Its partition may be one of an old primary, which does not know of it."""
    home, elsewhere = Homes(PARTITIONS).of_payer("@fees", TXID), 7
    assert home != elsewhere
    reader = ReaderDouble()
    field = transfer_field("@fees", TXID)
    made = TransferRead(TransferRecord("R", "AAAAAA", SEQ, IDX).text(), False, None)

    async def look() -> tuple[str | None, list[int]]:
        engine = EngineDouble()
        wallet = ClusterWallet(cast(Any, engine), cast(Any, reader))
        submit = engine.submit

        def tell(partition: int, line: str, item: Pending, issued_s: float) -> None:
            if later and partition == elsewhere:
                reader.memory[elsewhere, field] = made
            submit(partition, line, item, issued_s)

        engine.submit = tell  # type: ignore[method-assign]
        found = await wallet.find_transfer("@fees", TXID)
        return found, sorted(engine.proved)

    assert asyncio.run(look()) == (None, [home])
    kept = TransferRecord("u", "AAAAAA", SEQ, IDX).text()
    reader.memory[home, field] = TransferRead(kept, False, None)
    assert asyncio.run(look()) == (
        "R" if later else None,
        sorted([home, *(p for p in range(PARTITIONS) if p != home)]),
    )


def test_the_namesakes_of_the_cases_share_a_field() -> None:
    assert transfer_field(PAYER, TXID) == transfer_field(NAMESAKE, TXID)


@pytest.mark.parametrize("again", ["+", "n"])
def test_that_no_original_is_remembered_is_said_behind_a_proof(again: str) -> None:
    """A service that is cut off does not know later payments."""
    p = partition_of(PAYER, PARTITIONS)
    receiver = next(name for name in map("r{}".format, count()) if partition_of(name, PARTITIONS) == p)
    original = Original(PAYER, "F" * 30, receiver, 5, "USD", 1, 7, 0, p, CREDITED, 0)
    command = RefundCommand(PAYER, TXID, OTHER_ID, None)

    async def scenario() -> tuple[str, list[int]]:
        engine = EngineDouble()
        wallet = ClusterWallet(cast(Any, engine), cast(Any, ReaderDouble()))
        asked = asyncio.create_task(wallet.refund(command, original))
        for outcome, proved in (("n", []), (again, [p])):
            while not engine.submitted:
                await asyncio.sleep(0)
            assert engine.proved == proved
            durable(engine, outcome)
        return (await asked).code, engine.proved

    assert asyncio.run(scenario()) == ("" if again == "+" else "transfer_not_found", [p])


class Unreadable:
    """Reads of a partition that has just gone away."""

    async def account(self, *_: object) -> Any:
        raise Outage("partition_unavailable", "not served now")

    transfer = hold = seen = account


@pytest.mark.parametrize("what", ["open", "freeze", "limits", "refund", "hold"])
def test_g14_what_was_done_is_not_called_undone_because_it_cannot_be_read(what: str) -> None:
    """Every code but `outcome_unknown` promises that nothing was done."""
    p = partition_of(PAYER, PARTITIONS)
    receiver = next(name for name in map("r{}".format, count()) if partition_of(name, PARTITIONS) == p)
    original = Original(PAYER, "F" * 30, receiver, 5, "USD", 1, 7, 0, p, CREDITED, 0)

    async def scenario() -> str:
        engine = EngineDouble()
        engine.headroom = SimpleNamespace(wary=False, check=lambda *_: None)
        wallet = ClusterWallet(cast(Any, engine), cast(Any, Unreadable()))
        calls: Any = {
            "open": lambda: wallet.open_account(PAYER, "USD", None),
            "freeze": lambda: wallet.set_flags(PAYER, "freeze"),
            "limits": lambda: wallet.set_limits(LimitsCommand(PAYER, "USD", 5, None)),
            "refund": lambda: wallet.refund(RefundCommand(PAYER, TXID, OTHER_ID, None), original),
            "hold": lambda: wallet.place_hold(HoldCommand(PAYER, 5, "USD", TXID, None, 60)),
        }
        asked = asyncio.create_task(calls[what]())
        while not engine.submitted:
            await asyncio.sleep(0)
        durable(engine, "+")
        with pytest.raises(Outage, match="not served now") as told:
            await asked
        return told.value.code

    assert asyncio.run(scenario()) == "outcome_unknown"
