"""What one call of the apply script reads and writes at most, counted: it stops its node meanwhile."""

import itertools
import re
import string
from collections.abc import Callable
from typing import Any

import pytest
from lua.partition import LuaPartition

from wallet_engine.domain.kinds import KINDS
from wallet_engine.domain.limits import SCRIPT_FLAGS_MAX
from wallet_engine.engine.batch import LOOK_AGAIN
from wallet_engine.redis_store.scripts import load_script

OPERATIONS = 400
#: As many as ISO 4217 has.
MANY_CURRENCIES = tuple(
    map("".join, itertools.islice(itertools.product(string.ascii_uppercase, repeat=3), 155))
)
APPLY = load_script("apply")


def constant(name: str) -> int:
    found = re.search(rf"^local {name} = (\d+)", APPLY.text, re.MULTILINE)
    assert found
    return int(found[1])


def commands_of(partition: LuaPartition, call: Callable[[], list[Any]]) -> list[list[str]]:
    """The words of every command that the script runs in a call, which must pass."""
    with partition.client.monitor() as monitor:
        assert call()[0] == "OK"
        partition.client.echo("the end")
        commands = []
        for seen in monitor.listen():
            if seen["command"] == "ECHO the end":
                return commands
            if seen["client_type"] == "lua":
                commands.append(seen["command"].split(" "))
    raise AssertionError("no end")


def fields_of(commands: list[list[str]], name: str, key: str) -> int:
    """How many fields such commands on such keys name together."""
    return sum(len(words) - 2 for words in commands if words[0] == name and words[1].startswith(key))


def opened(partition: LuaPartition, accounts: list[str], currency: str) -> None:
    for start in range(0, len(accounts), OPERATIONS):
        lines = [f"o - {account} - 0 {currency}" for account in accounts[start : start + OPERATIONS]]
        assert partition.apply(lines, currencies=(currency,))[0] == "OK"


def test_of_each_currency_only_its_own_accounts_are_read(partition: LuaPartition) -> None:
    """155 currencies in one call: as many fields as the operations have sides, and @transit in each."""
    lines = [
        f"t T{number:021} @bank @to{number} 1 {MANY_CURRENCIES[number % len(MANY_CURRENCIES)]}"
        for number in range(OPERATIONS)
    ]
    commands = commands_of(partition, lambda: partition.apply(lines, currencies=MANY_CURRENCIES))
    assert fields_of(commands, "HMGET", "balance:") == 2 * OPERATIONS + len(MANY_CURRENCIES)


def test_flags_read_their_own_account_in_each_currency(partition: LuaPartition) -> None:
    """One freeze among transfers in one currency, in a partition that has 155."""
    currency, others = MANY_CURRENCIES[7], [f"a{number}" for number in range(1, OPERATIONS)]
    for each in MANY_CURRENCIES:
        opened(partition, ["cold"], each)
    opened(partition, others, currency)
    pays = [f"t T{number:021} @bank {account} 1 {currency}" for number, account in enumerate(others)]
    lines = ["f - cold freeze 0 -", *pays]
    commands = commands_of(partition, lambda: partition.apply(lines, currencies=MANY_CURRENCIES))
    assert fields_of(commands, "HMGET", "balance:") == 2 * len(pays) + 2 * len(MANY_CURRENCIES)


