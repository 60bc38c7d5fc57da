"""Holds on a real cluster: placing, increasing, capturing, voiding, each answered only when it is durable."""

from typing import Final

from wallet_engine.domain import holds
from wallet_engine.domain.errors import InvalidInput, Outage
from wallet_engine.domain.hold_commands import CaptureCommand, HoldCommand, IncreaseCommand, is_asked_by
from wallet_engine.domain.holds import Hold, parse_hold, told_hold
from wallet_engine.domain.memory import TransferRecord, transfer_field
from wallet_engine.domain.money import parse_amount
from wallet_engine.domain.operation import Words
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.clocks import now_ms
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.entries import Entries
from wallet_engine.engine.reads import Reader
from wallet_engine.saga.capture import Capture
from wallet_engine.saga.transfer import Call
from wallet_engine.service.api import ANSWER_TIMEOUT_S, HoldAnswer
from wallet_engine.service.deciding import decide, looked_up, read_after
from wallet_engine.service.repeats import Repeats
from wallet_engine.service.sides import check_sides

#: How often an operation is retried because its hold changed between the read and the decision.
LOOKS_MAX: Final = 20

_APPLIED: Final = Outcome.APPLIED.value
_STATUS_REFUSALS: Final = {"C": Outcome.CLOSED.value, "F": Outcome.FROZEN.value}


