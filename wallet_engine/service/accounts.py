"""Accounts on a real cluster: opening, reading, flagging."""

import asyncio
from typing import Final

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.notes import METADATA, said_in
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.entries import Entries
from wallet_engine.engine.reads import AccountRead, Reader
from wallet_engine.service.api import (
    ANSWER_TIMEOUT_S,
    NO_MOST,
    AccountView,
    BalanceView,
    CurrencyBalance,
    LimitsCommand,
    Money,
)
from wallet_engine.service.deciding import Decided, decide, looked_up, prove, read_after
from wallet_engine.telemetry.logging import get_logger

log = get_logger(__name__)

#: Maximum time of a close; what it waits for takes no longer than the sweeper needs.
CLOSE_S_MAX: Final = 12.0
#: Accounts whose metadata are cached; they cannot become stale, because an entry never changes.
METADATA_KEPT_MAX: Final = 4_096

_STATUS: Final = {"A": "active", "F": "frozen", "C": "closed"}


class Accounts:
    """The part of `service.api.Wallet` that is about accounts."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader
        self._entries = Entries(engine, reader)
        #: (partition, seq, idx) of a durable operation -> the metadata in its note
        self._said: dict[tuple[int, int, int], dict[str, str]] = {}

    def __repr__(self) -> str:
        return f"<Accounts {self._engine!r}>"

    async def open_account(
        self,
        account_id: str,
        currency: str,
        overdraft_limit_minor: int | None,
        by: str = "",
        max_balance_minor: int | None = None,
        note: str = "",
    ) -> tuple[str, AccountView | None]:
        """A repeat with metadata that differ from the account's is a conflict, as with other limits."""
        limit = _word(overdraft_limit_minor)
        if max_balance_minor is not None:
            limit += f"<{max_balance_minor}"
        self._engine.headroom.check(self._partition(account_id))
        operation = await self._operate(Operation("o", "-", account_id, limit, 0, currency, note, by))
        outcome = operation.outcome
        view = await self._view_unless_declined(account_id, outcome)
        known = None if view is None or outcome != Outcome.REPEATED else view.metadata
        if note and known is not None and known != said_in(note).get(METADATA):
            return Outcome.CONFLICT, None
        return outcome, view

    async def set_limits(self, command: LimitsCommand, by: str = "") -> tuple[str, AccountView | None]:
        account_id, currency, overdraft, most, note = command
        if most == NO_MOST:
            read = await self._reader.account(self._partition(account_id), account_id)
            most = most if currency in read.most else None  # partitions with limits pay for them
        words = f"{_word(overdraft)}|{_word(most)}"
        operation = await self._operate(Operation("a", "-", account_id, words, 0, currency, note, by))
        outcome = operation.outcome
        return outcome, await self._view_unless_declined(account_id, outcome)

    async def set_flags(self, account_id: str, action: str, by: str = "") -> tuple[str, AccountView | None]:
        closing = action == "close"
        outcome = await (self._close(account_id, by) if closing else self._flag(account_id, action, by))
        return outcome, await self._view_unless_declined(account_id, outcome)

    async def account(self, account_id: str) -> AccountView | None:
        if is_system(account_id):
            return await self._system_account(account_id)
        read = await self._read(account_id)
        if read is None:
            return None
        balances = tuple(
            CurrencyBalance(
                currency, _money(read, currency), read.limits.get(currency, 0), _most(read, currency)
            )
            for currency in sorted(read.balances)
        )
        return AccountView(account_id, _STATUS[read.status], balances, await self._metadata(account_id, read))

    async def _metadata(self, account_id: str, read: AccountRead) -> dict[str, str] | None:
        """None also if no journal copy has the entry with the metadata any more, or none answers."""
        if read.noted is None:
            return None
        place = (read.partition, *read.noted)
        if place not in self._said:
            try:
                operation = await self._entries.operation(*place, account_id, "-")
            except Outage as outage:
                log.warning("metadata not found", account=account_id, entry=place[1], error=str(outage))
                return None
            said = {} if operation is None else said_in(operation.note).get(METADATA, {})
            while len(self._said) >= METADATA_KEPT_MAX:
                del self._said[next(iter(self._said))]
            self._said[place] = said
        return self._said[place]

    async def balance(self, account_id: str, currency: str) -> BalanceView | None:
        if is_system(account_id):
            reads = await self._stripes(account_id)
            return BalanceView(Money(sum(read.balances.get(currency, 0) for read in reads)), None, None)
        read = await self._read(account_id, currency)
        if read is None:
            return None
        return BalanceView(_money(read, currency), read.partition, read.seq)

    async def newest(self, account_id: str, currency: str | None) -> tuple[int, int] | None:
        """(partition, seq) of the newest entry, by which the account is open; None if it is not. Costs no entry."""
        read = await self._reader.account(self._partition(account_id), account_id)
        is_open = bool(read.balances) if currency is None else currency in read.balances
        return (read.partition, read.seq) if is_open else None

    async def _read(self, account_id: str, currency: str | None = None) -> AccountRead | None:
        """None if the account was never opened, or not in that currency."""
        partition = self._partition(account_id)

        async def look() -> AccountRead | None:
            read = await self._reader.account(partition, account_id)
            is_there = currency in read.balances if currency is not None else bool(read.balances)
            return read if is_there else None

        return await looked_up(self._engine, partition, look)

    async def _flag(self, account_id: str, action: str, by: str) -> str:
        operation = await self._operate(Operation("f", "-", account_id, action, 0, "-", by=by))
        return operation.outcome

    async def _close(self, account_id: str, by: str) -> str:
        """Close an account that has no money, and none on its way out that may come back.

        The script decides that (`lua/rules/set_flags.lua`). If transfers of the partition are on their way,
        the account is frozen first, and closed when the transfers up to that moment have ended. If a caller
        unfreezes or freezes it meanwhile, that counts, and the close starts again. Raises
        `Outage("outcome_unknown")` after the time limit.

        A process that dies meanwhile leaves the account frozen by this close: a repeat ends that.
        """
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                while (outcome := await self._flag(account_id, "close", by)) == Outcome.OPERATIONS_PENDING:
                    if await self._expects_money(account_id):
                        break
                    outcome = await self._close_frozen(account_id, by)
                    if outcome != Outcome.OPERATIONS_PENDING:
                        break
        except TimeoutError:
            raise Outage("outcome_unknown", "not closed in time: repeat the request") from None
        if outcome == Outcome.BALANCE_NOT_ZERO:
            await self._reopen_interrupted(account_id, by)
        return outcome

    async def _reopen_interrupted(self, account_id: str, by: str) -> None:
        """Undo the freeze of an earlier close that died, because money has come back since.

        If another close keeps the account frozen now, it starts again and comes to the same end.
        """
        read = await self._reader.account(self._partition(account_id), account_id)
        if read.closing_seq is not None:
            await self._flag(account_id, f"reopen.{read.closing_seq}", by)

    async def _expects_money(self, account_id: str) -> bool:
        """Whether a group is about to pay the account. The close then answers instead of waiting."""
        read = await self._reader.account(self._partition(account_id), account_id)
        return any(read.pending.values())

    async def _close_frozen(self, account_id: str, by: str) -> str:
        """Freeze the account, wait, and close it. If it cannot be closed, it is left as it was."""
        closing = await self._operate(Operation("f", "-", account_id, "closing", 0, "-", by=by))
        frozen = closing.outcome
        if frozen != Outcome.APPLIED:
            return frozen
        closed = ""
        try:
            await self._reader.settled(self._partition(account_id), closing.seq)
            closed = await self._flag(account_id, f"close.{closing.seq}", by)
        finally:
            if closed not in (Outcome.APPLIED, Outcome.REPEATED):
                await read_after(self._flag(account_id, f"reopen.{closing.seq}", by))
        return closed

    def _partition(self, account_id: str) -> int:
        return self._engine.cluster.homes.of(account_id)

    async def _operate(self, operation: Operation) -> Decided:
        """Have one account operation decided and durable; if it made no entry, prove it. Raises `Outage`."""
        engine, partition = self._engine, self._partition(operation.account)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while True:
                    decided = await decide(engine, partition, operation)
                    if decided.has_entry or _stays_so(operation, decided.outcome):
                        return decided
                    if await prove(engine, partition) == decided.epoch:
                        return decided
        except TimeoutError:
            raise Outage("outcome_unknown", "not confirmed in time: repeat the request") from None

    async def _view_unless_declined(self, account_id: str, outcome: str) -> AccountView | None:
        if outcome not in (Outcome.APPLIED, Outcome.REPEATED):
            return None
        return await read_after(self.account(account_id))

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
        balances = tuple(
            CurrencyBalance(currency, Money(minor), 0) for currency, minor in sorted(totals.items())
        )
        return AccountView(account_id, "active", balances)


def _stays_so(operation: Operation, outcome: str) -> bool:
    """Whether the outcome can never change again: the account was opened before, or is closed."""
    return outcome == Outcome.CLOSED or (operation.kind == "o" and outcome == Outcome.REPEATED)


def _word(minor: int | None) -> str:
    return "-" if minor is None else str(minor)


def _most(read: AccountRead, currency: str) -> int | None:
    most = read.most.get(currency)
    return None if most == NO_MOST else most


def _money(read: AccountRead, currency: str) -> Money:
    return Money(read.balances[currency], read.held.get(currency, 0), read.pending.get(currency, 0))
