"""`wallet-admin partitions`: lists partitions with shard, state, position and size."""

from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.contents import PartitionContents, contents_of
from wallet_engine.admin.session import Session, admin_command, plain_table, show_table
from wallet_engine.admin.survey import PartitionStatus, survey
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.slots import slot_range


@click.command()
@admin_command
@click.option("--shard", metavar="NAME", help="Only partitions of this shard.")
def partitions(session: Session, shard: str | None) -> None:
    """Show every partition: shard, slots, state, epoch, sequence number, and how much is in it.

    `balances` counts pairs of account and currency, including the partition's part of system accounts. `stream` is
    the number of journal entries that Redis still holds; `open` the number of entries with money under way.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 partitions
      wallet-admin --zookeeper zk1:2181 partitions --shard s2 --json
    """
    with session.directory() as directory:
        found = survey(directory)
    names = [state.shard.name for state in found.shards]
    if shard is not None and shard not in names:
        raise ConfigError(f"there is no shard {shard}: they are {', '.join(names)}")
    chosen = [status for status in found.partitions if shard in (None, status.shard)]
    contents = contents_of(found)
    count = found.config.partitions
    document = {"partitions": [_document(status, contents.get(status.partition), count) for status in chosen]}
    session.answer(document, lambda console: _show(console, document["partitions"]))


def _document(status: PartitionStatus, contents: PartitionContents | None, count: int) -> dict[str, Any]:
    slots = slot_range(status.partition, count)
    return {
        "partition": status.partition,
        "shard": status.shard,
        "slots": [slots[0], slots[-1]],
        "state": status.state,
        "epoch": status.epoch,
        "redis_epoch": status.redis_epoch,
        "seq": status.seq,
        "balances": None if contents is None else contents.balances,
        "stream_entries": None if contents is None else contents.stream_entries,
        "open_entries": status.open_entries,
    }


def _show(console: Console, documents: list[dict[str, Any]]) -> None:
    right = ("partition", "slots", "epoch", "seq", "balances", "stream", "open")
    headings = ("partition", "shard", "slots", "state", "epoch", "seq", "balances", "stream", "open")
    table = plain_table(*headings, right=right)
    for document in documents:
        numbers = ("seq", "balances", "stream_entries", "open_entries")
        table.add_row(
            str(document["partition"]),
            document["shard"],
            "{}-{}".format(*document["slots"]),
            document["state"],
            str(document["epoch"]),
            *("-" if document[name] is None else f"{document[name]:,}" for name in numbers),
        )
    show_table(console, table, "epoch", "slots")
