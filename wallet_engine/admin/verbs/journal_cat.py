"""`wallet-admin journal cat`: prints entries in words."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console

from wallet_engine.admin.journals import find_journal, journal_option
from wallet_engine.admin.proof.past_balance import AtSeq, AtTime, parse_at
from wallet_engine.admin.session import Session, admin_command, plain_console
from wallet_engine.admin.tracing.telling import (
    concerns,
    entry_about,
    entry_document,
    operation_text,
    outcome_text,
)
from wallet_engine.domain.entry import Entry, parse_entry, parse_header
from wallet_engine.domain.errors import ConfigError, InvalidInput, WalletError, WrongUsage
from wallet_engine.domain.ids import check_account_id, is_system
from wallet_engine.domain.times import time_text
from wallet_engine.journal.reader import read
from wallet_engine.routing.slots import partition_of

_FOLLOW_S: Final = 0.3


@click.command()
@admin_command
@click.option("--partition", type=click.IntRange(0), metavar="N", help="Only this partition.")
@click.option("--account", metavar="ID", help="Only operations that name the account, in its partition.")
@click.option("--since", metavar="SEQ|TIME", help="Only entries from this sequence number or time on.")
@click.option("--follow", is_flag=True, help="Keep printing new entries, until Ctrl-C.")
@journal_option
def cat(
    session: Session,
    partition: int | None,
    account: str | None,
    since: str | None,
    follow: bool,
    journal: Path | None,
) -> None:
    """Print journal entries in the order in which they were written.

    An entry has a line with partition, sequence number and time, and a line per operation with its request and
    outcome. With --json the output is one document, {"entries": […]}.

    An account's entries are in its own partition; a system account (@bank, @fees, @transit) has some in every
    partition. A sequence number belongs to one partition: --since SEQ needs --partition or --account.

    The newest entries may not be fsynced yet; only an answer over HTTP proves that an entry is durable.

    \b
    EXAMPLES
      wallet-admin journal cat --partition 7 --since 1200
      wallet-admin journal cat --account alice --since 2026-11-21T10:00:00Z --json
      wallet-admin journal cat --account @bank --follow
    """
    if follow and session.json:
        raise click.UsageError("--follow has no end, so it is no JSON document: leave one of the two out")
    if account is not None:
        try:
            check_account_id(account, "ACCOUNT")
        except InvalidInput as error:
            raise WrongUsage(error.detail) from None
    moment = None if since is None else parse_at(since, "--since")
    with session.directory() as directory:
        partitions = directory.config().partitions
        source = find_journal(directory, journal)
    if partition is not None and partition >= partitions:
        raise ConfigError(f"there is no partition {partition}: they are 0 to {partitions - 1}")
    if account is not None and not is_system(account):
        home = partition_of(account, partitions)
        if partition not in (None, home):
            raise ConfigError(f"{account} is in partition {home}, not {partition}")
        partition = home
    if isinstance(moment, AtSeq) and partition is None:
        raise WrongUsage("a sequence number counts within one partition: add --partition or --account")
    chosen = range(partitions) if partition is None else (partition,)
    entries = _entries(source.directory, chosen, account, moment, follow)
    if session.json:
        _print_document(entries)
        return
    console = plain_console()
    found = False
    for number, entry in entries:
        _show(console, number, entry, account)
        found = True
    if not found:
        console.print("no such entry")


def _entries(
    directory: Path,
    partitions: range | tuple[int, ...],
    account: str | None,
    since: AtSeq | AtTime | None,
    follow: bool,
) -> Iterator[tuple[int, Entry]]:
    """Partition and entry of everything selected. Raises `Damaged`."""
    after = dict.fromkeys(partitions, since.seq - 1) if isinstance(since, AtSeq) else {}
    while True:
        for record in read(directory, partitions=set(partitions), after=after):
            header = parse_header(record.payload)
            after[record.partition] = header.seq
            if isinstance(since, AtTime) and header.time_ms < since.time_ms:
                continue
            entry = parse_entry(record.payload) if account is None else entry_about(record.payload, account)
            if entry is not None:
                yield record.partition, entry
        if not follow:
            return
        time.sleep(_FOLLOW_S)


def _print_document(entries: Iterator[tuple[int, Entry]]) -> None:
    """Entry by entry: a journal may not fit into memory. Damage in the middle is a field of the same document."""
    click.echo('{"entries":[', nl=False)
    comma = b""
    try:
        for partition, entry in entries:
            click.echo(comma + msgspec.json.encode(entry_document(partition, entry)), nl=False)
            comma = b","
    except WalletError as error:
        said = " ".join(str(error).split())
        click.echo(b'],"error":' + msgspec.json.encode(said) + b"}")
        raise click.ClickException(said) from error
    click.echo("]}")


def _show(console: Console, partition: int, entry: Entry, account: str | None) -> None:
    header = entry.header
    console.print(f"{time_text(header.time_ms)}  partition {partition}  seq {header.seq}", soft_wrap=True)
    for operation, outcome in zip(entry.operations, header.outcomes, strict=True):
        if account is None or concerns(operation, account):
            console.print(f"  {operation_text(operation)}  [{outcome_text(outcome)}]", soft_wrap=True)
