"""`wallet-admin account`: balances, flags and last entries of one account."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import redis
from redis.exceptions import RedisError
from rich.console import Console

from wallet_engine.admin.journals import find_journal, journal_option
from wallet_engine.admin.nodes import primary_of_partition
from wallet_engine.admin.proof.past_balance import figures
from wallet_engine.admin.session import Session, admin_command
from wallet_engine.admin.tracing.telling import (
    concerns,
    entry_about,
    operation_document,
    operation_text,
    outcome_text,
)
from wallet_engine.domain.entry import Entry
from wallet_engine.domain.errors import ConfigError, InvalidInput, WrongUsage
from wallet_engine.domain.ids import check_account_id, is_system
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.oracle_state import Flags
from wallet_engine.domain.times import time_text
from wallet_engine.journal.reader import read
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.slots import partition_of, tag_of

#: How many of the partition's newest entries are searched for the account's last ones.
LOOK_BACK_ENTRIES: Final = 20_000
_STATUS: Final = {"A": "active", "F": "frozen", "C": "closed"}


@dataclass(frozen=True, slots=True)
class AccountNow:
    """An ordinary account in Redis, at one sequence number of its partition."""

    account: str
    partition: int
    shard: str
    seq: int
    state: str
    flags: Flags
    #: currency -> available, held and pending, in minor units
    balances: dict[str, tuple[int, int, int]]

    def document(self) -> dict[str, Any]:
        return {
            "account_id": self.account,
            "status": _STATUS[self.flags.status],
            "closing_since_seq": None if self.flags.closing is None else int(self.flags.closing[1]),
            "partition": self.partition,
            "shard": self.shard,
            "seq": self.seq,
            "partition_state": self.state,
            "balances": [
                {
                    "currency": currency,
                    **figures(available + held, held, pending, currency),
                    "overdraft_limit": format_amount(self.flags.limits.get(currency, 0), currency),
                    **(
                        {"max_balance": format_amount(self.flags.most[currency], currency)}
                        if currency in self.flags.most
                        else {}
                    ),
                }
                for currency, (available, held, pending) in sorted(self.balances.items())
            ],
        }


@click.command()
@admin_command
@click.argument("account_id", metavar="ACCOUNT")
@click.option(
    "--entries", type=click.IntRange(0, 1000), default=10, show_default=True, help="Last entries shown."
)
@journal_option
def account(session: Session, account_id: str, entries: int, journal: Path | None) -> None:
    """Show balances, status and last entries of ACCOUNT.

    Balances and flags come from Redis, which may be newer than the disk by a moment. The entries come from a
    journal directory on this host. Only the newest 20,000 entries of the account's partition are searched;
    wallet-admin journal cat --account searches all. --entries 0 needs no journal. A system account (@bank, @fees,
    @transit) is in every partition: see wallet-admin balance.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 account alice
      wallet-admin --zookeeper zk1:2181 account alice --entries 0 --json
    """
    try:
        check_account_id(account_id, "ACCOUNT")
    except InvalidInput as error:
        raise WrongUsage(error.detail) from None
    if is_system(account_id):
        raise ConfigError(
            f"{account_id} is in every partition: ask wallet-admin balance {account_id} CURRENCY"
        )
    with session.directory() as directory:
        now = account_now(directory, account_id)
        last = [] if not entries else _last(find_journal(directory, journal).directory, now, entries)
    operations = [
        {
            "seq": entry.header.seq,
            "time": time_text(entry.header.time_ms),
            **operation_document(operation, outcome),
        }
        for entry in last
        for operation, outcome in zip(entry.operations, entry.header.outcomes, strict=True)
        if concerns(operation, account_id)
    ]
    session.answer(
        {**now.document(), "last_operations": operations}, lambda console: _show(console, now, last)
    )


def account_now(directory: Directory, account_id: str) -> AccountNow:
    """Read the account from Redis. Raises `ConfigError` when it is not known, or its shard does not answer."""
    count = directory.config().partitions
    partition = partition_of(account_id, count)
    shard, address = primary_of_partition(directory, partition)
    client = connect(address)
    keys = PartitionKeys(tag_of(partition, count))
    try:
        now = _read(client, keys, account_id, partition, shard)
    except (RedisError, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{address} of shard {shard} says {said}: see wallet-admin doctor") from None
    finally:
        client.close()
    if not now.balances:
        raise ConfigError(f"there is no account {account_id} in its partition {partition} on {shard}")
    return now


def _read(
    client: redis.Redis, keys: PartitionKeys, account_id: str, partition: int, shard: str
) -> AccountNow:
    currencies = [name for name in str(client.hget(keys.meta, "currencies") or "").split(",") if name]
    with client.pipeline(transaction=True) as pipe:
        pipe.hmget(keys.meta, ["seq", "state"])
        pipe.hget(keys.flags, account_id)
        for currency in currencies:
            for key in (keys.balance(currency), keys.held(currency), keys.pending(currency)):
                pipe.hget(key, account_id)
        (seq, state), flags, *values = pipe.execute()
    balances = {
        name: (int(available), int(held or 0), int(pending or 0))
        for name, available, held, pending in zip(
            currencies, values[::3], values[1::3], values[2::3], strict=True
        )
        if available is not None
    }
    return AccountNow(
        account_id, partition, shard, int(seq or 0), state or "absent", Flags.parse(flags or "A"), balances
    )


def _last(directory: Path, now: AccountNow, count: int) -> list[Entry]:
    """The newest entries that concern the account, oldest first."""
    found: deque[Entry] = deque(maxlen=count)
    after = {now.partition: max(0, now.seq - LOOK_BACK_ENTRIES)}
    for record in read(directory, partitions={now.partition}, after=after):
        entry = entry_about(record.payload, now.account)
        if entry is not None:
            found.append(entry)
    return list(found)


def _show(console: Console, now: AccountNow, last: list[Entry]) -> None:
    document = now.document()
    console.print(f"{now.account}  {document['status']}", style="bold")
    if document["closing_since_seq"] is not None:
        console.print("  by a close that has not ended: repeat the close, or unfreeze it", soft_wrap=True)
    console.print(f"partition {now.partition} on {now.shard}, {now.state}, seq {now.seq}")
    for balance in document["balances"]:
        limit = (
            f", overdraft limit {balance['overdraft_limit']}"
            if now.flags.limits.get(balance["currency"])
            else ""
        )
        aside = f", {balance['held']} of it held" if now.balances[balance["currency"]][1] else ""
        most = f", at most {balance['max_balance']}" if "max_balance" in balance else ""
        console.print(f"  {balance['balance']} {balance['currency']}{aside}{limit}{most}")
    for entry in last:
        for operation, outcome in zip(entry.operations, entry.header.outcomes, strict=True):
            if concerns(operation, now.account):
                when = time_text(entry.header.time_ms)
                text = f"{operation_text(operation)}  [{outcome_text(outcome)}]"
                console.print(f"  {when}  seq {entry.header.seq}  {text}", soft_wrap=True)
