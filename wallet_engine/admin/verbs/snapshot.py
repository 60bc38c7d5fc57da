"""`wallet-admin snapshot`: makes snapshots of all partitions now, from the journal alone."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.journals import check_journal, find_journal, journal_option
from wallet_engine.admin.session import Session, admin_command
from wallet_engine.domain.paths import path_text
from wallet_engine.journal.snapshots import SNAPSHOTS_KEPT, snapshots_directory
from wallet_engine.recovery.snapshotting import Made, make_snapshots


@click.command()
@admin_command
@journal_option
@click.pass_context
def snapshot(ctx: click.Context, session: Session, journal: Path | None) -> None:
    """Make a snapshot of every partition, so that a rebuild replays only later entries.

    It starts from the newest snapshots and applies the entries since, with the rules of verify. A partition whose
    entries are inconsistent gets no snapshot. Redis is not used. It may run while the journal is written. It writes to
    the journal's directory: run it as the user of the journal process. It may be interrupted: a snapshot is written
    completely or not at all. The journal process makes snapshots by itself (--snapshot-bytes).

    Two snapshots of each partition are kept. A damaged one is renamed to NAME.damaged.

    \b
    EXIT STATUS
      0  every partition with entries has a snapshot at the end of the journal
      1  a partition has none (the answer says which and why), or the command failed

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 snapshot
      wallet-admin snapshot --journal /var/lib/wallet/journal --json
    """
    if journal is not None:  # no cluster is needed
        source = check_journal(journal)
    else:
        with session.directory() as directory:
            source = find_journal(directory, None).directory
    made = make_snapshots(source)
    session.answer(_document(source, made), lambda console: _show(console, source, made))
    ctx.exit(1 if made.broken else 0)


def _document(source: Path, made: Made) -> dict[str, Any]:
    return {
        "directory": path_text(snapshots_directory(source)),
        "written": [{"partition": head.partition, "seq": head.seq} for head in made.written],
        "unchanged": made.unchanged,
        "entries_folded": made.entries,
        "set_aside": made.refused,
        "broken": [{"partition": partition, "why": why} for partition, why in sorted(made.broken.items())],
    }


def _show(console: Console, source: Path, made: Made) -> None:
    for why in made.refused:
        console.print(f"set aside: {why}")
    for partition, why in sorted(made.broken.items()):
        console.print(f"partition {partition}: no snapshot: {why}")
    console.print(
        f"{len(made.written)} snapshots written to {snapshots_directory(source)} ({made.entries:,} entries folded), "
        f"{made.unchanged} were up to date; the newest {SNAPSHOTS_KEPT} of each partition are kept"
    )