def test_flags_that_may_be_long_are_read_of_fewer_accounts(partition: LuaPartition) -> None:
    """An account may have a limit in each of 155 currencies. What is refused changes nothing, and says why."""
    for each in MANY_CURRENCIES:
        opened(partition, ["limited"], each)
    currency, most = MANY_CURRENCIES[0], SCRIPT_FLAGS_MAX // len(MANY_CURRENCIES)
    pays = [f"t T{number:021} @bank @to 1 {currency}" for number in range(most + 1)]
    without_flags = [f"t U{number:021} @bank @to 1 {currency}" for number in range(OPERATIONS)]
    assert partition.apply(without_flags, currencies=(currency,))[0] == "OK"
    limited = [f"o - limited 500 0 {MANY_CURRENCIES[1]}", f"f - limited freeze 0 {currency}"]
    assert partition.apply(limited, currencies=MANY_CURRENCIES)[0] == "OK"
    before = partition.client.hgetall(partition.keys.meta)
    code, listed = partition.apply(pays, currencies=(currency,))
    assert (code, listed.split(",")) == ("CURRENCIES", list(MANY_CURRENCIES))
    assert partition.client.hgetall(partition.keys.meta) == before
    assert partition.apply(pays[:most], currencies=(currency,))[4] == "+" * most


def test_the_script_means_the_same_kinds(partition: LuaPartition) -> None:
    """Those that it reads in each currency."""
    (found,) = re.findall(r"if (kind ~= \w+(?: and kind ~= \w+)+) then\n *local currency", APPLY.text)
    named = {name.removeprefix("kind ~= ").lower() for name in found.split(" and ")}
    assert named == {kind.name for kind in KINDS.values() if kind.everywhere}


def test_credits_of_one_payers_entries_share_a_field_that_is_read_once_and_written_once(
    partition: LuaPartition,
) -> None:
    """Twenty entries of 400 credits make it 32 kB long."""
    opened(partition, ["alice"], "USD")
    lengths = []
    for seq in range(100, 120):
        lines = [f"c 9.{seq} alice {idx} 1 USD" for idx in range(OPERATIONS)]
        commands = commands_of(partition, lambda lines=lines: partition.apply(lines))
        assert fields_of(commands, "HMGET", "seen:1") == 1
        written = [words for words in commands if words[0] == "HSET" and words[1].startswith("seen:1")]
        assert sum(map(len, written[0])) < 400_000 if seq == 100 else len(written[0]) == 4
        lengths.append(partition.client.hstrlen(partition.keys.seen(1), "9.10"))
    assert lengths == [4 * OPERATIONS * number for number in range(1, 21)]
    assert partition.apply(lines)[4] == "=" * OPERATIONS
    assert partition.client.hget(partition.keys.balance("USD"), "alice") == str(20 * OPERATIONS)


@pytest.mark.parametrize("operations", [4, 120])
def test_repeats_read_so_much_of_open_entries_and_no_more(partition: LuaPartition, operations: int) -> None:
    """The others are to be asked again, and are answered then: each call gets on."""
    entries = 40
    for entry in range(entries):
        lines = [
            f"d E{entry:02}{number:019} @mint {'far' * 20}{number} 1 USD" for number in range(operations)
        ]
        assert partition.apply(lines)[4] == "+" * operations
    sizes = [len(fields["operations"]) for _, fields in partition.client.xrange(partition.keys.journal)]
    left = [f"d E{entry:02}{1:019} @mint {'far' * 20}1 1 USD" for entry in range(entries)]
    calls = 0
    while left:
        replies: list[Any] = []
        commands = commands_of(
            partition, lambda left=left, replies=replies: keep(replies, partition.apply(left))
        )
        details = [detail.split(" ") for detail in replies[5:]]
        assert len(details) == len(left)
        again = [left[int(idx)] for idx, outcome, _, _ in details if outcome == LOOK_AGAIN]
        assert all(outcome in ("+", LOOK_AGAIN) for _, outcome, _, _ in details)
        read = sum(words[0] == "XRANGE" for words in commands)
        assert read == len(left) - len(again) > 0
        assert read * sizes[0] < constant("OPENED_BYTES_MAX") + 2 * sizes[0]
        left, calls = again, calls + 1
    assert calls == (1 if operations == 4 else -(-entries * sizes[0] // constant("OPENED_BYTES_MAX")))


def keep(replies: list[Any], reply: list[Any]) -> list[Any]:
    replies += reply
    return reply