class Holds:
    """The part of `service.api.Wallet` that is about holds."""

    def __init__(self, engine: Engine, reader: Reader, repeats: Repeats) -> None:
        self._engine = engine
        self._reader = reader
        self._repeats = repeats
        self._entries = Entries(engine, reader)

    def __repr__(self) -> str:
        return f"<Holds {self._engine!r}>"

    async def place_hold(self, command: HoldCommand) -> HoldAnswer:
        account, amount, currency, transaction, to, expires_in_s, note, by = command
        partition, asked_s = self._home(account), self._engine.now_s()
        other = holds.placing(to, expires_in_s)
        words = ("h", transaction, account, other, amount, currency, note, by)
        found = await self._remembered(words, partition, partition)
        if found is None:
            outcome, before = await self._decide(partition, words, asked_s)
        else:
            outcome, before = (found if found == Outcome.CONFLICT else Outcome.REPEATED), [found]
        return await self._answer(account, transaction, outcome, before)

    async def increase_hold(self, command: IncreaseCommand) -> HoldAnswer:
        account, hold_id, transaction, amount, by = command
        field, asked_s = holds.field_of(account, hold_id), self._engine.now_s()
        for _ in range(LOOKS_MAX):
            hold = await self._look(account, field)
            if hold is None:
                return await self._without_hold(account, command)
            minor = parse_amount(amount, hold.currency)
            words = ("i", transaction, account, field, minor, hold.currency, "", by)
            outcome, before = await self._decide(self._home(account), words, asked_s)
            if outcome != Outcome.STALE:
                return await self._answer(account, hold_id, outcome, before)
        raise _changing(hold_id)

    async def capture_hold(self, command: CaptureCommand) -> HoldAnswer:
        account, hold_id = command.account_id, command.hold
        field, asked_s = holds.field_of(account, hold_id), self._engine.now_s()
        for _ in range(LOOKS_MAX):
            hold = await self._look(account, field)
            if hold is None:
                return await self._without_hold(account, command)
            to = command.to_account or hold.receiver
            if to is None:
                return await self._without_receiver(command, field)
            result, replayed, found = await self._capture(command, field, hold, to, asked_s)
            if len(result) > 1:
                raise Outage(result, "the capture is not confirmed: retry it with the same id")
            if result != Outcome.STALE:
                if result == _APPLIED and found is None:
                    found = await read_after(self._reader.hold(self._home(account), field))
                return HoldAnswer(result, replayed, found)
        raise _changing(hold_id)

    async def void_hold(self, account_id: str, hold: str, by: str = "") -> HoldAnswer:
        field, asked_s = holds.field_of(account_id, hold), self._engine.now_s()
        for _ in range(LOOKS_MAX):
            found = await self._look(account_id, field)
            if found is None:
                return await self._without_hold(account_id, None)
            words = ("v", hold, account_id, "-", 0, found.currency, "", by)
            outcome, told = await self._decide(self._home(account_id), words, asked_s)
            if outcome != Outcome.STALE:
                ended = told_hold(told) if outcome == Outcome.APPLIED else None
                if ended is None and outcome in (Outcome.APPLIED, Outcome.REPEATED):
                    ended = await read_after(self.hold(account_id, hold))
                return HoldAnswer(outcome, False, ended)
        raise _changing(hold)

    async def hold(self, account_id: str, hold: str) -> Hold | None:
        found = await self._find(self._home(account_id), holds.field_of(account_id, hold))
        return found if found is not None and found.account == account_id else None

    def _home(self, account: str) -> int:
        return self._engine.cluster.homes.of(account)

    async def _capture(
        self, command: CaptureCommand, field: str, hold: Hold, to: str, asked_s: float
    ) -> tuple[str, bool, Hold | None]:
        """(outcome or outage code, whether it is the answer of an earlier call, the hold if returned)."""
        if to == command.account_id:
            raise InvalidInput("same_account", "account_id and to_account must differ")
        asked = None if command.amount is None else parse_amount(command.amount, hold.currency)
        minor = hold.remaining if asked is None else asked
        transfer = TransferCommand(
            *(command.account_id, to, minor, hold.currency, command.transaction, command.note, command.by)
        )
        p = self._home(command.account_id)
        q = self._engine.cluster.homes.of_receiver(to, p)
        words = holds.capturing(to, field, command.final, asked)
        named = ("k", command.transaction, command.account_id)
        found = await self._remembered((*named, words, minor, hold.currency, command.note, command.by), p, q)
        if found is not None:
            return found, found != Outcome.CONFLICT, None
        call, answered = Call.awaited(1)
        capture = Capture(self._engine, transfer, p, q, call, 0, words)
        result, replayed = await capture.driven(answered, ANSWER_TIMEOUT_S, asked_s)
        return result, replayed, told_hold(capture.told) if result == _APPLIED else None

    async def _look(self, account: str, field: str) -> Hold | None:
        """The hold as it is now, durable or not; the script checks that it has not changed."""
        home = self._home(account)
        keys = self._engine.cluster.accumulators[home].keys
        record = await self._reader.glance(home, "HGET", keys.hold, field)
        return await self._find(home, field) if record is None else parse_hold(record.decode())

    async def _find(self, home: int, field: str) -> Hold | None:
        return await looked_up(self._engine, home, lambda: self._reader.hold(home, field))

    async def _remembered(self, words: Words, p: int, q: int) -> str | None:
        """What p remembers of an operation that may not begin; None: it may begin.

        Raises `Outage` otherwise.
        """
        headroom = self._engine.headroom
        if not headroom.wary:
            return None
        try:
            check_sides(headroom, p, q)
        except Outage:
            found = await self._repeats.outcome_of(p, words)
            if found == "outcome_unknown":
                raise Outage(found, "what is remembered is not confirmed: repeat the request") from None
            if found is None:
                raise
            return found
        return None

    async def _decide(self, partition: int, words: Words, asked_s: float) -> tuple[str, list[str]]:
        """The outcome, and what was remembered of the operation before. Raises `Outage`.

        `asked_s` is before the hold was read: in a service that is stopped meanwhile, Redis takes no operation that
        others have made and forgotten.
        """
        decided = await decide(self._engine, partition, words, asked_s)
        return decided.outcome, decided.detail

    async def _answer(self, account: str, hold_id: str, outcome: str, before: list[str]) -> HoldAnswer:
        """`before`: for a repeat what was remembered of the operation, else the hold after it."""
        if outcome == Outcome.REPEATED and before and before[0] != holds.HOLD_RECORD:
            return HoldAnswer(before[0], True)
        if outcome not in (Outcome.APPLIED, Outcome.REPEATED):
            return HoldAnswer(outcome, False)
        told = told_hold(before) if outcome == Outcome.APPLIED else None
        found = told or await read_after(self.hold(account, hold_id))
        return HoldAnswer(outcome, outcome == Outcome.REPEATED, found)

    async def _without_hold(
        self, account: str, command: IncreaseCommand | CaptureCommand | None
    ) -> HoldAnswer:
        """The answer if no hold is known: the remembered one, or else the first refusal, unremembered."""
        partition = self._home(account)
        if command is not None:
            read = await self._reader.transfer(partition, transfer_field(account, command.transaction))
            if read.record is not None:
                return await self._remembered_without_hold(command, TransferRecord.parse(read.record))
        found = await self._reader.account(partition, account)
        if not found.balances:
            return HoldAnswer(Outcome.UNKNOWN_ACCOUNT, False)
        refused = _STATUS_REFUSALS.get(found.status) if command is not None else None
        return HoldAnswer(refused or Outcome.HOLD_NOT_FOUND, False)

    async def _without_receiver(self, command: CaptureCommand, field: str) -> HoldAnswer:
        """The answer if neither capture nor hold names a receiver: the first refusal, unremembered.

        Such a capture is never decided: what its id is remembered for is something else. Raises `InvalidInput` if
        nothing else refuses it.
        """
        home = self._home(command.account_id)
        read = await self._reader.transfer(home, transfer_field(command.account_id, command.transaction))
        if read.record is not None:
            return HoldAnswer(Outcome.CONFLICT, False)
        answer, hold = await self._without_hold(command.account_id, command), await self._find(home, field)
        if hold is None or answer.outcome != Outcome.HOLD_NOT_FOUND:
            return answer
        refused = holds.REFUSALS.get(hold.status)
        if refused is None and hold.expires_ms <= now_ms():
            refused = Outcome.HOLD_EXPIRED
        if refused is None:
            raise InvalidInput("invalid_request", "to_account is missing, and the hold names none")
        return HoldAnswer(refused, False)

    async def _remembered_without_hold(
        self, command: IncreaseCommand | CaptureCommand, record: TransferRecord
    ) -> HoldAnswer:
        """Repeat the remembered answer: an ended hold may be forgotten earlier than a decline about it.

        Without the hold's currency no fingerprint can be made, so this compares the words of the entry.
        """
        account, transaction = command.account_id, command.transaction
        words = (self._home(account), record.seq, record.idx, account, transaction)
        operation = await self._entries.operation(*words)
        if operation is None or not is_asked_by(operation, command):
            return HoldAnswer(Outcome.CONFLICT, False)
        return HoldAnswer(record.outcome, True)


def _changing(hold_id: str) -> Outage:
    return Outage("overloaded", f"the hold {hold_id} changes faster than it can be looked at")
