"""Implements `service.api.Wallet` on one partition in memory. The oracle decides."""

import time
from collections.abc import Callable, Sequence

from wallet_engine.domain import holds
from wallet_engine.domain.errors import InvalidInput, Outage
from wallet_engine.domain.group_commands import GroupAnswer, GroupCommand, GroupView
from wallet_engine.domain.groups import BOTH_HERE, COMMIT, NONE, Leg, parse_remembered, parse_words, words
from wallet_engine.domain.hold_commands import CaptureCommand, HoldCommand, IncreaseCommand, is_asked_by
from wallet_engine.domain.holds import Hold, parse_hold
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.kinds import kind_of, receiver_of
from wallet_engine.domain.memory import PAYER_LENGTH, TransferRecord, transfer_field
from wallet_engine.domain.money import parse_amount
from wallet_engine.domain.notes import METADATA, said_in
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.oracle import decide
from wallet_engine.domain.oracle_state import Flags, PartitionState
from wallet_engine.domain.outcomes import WIRE_CODES, Outcome
from wallet_engine.domain.refund_command import Original, RefundCommand
from wallet_engine.domain.returns import GROUPED, LEG, LOCAL, RETURN_RECORD, total_field
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.service.api import (
    NO_MOST,
    AccountView,
    BalanceView,
    CurrencyBalance,
    HoldAnswer,
    LimitsCommand,
    Money,
    Readiness,
    RefundAnswer,
    TransferAnswer,
)

_APPLIED = Outcome.APPLIED.value
_DONE = (Outcome.APPLIED.value, Outcome.REPEATED.value)
_STATUS = {"A": "active", "F": "frozen", "C": "closed"}
#: Prefix of a group's field in the dedupe memory.
_GROUP = "g"


