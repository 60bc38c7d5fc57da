"""The wallet behind its policy: every call names its caller and is authorized before anything happens."""

from collections.abc import Callable, Sequence

from wallet_engine.domain.errors import Forbidden, InvalidInput, Outage
from wallet_engine.domain.group_commands import GroupAnswer, GroupCommand, GroupView
from wallet_engine.domain.hold_commands import CaptureCommand, HoldCommand, IncreaseCommand
from wallet_engine.domain.holds import Hold
from wallet_engine.domain.kinds import parties_of
from wallet_engine.domain.money import parse_amount
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.refund_command import RefundCommand
from wallet_engine.service.api import (
    AccountView,
    BalanceView,
    HoldAnswer,
    LimitsCommand,
    Readiness,
    RefundAnswer,
    TransferAnswer,
    TransferCommand,
    Wallet,
)
from wallet_engine.service.policy import Principal
from wallet_engine.service.turns import Turns


class GuardedWallet:
    """`service.api.Wallet` for a given caller. Every method may raise `Forbidden`; then nothing was done.

    The journal records the caller's key with each operation; commands carry it in `by`.
    """

    def __init__(self, wallet: Wallet, turns: Turns) -> None:
        self._wallet = wallet
        self._turns = turns

    def __repr__(self) -> str:
        return f"<GuardedWallet {self._wallet!r}>"

    async def open_account(
        self,
        by: Principal,
        account_id: str,
        currency: str,
        overdraft_limit_minor: int | None,
        max_balance_minor: int | None = None,
        note: str = "",
    ) -> tuple[str, AccountView | None]:
        by.check_manages(account_id)
        limits = (overdraft_limit_minor, by.id, max_balance_minor, note)
        return await self._wallet.open_account(account_id, currency, *limits)

    async def set_limits(self, by: Principal, command: LimitsCommand) -> tuple[str, AccountView | None]:
        by.check_manages(command.account_id)
        return await self._wallet.set_limits(command, by.id)

    async def account(self, by: Principal, account_id: str) -> AccountView | None:
        by.check_reads(account_id)
        return await self._wallet.account(account_id)

    async def balance(self, by: Principal, account_id: str, currency: str) -> BalanceView | None:
        by.check_reads(account_id)
        return await self._wallet.balance(account_id, currency)

    async def set_flags(self, by: Principal, account_id: str, action: str) -> tuple[str, AccountView | None]:
        by.check_manages(account_id)
        return await self._wallet.set_flags(account_id, action, by.id)

    async def transfer(self, by: Principal, command: TransferCommand) -> TransferAnswer:
        _check_by(by, command)
        by.check_transfer(command)
        by.share.spend(1)
        return await self._wallet.transfer(command)

    def begin_transfer(
        self, by: Principal, command: TransferCommand, answer: Callable[[TransferAnswer | Outage], None]
    ) -> None:
        if command[6] != by.id:
            _check_by(by, command)
        if not by.everything:
            by.check_transfer(command)
        if by.share.rate is not None:
            by.share.spend(1)
        self._wallet.begin_transfer(command, answer)

    async def transfer_many(self, by: Principal, commands: Sequence[TransferCommand]) -> list[str]:
        if commands:  # all are of one call, and so of one caller
            _check_by(by, commands[0])
        by.check_transfers(commands)
        by.share.spend(len(commands))
        return await self._turns.carry_out(by.share, commands, self._wallet.transfer_many)

    async def find_transfer(self, by: Principal, from_account: str, transaction: str) -> str | None:
        await self._check_finds(by, from_account, transaction)
        return await self._wallet.find_transfer(from_account, transaction)

    async def transfer_group(self, by: Principal, command: GroupCommand) -> GroupAnswer:
        for idx, transfer in enumerate(command.transfers):
            _check_by(by, transfer)
            try:
                by.check_transfer(transfer)
            except Forbidden as error:
                raise Forbidden(f"legs[{idx}]: {error}") from None
        by.share.spend(len(command.transfers))
        return await self._wallet.transfer_group(command)

    async def find_group(self, by: Principal, from_account: str, transaction: str) -> GroupView | None:
        """With the legs that touch an account which the caller may read."""
        await self._check_finds(by, from_account, transaction)
        found = await self._wallet.find_group(from_account, transaction)
        if found is None or by.readable is None:
            return found
        legs = tuple(leg for leg in found.legs if by.may_read(leg.payer) or by.may_read(leg.receiver))
        refused = found.leg if any(leg.idx == found.leg for leg in legs) else None
        return found._replace(legs=legs, leg=refused)

    async def place_hold(self, by: Principal, command: HoldCommand) -> HoldAnswer:
        by.check_sides(command.account_id, command.to_account, command.amount_minor, command.currency)
        by.share.spend(1)
        return await self._wallet.place_hold(command)

    async def increase_hold(self, by: Principal, command: IncreaseCommand) -> HoldAnswer:
        await self._check_hold(by, command.account_id, command.hold, None, command.amount)
        by.share.spend(1)
        return await self._wallet.increase_hold(command)

    async def capture_hold(self, by: Principal, command: CaptureCommand) -> HoldAnswer:
        await self._check_hold(by, command.account_id, command.hold, command.to_account, command.amount)
        by.share.spend(1)
        return await self._wallet.capture_hold(command)

    async def void_hold(self, by: Principal, account_id: str, hold: str) -> HoldAnswer:
        by.check_sides(account_id, None)
        return await self._wallet.void_hold(account_id, hold, by.id)

    async def hold(self, by: Principal, account_id: str, hold: str) -> Hold | None:
        by.check_reads(account_id)
        return await self._wallet.hold(account_id, hold)

    async def _check_hold(
        self, by: Principal, account_id: str, hold: str, to: str | None, amount: object | None
    ) -> None:
        """Only a hold's record has its currency, receiver and remainder."""
        by.check_sides(account_id, to)
        if by.everything:
            return
        found = await self._wallet.hold(account_id, hold)
        if found is not None:
            minor = found.remaining if amount is None else parse_amount(amount, found.currency)
            receiver = to or found.receiver
            by.check_sides(account_id, receiver, minor, found.currency)

    async def refund(self, by: Principal, command: RefundCommand) -> RefundAnswer:
        """The payer of a refund is the receiver of the original, which the original's entry names."""
        by.check_pays()
        by.share.spend(1)
        try:
            original = await self._wallet.original(command.from_account, command.original, command.leg)
        except InvalidInput:
            await self._check_touches(by, command)
            raise
        if isinstance(original, str):
            await self._check_touches(by, command)
            return RefundAnswer(original)
        by.check_gives_back(original.receiver)
        left = original.amount_minor - original.returned_minor
        minor = left if command.amount is None else parse_amount(command.amount, original.currency)
        by.check_sides(original.receiver, original.payer, minor, original.currency)
        return await self._wallet.refund(command, original)

    async def _check_touches(self, by: Principal, command: RefundCommand) -> None:
        """Whether it may know why the original cannot be refunded. Of an unknown one there is nothing to know."""
        if by.may_read(command.from_account):
            return
        asked = await self._wallet.request_of(command.from_account, command.original)
        if asked is not None:
            by.check_gives_back(*parties_of(asked))

    async def request_of(self, by: Principal, from_account: str, transaction: str) -> Operation | None:
        await self._check_finds(by, from_account, transaction)
        return await self._wallet.request_of(from_account, transaction)

    async def _check_finds(self, by: Principal, from_account: str, transaction: str) -> None:
        """If the caller is not the payer, only the entry shows whether it touches a readable account."""
        if by.may_read(from_account):
            return
        by.check_reads_some()
        asked = await self._wallet.request_of(from_account, transaction)
        if asked is None or not any(map(by.may_read, parties_of(asked))):
            by.check_reads(from_account)

    def readiness(self) -> Readiness:
        """Every caller may read it."""
        return self._wallet.readiness()


def _check_by(by: Principal, command: TransferCommand) -> None:
    if command[6] != by.id:
        raise ValueError(f"a command by {command.by!r} came from {by!r}")
