"""`wallet-admin journal prune`: removes segments from the disk that are archived and that nothing needs."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.journals import JournalSource, copy_state, final_seqs, find_journal, journal_option
from wallet_engine.admin.nodes import memory_text
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.paths import path_text
from wallet_engine.journal.prune import remove_segment
from wallet_engine.journal.reader import ends_of
from wallet_engine.journal.segments import numbers_on_disk, read_segment_header, segment_path
from wallet_engine.recovery.pruning import Facts, Keep, Pruning, good_snapshots, parse_keep, plan_pruning
from wallet_engine.routing.directory import Directory


@click.command()
@changing_command
@journal_option
@click.option(
    "--keep",
    required=True,
    metavar="DURATION|BYTES",
    help="Always keep segments journaled within this time (7d, 12h), or the newest ones up to this size "
    "(200GB, 64GiB; a number alone: bytes).",
)
def prune(session: Session, journal: Path | None, keep: str) -> None:
    """Remove archived segments that nothing needs from the disk of a journal copy.

    A segment is removed when it is archived, a quorum and every other copy have its entries, every follower has taken
    them, and a good snapshot of each partition replaces them (the snapshots are read and checked now). Removal starts
    with the oldest segment and stops at the first that must stay; the answer says what needs it. The index of a
    removed segment stays, so the journal can start without the segment; --restore-command brings it back when it is
    needed.

    Run it on the host of the journal's directory, as the user of the journal process. That process may run meanwhile;
    with --keep it prunes by itself. An interrupted run has removed only some of the segments.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 journal prune --keep 7d --dry-run
      wallet-admin --zookeeper zk1:2181 journal prune --keep 200GB --yes
    """
    kept = parse_keep(keep)
    with session.directory() as directory:
        source = find_journal(directory, journal)
        facts = _facts(session, directory, source)
        found = plan_pruning(source.directory, kept, facts, time.time_ns() // 1_000_000)
        document = _document(source.directory, kept, found)
        plan = Plan(
            f"remove {len(found.numbers)} segments of {source.directory}, {memory_text(found.bytes)}",
            document,
            lambda console: _show(console, source.directory, kept, found, "can be removed"),
            destroys=True,
        )
        if found.numbers or session.dry_run:
            if not session.agreed(plan):
                return
            with session.change(directory, plan), session.progress() as progress:
                for number in progress.track(found.numbers, description="removing segments"):
                    remove_segment(source.directory, number)
    session.answer(document, lambda console: _show(console, source.directory, kept, found, "removed"))


def _facts(session: Session, directory: Directory, source: JournalSource) -> Facts:
    """What pruning has to know. Raises `ConfigError` when it is not known which entries are final."""
    members, live = directory.members().copies, directory.journals()
    newest = numbers_on_disk(source.directory)[-1]
    own = read_segment_header(source.directory, newest).journal_id
    copies: dict[str, Mapping[int, int] | None] = {}
    for name in members:
        if name != own:
            state = copy_state(live[name]) if name in live else None
            copies[name] = None if state is None else state.on_disk
    if source.info is not None:
        final = asyncio.run(final_seqs(source.info))
    elif copies:
        raise ConfigError(
            f"journal copy {own} does not run, and there are others: start it, it knows which entries a quorum has"
        )
    else:
        final = ends_of(source.directory)
    with session.progress() as progress:
        task = progress.add_task("reading snapshots", total=None)
        snapshots = good_snapshots(
            source.directory, lambda done, total: progress.update(task, completed=done, total=total)
        )
    return Facts(final, snapshots, directory.followers.seqs(), copies)


def _document(directory: Path, keep: Keep, found: Pruning) -> dict[str, Any]:
    return {
        "directory": path_text(directory),
        "keep": keep.text,
        "segments": [segment_path(directory, number).name for number in found.numbers],
        "bytes": found.bytes,
        "held": found.held or None,
    }


def _show(console: Console, directory: Path, keep: Keep, found: Pruning, done: str) -> None:
    if found.numbers:
        names = [segment_path(directory, number).name for number in (found.numbers[0], found.numbers[-1])]
        which = names[0] if len(found.numbers) == 1 else f"{names[0]} to {names[1]}"
        size = memory_text(found.bytes)
        console.print(f"{len(found.numbers)} segments {done}, {which}: {size}", style="bold", soft_wrap=True)
    else:
        console.print("no segment is removed", style="bold")
    if found.held:
        console.print(f"held back: {found.held}", soft_wrap=True)
    else:
        console.print(f"what is left on disk is kept by --keep {keep.text}, or is still being written")
