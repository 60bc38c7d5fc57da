"""Callers that place holds and capture or void them later; some use one hold several times at once."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wallet_engine.domain.hold_commands import CaptureCommand, HoldCommand, IncreaseCommand
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.service.api import HoldAnswer

if TYPE_CHECKING:
    from simulation.callers import Callers


@dataclass(slots=True)
class Wanted:
    """A hold, or a use of one. `answer` is final once it is not None."""

    command: HoldCommand | CaptureCommand | IncreaseCommand
    first_ms: int = 0
    answer: str | None = None
    #: Whether the last answer was a refusal that is not remembered.
    refused: bool = False


@dataclass(slots=True)
class Holders:
    """The part of `Callers` that is about holds."""

    callers: "Callers"
    placed: list[Wanted] = field(default_factory=list)
    uses: list[Wanted] = field(default_factory=list)
    #: Captures that were paid, as transfers.
    paid: list[TransferCommand] = field(default_factory=list)

    async def some(self) -> None:
        """Place a hold, and use it or another one; or repeat an earlier request."""
        rng = self.callers.rng
        if self.placed and rng.random() < 0.2:
            await self.once(rng.choice([*self.placed, *self.uses]))
        if rng.random() < 0.6:
            await self._place()
        known = [wanted for wanted in self.placed if wanted.answer in (None, "+")]
        if known:
            await asyncio.gather(*(self._use(rng.choice(known[-8:])) for _ in range(rng.randint(1, 3))))

    async def _place(self) -> None:
        rng, callers = self.callers.rng, self.callers
        account, to = rng.sample(callers.accounts, 2)
        to = f"nobody{rng.randrange(20)}" if rng.random() < 0.05 else to
        amount = rng.randint(1, 300) if rng.random() < 0.9 else rng.randint(900, 5_000)
        named = to if rng.random() < 0.4 else None
        expires_s = rng.choice((1, 2, 4, 3_600))
        command = HoldCommand(account, amount, self._currency(), callers.new_id("H"), named, expires_s)
        await self._insist(Wanted(command), self.placed)

    def _currency(self) -> str:
        return "EUR" if self.callers.rng.random() < 0.15 else "USD"

    async def _use(self, of: Wanted) -> None:
        rng, callers, placed = self.callers.rng, self.callers, of.command
        assert isinstance(placed, HoldCommand)
        account, hold_id = placed.account_id, placed.transaction
        draw, minor = rng.random(), rng.randint(1, max(1, placed.amount_minor * 3 // 4))
        amount = format_amount(minor, placed.currency)
        if draw < 0.15:
            await self._void(of)
            return
        if draw < 0.3:
            wanted = Wanted(IncreaseCommand(account, hold_id, callers.new_id("I"), amount))
        else:
            others = [name for name in callers.accounts if name != account]
            drawn = rng.random()
            other = "@fees" if drawn < 0.1 else f"nobody{rng.randrange(20)}" if drawn < 0.2 else ""
            to = placed.to_account if placed.to_account and drawn < 0.95 else other or rng.choice(others)
            asked = None if rng.random() < 0.4 else amount
            words = (account, hold_id, callers.new_id("C"), to, asked, rng.random() < 0.5)
            wanted = Wanted(CaptureCommand(*words))
        await self._insist(wanted, self.uses)

    async def _insist(self, wanted: Wanted, among: list[Wanted]) -> None:
        among.append(wanted)
        for _ in range(2):
            if await self.once(wanted):
                return

    async def _void(self, of: Wanted) -> None:
        callers, placed = self.callers, of.command
        assert isinstance(placed, HoldCommand)
        known = of.answer == "+"

        def check(answer: HoldAnswer) -> None:
            callers.auditor.void_answered(placed, answer, known=known and callers.may_retry(of))

        await callers.ask(lambda w: w.void_hold(placed.account_id, placed.transaction), check)

    async def once(self, wanted: Wanted) -> bool:
        """Ask for it once; returns whether it has its answer. An answer that is not remembered may differ next time."""
        callers, command = self.callers, wanted.command
        if not callers.may_retry(wanted):
            return True
        knew, remembered, overtaken = callers.auditor.remembers(command), False, False

        def check(answer: HoldAnswer) -> None:
            nonlocal remembered, overtaken
            remembered = answer.outcome != Outcome.HOLD_BUSY and callers.auditor.remembers(command)
            overtaken = remembered and not knew and answer.outcome == Outcome.HOLD_NOT_FOUND
            if overtaken:  # another try has seen the hold, which did not exist yet when this one looked
                remembered = False
            else:
                callers.auditor.hold_answered(command, answer)

        if isinstance(command, HoldCommand):
            answer = await callers.ask(lambda w: w.place_hold(command), check)
        elif isinstance(command, IncreaseCommand):
            answer = await callers.ask(lambda w: w.increase_hold(command), check)
        else:
            answer = await callers.ask(lambda w: w.capture_hold(command), check)
        if type(answer) is str or not remembered:
            wanted.refused = type(answer) is not str and answer.outcome != Outcome.HOLD_BUSY and not overtaken
            return False
        outcome = "+" if answer.outcome == Outcome.REPEATED else answer.outcome
        if outcome == "!" or wanted.answer not in (None, outcome):
            callers.world.violate(f"G4: {wanted} is now answered {answer}")
        if wanted.answer is None and outcome == "+" and isinstance(command, CaptureCommand):
            self.paid.append(callers.auditor.captured(command))
        wanted.answer = outcome
        return True

    async def finish(self) -> None:
        """Ask for every missing answer, about placed holds first."""
        for wanteds in (self.placed, self.uses):
            await asyncio.gather(*(self._ask_on(wanted) for wanted in wanteds if wanted.answer is None))

    async def _ask_on(self, wanted: Wanted) -> None:
        while not await self.once(wanted) and not wanted.refused:
            await asyncio.sleep(0.1)

    @property
    def unknown(self) -> bool:
        """Whether it is unknown if some capture was paid."""
        return any(
            each.answer is None and not each.refused
            for each in self.uses
            if isinstance(each.command, CaptureCommand)
        )
