"""Groups on a real cluster: all or nothing, answered when every leg is durable."""

import asyncio

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.group_commands import GroupAnswer, GroupCommand, GroupView
from wallet_engine.domain.groups import COMMITTED, NONE, Remembered, parse_remembered
from wallet_engine.domain.limits import IN_FLIGHT_TRANSFERS_MAX
from wallet_engine.domain.memory import TransferRecord, transfer_field
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import GroupRead, Reader
from wallet_engine.saga.group import Group, parts_of
from wallet_engine.service.api import ANSWER_TIMEOUT_S
from wallet_engine.service.deciding import looked_up
from wallet_engine.service.transfers import Transfers


class Groups:
    """The part of `service.api.Wallet` that is about groups."""

    def __init__(self, engine: Engine, reader: Reader, transfers: Transfers) -> None:
        self._engine = engine
        self._reader = reader
        self._transfers = transfers
        #: Groups on their way: a caller that hangs up does not cancel its group.
        self._tasks: set[asyncio.Task[GroupAnswer]] = set()

    def __repr__(self) -> str:
        return f"<Groups in_flight={len(self._tasks)}>"

    async def transfer_group(self, command: GroupCommand) -> GroupAnswer:
        homes, legs = self._engine.cluster.homes, len(command.transfers)
        parts = parts_of(homes, command.payer, command.transaction, command.transfers)
        if self._transfers.in_flight + legs > IN_FLIGHT_TRANSFERS_MAX:
            raise Outage("overloaded", f"{self._transfers.in_flight} transfers are in flight")
        try:
            self._engine.headroom.check(*parts.legs)
        except Outage:
            known = await self._recall(command)
            if known is None:
                raise
            return known
        self._transfers.in_flight += legs
        task = asyncio.create_task(Group(self._engine, self._reader, command, parts).run())
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, legs))
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await asyncio.shield(task)
        except TimeoutError:
            raise Outage("outcome_unknown", "not confirmed in time: retry it with the same id") from None

    async def _recall(self, command: GroupCommand) -> GroupAnswer | None:
        """The earlier answer to the same body, if its group has ended; used when no new work may begin."""
        read = await self._answered(command.payer, command.transaction)
        view = None if read is None else await self._view(command.payer, command.transaction, read)
        if view is None or view.outcome == "~" or view.mark != command.mark():
            return None
        return GroupAnswer(view.outcome, True, view.leg)

    async def find_group(self, from_account: str, transaction: str) -> GroupView | None:
        home = self._engine.cluster.homes.of_payer(from_account, transaction)
        read = await looked_up(self._engine, home, lambda: self._answered(from_account, transaction))
        return None if read is None else await self._view(from_account, transaction, read)

    async def _answered(self, from_account: str, transaction: str) -> GroupRead | None:
        """What is remembered under the id, even if it is not a group: then no group can follow under it."""
        home = self._engine.cluster.homes.of_payer(from_account, transaction)
        read = await self._reader.group(home, transfer_field(from_account, transaction))
        if read.answer is None or TransferRecord.parse(read.answer).outcome == Outcome.INTERRUPTED:
            return None
        return read

    async def _view(self, from_account: str, transaction: str, read: GroupRead) -> GroupView | None:
        if read.answer is None or read.remembered is None:
            return None
        outcome = TransferRecord.parse(read.answer).outcome
        known = parse_remembered(read.remembered)
        leg = None if known.refused_leg == NONE else int(known.refused_leg)
        if read.under_way and not await self._paid_everywhere(from_account, transaction, known):
            outcome = "~"
        return GroupView(outcome, leg, known.words.legs, known.words.mark)

    async def _paid_everywhere(self, payer: str, transaction: str, known: Remembered) -> bool:
        transfers = [TransferCommand(*leg[2:], transaction) for leg in known.words.legs]
        parts = parts_of(self._engine.cluster.homes, payer, transaction, transfers)
        key = transfer_field(payer, transaction) + known.words.mark
        reads = await asyncio.gather(*(self._reader.group(p, key) for p in parts.others))
        return all((read.remembered or "").startswith(COMMITTED) for read in reads)

    def _ended(self, task: asyncio.Task[GroupAnswer], legs: int) -> None:
        self._tasks.discard(task)
        self._transfers.in_flight -= legs
        if not task.cancelled():
            task.exception()
