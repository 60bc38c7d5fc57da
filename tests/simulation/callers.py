"""Callers: they pay, read, freeze and close, retry with the same id after a loss, and remember every answer."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from simulation.cluster import Cluster
from simulation.holders import Holders, Wanted
from simulation.processes import ServiceProcess
from simulation.substitutes import RETENTION_MS
from simulation.world import Handle, ProcessLoop

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.group_commands import GroupAnswer, GroupCommand
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.notes import note_of
from wallet_engine.domain.refund_command import RefundCommand
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.routing.slots import partition_of
from wallet_engine.service.api import NO_MOST, LimitsCommand, RefundAnswer
from wallet_engine.service.wallet import ClusterWallet

CURRENCIES: Final = ("USD", "EUR")
#: How long a caller waits for a reply before it retries, perhaps at another service.
PATIENCE_S: Final = 2.5
#: An id is reused no later than this after its first use: the retention promises no more.
RETRY_MS_MAX: Final = RETENTION_MS * 3 // 4

NO_REPLY: Final = "no reply"


@dataclass(slots=True)
class Payment:
    """One transfer that a caller wants. `answer` is final once it is not None."""

    command: TransferCommand
    first_ms: int = 0
    answer: str | None = None
    #: The code of the last refusal.
    said: str = ""


@dataclass(slots=True)
class Refund:
    """A refund that a caller wants. `code` is final once it is not None; it is empty when the money went back."""

    command: RefundCommand
    of: Payment
    first_ms: int = 0
    tries: int = 0
    code: str | None = None
    #: Whether it was made will stay unknown: the original is forgotten.
    lost: bool = False


@dataclass(slots=True)
class WantedGroup:
    """Payments that a caller wants together or not at all. `answer` is final once it is not None."""

    command: GroupCommand
    first_ms: int = 0
    answer: str | None = None


class Callers:
    """All callers, in one process that never dies."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.rng = cluster.world.rng
        self.auditor = cluster.auditor
        self.loop = ProcessLoop(cluster.world, "callers")
        self.accounts = self._names()
        self.payments: list[Payment] = []
        self.refunds: list[Refund] = []
        self.groups: list[WantedGroup] = []
        self.holders = Holders(self)
        self.finished = 0
        self._ids = 0

    def __repr__(self) -> str:
        unanswered = sum(payment.answer is None for payment in self.payments)
        return f"<Callers payments={len(self.payments)} unanswered={unanswered}>"

    def _names(self) -> list[str]:
        """Two accounts in every partition."""
        partitions = self.cluster.profile.partitions
        names: dict[int, list[str]] = {p: [] for p in range(partitions)}
        number = 0
        while any(len(found) < 2 for found in names.values()):
            name = f"a{number}"
            found = names[partition_of(name, partitions)]
            if len(found) < 2:
                found.append(name)
            number += 1
        return [name for found in names.values() for name in found]

    def run(self, main: Coroutine[Any, Any, None]) -> Callable[[], bool]:
        """Start `main` in the callers' process; the result says whether it is done. Its exceptions are violations."""
        done: list[bool] = []

        async def guarded() -> None:
            try:
                await main
            except Exception as error:
                self.world.violate(f"a caller failed: {error!r}")
            done.append(True)

        self.loop.call_soon(lambda: self.loop.create_task(guarded()))
        return lambda: bool(done)

    async def ask(
        self,
        make: Callable[[ClusterWallet], Coroutine[Any, Any, Any]],
        check: Callable[[Any], None],
    ) -> Any:
        """One request to one service; returns its answer, an `Outage`'s code, or `NO_REPLY`. `check` sees the
        answer at the moment the service gives it.
        """
        world = self.world
        service: ServiceProcess = self.rng.choice(self.cluster.services)
        reply: asyncio.Future[Any] = self.loop.create_future()

        def resolve(value: Any) -> None:
            if not reply.done():
                reply.set_result(value)

        def send_back(value: Any) -> None:
            if self.rng.random() < self.cluster.profile.reply_lost:
                value = NO_REPLY
            world.at(world.now_us + world.latency_us(), self.loop, Handle(resolve, (value,), None))

        def done(task: asyncio.Task[Any]) -> None:
            error = task.exception()
            if error is None:
                check(task.result())
                send_back(task.result())
            elif isinstance(error, Outage):
                send_back(error.code)
            else:
                world.violate(f"a request failed: {error!r}")

        world.after(world.latency_us(), service.handle, make, done, lambda: send_back(NO_REPLY))
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await reply
        except TimeoutError:
            return NO_REPLY

    # Setting up ------------------------------------------------------------------------------------------

    async def open_and_fund(self) -> None:
        """Open every account in USD and some in EUR, with money from `@bank`."""
        jobs = []
        profile = self.cluster.profile
        for number, account in enumerate(self.accounts):
            if (
                profile.late_groups and number and number % 2 == 0
            ):  # windows begin, and end, at different times
                await asyncio.sleep(RETENTION_MS / 1000 / profile.partitions)
            for currency in CURRENCIES[: 1 + (number % 3 == 0)]:
                limit = 200 if number % 4 == 1 else None
                jobs.append(asyncio.create_task(self._open(account, currency, limit)))
        await asyncio.gather(*jobs)

    async def _open(self, account: str, currency: str, limit: int | None) -> None:
        await self.open_with(account, self.cluster.profile.funds_minor, currency, limit)

    async def open_with(self, account: str, minor: int, currency: str, limit: int | None = None) -> None:
        most = self._most() if self.cluster.profile.limits and self.rng.random() < 0.4 else None
        while True:
            outcome = await self.ask(
                lambda w: w.open_account(account, currency, limit, max_balance_minor=most), lambda _: None
            )
            if type(outcome) is tuple:
                break
            await asyncio.sleep(0.05)
        await self.insist(self.new_payment("@bank", account, minor, currency))

    # Traffic ---------------------------------------------------------------------------------------------

    def new_payment(self, payer: str, payee: str, amount: int, currency: str) -> Payment:
        id_ = self._shared_id(payer)
        if id_ is None:
            id_ = self.new_id("T")
        command = TransferCommand(payer, payee, amount, currency, id_)
        payment = Payment(command)
        self.payments.append(payment)
        return payment

    def new_id(self, letter: str) -> str:
        self._ids += 1
        return f"{letter}{self._ids:021d}"

    def _shared_id(self, payer: str) -> str | None:
        """An id that another payer has used, and this one has not."""
        if not self.cluster.profile.shared_ids or self.rng.random() < 0.5:
            return None
        mine = {
            payment.command.transaction for payment in self.payments if payment.command.from_account == payer
        }
        others = [
            payment.command.transaction
            for payment in self.payments
            if payment.command.transaction not in mine
        ]
        return self.rng.choice(others) if others else None

    def draw_payment(self) -> Payment:
        rng = self.rng
        payer, payee = rng.sample(self.accounts, 2)
        draw = rng.random()
        if draw < 0.06:
            payee = f"nobody{rng.randrange(20)}"
        elif draw < 0.12:
            payee = "@fees"
        elif draw < 0.18:
            payer = "@bank"
        currency = "EUR" if rng.random() < 0.15 else "USD"
        amount = rng.randint(1, 400) if rng.random() < 0.85 else rng.randint(900, 5_000)
        amount = min(amount * self.cluster.profile.funds_minor // 1_000, AMOUNT_MINOR_MAX)
        return self.new_payment(payer, payee, amount, currency)

    async def traffic(self) -> None:
        """Every caller does its work, at the same time."""
        await asyncio.gather(*(self._caller() for _ in range(self.cluster.profile.callers)))

    async def _caller(self) -> None:
        rng = self.rng
        for _ in range(self.cluster.profile.payments_per_caller):
            draw = rng.random()
            if draw < 0.55:
                await self.attempt(self.draw_payment(), tries=3)
            elif draw < 0.70:
                await self.attempt_many([self.draw_payment() for _ in range(rng.randint(2, 6))])
            elif draw < 0.76:
                await self.again()
            elif draw < 0.80:
                await self.conflict()
            elif draw < 0.90:
                await self.set_flags(rng.choice(self.accounts))
            elif draw < 0.93:
                await self.open_another()
            else:
                await self.look(rng.choice(self.accounts))
            if self.cluster.profile.groups and rng.random() < 0.6:
                await self.group_some()
            if self.cluster.profile.refunds and rng.random() < 0.6:
                await self.refund_some()
            if self.cluster.profile.holds and rng.random() < 0.6:
                await self.holders.some()
            if self.cluster.profile.limits and rng.random() < 0.3:
                await self.change_limits(rng.choice(self.accounts))
            if rng.random() < 0.3:
                await asyncio.sleep(rng.random() * self.cluster.profile.pause_s)

    def _most(self) -> int:
        """A maximum balance that payments will reach."""
        return int(self.cluster.profile.funds_minor * self.rng.uniform(1.0, 1.5))

    async def change_limits(self, account: str) -> None:
        most = NO_MOST if self.rng.random() < 0.3 else self._most()
        overdraft = self.rng.choice((None, 500))  # never lower: who is below a lowered limit may stay there
        command = LimitsCommand(account, "USD", overdraft, most)
        await self.ask(lambda w: w.set_limits(command), lambda _: None)

    async def attempt(self, payment: Payment, tries: int) -> None:
        for _ in range(tries):
            if payment.answer is not None or not self.may_retry(payment):
                return
            if not await self.once(payment) and self.rng.random() < 0.5:
                await asyncio.sleep(self.rng.random() * 0.3)

    async def once(self, payment: Payment) -> bool:
        """Ask for the payment once; returns whether it has its answer."""
        command = payment.command
        answer = await self.ask(
            lambda w: w.transfer(command), lambda got: self.auditor.answered(command, got.outcome)
        )
        if type(answer) is str:
            payment.said = answer
            return False
        self._note(payment, answer.outcome)
        return True

    async def attempt_many(self, payments: list[Payment]) -> None:
        payments = [payment for payment in payments if self.may_retry(payment)]
        if payments and self.rng.random() < 0.2:
            payments.append(payments[0])  # the same id twice in one call
        commands = [payment.command for payment in payments]

        def check(results: list[str]) -> None:
            for command, result in zip(commands, results, strict=True):
                if len(result) == 1:
                    self.auditor.answered(command, result)

        results = await self.ask(lambda w: w.transfer_many(commands), check)
        if type(results) is list:
            for payment, result in zip(payments, results, strict=True):
                if len(result) == 1:
                    self._note(payment, result)

    async def insist(self, payment: Payment) -> None:
        while payment.answer is None and self.may_retry(payment):
            await self.attempt(payment, tries=1)

    async def conflict(self) -> None:
        """Reuse an earlier id with another amount or receiver."""
        old = self.rng.choice(self.payments).command
        if self.rng.random() < 0.5:
            changed = old._replace(amount_minor=old.amount_minor + 1)
        else:
            changed = old._replace(to_account=self.rng.choice(self.accounts))
        if changed.to_account == changed.from_account or changed == old:
            return
        first = next(payment for payment in self.payments if payment.command is old)
        if first.answer is None or not self.may_retry(first):
            return
        await self.ask(lambda w: w.transfer(changed), lambda got: self.auditor.answered(changed, got.outcome))

    async def again(self) -> None:
        """Repeat an answered payment some time later: it must get the same answer."""
        old = [payment for payment in self.payments if payment.answer is not None and self.may_retry(payment)]
        if old:
            await self.once(self.rng.choice(old))

    async def refund_some(self) -> None:
        """Refund a part or all of a payment, or repeat an earlier refund."""
        rng = self.rng
        paid = [payment for payment in self.payments if payment.answer == "+"]
        paid += [Payment(command, answer="+") for command in self.holders.paid]
        if not paid:
            return
        if self.refunds and rng.random() < 0.25:
            await self.refund_once(rng.choice(self.refunds))
            return
        payment, leg = rng.choice(paid[-12:]), None
        payer, _, minor, currency, transaction, *_ = payment.command
        groups = [wanted for wanted in self.groups if wanted.answer == "+"]
        if self.cluster.profile.legs_refunded and groups and rng.random() < 0.5:
            command = rng.choice(groups[-6:]).command
            leg = rng.randrange(len(command.transfers))
            payment, payer, transaction = (
                Payment(command.transfers[leg], answer="+"),
                command.payer,
                command.transaction,
            )
            _, _, minor, currency, *_ = payment.command
        amount = None if rng.random() < 0.4 else format_amount(rng.randint(1, minor), currency)
        wanted = Refund(RefundCommand(payer, transaction, self.new_id("R"), amount, leg), payment)
        self.refunds.append(wanted)
        for _ in range(2):
            if await self.refund_once(wanted):
                break

    async def refund_once(self, wanted: Refund) -> bool:
        """Ask for it once; returns whether it has its answer."""
        if wanted.lost or not self.may_retry(wanted):
            return True
        wanted.tries += 1
        command, of = wanted.command, wanted.of.command

        async def make(wallet: ClusterWallet) -> RefundAnswer:
            original = await wallet.original(command.from_account, command.original, command.leg)
            return (
                RefundAnswer(original)
                if isinstance(original, str)
                else await wallet.refund(command, original)
            )

        def check(answer: RefundAnswer) -> None:
            if answer.code in ("", "refund_exceeds"):
                self.auditor.refund_answered(of.to_account, command.transaction, answer.code)

        answer = await self.ask(make, check)
        if type(answer) is str or answer.code == "transfer_pending":
            return False
        if answer.code == "transfer_not_found":
            wanted.lost = wanted.lost or wanted.tries > 1
            return True
        if wanted.code not in (None, answer.code):
            self.world.violate(f"G4: {wanted} is now answered {answer.code or 'paid'}")
        wanted.code = answer.code
        return True

    async def group_some(self) -> None:
        """A few legs over a few partitions, or an earlier group again."""
        rng = self.rng
        late = [wanted for wanted in self.groups if not self.may_retry(wanted)]
        if late and self.cluster.profile.late_groups and rng.random() < 0.6:
            await self.group_once(rng.choice(late[-12:]))
            return
        if self.groups and rng.random() < 0.25:
            await self.group_once(rng.choice(self.groups))
            return
        id_ = self.new_id("G")
        transfers = []
        for _ in range(rng.randint(1, 4)):
            payer, payee = rng.sample(self.accounts, 2)
            draw = rng.random()
            payee = f"nobody{rng.randrange(20)}" if draw < 0.03 else "@fees" if draw < 0.1 else payee
            payer = "@bank" if 0.1 < draw < 0.2 else payer
            currency = "EUR" if rng.random() < 0.1 else "USD"
            amount = rng.randint(1, 200) if rng.random() < 0.9 else rng.randint(900, 5_000)
            transfers.append(TransferCommand(payer, payee, amount, currency, id_))
        wanted = WantedGroup(GroupCommand(id_, tuple(transfers)))
        self.groups.append(wanted)
        for _ in range(2):
            if await self.group_once(wanted):
                break

    async def group_once(self, wanted: WantedGroup) -> bool:
        """Ask for it once; whether it has its answer."""
        is_late = not self.may_retry(wanted)
        if is_late and not self.cluster.profile.late_groups:
            return True
        command = wanted.command

        def check(answer: GroupAnswer) -> None:
            self.auditor.group_answered(command, answer)

        answer = await self.ask(lambda w: w.transfer_group(command), check)
        if type(answer) is str:
            return False
        if answer.outcome == "!" or (not is_late and wanted.answer not in (None, answer.outcome)):
            self.world.violate(f"G4: {wanted} is now answered {answer}")
        wanted.answer = answer.outcome
        return True

    async def open_another(self) -> None:
        """An account gets a currency, perhaps as the first in its partition."""
        account, currency = self.rng.choice(self.accounts), self.rng.choice((*CURRENCIES, "GBP"))
        note = note_of(metadata={"why": "trade"}) if currency == "GBP" else ""
        await self.ask(lambda w: w.open_account(account, currency, None, note=note), lambda _: None)

    async def set_flags(self, account: str) -> None:
        action = self.rng.choice(("freeze", "freeze", "unfreeze", "unfreeze", "unfreeze", "close"))
        await self.ask(lambda w: w.set_flags(account, action), lambda _: None)

    async def look(self, account: str) -> None:
        """Read a balance, or the outcome of a payment: it must be what the journal says."""
        if self.rng.random() < 0.5 or not self.payments:

            def check_balance(view: Any) -> None:
                if view is not None:
                    self.auditor.read(view.partition, view.seq, account, "USD", view.money.available_minor)

            await self.ask(lambda w: w.balance(account, "USD"), check_balance)
            return
        command = self.rng.choice(self.payments).command

        def check_found(found: str | None) -> None:
            if found is not None and found != "~":
                self.auditor.answered(command, found)

        await self.ask(lambda w: w.find_transfer(command.from_account, command.transaction), check_found)

    async def finish(self) -> None:
        """Retry every request that has no answer, until it has one."""
        await asyncio.gather(*(self.insist(payment) for payment in self.payments))
        await asyncio.gather(*(self._insist_group(wanted) for wanted in self.groups if wanted.answer is None))
        await asyncio.gather(*(self._insist_refund(wanted) for wanted in self.refunds if wanted.code is None))
        await self.holders.finish()

    async def _insist_group(self, wanted: WantedGroup) -> None:
        while not await self.group_once(wanted):
            await asyncio.sleep(0.05)

    async def _insist_refund(self, wanted: Refund) -> None:
        while not await self.refund_once(wanted):
            await asyncio.sleep(0.05)

    def may_retry(self, payment: Payment | Refund | WantedGroup | Wanted) -> bool:
        if not payment.first_ms:
            payment.first_ms = self.world.now_ms
        return self.world.now_ms - payment.first_ms < RETRY_MS_MAX

    def _note(self, payment: Payment, outcome: str) -> None:
        if payment.answer is not None and payment.answer != outcome:
            self.world.violate(f"G4: {payment} is now answered {outcome}")
        if outcome == "!":
            self.world.violate(f"G4: conflict answered to {payment}, whose id has one body")
        payment.answer = outcome
        self.finished += 1

    def _times_paid(self, wanted: WantedGroup) -> int:
        """More than once only if it was asked for after all partitions had forgotten it."""
        command = wanted.command
        times = self.auditor.groups.times_paid(command.payer, command.transaction, command.mark())
        if not self.cluster.profile.late_groups and times != (wanted.answer == "+"):
            self.world.violate(f"G4: {wanted} was paid {times} times")
        return times

    def check_balances(self) -> None:
        """The caller's own bookkeeping: opening balances and paid payments, if every payment has its answer."""
        unknown = any(wanted.code is None and (wanted.tries or wanted.lost) for wanted in self.refunds)
        unknown = unknown or self.holders.unknown or any(wanted.answer is None for wanted in self.groups)
        if unknown or any(payment.answer is None for payment in self.payments):
            return
        expected: dict[tuple[str, str], int] = {}
        legs = [leg for wanted in self.groups for leg in wanted.command.transfers * self._times_paid(wanted)]
        for payment in [*self.payments, *(Payment(each, answer="+") for each in [*legs, *self.holders.paid])]:
            if payment.answer == "+":
                payer, payee, amount, currency = payment.command[:4]
                expected[payer, currency] = expected.get((payer, currency), 0) - amount
                expected[payee, currency] = expected.get((payee, currency), 0) + amount
        for wanted in self.refunds:
            if wanted.code == "":
                payer, payee, _, currency, *_ = wanted.of.command
                amount = self.auditor.refunded[payee, wanted.command.transaction]
                expected[payer, currency] += amount
                expected[payee, currency] -= amount
        for (account, currency), minor in expected.items():
            found = self.auditor.balance(account, currency)
            if found != minor:
                self.world.violate(f"{account} has {found} {currency}, by the answers it must have {minor}")
