"""Refunds on a real cluster: finds the original; its receiver's partition decides the refund, durable."""

import asyncio
from typing import Final

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.groups import COMMITTED, INTERRUPT, mark_for, parse_words, words
from wallet_engine.domain.kinds import kind_of, receiver_of
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.money import parse_amount
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import WIRE_CODES, Outcome
from wallet_engine.domain.refund_command import Original, RefundCommand
from wallet_engine.domain.returns import (
    CREDITED,
    GROUP_PART,
    GROUPED,
    LEG,
    LOCAL,
    RETURN_RECORD,
    STORED,
    parse_evidence,
    refunded_in,
    total_field,
)
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import Reader
from wallet_engine.saga.refund import Refund
from wallet_engine.saga.transfer import Call
from wallet_engine.service.api import ANSWER_TIMEOUT_S, RefundAnswer
from wallet_engine.service.deciding import decide, prove, read_after
from wallet_engine.service.lookups import PENDING, LookUps
from wallet_engine.service.originals import ForgottenOriginals, check_leg
from wallet_engine.service.repeats import Repeats
from wallet_engine.service.sides import check_sides

#: How often a refund of the whole rest is retried because another refund came in between.
LOOKS_MAX: Final = 20

_APPLIED: Final = Outcome.APPLIED.value


