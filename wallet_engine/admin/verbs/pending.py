"""`wallet-admin pending`: lists transfers under way, their age, and what they wait for."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import click
from rich.console import Console

from wallet_engine.admin.session import Document, Session, admin_command, watch_option
from wallet_engine.admin.survey import CLUSTER_DOWN, survey
from wallet_engine.admin.tracing.open_entries import OpenEntry, find_open_entries
from wallet_engine.admin.tracing.open_groups import OpenGroup, find_open_groups
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.flags import FiniteRange

#: An entry younger than this is most likely a healthy payment in progress.
YOUNG_MS: Final = 5_000


@click.command()
@admin_command
@click.option(
    "--older-than",
    type=FiniteRange(0),
    default=0.0,
    metavar="SECONDS",
    help="Only entries and groups older than this.",
)
@watch_option
def pending(session: Session, older_than: float, watch_s: float | None) -> None:
    """Show transfers that were debited and have not ended, the oldest first, and what each waits for.

    A transfer across partitions is a debit, then a credit (or a refund if the credit was refused), then a settle. A
    healthy one takes milliseconds. One older than 5 seconds was interrupted; every API process looks for those once a
    second and ends them. One that is still there after a minute waits for a broken part, which the end of its line
    names.

    A group is listed in each partition that prepared it until its home partition has decided, and in the home until
    all partitions have paid.

    Ages come from the clocks of the Redis nodes. Entries written before such a clock was set back have no age, nor has
    a group whose entry has left the stream; they are always shown. At most 200 entries of each partition are shown.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 pending
      wallet-admin --zookeeper zk1:2181 pending --older-than 60 --json
    """
    with session.directory() as directory:
        session.watch(lambda: _look(directory, older_than), watch_s)


def _look(directory: Directory, older_than: float) -> tuple[Document, Callable[[Console], object]]:
    found = survey(directory)
    entries = [
        entry
        for entry in find_open_entries(found)
        if entry.age_ms is None or entry.age_ms >= older_than * 1000
    ]
    silent = sorted({p.shard for p in found.partitions if p.state == "unreachable"})
    groups = [
        group
        for group in find_open_groups(found)
        if group.age_ms is None or group.age_ms >= older_than * 1000
    ]
    document = {
        "entries": [entry_document(entry) for entry in entries],
        "groups": [group.document() for group in groups],
        "shards_not_asked": silent,
    }
    down = found.held_up()
    unasked = {shard: CLUSTER_DOWN if shard in down else "does not answer" for shard in silent}
    return document, lambda console: _show(console, entries, groups, unasked, older_than)


def entry_document(entry: OpenEntry) -> dict[str, Any]:
    """An open entry for `--json`."""
    return {
        "partition": entry.partition,
        "seq": entry.seq,
        "age_ms": entry.age_ms,
        "in_stream": entry.in_stream,
        "unreadable": entry.unreadable or None,
        "transfers": [transfer.document() for transfer in entry.transfers],
    }


def _show(
    console: Console,
    entries: list[OpenEntry],
    groups: list[OpenGroup],
    unasked: Mapping[str, str],
    older_than: float,
) -> None:
    for entry in entries:
        if not entry.in_stream or entry.unreadable:
            what = entry.unreadable or "not in the stream"
            console.print(
                f"partition {entry.partition} seq {entry.seq}: {what}; a recovery restores it from the journal: "
                f"wallet-admin rebuild {entry.partition}",
                soft_wrap=True,
            )
            continue
        for transfer in entry.transfers:
            o = transfer.document()
            age = " unknown  " if entry.age_ms is None else f"{entry.age_ms / 1000:8.1f} s"
            console.print(
                f"{age}  {o['transaction_id']}  {o['amount']} {o['currency']} "
                f"from {o['from_account']} to {o['to_account']}  (partition {entry.partition} seq {entry.seq})  "
                f"waits for {transfer.waits_for}",
                soft_wrap=True,
            )
    for group in groups:
        g = group.document()
        if group.record is None:
            what = f"partition {group.partition}: the record of group {g['transaction_id']} cannot be read"
            console.print(f"{what}; it waits for {group.waits_for}", soft_wrap=True)
            continue
        age = " unknown  " if group.age_ms is None else f"{group.age_ms / 1000:8.1f} s"
        console.print(
            f"{age}  {g['state']}  {g['transaction_id']}  group of {g['from_account']}, {g['legs']} legs  "
            f"(partition {g['partition']} seq {g['seq']})  waits for {g['waits_for']}",
            soft_wrap=True,
        )
    for shard, why in unasked.items():
        console.print(f"! shard {shard} is not in this list: it {why}", style="bold", soft_wrap=True)
    ages_ms = [*(entry.age_ms for entry in entries), *(group.age_ms for group in groups)]
    stuck = sum(age_ms is None or age_ms > YOUNG_MS for age_ms in ages_ms)
    if not entries and not groups:
        what = f"nothing has been open for {older_than:g} s" if older_than else "nothing is open"
        console.print(f"{what} on the shards that answer" if unasked else what)
    else:
        older = f"{stuck} of them for longer than {YOUNG_MS // 1000} s, or for an unknown time"
        parts = f" and {len(groups)} parts of groups" if groups else ""
        console.print(f"{len(entries)} open entries{parts}, {older}", soft_wrap=True)
