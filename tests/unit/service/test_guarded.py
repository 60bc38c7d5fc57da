"""The guarded wallet passes on what is allowed, with the key of who asks, and nothing else."""

import asyncio
from typing import Any

import pytest
from unit.http.wallet_double import WalletDouble

from wallet_engine.domain.errors import Forbidden, RateLimited
from wallet_engine.domain.group_commands import GroupCommand
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.routing.api_keys import ApiKey
from wallet_engine.service.guarded import GuardedWallet
from wallet_engine.service.policy import ANYONE, Principal
from wallet_engine.service.shares import Shares
from wallet_engine.service.turns import Turns


def principal(role: str, accounts: tuple[str, ...] = ()) -> Principal:
    return Principal(ApiKey(id="k1", name="n", role=role, accounts=accounts), ("@bank",))


def command(payer: str, by: str) -> TransferCommand:
    return TransferCommand(payer, "bob", 1, "USD", "A" * 22, by=by)


def calls(wallet: GuardedWallet, by: Principal, account: str, key: str) -> list[Any]:
    return [
        lambda: wallet.open_account(by, account, "USD", None),
        lambda: wallet.account(by, account),
        lambda: wallet.balance(by, account, "USD"),
        lambda: wallet.set_flags(by, account, "close"),
        lambda: wallet.transfer(by, command(account, key)),
        lambda: wallet.transfer_many(by, [command(account, key)] * 2),
        lambda: wallet.find_transfer(by, account, "A" * 22),
    ]


def test_what_is_forbidden_reaches_nobody() -> None:
    double = WalletDouble()
    wallet, by = GuardedWallet(double, Turns(Shares())), principal("payer", ("shop-*",))
    for call in calls(wallet, by, "alice", "k1"):
        with pytest.raises(Forbidden):
            asyncio.run(call())
    with pytest.raises(Forbidden):
        wallet.begin_transfer(by, command("alice", "k1"), lambda answer: None)
    assert double.calls == []


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
    assert double.calls == []


def test_what_moves_money_is_paid_for_from_the_keys_rate() -> None:
    shares = Shares()
    by = Principal(ApiKey(id="k1", name="n", role="admin"), ("@bank",), shares.of("k1", rate=3.0))
    wallet = GuardedWallet(WalletDouble(), Turns(shares))
    group = GroupCommand("A" * 22, (command("alice", "k1"), command("carol", "k1")), by="k1")
    asyncio.run(wallet.transfer_group(by, group))
    asyncio.run(wallet.transfer(by, command("alice", "k1")))
    with pytest.raises(RateLimited):
        asyncio.run(wallet.transfer(by, command("alice", "k1")))
