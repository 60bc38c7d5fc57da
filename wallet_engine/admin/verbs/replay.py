"""`wallet-admin replay`: writes a whole past state for an auditor."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.journals import check_current, find_journal, journal_option, receipted_seqs
from wallet_engine.admin.proof.past_balance import AtSeq, check_moment, parse_at
from wallet_engine.admin.proof.past_state import past_state, write_directory, write_redis
from wallet_engine.admin.session import Session, admin_command
from wallet_engine.domain.errors import ConfigError, WrongUsage, as_usage
from wallet_engine.domain.paths import path_text
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import check_address

_REDIS = "redis://"
#: Names of sums as people read them; others are system accounts.
_LABELS = {"accounts": "all accounts", "pending": "pending for them"}


@click.command()
@admin_command
@click.option(
    "--into",
    required=True,
    metavar="DIR|redis://HOST:PORT",
    help="An empty or new directory, or an empty Redis that is no part of the cluster.",
)
@click.option("--at", metavar="SEQ|TIME", help="The past moment.  [default: now]")
@click.option(
    "--partition", type=click.IntRange(0), help="Only this partition; needed with a sequence number."
)
@journal_option
def replay(session: Session, into: str, at: str | None, partition: int | None, journal: Path | None) -> None:
    """Write the whole state at any past moment: every balance, flag, remembered answer and open entry.

    It reads only the journal, from its first entry, and decides every operation again. It does not use the cluster's
    Redis. An inconsistent journal gives no state.

    \b
    DIR gets
      partition-00003.tsv   key, field, value; balances are in minor units; sorted, so that two can be compared
      totals.json           seq and SHA-256 of each file; per currency the sum of all accounts with what is held, what
                            is pending, and the balance of each system account. They sum to zero.

    redis://HOST:PORT gets the same keys as the cluster, to read with redis-cli. No API can serve from it.

    --at is as in `wallet-admin balance`: a sequence number (of --partition), or a time in RFC 3339.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 replay --into /tmp/year-end --at 2026-12-31T23:59:59.999Z
      wallet-admin replay --into /tmp/p3 --partition 3 --at 120 --json
      wallet-admin replay --into redis://127.0.0.1:7777
    """
    moment = None if at is None else parse_at(at)
    if isinstance(moment, AtSeq) and partition is None:
        raise WrongUsage("a sequence number is that of one partition: give --partition, or a time to --at")
    with session.directory() as directory:
        count = directory.config().partitions
        if partition is not None and partition >= count:
            raise ConfigError(f"there is no partition {partition}: they are 0 to {count - 1}")
        address = _address(into, directory)
        source = find_journal(directory, journal)
        check_current(directory, source)
        durable = receipted_seqs(source.info) if moment is None and source.info is not None else None
    check_moment(source.directory, moment, live=source.info is not None)
    with session.progress() as progress:
        task = progress.add_task("folding the journal", total=None)
        past = past_state(
            source.directory,
            range(count) if partition is None else (partition,),
            moment,
            durable,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    if address is None:
        write_directory(past, Path(into))
    else:
        write_redis(past, address, count)
    document = {"into": into, "journal": path_text(source.directory), **past.totals(), **source.note()}

    def show(console: Console) -> None:
        _show(console, document)
        source.show_note(console)

    session.answer(document, show)


def _address(into: str, directory: Directory) -> str | None:
    """The `host:port` of a Redis, or None for a directory. Raises `ConfigError` for a node of the cluster."""
    if not into.startswith(_REDIS):
        return None
    address = into.removeprefix(_REDIS).rstrip("/")
    with as_usage():
        check_address(address, "--into redis://")
    if any(address in shard.nodes for shard in directory.shards().values()):
        raise ConfigError(f"{address} is a node of this cluster: give --into another Redis")
    return address


def _show(console: Console, document: dict[str, Any]) -> None:
    console.print(
        f"{len(document['partitions'])} partitions, {document['entries']:,} entries, written to {document['into']}",
        style="bold",
    )
    for currency, totals in document["totals"].items():
        for name, amount in totals.items():
            console.print(f"  {amount:>24} {currency}  {_LABELS.get(name, name)}")