class Refunds:
    """The part of `service.api.Wallet` that gives money back."""

    def __init__(
        self,
        engine: Engine,
        reader: Reader,
        look_ups: LookUps,
        repeats: Repeats,
        forgotten: ForgottenOriginals,
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._look_ups = look_ups
        self._repeats = repeats
        self._forgotten = forgotten

    def __repr__(self) -> str:
        return f"<Refunds {self._engine!r}>"

    async def original(self, from_account: str, transaction: str, leg: int | None) -> Original | str:
        """The transfer to refund, or the code of why it cannot be. Raises `InvalidInput` for the leg."""
        asked_s = self._engine.now_s()
        found = await self._original(from_account, transaction, leg)
        return found if isinstance(found, str) else found._replace(asked_s=asked_s)

    async def _original(self, from_account: str, transaction: str, leg: int | None) -> Original | str:
        outcome = await self._look_ups.find_proved(from_account, transaction)
        if outcome is None:
            return await self._forgotten.find(from_account, transaction, leg)
        if outcome == PENDING:
            return "transfer_pending"
        if outcome != _APPLIED:  # declined, or itself a refund
            return "not_refundable"
        found = await self._look_ups.operation_of(from_account, transaction)
        if found is None:
            return await self._forgotten.find(from_account, transaction, leg)
        operation, seq, idx = found
        if kind_of(operation.kind).grouped:
            return await self._leg(operation, seq, idx, leg)
        check_leg(leg, 0)
        homes = self._engine.cluster.homes
        p, receiver = homes.of_payer(from_account, transaction), receiver_of(operation)
        q, field = homes.of_receiver(receiver, p), transfer_field(from_account, transaction)
        return Original(
            *(from_account, field, receiver, operation.amount_minor, operation.currency, p, seq, idx, q),
            CREDITED if kind_of(operation.kind).opens else LOCAL,
            await self._returned(q, field, f"{p}.{seq}.{idx}"),
        )

    async def _leg(self, group: Operation, seq: int, idx: int, leg: int | None) -> Original | str:
        """The transfer of a leg. For a group of one leg, the leg may be left out."""
        said, homes = parse_words(group.other), self._engine.cluster.homes
        check_leg(leg, len(said.legs))
        of = said.legs[leg or 0]
        home = homes.of_payer(group.account, group.id)
        q = homes.of_receiver(of.receiver, homes.of_payer(of.payer, group.id))
        base = transfer_field(group.account, group.id)
        if q != home and not await self._has_paid(q, base + said.mark):
            await prove(self._engine, q)
            if not await self._has_paid(q, base + said.mark):
                if (await self._reader.group(home, base)).under_way:
                    return "transfer_pending"
                return await self._forgotten.find(group.account, group.id, leg)  # paid, and forgotten there
        field = f"{base}{LEG}{of.idx}"
        return Original(
            *(of.payer, field, of.receiver, of.minor, of.currency, home, seq, idx, q),
            GROUPED if q == home else GROUP_PART + said.mark,
            await self._returned(q, field, f"{home}.{seq}.{idx}"),
        )

    async def _has_paid(self, q: int, part: str) -> bool:
        return ((await self._reader.group(q, part)).remembered or "").startswith(COMMITTED)

    async def refund(self, command: RefundCommand, original: Original) -> RefundAnswer:
        currency, field, p = original.currency, original.field, original.q
        asked = None if command.amount is None else parse_amount(command.amount, currency)
        q = self._engine.cluster.homes.of_receiver(original.payer, p)
        # Before anything was read: in a service that is stopped meanwhile it must not become a second refund.
        is_stored, asked_s = original.how[0] == STORED, original.asked_s or self._engine.now_s()
        if not await self._takes_id(command, original, asked, asked_s):
            return RefundAnswer("idempotency_conflict")
        before = await self._words_of_before(command, original, asked) if is_stored else None
        returned, is_proved = original.returned_minor, False
        for _ in range(LOOKS_MAX):
            minor = original.amount_minor - returned if asked is None else asked
            sides = (original.receiver, original.payer)
            transfer = TransferCommand(*sides, minor, currency, command.transaction, command.note, command.by)
            result, replayed = await self._drive(
                transfer, p, q, before or original.evidence(asked).text(), asked_s
            )
            if len(result) > 1:
                raise Outage(result, "the refund is not confirmed: retry it with the same id")
            if result == Outcome.TRANSFER_FORGOTTEN and not is_proved:
                await prove(self._engine, p)
                is_proved = True
                continue
            if result == Outcome.CONFLICT and before is None:  # it may have been made by other words
                before = await self._words_of_before(command, original, asked)
                if before is not None:
                    continue
            if result == Outcome.TRANSFER_FORGOTTEN or (result == Outcome.STALE and is_stored):
                again = await self._forgotten.find(command.from_account, command.original, command.leg)
                if isinstance(again, str):
                    return RefundAnswer(again)
                original, is_stored = again, True
                # By its receiver, while its payer still remembers it.
                if result == Outcome.TRANSFER_FORGOTTEN:
                    returned = again.returned_minor
                    continue
            known = original.returned_minor if is_stored else 0
            total = self._returned(p, field, original.place)
            returned = max(await (read_after(total) if result == _APPLIED else total), known)
            if result != Outcome.STALE:
                code = "" if result == _APPLIED else WIRE_CODES[result]
                rest, back = original.amount_minor - returned, Outcome(result).of_receiver
                return RefundAnswer(code, replayed, returned, rest, currency, back)
        raise Outage("overloaded", "refunds of this transfer come faster than they can be looked at")

    async def _takes_id(
        self, command: RefundCommand, original: Original, asked: int | None, asked_s: float
    ) -> bool:
        """Whether the id is this refund's own, or may become it. Raises `Outage`.

        A refund by a system account is decided where its original is. Its id is taken at the id's home first, where
        everything else under this id is decided: by a group that is void at once, whose mark is that of the refund.
        """
        account, id_ = original.receiver, command.transaction
        home = self._engine.cluster.homes.of_payer(account, id_)
        if home == original.q:
            return True
        if (await self._reader.transfer(original.q, transfer_field(account, id_))).record is not None:
            return True  # it, or another one: the partition tells them apart
        headroom = self._engine.headroom
        if headroom.wary:  # a refund that cannot begin takes no id: with another body it is no conflict
            headroom.check(home)
            check_sides(
                headroom, original.q, self._engine.cluster.homes.of_receiver(original.payer, original.q)
            )
        legs = ((account, original.payer, asked or 0, original.currency),)
        said = words(mark_for(legs, f"{original.field} {command.note}"), 0, INTERRUPT, ())
        taking = ("g", id_, account, said, 0, "-", "", command.by)
        return (await decide(self._engine, home, taking, asked_s)).outcome != Outcome.CONFLICT

    async def _words_of_before(
        self, command: RefundCommand, original: Original, asked: int | None
    ) -> str | None:
        """The words that this same refund used for its original before: a repeat must use them again."""
        found = await self._look_ups.operation_of(original.receiver, command.transaction, original.q)
        if found is None or found[0].kind not in "xz":
            return None
        said = parse_evidence(found[0].other)
        same = (said.payer, said.field, said.asked_minor) == (original.payer, original.field, asked)
        return found[0].other if same else None

    async def _drive(
        self, transfer: TransferCommand, p: int, q: int, words: str, asked_s: float
    ) -> tuple[str, bool]:
        """(outcome or outage code, whether it is the answer of an earlier call)."""
        engine = self._engine
        if engine.headroom.wary:
            try:
                check_sides(engine.headroom, p, q)
            except Outage as outage:
                return await self._remembered(transfer, p, words, outage)
        call, answered = Call.awaited(1)
        return await Refund(engine, transfer, p, q, call, 0, words).driven(
            answered, ANSWER_TIMEOUT_S, asked_s
        )

    async def _remembered(
        self, transfer: TransferCommand, p: int, words: str, outage: Outage
    ) -> tuple[str, bool]:
        """For a refund that may not begin: its earlier answer, or else raises `outage`."""
        sender, _, amount, currency, transaction, note, by = transfer
        operation = ("x", transaction, sender, words, amount, currency, note, by)
        found = await self._repeats.outcome_of(p, operation)
        if found is None:
            raise outage
        return (_APPLIED if found == RETURN_RECORD else found), found != Outcome.CONFLICT

    async def _returned(self, partition: int, field: str, place: str) -> int:
        """Refunded minor units of the original at this place; durable."""
        names = (total_field(field, place), total_field(field))
        return refunded_in(*await asyncio.gather(*(self._reader.seen(partition, name) for name in names)))
