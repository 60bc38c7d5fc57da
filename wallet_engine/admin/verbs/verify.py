"""`wallet-admin verify`: proves that Redis holds exactly what the journal says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from wallet_engine.admin.journals import JournalSource, check_journal, find_journal, journal_option
from wallet_engine.admin.proof.cluster import Verdict, verify_offline, verify_online
from wallet_engine.admin.session import Session, admin_command, plain_table
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.paths import path_text


@click.command()
@admin_command
@journal_option
@click.option("--offline", is_flag=True, help="Check the journal alone, without Redis.")
@click.pass_context
def verify(ctx: click.Context, session: Session, journal: Path | None, offline: bool) -> None:
    """Prove that Redis holds exactly what the journal says.

    It replays the whole journal with a second implementation of every rule, and compares every balance, flag,
    remembered answer, open entry and sequence number with Redis, partition by partition. It checks every frame, hash
    and chain of the journal, that each entry replays as recorded, and that the balances of each partition sum to zero
    in every currency. Between partitions every credit must belong to a debit and every refund to a refusal, and
    @transit must be the sum of the open debits.

    Run it at any time, also under full traffic: it reads Redis in pieces of about half a millisecond, and compares
    each piece with the journal at that piece's sequence number. It needs memory for about two copies of the cluster's
    state. You must be able to read the journal directory on this host. An interrupted run leaves nothing behind.

    Money in transit has left its payer and not arrived yet: zero when nothing is under way.

    \b
    EXIT STATUS
      0  everything agrees
      1  something does not (the answer lists it), or it could not be checked

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 verify
      wallet-admin --map-file data/map.json verify --json
      wallet-admin verify --offline --journal /var/lib/wallet/journal
    """
    with session.progress() as progress:
        if offline and journal is not None:  # no cluster is needed
            source = JournalSource(check_journal(journal))
            verdict = verify_offline(source.directory, _folding(progress))
        else:
            with session.directory() as directory:
                total = directory.config().partitions
                source = find_journal(directory, journal)
                if offline:
                    verdict = verify_offline(source.directory, _folding(progress))
                else:
                    reading = progress.add_task("reading Redis", total=total)
                    verdict = verify_online(
                        directory,
                        source.directory,
                        progress=_folding(progress),
                        on_image=lambda done: progress.update(reading, completed=done),
                    )
    session.answer(_document(verdict, source), lambda console: _show(console, verdict, source))
    ctx.exit(0 if verdict.ok else 1)


def _folding(progress: Progress) -> Callable[[int, int], object]:
    task = progress.add_task("folding the journal", total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)


def _document(verdict: Verdict, source: JournalSource) -> dict[str, Any]:
    """A `journal_id` of null says that the journal was not compared with a live copy."""
    journal_id = None if source.info is None else source.info.journal_id
    return {
        **verdict.document(),
        "journal": {"journal_id": journal_id, "directory": path_text(source.directory)},
    }


def _show(console: Console, verdict: Verdict, source: JournalSource) -> None:
    table = Table.grid(Column(), Column(overflow="fold"), padding=(0, 2))
    table.add_row("journal", path_text(source.directory))
    table.add_row("partitions", f"{verdict.partitions:,}")
    table.add_row("entries", f"{verdict.entries:,}")
    table.add_row("accounts", f"{verdict.accounts:,}")
    table.add_row("open entries", f"{verdict.open_entries:,}")
    for currency, minor in verdict.in_transit_minor.items():
        table.add_row("in transit", f"{format_amount(minor, currency)} {currency}")
    console.print(table)
    if verdict.mismatches:
        _show_mismatches(console, verdict)
    source.show_note(console)
    against = "the journal is whole" if verdict.offline else "Redis holds what the journal says"
    console.print(
        f"ok: {against}" if verdict.ok else f"NOT OK: {verdict.mismatches_total:,} mismatches", style="bold"
    )


def _show_mismatches(console: Console, verdict: Verdict) -> None:
    table = plain_table("partition", "what", "key", "journal says", "Redis holds")
    for mismatch in verdict.mismatches:
        partition = "-" if mismatch.partition is None else str(mismatch.partition)
        absent = "-" if mismatch.what in ("journal", "books", "transit") else "nothing"
        table.add_row(
            partition, mismatch.what, mismatch.key, mismatch.journal or absent, mismatch.redis or absent
        )
    console.print(table)
    if verdict.mismatches_total > len(verdict.mismatches):
        console.print(f"and {verdict.mismatches_total - len(verdict.mismatches):,} more")
