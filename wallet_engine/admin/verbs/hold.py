"""`wallet-admin hold` and `holds`: one hold, or the open holds of an account."""

from collections.abc import Iterator
from typing import Any, Final

import click
import redis
from redis.exceptions import RedisError
from rich.console import Console

from wallet_engine.admin.nodes import primary_of_partition
from wallet_engine.admin.session import Session, admin_command
from wallet_engine.admin.tracing.open_entries import remembered
from wallet_engine.domain.errors import ConfigError, Corruption, InvalidInput, WrongUsage
from wallet_engine.domain.holds import COUNT, ENDED, NOBODY, STATUS_WORDS, Hold, field_of, parse_hold
from wallet_engine.domain.ids import (
    check_account_id,
    check_transaction_id,
    is_system,
    pack_transaction_id,
    unpack_transaction_id,
)
from wallet_engine.domain.memory import PAYER_LENGTH
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.times import time_text
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.slots import partition_of, tag_of

#: Open holds of a partition read in one command.
HOLDS_PER_READ: Final = 500


@click.command()
@admin_command
@click.argument("hold_id", metavar="ID")
@click.option("--account", "account_id", metavar="ACCOUNT", required=True, help="The account of the hold.")
def hold(session: Session, hold_id: str, account_id: str) -> None:
    """Show the hold ID of ACCOUNT: the amounts held, captured and released.

    A hold that has ended is remembered as long as transfers are. After that, use wallet-admin journal cat --account.
    The state comes from Redis, which may be newer than the disk by a moment.

    The exit status is 1 when the hold is not known.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 hold 33333333-3333-4333-8333-333333333333 --account alice
    """
    try:
        packed = pack_transaction_id(check_transaction_id(hold_id))
    except InvalidInput as error:
        raise WrongUsage(error.detail.replace("transaction_id", "ID")) from None
    with session.directory() as directory:
        client, keys = _partition(directory, account_id)
        with client:
            found = _read(client, keys, field_of(account_id, packed))
    if found is None or found.account != account_id:
        raise ConfigError(f"{account_id} has no hold {hold_id} that is open or still remembered")
    document = _document(found, hold_id.lower())
    session.answer(document, lambda console: _show(console, document))


@click.command()
@admin_command
@click.argument("account_id", metavar="ACCOUNT")
def holds(session: Session, account_id: str) -> None:
    """List the open holds of ACCOUNT, the next to expire first.

    It reads all open holds of the account's partition, 500 at a time. wallet-admin hold also shows a hold that has
    ended.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 holds alice
      wallet-admin --zookeeper zk1:2181 holds alice --json
    """
    with session.directory() as directory:
        client, keys = _partition(directory, account_id)
        with client:
            found = dict(_open_holds(client, keys, account_id))
    ordered = sorted(found.items(), key=lambda each: (each[1].expires_ms, each[0]))
    documents = [_document(each, unpack_transaction_id(field[:-PAYER_LENGTH])) for field, each in ordered]

    def show(console: Console) -> None:
        console.print(f"{account_id}: {len(documents)} open holds", style="bold")
        for document in documents:
            _show(console, document)

    session.answer({"account_id": account_id, "holds": documents}, show)


def _partition(directory: Directory, account_id: str) -> "tuple[redis.Redis, PartitionKeys]":
    """A client for the primary of the account's partition, and its keys. Raises `ConfigError`."""
    try:
        check_account_id(account_id, "ACCOUNT")
    except InvalidInput as error:
        raise WrongUsage(error.detail) from None
    if is_system(account_id):
        raise ConfigError(f"{account_id} is a system account, which cannot have holds")
    count = directory.config().partitions
    partition = partition_of(account_id, count)
    _, address = primary_of_partition(directory, partition)
    return connect(address), PartitionKeys(tag_of(partition, count))


def _read(client: redis.Redis, keys: PartitionKeys, field: str) -> Hold | None:
    """The hold in a field, open or ended; None without one. Raises `ConfigError`."""
    try:
        text = client.hget(keys.hold, field)
        texts = [text] if text is not None else remembered(client, keys, ENDED + field)
        return parse_hold(str(texts[0])) if texts else None
    except (RedisError, OSError, Corruption) as error:
        raise _unread(error) from None


def _open_holds(client: redis.Redis, keys: PartitionKeys, account_id: str) -> Iterator[tuple[str, Hold]]:
    """(field, hold) of the account's open holds. Raises `ConfigError`."""
    try:
        for field, text in client.hscan_iter(keys.hold, count=HOLDS_PER_READ):
            if not field.startswith(COUNT):
                found = parse_hold(text)
                if found.account == account_id:
                    yield field, found
    except (RedisError, OSError, Corruption) as error:
        raise _unread(error) from None


def _unread(error: Exception) -> ConfigError:
    return ConfigError(f"holds cannot be read: {' '.join(str(error).split())}: see wallet-admin doctor")


def _document(found: Hold, hold_id: str) -> dict[str, Any]:
    def amount(minor: int) -> str:
        return format_amount(minor, found.currency)

    return {
        "hold_id": hold_id,
        "account_id": found.account,
        "to_account": found.receiver,
        "currency": found.currency,
        "amount": amount(found.amount),
        "captured": amount(found.captured),
        "released": amount(found.released),
        "remaining": amount(found.remaining),
        "status": STATUS_WORDS[found.status],
        "captures": found.captures,
        "capturing": found.busy != NOBODY,
        "expires_at": time_text(found.expires_ms),
        "reference": found.reference or None,
    }


def _show(console: Console, document: dict[str, Any]) -> None:
    where = f" for {document['to_account']}" if document["to_account"] else ""
    under_way = ", a final capture is under way" if document["capturing"] else ""
    parts = ", ".join(f"{document[name]} {name}" for name in ("captured", "released", "remaining"))
    line = f"{document['hold_id']}  {document['amount']} {document['currency']}{where}  {document['status']}: {parts}"
    console.print(f"{line}{under_way}, expires {document['expires_at']}", soft_wrap=True)