class OracleWallet:
    """Implements `service.api.Wallet`. No method waits for anything."""

    def __init__(self) -> None:
        self._state = PartitionState()
        #: seq -> the one operation of that entry
        self._entries: dict[int, Operation] = {}
        #: Milliseconds by which its clock is ahead of the machine's.
        self.ahead_ms = 0

    def __repr__(self) -> str:
        return f"<OracleWallet seq={self._state.seq}>"

    # Accounts

    async def open_account(
        self,
        account_id: str,
        currency: str,
        overdraft_limit_minor: int | None,
        by: str = "",
        max_balance_minor: int | None = None,
        note: str = "",
    ) -> tuple[str, AccountView | None]:
        limit = _word(overdraft_limit_minor) + ("" if max_balance_minor is None else f"<{max_balance_minor}")
        outcome = self._decide(Operation("o", "-", account_id, limit, 0, currency, note, by))
        view = self._view(account_id) if outcome in _DONE else None
        known = None if view is None or outcome != Outcome.REPEATED else view.metadata
        if note and known is not None and known != said_in(note).get(METADATA):
            return Outcome.CONFLICT, None
        return outcome, view

    async def set_limits(self, command: LimitsCommand, by: str = "") -> tuple[str, AccountView | None]:
        account, currency, overdraft, most, note = command
        flags = self._state.flags.get(account)
        if most == NO_MOST and (flags is None or currency not in flags.most):
            most = None
        limits = f"{_word(overdraft)}|{_word(most)}"
        outcome = self._decide(Operation("a", "-", account, limits, 0, currency, note, by))
        return outcome, self._view(account) if outcome in _DONE else None

    async def set_flags(self, account_id: str, action: str, by: str = "") -> tuple[str, AccountView | None]:
        outcome = self._decide(Operation("f", "-", account_id, action, 0, "-", by=by))
        return outcome, self._view(account_id) if outcome in _DONE else None

    async def account(self, account_id: str) -> AccountView | None:
        self._expire()
        view = self._view(account_id)
        return view if view.balances or is_system(account_id) else None

    async def balance(self, account_id: str, currency: str) -> BalanceView | None:
        self._expire()
        if is_system(account_id):
            return BalanceView(self._money(account_id, currency), None, None)
        if account_id not in self._state.balances.get(currency, {}):
            return None
        return BalanceView(self._money(account_id, currency), 0, self._state.seq)

    # Transfers

    async def transfer(self, command: TransferCommand) -> TransferAnswer:
        return self._transfer(command)

    def begin_transfer(
        self, command: TransferCommand, answer: Callable[[TransferAnswer | Outage], None]
    ) -> None:
        answer(self._transfer(command))

    async def transfer_many(self, commands: Sequence[TransferCommand]) -> list[str]:
        return [self._transfer(command).outcome for command in commands]

    async def find_transfer(self, from_account: str, transaction: str) -> str | None:
        record = self._record(transfer_field(from_account, transaction))
        return None if record is None or record.outcome == holds.HOLD_RECORD else record.outcome

    async def request_of(self, from_account: str, transaction: str) -> Operation | None:
        record = self._record(transfer_field(from_account, transaction))
        return None if record is None else self._entries[record.seq]

    async def transfer_group(self, command: GroupCommand) -> GroupAnswer:
        legs = [Leg(BOTH_HERE, idx, *transfer[:4]) for idx, transfer in enumerate(command.transfers)]
        said = words(command.mark(), 0, COMMIT, legs)
        asked = Operation("m", command.transaction, command.payer, said, 0, "-", command.note, command.by)
        outcome = self._decide(asked)
        if outcome in (Outcome.APPLIED, Outcome.CONFLICT):
            return GroupAnswer(outcome)
        view = await self.find_group(command.payer, command.transaction)
        if view is None:
            return GroupAnswer(Outcome.CONFLICT)
        return GroupAnswer(view.outcome, outcome == Outcome.REPEATED, view.leg)

    async def find_group(self, from_account: str, transaction: str) -> GroupView | None:
        field = transfer_field(from_account, transaction)
        record, text = self._record(field), self._seen(_GROUP + field)
        if record is None or text is None:
            return None
        known = parse_remembered(text)
        leg = None if known.refused_leg == NONE else int(known.refused_leg)
        return GroupView(record.outcome, leg, known.words.legs, known.words.mark)

    # Holds

    async def place_hold(self, command: HoldCommand) -> HoldAnswer:
        account, amount, currency, transaction, to, expires_in_s, note, by = command
        other = holds.placing(to, expires_in_s)
        asked = Operation("h", transaction, account, other, amount, currency, note, by)
        return self._hold_answer(asked, transaction)

    async def increase_hold(self, command: IncreaseCommand) -> HoldAnswer:
        account, hold_id, transaction, amount, by = command
        found = self._hold(account, hold_id)
        if found is None:
            return self._without_hold(account, command)
        minor = parse_amount(amount, found.currency)
        field = holds.field_of(account, hold_id)
        asked = Operation("i", transaction, account, field, minor, found.currency, "", by)
        return self._hold_answer(asked, hold_id)

    async def capture_hold(self, command: CaptureCommand) -> HoldAnswer:
        account, hold_id, transaction, to, amount, final, note, by = command
        found = self._hold(account, hold_id)
        if found is None:
            return self._without_hold(account, command)
        receiver = to or found.receiver
        if receiver is None:
            return self._without_receiver(command, found)
        if receiver == account:
            raise InvalidInput("same_account", "account_id and to_account must differ")
        wanted = None if amount is None else parse_amount(amount, found.currency)
        minor = found.remaining if wanted is None else wanted
        other = holds.capturing(receiver, holds.field_of(account, hold_id), final, wanted)
        outcome, replayed = self._answered(
            Operation("k", transaction, account, other, minor, found.currency, note, by)
        )
        return HoldAnswer(outcome, replayed, self._hold(account, hold_id) if outcome == _APPLIED else None)

    async def void_hold(self, account_id: str, hold: str, by: str = "") -> HoldAnswer:
        found = self._hold(account_id, hold)
        if found is None:
            return self._without_hold(account_id, None)
        outcome = self._decide(Operation("v", hold, account_id, "-", 0, found.currency, "", by))
        return HoldAnswer(outcome, False, self._hold(account_id, hold) if outcome in _DONE else None)

    async def hold(self, account_id: str, hold: str) -> Hold | None:
        return self._hold(account_id, hold)

    # Refunds

    async def original(self, from_account: str, transaction: str, leg: int | None) -> Original | str:
        outcome = await self.find_transfer(from_account, transaction)
        if outcome is None:
            return "transfer_not_found"
        if outcome != _APPLIED:
            return "not_refundable"
        field = transfer_field(from_account, transaction)
        record = self._record(field)
        if record is None:
            return "transfer_not_found"
        operation = self._entries[record.seq]
        payer, receiver, how = from_account, receiver_of(operation), LOCAL
        minor, currency = operation.amount_minor, operation.currency
        if kind_of(operation.kind).grouped:
            _, idx, payer, receiver, minor, currency = _leg_of(operation, leg)
            field, how = f"{field}{LEG}{idx}", GROUPED
        elif leg is not None:
            raise InvalidInput("invalid_request", "leg: the transfer has none")
        place = (0, record.seq, record.idx, 0)
        returned = self._returned(field, record.seq, record.idx)
        return Original(payer, field, receiver, minor, currency, *place, how, returned)

    async def refund(self, command: RefundCommand, original: Original) -> RefundAnswer:
        currency = original.currency
        asked = None if command.amount is None else parse_amount(command.amount, currency)
        minor = original.amount_minor - original.returned_minor if asked is None else asked
        said = original.evidence(asked).text()
        outcome, replayed = self._answered(
            Operation(
                "x", command.transaction, original.receiver, said, minor, currency, command.note, command.by
            )
        )
        returned = self._returned(original.field, original.seq, original.idx)
        code = "" if outcome in (_APPLIED, RETURN_RECORD) else WIRE_CODES[outcome]
        rest, back = original.amount_minor - returned, bool(code) and Outcome(outcome).of_receiver
        return RefundAnswer(code, replayed, returned, rest, currency, back)

    def readiness(self) -> Readiness:
        return Readiness("ready", "")

    # What is in the state

    def _transfer(self, command: TransferCommand) -> TransferAnswer:
        sender, receiver, amount, currency, transaction, note, by = command
        return TransferAnswer(
            *self._answered(Operation("t", transaction, sender, receiver, amount, currency, note, by))
        )

    def _answered(self, asked: Operation) -> tuple[str, bool]:
        """The outcome, and whether it is that of an earlier call with the same id."""
        outcome = self._decide(asked)
        record = self._record(transfer_field(asked.account, asked.id))
        if outcome != Outcome.REPEATED or record is None:
            return outcome, False
        return record.outcome, True

    def _decide(self, asked: Operation) -> str:
        self._expire()
        return self._apply(asked)

    def _apply(self, asked: Operation) -> str:
        state = self._state
        seq, now_ms = state.seq, max(state.clock, time.time_ns() // 1_000_000 + self.ahead_ms)
        outcome = decide(state, [asked], now_ms, state.window)
        if state.seq != seq:
            state.clock = now_ms
            self._entries[state.seq] = asked
        return outcome

    def _expire(self) -> None:
        now_ms = time.time_ns() // 1_000_000 + self.ahead_ms
        for field in [field for field, due_ms in self._state.due.items() if due_ms <= now_ms]:
            hold = parse_hold(self._state.holds[field])
            self._apply(Operation("e", field[:-PAYER_LENGTH], hold.account, "-", 0, hold.currency))

    def _seen(self, field: str) -> str | None:
        state = self._state
        return state.seen[state.window].get(field) or state.seen[state.window - 1].get(field)

    def _record(self, field: str) -> TransferRecord | None:
        text = self._seen(field)
        return None if text is None else TransferRecord.parse(text)

    def _returned(self, field: str, seq: int, idx: int) -> int:
        return int(self._seen(total_field(field, f"0.{seq}.{idx}")) or 0)

    def _hold(self, account: str, hold_id: str) -> Hold | None:
        self._expire()
        field = holds.field_of(account, hold_id)
        text = self._state.holds.get(field) or self._seen(holds.ENDED + field)
        return None if text is None else parse_hold(text)

    def _hold_answer(self, asked: Operation, hold_id: str) -> HoldAnswer:
        outcome, replayed = self._answered(asked)
        placed = outcome in (_APPLIED, holds.HOLD_RECORD)
        return HoldAnswer(
            *(_APPLIED, replayed, self._hold(asked.account, hold_id)) if placed else (outcome, replayed)
        )

    def _without_hold(self, account: str, command: IncreaseCommand | CaptureCommand | None) -> HoldAnswer:
        record = None if command is None else self._record(transfer_field(account, command.transaction))
        if record is not None and command is not None:
            same = is_asked_by(self._entries[record.seq], command)
            return HoldAnswer(record.outcome, True) if same else HoldAnswer(Outcome.CONFLICT, False)
        view = self._view(account)
        if not view.balances:
            return HoldAnswer(Outcome.UNKNOWN_ACCOUNT, False)
        refused = {"closed": Outcome.CLOSED, "frozen": Outcome.FROZEN}.get(view.status)
        return HoldAnswer((refused if command else None) or Outcome.HOLD_NOT_FOUND, False)

    def _without_receiver(self, command: CaptureCommand, hold: Hold) -> HoldAnswer:
        if self._record(transfer_field(command.account_id, command.transaction)) is not None:
            return HoldAnswer(Outcome.CONFLICT, False)
        answer = self._without_hold(command.account_id, command)
        if answer.outcome != Outcome.HOLD_NOT_FOUND:
            return answer
        if hold.status == holds.OPEN:
            raise InvalidInput("invalid_request", "to_account is missing, and the hold names none")
        return HoldAnswer(holds.REFUSALS[hold.status], False)

    def _money(self, account: str, currency: str) -> Money:
        state = self._state
        return Money(
            *(book.get(currency, {}).get(account, 0) for book in (state.balances, state.held, state.pending))
        )

    def _view(self, account: str) -> AccountView:
        flags = self._state.flags.get(account) or Flags()
        balances = tuple(
            CurrencyBalance(
                currency,
                self._money(account, currency),
                flags.limits.get(currency, 0),
                None if (most := flags.most.get(currency)) == NO_MOST else most,
            )
            for currency, book in sorted(self._state.balances.items())
            if account in book
        )
        place = self._state.noted.get(account)
        note = "" if place is None else self._entries[int(place.partition(".")[0])].note
        return AccountView(account, _STATUS[flags.status], balances, said_in(note).get(METADATA))


def _leg_of(group: Operation, leg: int | None) -> Leg:
    legs = parse_words(group.other).legs
    if leg is None and len(legs) > 1:
        raise InvalidInput("invalid_request", f"leg: which of the {len(legs)} of the group")
    if (leg or 0) >= len(legs):
        raise InvalidInput("invalid_request", f"leg: the group has {len(legs)}")
    return legs[leg or 0]


def _word(minor: int | None) -> str:
    return "-" if minor is None else str(minor)
