"""`wallet-admin rebuild`: has a partition dropped from Redis and rebuilt from the journal."""

import secrets
from typing import Any, Final

import click
from redis.exceptions import RedisError
from rich.console import Console

from wallet_engine.admin.journals import copy_state
from wallet_engine.admin.nodes import primary_of_partition
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.admin.waiting import wait_until
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.slots import tag_of
from wallet_engine.telemetry.flags import FiniteRange

REDIS_TIMEOUT_S: Final = 5.0
#: Fields of `meta` that are shown before and after.
FIELDS: Final = ("state", "seq", "epoch")
_DISTRUST: Final = load_script("distrust").text


@click.command()
@changing_command
@click.argument("partition", type=click.IntRange(0))
@click.option(
    "--accept",
    metavar="SEQ",
    type=click.IntRange(1),
    help="The oracle no longer stops PARTITION because of this entry.",
)
@click.option(
    "--without-newer",
    is_flag=True,
    help="Give up entries that Redis counts and no journal copy has, instead of waiting for a journal that has them.",
)
@click.option(
    "--timeout",
    type=FiniteRange(0),
    default=600.0,
    show_default=True,
    help="Seconds to wait until the partition is live.",
)
def rebuild(
    session: Session, partition: int, accept: int | None, without_newer: bool, timeout: float
) -> None:
    """Drop PARTITION from Redis and rebuild it from the journal.

    For a partition in which verify finds differences. No answered transfer is lost: entries in Redis are drained to
    disk first. The journal process does the work, as after a crash: under the shard's recovery lock, from the newest
    good snapshot and the entries after it. The epoch is raised, so that no process can write by its old knowledge.
    Until the partition is live again, its transfers are answered 503 and can be retried.

    The rebuild continues when this command is interrupted.

    With --accept the partition serves again although a wrong entry stays in its journal, such as a credit without its
    debit. Take the money back by transfers; verify still reports the entry.

    A partition of which the journal lacks entries stays `recovering`, and the journal's log says which: a wrong or an
    old directory must not become the truth. Start the journal with the right one. With --without-newer the partition
    serves from what the journal has: only for a journal that is whole, or answered transfers are lost.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 rebuild 12 --dry-run
      wallet-admin --zookeeper zk1:2181 rebuild 12 --accept 1234
      wallet-admin --zookeeper zk1:2181 rebuild 12 --yes && wallet-admin --zookeeper zk1:2181 verify
    """
    with session.directory() as directory:
        plan = _plan(directory, partition, accept, without_newer)
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            if accept is not None:
                directory.accepted.add(partition, accept)
            epoch = _distrust(directory, partition, without_newer)

            def rebuilt() -> bool:
                meta = meta_of(directory, partition, (*FIELDS, "fault"))
                if meta["fault"]:
                    raise ConfigError(f"partition {partition} does not replay as recorded: {meta['fault']}")
                return meta["state"] == "live" and int(meta["epoch"] or 0) > epoch

            wait_until(rebuilt, f"partition {partition} is being rebuilt, see the journal's log", timeout)
            after = meta_of(directory, partition)
    document = {"partition": partition, **after}
    session.answer(
        document,
        lambda console: console.print(
            f"partition {partition} is live at seq {after['seq']}, epoch {after['epoch']}; "
            f"wallet-admin verify proves it",
            style="bold",
        ),
    )


def _plan(directory: Directory, partition: int, accept: int | None, without_newer: bool) -> Plan:
    address, before = _look(directory, partition)
    what = f"rebuild partition {partition} from the journal"
    if accept is not None:
        _check_exists(directory, partition, accept, before)
        what += f", and accept its entry {accept}"
    if without_newer:
        what += ", without the entries that no journal has"
    document = {
        "partition": partition,
        "node": address,
        "accepted": accept,
        "without_newer": without_newer,
        **before,
    }
    return Plan(
        what, document, lambda console: _show_plan(console, partition, address, before), destroys=True
    )


def _check_exists(directory: Directory, partition: int, seq: int, meta: dict[str, Any]) -> None:
    """Raises `ConfigError` for an entry that Redis and the journal lack: one that comes later is accepted unseen."""
    states = filter(None, map(copy_state, directory.readable_journals().values()))
    last = max([int(meta["seq"] or 0), *(state.on_disk.get(partition, 0) for state in states)])
    if seq > last:
        raise ConfigError(
            f"partition {partition} has no entry {seq} that could be accepted: its last is {last}"
        )


def _look(directory: Directory, partition: int) -> tuple[str, dict[str, Any]]:
    """The node of the partition, and its meta. Raises `ConfigError` when it cannot be rebuilt now."""
    count = len(directory.partition_map().partitions)
    if partition >= count:
        raise ConfigError(f"there is no partition {partition}: they are 0 to {count - 1}")
    if directory.moves.get(partition) is not None:
        raise ConfigError(f"partition {partition} is being moved: wallet-admin resume or abort that first")
    if not directory.journal_ids():
        raise ConfigError("no journal process is alive, and it is what rebuilds: start it")
    meta = meta_of(directory, partition)
    if meta["state"] in (None, "moving"):
        raise ConfigError(f"partition {partition} is {meta['state'] or 'absent'}: see wallet-admin doctor")
    return _address(directory, partition), meta


def _distrust(directory: Directory, partition: int, without_newer: bool) -> int:
    """Stop the partition. Returns the epoch that it had."""
    keys = _keys(directory, partition)
    client = connect(_address(directory, partition), timeout_s=REDIS_TIMEOUT_S)
    try:
        done, said = client.eval(
            _DISTRUST, 1, keys.meta, f"rebuild-{secrets.token_hex(8)}", int(without_newer)
        )
    except (RedisError, OSError) as error:
        raise ConfigError(f"partition {partition}: {' '.join(str(error).split())}") from None
    finally:
        client.close()
    if not done:
        raise ConfigError(f"partition {partition} is {said} now: nothing was changed")
    return int(said or 0)


def meta_of(directory: Directory, partition: int, fields: tuple[str, ...] = FIELDS) -> dict[str, Any]:
    """These fields of `meta`; all None when its shard does not answer."""
    try:
        client = connect(_address(directory, partition), timeout_s=REDIS_TIMEOUT_S)
        try:
            values: Any = client.hmget(_keys(directory, partition).meta, fields)
        finally:
            client.close()
    except (ConfigError, RedisError, OSError):
        values = (None,) * len(fields)
    return dict(zip(fields, values, strict=True))


def _address(directory: Directory, partition: int) -> str:
    return primary_of_partition(directory, partition)[1]


def _keys(directory: Directory, partition: int) -> PartitionKeys:
    return PartitionKeys(tag_of(partition, len(directory.partition_map().partitions)))


def _show_plan(console: Console, partition: int, address: str, meta: dict[str, Any]) -> None:
    console.print(
        f"partition {partition} at {address}: {meta['state']}, seq {meta['seq']}, epoch {meta['epoch']}"
    )
    console.print(
        "  stop it, drain it to disk, drop its keys, load the newest snapshot, replay what came later"
    )
    console.print("  its transfers are answered 503 meanwhile; other partitions go on")
