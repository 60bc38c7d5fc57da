"""The verbs `move`, `drain`, `rebalance`, `moves`, `resume` and `abort`."""

import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Final

import click
from redis.exceptions import RedisError
from rich.console import Console

from wallet_engine.admin.moving.placing import Step, balance_steps, drain_steps
from wallet_engine.admin.moving.planning import Cluster, check_target, measure, plan_move
from wallet_engine.admin.moving.runs import (
    answer_outcomes,
    new_driver,
    plan_of,
    run_moves,
    said_how_to_go_on,
)
from wallet_engine.admin.session import Plan, Session, admin_command, changing_command, plain_table
from wallet_engine.admin.verbs.rebalance_primaries import rebalance_primaries
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.refusals import hindrance_of
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.moves import Move, StoredMove
from wallet_engine.routing.slots import slot_range, tag_of

#: How long `rebalance --by load` counts the entries written.
LOAD_S: Final = 5.0

throttle_option = click.option(
    "--throttle",
    type=click.IntRange(min=100),
    metavar="FIELDS",
    help="Maximum balances and remembered answers to copy and compare per second, to leave Redis to payments.",
)


@click.command()
@changing_command
@click.argument("partition", type=int)
@click.argument("shard")
@throttle_option
def move(session: Session, partition: int, shard: str, throttle: int | None) -> None:
    """Move PARTITION to SHARD while payments go on.

    The partition serves while it is copied. Then it is frozen for its last entries, and its requests wait in the API
    processes. Both sides are compared, the map is switched, and the partition serves on SHARD. No request fails.

    The command may be interrupted or killed at any moment. `moves` then shows the state of the move, and `resume` or
    `abort` ends it, from any machine. A partition that is on SHARD already stays there.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 move 12 s3 --dry-run
      wallet-admin --zookeeper zk1:2181 move 12 s3 --yes
    """
    with session.directory() as directory:
        cluster = Cluster.look(directory)
        cluster.check_partition(partition)
        _refuse_on_its_way(directory, [partition])
        what = f"move partition {partition} to {shard}"
        if _is_there(cluster, partition, shard):
            done = f"partition {partition} is on {shard} already: nothing to move"
            session.answer({"what": what, "moved": []}, lambda console: console.print(done))
            return
        _run(session, directory, cluster, what, [(partition, shard)], throttle)


@click.command()
@changing_command
@click.argument("shard")
@throttle_option
def drain(session: Session, shard: str, throttle: int | None) -> None:
    """Move every partition away from SHARD, one after the other, to the shards with the fewest.

    Afterwards the shard serves nothing: remove it with `remove-shard`, or do maintenance.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 drain s2 --dry-run
      wallet-admin --zookeeper zk1:2181 drain s2 --yes
    """
    with session.directory() as directory:
        cluster = Cluster.look(directory)
        cluster.shard(shard)
        steps = drain_steps(cluster.map, shard, cluster.primaries)
        _refuse_on_its_way(directory, [partition for partition, _ in steps])
        _run(session, directory, cluster, f"drain {shard}", steps, throttle)


@click.command()
@changing_command
@click.option(
    "--by",
    type=click.Choice(["partitions", "accounts", "load"]),
    default="partitions",
    show_default=True,
    help="What to balance: the number of partitions, of accounts, or of entries written within 5 s.",
)
@click.option(
    "--primaries",
    is_flag=True,
    help="Balance the number of primaries per host by switchovers; no partition moves.",
)
@throttle_option
def rebalance(session: Session, by: str, primaries: bool, throttle: int | None) -> None:
    """Balance the shards with few moves, or the hosts with few switchovers.

    By partitions: the fewest moves until no shard has two more than another. By accounts or load: the partition that
    helps most moves from the fullest to the emptiest shard, as long as that helps noticeably.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 rebalance --dry-run
      wallet-admin --zookeeper zk1:2181 rebalance --by load --throttle 20000 --yes
      wallet-admin --zookeeper zk1:2181 rebalance --primaries
    """
    if primaries:
        rebalance_primaries(session)
        return
    with session.directory() as directory:
        cluster = Cluster.look(directory)
        for name in cluster.shards:
            cluster.primary(name)
        weights = None if by == "partitions" else _accounts(cluster) if by == "accounts" else _load(cluster)
        steps = balance_steps(cluster.map, list(cluster.shards), weights)
        _refuse_on_its_way(directory, [partition for partition, _ in steps])
        _run(session, directory, cluster, f"rebalance by {by}", steps, throttle)


@click.command()
@admin_command
def moves(session: Session) -> None:
    """List the moves in progress, with their state and the user that drives each.

    A move whose command was killed stays in this list until `resume` or `abort`.
    """
    with session.directory() as directory:
        directory.config()
        found = directory.moves.all()
        partition_map = directory.partition_map()
    switched = {stored.move.partition for stored in found if stored.move.committed(partition_map)}

    def show(console: Console) -> None:
        table = plain_table(
            "partition", "from", "to", "state", "since", "driver", "can be", title="Moves in progress"
        )
        for stored in found:
            one = stored.move
            age_s = time.time() - one.started_ms / 1000
            can = "resumed" if one.partition in switched else "resumed or aborted"
            table.add_row(
                *(str(one.partition), one.source, one.target, one.state, f"{age_s:.0f} s", one.driver, can)
            )
        console.print(table if found else "no partition is being moved")

    session.answer({"moves": [_move_document(s.move, s.move.partition in switched) for s in found]}, show)


