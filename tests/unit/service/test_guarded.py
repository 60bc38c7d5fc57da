"""The guarded wallet passes on only allowed calls, with the key of the caller."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from unit.http.wallet_double import HOLD, WalletDouble

from wallet_engine.domain import holds
from wallet_engine.domain.errors import Forbidden, RateLimited
from wallet_engine.domain.group_commands import GroupCommand
from wallet_engine.domain.groups import BOTH_HERE, COMMIT, Leg, words
from wallet_engine.domain.hold_commands import CaptureCommand, HoldCommand, IncreaseCommand
from wallet_engine.domain.holds import NOBODY, Hold
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.refund_command import RefundCommand
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.routing.api_keys import ApiKey
from wallet_engine.service.guarded import GuardedWallet
from wallet_engine.service.policy import ANYONE, Principal
from wallet_engine.service.shares import Shares
from wallet_engine.service.turns import Turns

TXID = "A" * 22


def principal(role: str, accounts: tuple[str, ...] = ()) -> Principal:
    return Principal(ApiKey(id="k1", name="n", role=role, accounts=accounts), ("@bank",))


def command(payer: str, by: str) -> TransferCommand:
    return TransferCommand(payer, "bob", 1, "USD", TXID, by=by)


def calls(wallet: GuardedWallet, by: Principal, account: str, key: str) -> list[Any]:
    return [
        lambda: wallet.open_account(by, account, "USD", None),
        lambda: wallet.account(by, account),
        lambda: wallet.balance(by, account, "USD"),
        lambda: wallet.set_flags(by, account, "close"),
        lambda: wallet.transfer(by, command(account, key)),
        lambda: wallet.transfer_many(by, [command(account, key)] * 2),
        lambda: wallet.find_transfer(by, account, TXID),
    ]


def test_what_is_forbidden_reaches_nobody() -> None:
    double = WalletDouble()
    wallet, by = GuardedWallet(double, Turns(Shares())), principal("payer", ("shop-*",))
    for call in calls(wallet, by, "alice", "k1"):
        with pytest.raises(Forbidden):
            asyncio.run(call())
    with pytest.raises(Forbidden):
        wallet.begin_transfer(by, command("alice", "k1"), lambda answer: None)
    # The accounts of a transfer must be looked up first.
    assert [name for name, _ in double.calls] == ["request_of"]


def test_what_is_allowed_is_passed_on() -> None:
    double = WalletDouble()
    wallet, by = GuardedWallet(double, Turns(Shares())), principal("admin")
    for call in calls(wallet, by, "alice", "k1"):
        asyncio.run(call())
    wallet.begin_transfer(by, command("alice", "k1"), lambda answer: None)
    names = [
        "open_account",
        "account",
        "balance",
        "set_flags",
        "transfer",
        "transfer_many",
        "find_transfer",
        "transfer",
    ]
    assert [name for name, _ in double.calls] == names
    assert asyncio.run(wallet.transfer_many(ANYONE, [])) == []


def legs(payer: str, receiver: str) -> str:
    """The legs of a group with one leg."""
    return words("m", 0, COMMIT, [Leg(BOTH_HERE, 0, payer, receiver, 5, "USD")])


@pytest.mark.parametrize(
    ("operation", "touches"),
    [
        (Operation("t", TXID, "alice", "shop-1", 5, "USD"), True),
        (Operation("d", TXID, "alice", "shop-1", 5, "USD"), True),
        (Operation("d", TXID, "alice", "bob", 5, "USD"), False),
        (Operation("k", TXID, "alice", holds.capturing("shop-1", "f", True, None), 5, "USD"), True),
        (Operation("k", TXID, "alice", holds.capturing("bob", "f", True, None), 5, "USD"), False),
        (Operation("m", TXID, "alice", legs("shop-1", "bob"), 0, "-"), True),
        (Operation("m", TXID, "alice", legs("carol", "bob"), 0, "-"), False),
        (Operation("m", TXID, "alice", legs("bob", "shop-1"), 0, "-"), True),
        (Operation("h", TXID, "alice", holds.placing("shop-1", 9), 5, "USD"), False),
        (None, False),
    ],
)
def test_who_gets_the_money_may_read_the_transfer(operation: Operation | None, touches: bool) -> None:
    double = WalletDouble()
    double.answers["request_of"] = operation
    wallet, by = GuardedWallet(double, Turns(Shares())), principal("payer", ("shop-*",))
    for find in (wallet.find_transfer, wallet.find_group, wallet.request_of):
        if touches:
            asyncio.run(find(by, "alice", TXID))
            continue
        with pytest.raises(Forbidden, match="may not read alice"):
            asyncio.run(find(by, "alice", TXID))
    double.calls.clear()
    with pytest.raises(Forbidden, match="may not read transfers"):
        asyncio.run(wallet.find_transfer(principal("metrics"), "alice", TXID))
    assert double.calls == []


def test_a_command_of_another_caller_is_a_bug() -> None:
    double = WalletDouble()
    wallet = GuardedWallet(double, Turns(Shares()))
    for by, key in ((principal("admin"), ""), (principal("admin"), "k2"), (ANYONE, "k1")):
        with pytest.raises(ValueError, match="came from"):
            wallet.begin_transfer(by, command("alice", key), lambda answer: None)
        with pytest.raises(ValueError, match="came from"):
            asyncio.run(wallet.transfer(by, command("alice", key)))
        with pytest.raises(ValueError, match="came from"):
            asyncio.run(wallet.transfer_many(by, [command("alice", key)]))
        with pytest.raises(ValueError, match="came from"):
            asyncio.run(wallet.transfer_group(by, GroupCommand(TXID, (command("alice", key),), by=key)))
    assert double.calls == []


@pytest.mark.parametrize(
    ("hold", "amount", "said"),
    [
        (replace(HOLD, account="shop-1", to="@fees"), "0.01", "may not pay to @fees"),
        (replace(HOLD, account="shop-1"), None, "may not move 2.50 USD"),
        (replace(HOLD, account="shop-1"), "1.01", "may not move 1.01 USD"),
        (replace(HOLD, account="shop-1", currency="EUR"), "0.01", "may not move 0.01 EUR"),
    ],
)
def test_what_only_the_hold_says_is_looked_at_before_its_capture(
    hold: Hold, amount: str | None, said: str
) -> None:
    double = WalletDouble()
    double.answers["hold"] = hold
    key = ApiKey(id="k1", name="n", role="payer", accounts=("shop-*",), amount_max={"USD": 100})
    wallet, by = GuardedWallet(double, Turns(Shares())), Principal(key, ("@bank", "@fees"))
    receiver = None if hold.to != NOBODY else "bob"
    with pytest.raises(Forbidden, match=said):
        asyncio.run(
            wallet.capture_hold(by, CaptureCommand("shop-1", TXID, TXID, receiver, amount, True, "", "k1"))
        )
    if amount is not None:
        with pytest.raises(Forbidden, match=said):
            asyncio.run(wallet.increase_hold(by, IncreaseCommand("shop-1", TXID, TXID, amount, "k1")))
    assert {name for name, _ in double.calls} == {"hold"}


def test_who_may_not_pay_is_told_nothing_of_an_original() -> None:
    double = WalletDouble()
    double.answers["original"] = "transfer_not_found"
    wallet = GuardedWallet(double, Turns(Shares()))
    command = RefundCommand("alice", TXID, TXID, None, by="k1")
    for role in ("auditor", "metrics", "account-admin", "bank"):
        with pytest.raises(Forbidden, match="may not pay"):
            asyncio.run(wallet.refund(principal(role), command))
    assert asyncio.run(wallet.refund(principal("payer"), command)).code == "transfer_not_found"


@pytest.mark.parametrize(
    "call", ["transfer", "begin", "many", "group", "hold", "increase", "capture", "refund"]
)
def test_what_moves_money_is_paid_for_from_the_keys_rate(call: str) -> None:
    shares = Shares()
    by = Principal(ApiKey(id="k1", name="n", role="admin"), ("@bank",), shares.of("k1", rate=2.0))
    double = WalletDouble()
    wallet = GuardedWallet(double, Turns(shares))
    one = command("alice", "k1")

    async def move() -> None:
        match call:
            case "transfer":
                await wallet.transfer(by, one)
            case "begin":
                wallet.begin_transfer(by, one, lambda answer: None)
            case "many":
                await wallet.transfer_many(by, [one])
            case "group":
                await wallet.transfer_group(by, GroupCommand(TXID, (one,), by="k1"))
            case "hold":
                await wallet.place_hold(by, HoldCommand("alice", 1, "USD", TXID, None, 60, "", "k1"))
            case "increase":
                await wallet.increase_hold(by, IncreaseCommand("alice", TXID, TXID, "1.00", "k1"))
            case "capture":
                await wallet.capture_hold(
                    by, CaptureCommand("alice", TXID, TXID, "bob", None, True, "", "k1")
                )
            case "refund":
                await wallet.refund(by, RefundCommand("alice", TXID, TXID, None, by="k1"))

    asyncio.run(move())
    asyncio.run(move())
    done = len(double.calls)
    with pytest.raises(RateLimited):
        asyncio.run(move())
    assert len(double.calls) == done


def test_many_transfers_are_paid_for_as_many() -> None:
    for legs_or_transfers in ("group", "many"):
        shares = Shares()
        by = Principal(ApiKey(id="k1", name="n", role="admin"), ("@bank",), shares.of("k1", rate=3.0))
        wallet, one = GuardedWallet(WalletDouble(), Turns(shares)), command("alice", "k1")
        if legs_or_transfers == "group":
            asyncio.run(wallet.transfer_group(by, GroupCommand(TXID, (one,) * 2, by="k1")))
        else:
            asyncio.run(wallet.transfer_many(by, [one] * 2))
        asyncio.run(wallet.transfer(by, one))
        with pytest.raises(RateLimited):
            asyncio.run(wallet.transfer(by, one))
