"""The wallet on a real cluster: accounts, transfers and reads, each answered only when durable."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.limits import IN_FLIGHT_TRANSFERS_MAX
from wallet_engine.domain.memory import TransferRecord, credit_memory, credit_outcome, transfer_field
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.conditions import Condition
from wallet_engine.engine.engine import Engine, now_ms
from wallet_engine.engine.reads import AccountRead, Reader
from wallet_engine.routing.slots import partition_of, partitions_of
from wallet_engine.saga.deadlines import Deadlines
from wallet_engine.saga.transfer import Call, Transfer
from wallet_engine.service.api import AccountView, BalanceView, CurrencyBalance, Readiness, TransferAnswer
from wallet_engine.service.readiness import readiness_of
from wallet_engine.telemetry.metrics import READY_VALUES

#: How long a caller waits at most; the transfer itself goes on, and a retry with the same id learns its end.
ANSWER_TIMEOUT_S: Final = 15.0

_STATUS: Final = {"A": "active", "F": "frozen", "C": "closed"}


class _AccountOperation:
    """Waits for one `open_account` or `set_flags`."""

    def __init__(self) -> None:
        self.future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        #: The newest entry of the partition when the operation was decided.
        self.seq = 0

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        self.seq = batch.seq
        if not self.future.done():
            self.future.set_result(outcome)

    def failed(self, outage: Outage) -> None:
        if not self.future.done():
            self.future.set_exception(outage)


class ClusterWallet:
    """Implements `service.api.Wallet`."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader
        self._deadlines = Deadlines(ANSWER_TIMEOUT_S)
        self.in_flight = 0

    def __repr__(self) -> str:
        return f"<ClusterWallet in_flight={self.in_flight} {self._engine!r}>"

    # Accounts --------------------------------------------------------------------------------------------

    async def open_account(
        self, account_id: str, currency: str, overdraft_limit_minor: int | None
    ) -> tuple[str, AccountView | None]:
        limit = "-" if overdraft_limit_minor is None else str(overdraft_limit_minor)
        self._engine.headroom.check(self._partition(account_id))
        operation = await self._operate(Operation("o", "-", account_id, limit, 0, currency))
        outcome = operation.future.result()
        return outcome, await self._view_unless_declined(account_id, outcome)

    async def set_flags(self, account_id: str, action: str) -> tuple[str, AccountView | None]:
        outcome = await (self._close(account_id) if action == "close" else self._flag(account_id, action))
        return outcome, await self._view_unless_declined(account_id, outcome)

    async def account(self, account_id: str) -> AccountView | None:
        if is_system(account_id):
            return await self._system_account(account_id)
        read = await self._reader.account(self._partition(account_id), account_id)
        if not read.balances:
            return None
        balances = tuple(
            CurrencyBalance(currency, minor, read.limits.get(currency, 0))
            for currency, minor in sorted(read.balances.items())
        )
        return AccountView(account_id, _STATUS[read.status], balances)

    async def balance(self, account_id: str, currency: str) -> BalanceView | None:
        if is_system(account_id):
            reads = await self._stripes(account_id)
            return BalanceView(sum(read.balances.get(currency, 0) for read in reads), None, None)
        read = await self._reader.account(self._partition(account_id), account_id)
        minor = read.balances.get(currency)
        return None if minor is None else BalanceView(minor, read.partition, read.seq)

    # Transfers -------------------------------------------------------------------------------------------

    async def transfer(self, command: TransferCommand) -> TransferAnswer:
        call, answered = Call.awaited(1)
        self._start_single(command, call)
        await answered
        answer = _single_answer(call)
        if isinstance(answer, Outage):
            raise answer
        return answer

    def begin_transfer(
        self, command: TransferCommand, answer: Callable[[TransferAnswer | Outage], None]
    ) -> None:
        try:
            self._start_single(command, Call(1, lambda call: answer(_single_answer(call))))
        except Outage as outage:
            answer(outage)

    async def transfer_many(self, commands: Sequence[TransferCommand]) -> list[str]:
        if not commands:
            return []
        call, answered = Call.awaited(len(commands))
        # Of a sender that is a system account, and so everywhere, the transaction ids decide.
        homes = self._partitions([c[4] if c[0][0] == "@" else c[0] for c in commands])
        self._start(commands, homes, self._partitions([c[1] for c in commands]), call)
        await answered
        return [result or "outcome_unknown" for result in call.results]

    async def find_transfer(self, from_account: str, transaction: str) -> str | None:
        p = self._home(from_account, transaction)
        read = await self._reader.transfer(p, transfer_field(from_account, transaction))
        if read.record is None:
            return None
        record, operation = TransferRecord.parse(read.record), read.operation
        if operation is not None and operation.a != from_account:
            return None  # another payer's, with the same field
        if record.outcome != Outcome.APPLIED or not read.open:
            return record.outcome
        if operation is None:
            return "~"
        if operation.kind == "t":
            return record.outcome
        # The debit is made and not settled: paid if the receiver remembers the credit.
        field, mark = credit_memory(f"{p}.{record.seq}", record.idx)
        received = await self._reader.transfer(self._partition(operation.b), field)
        credit = credit_outcome(received.record or "", mark)
        return Outcome.APPLIED.value if credit == Outcome.APPLIED.value else "~"

    def readiness(self) -> Readiness:
        """See `service.readiness`."""
        return readiness_of(len(self._engine.cluster.accumulators), *self._engine.lookout.report())

    def readings(self) -> tuple[int, dict[str, int]]:
        """Readiness as numbers: see `Metrics.observe_readiness`."""
        found, count = self.readiness(), len(self._engine.cluster.accumulators)
        stopped = dict.fromkeys(map(str, Condition), 0)
        stopped |= {
            c.condition: count if c.partitions is None else len(c.partitions) for c in found.conditions
        }
        return READY_VALUES[found.status], stopped

    async def _flag(self, account_id: str, action: str) -> str:
        operation = await self._operate(Operation("f", "-", account_id, action, 0, "-"))
        return operation.future.result()

    async def _close(self, account_id: str) -> str:
        """Close an account that owns nothing, nor anything that is still on its way out and may come back.

        It is frozen first, so that nothing more leaves; then its partition's open entries up to that moment must
        end; only then a zero balance means that nothing is owed to it. What does not lead to a closed account
        leaves it as it was.
        """
        read = await self._reader.account(self._partition(account_id), account_id)
        if not read.balances:
            return Outcome.UNKNOWN_ACCOUNT
        if any(read.balances.values()):
            return Outcome.REPEATED if read.status == "C" else Outcome.BALANCE_NOT_ZERO
        freezing = await self._operate(Operation("f", "-", account_id, "freeze", 0, "-"))
        frozen_here = freezing.future.result() == Outcome.APPLIED
        outcome: str | None = None
        try:
            await self._reader.settled(read.partition, freezing.seq)
            outcome = await self._flag(account_id, "close")
        finally:
            if frozen_here and outcome not in (Outcome.APPLIED, Outcome.REPEATED):
                await self._flag(account_id, "unfreeze")
        return outcome

    # Parts -----------------------------------------------------------------------------------------------

    def _partition(self, key: str) -> int:
        return partition_of(key, self._engine.cluster.config.partitions)

    def _home(self, from_account: str, transaction: str) -> int:
        """The partition that remembers the transaction id. A system account is everywhere, so its id decides."""
        return self._partition(transaction if from_account[0] == "@" else from_account)

    def _partitions(self, keys: list[str]) -> list[int]:
        return partitions_of(keys, self._engine.cluster.config.partitions)

    def _start_single(self, command: TransferCommand, call: Call) -> None:
        home = self._home(command[0], command[4])
        self._start((command,), (home,), (self._partition(command[1]),), call)

    def _start(
        self, commands: Sequence[TransferCommand], homes: Sequence[int], targets: Sequence[int], call: Call
    ) -> None:
        """`homes` and `targets` are the partitions of senders and receivers; a system account receives in any.

        Past the time limit the call is answered with the results there are; its transfers go on.
        """
        if self.in_flight + len(commands) > IN_FLIGHT_TRANSFERS_MAX:
            raise Outage("overloaded", f"{self.in_flight} transfers are in flight")
        engine = self._engine
        self.in_flight += len(commands)
        call.on_end = self._release
        self._deadlines.add(call)
        issued_ms = now_ms()
        headroom = engine.headroom
        for index, (command, p, q) in enumerate(zip(commands, homes, targets, strict=True)):
            if command[1][0] == "@":
                q = p
            try:
                if headroom.short:
                    headroom.check(p, q)
                Transfer(engine, command, p, q, call, index).start(issued_ms)
            except Outage as outage:
                call.finish(index, outage.code)

    def _release(self, call: Call) -> None:
        self.in_flight -= len(call.results)
        self._deadlines.discard(call)

    async def _operate(self, operation: Operation) -> _AccountOperation:
        """Have one account operation decided and made durable; the future of what comes back holds the outcome."""
        waiting = _AccountOperation()
        self._engine.submit(self._partition(operation.a), operation, waiting, now_ms())
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await asyncio.shield(waiting.future)
        except TimeoutError:
            raise Outage("outcome_unknown", "not confirmed in time: repeat the request") from None
        return waiting

    async def _view_unless_declined(self, account_id: str, outcome: str) -> AccountView | None:
        return await self.account(account_id) if outcome in (Outcome.APPLIED, Outcome.REPEATED) else None

    async def _stripes(self, account_id: str) -> list[AccountRead]:
        partitions = range(self._engine.cluster.config.partitions)
        return await asyncio.gather(
            *(self._reader.account(partition, account_id) for partition in partitions)
        )

    async def _system_account(self, account_id: str) -> AccountView:
        totals: dict[str, int] = {}
        for read in await self._stripes(account_id):
            for currency, minor in read.balances.items():
                totals[currency] = totals.get(currency, 0) + minor
        balances = tuple(CurrencyBalance(currency, minor, 0) for currency, minor in sorted(totals.items()))
        return AccountView(account_id, "active", balances)


def _single_answer(call: Call) -> TransferAnswer | Outage:
    result = call.results[0]
    if len(result) == 1:
        return TransferAnswer(result, call.replayed)
    return Outage(result or "outcome_unknown", "the transfer is not confirmed: retry it with the same id")