@click.command()
@changing_command
@click.argument("partition", type=int, required=False)
def resume(session: Session, partition: int | None) -> None:
    """Continue the move of PARTITION, or every move, also one that was started elsewhere.

    Before the switch the copy is made again; after it only the rest is done. A move that another command still drives
    is refused.
    """
    with session.directory() as directory:
        chosen = _chosen(directory, partition)
        plan = _plan("resume", chosen)
        if not session.agreed(plan):
            return
        outcomes = []
        with session.change(directory, plan):
            for stored in chosen:
                with said_how_to_go_on(directory, stored.move.partition):
                    outcomes.append(new_driver(directory, stored.move.partition).resume())
    answer_outcomes(session, plan.what, outcomes)


@click.command()
@changing_command
@click.argument("partition", type=int)
def abort(session: Session, partition: int) -> None:
    """Undo the move of PARTITION: it stays on its shard, and its copy on the other shard is removed.

    A move that has switched cannot be undone: finish it with `resume`, then move the partition back.
    """
    with session.directory() as directory:
        chosen = _chosen(directory, partition)
        plan = _plan("abort", chosen)
        if not session.agreed(plan):
            return
        with session.change(directory, plan), said_how_to_go_on(directory, partition):
            undone = new_driver(directory, partition).abort()
    document = {
        "aborted": _move_document(undone.move),
        "left_on_target": bool(undone.left),
        "why_left": undone.left or None,
    }

    def show(console: Console) -> None:
        console.print(f"partition {partition} stays on {undone.move.source}")
        if undone.left:
            console.print(
                f"the copy on {undone.move.target} is still there, and does no harm: {undone.left}",
                soft_wrap=True,
            )

    session.answer(document, show)


def _run(
    session: Session,
    directory: Directory,
    cluster: Cluster,
    what: str,
    steps: Sequence[Step],
    throttle: int | None,
) -> None:
    planned = [plan_move(cluster, partition, target) for partition, target in steps]
    for target in {one.target for one in planned}:
        check_target(cluster, target, [one for one in planned if one.target == target])
    if not planned:
        answer_outcomes(session, what, [])
        return
    plan = plan_of(what, planned)
    if not session.agreed(plan):
        return
    with session.change(directory, plan):
        outcomes = run_moves(session, directory, planned, throttle)
    answer_outcomes(session, what, outcomes)


def _is_there(cluster: Cluster, partition: int, shard: str) -> bool:
    """Whether the partition is on the shard, by the map and by the node that owns its slot."""
    if cluster.map.shard_of(partition) != shard:
        return False
    return cluster.primary(shard).owns(slot_range(partition, len(cluster.map.partitions))[0])


def _refuse_on_its_way(directory: Directory, partitions: Iterable[int]) -> None:
    for partition in partitions:
        if directory.moves.get(partition) is not None:
            raise ConfigError(
                f"partition {partition} is being moved already: "
                f"wallet-admin resume {partition}, or wallet-admin abort {partition}"
            )


def _chosen(directory: Directory, partition: int | None) -> list[StoredMove]:
    directory.config()
    if partition is None:
        return directory.moves.all()
    stored = directory.moves.get(partition)
    if stored is None:
        raise ConfigError(
            f"partition {partition} is not being moved: wallet-admin moves lists the moves in progress"
        )
    return [stored]


def _plan(verb: str, chosen: Sequence[StoredMove]) -> Plan:
    parts = [f"{s.move.partition} ({s.move.source} to {s.move.target}, {s.move.state})" for s in chosen]
    what = f"{verb} {', '.join(parts) or 'nothing'}"

    def show(console: Console) -> None:
        console.print(what, soft_wrap=True)
        for stored in chosen:
            console.print(f"  driven by {stored.move.driver}", soft_wrap=True)

    return Plan(what, {"what": what, "moves": [_move_document(s.move) for s in chosen]}, show)


def _move_document(one: Move, switched: bool | None = None) -> dict[str, object]:
    document: dict[str, object] = {
        "partition": one.partition,
        "from": one.source,
        "to": one.target,
        "state": str(one.state),
        "driver": one.driver,
        "started_ms": one.started_ms,
    }
    return document if switched is None else {**document, "can_abort": not switched}


def _accounts(cluster: Cluster) -> dict[int, int]:
    return {
        partition: measure(cluster, partition).accounts for partition in range(len(cluster.map.partitions))
    }


def _load(cluster: Cluster) -> dict[int, int]:
    """Partition -> entries written within `LOAD_S`."""
    before = _seqs(cluster)
    time.sleep(LOAD_S)
    return {partition: seq - before[partition] for partition, seq in _seqs(cluster).items()}


def _seqs(cluster: Cluster) -> dict[int, int]:
    count = len(cluster.map.partitions)
    seqs: dict[int, int] = {}
    for shard, node in cluster.primaries.items():
        with closing(connect(node.address)) as client:
            try:
                for partition in cluster.map.partitions_of(shard):
                    seqs[partition] = int(
                        client.hget(PartitionKeys(tag_of(partition, count)).meta, "seq") or 0
                    )
            except (RedisError, OSError) as error:
                raise ConfigError(f"shard {shard} {hindrance_of(error).text}") from None
    return seqs
