"""`wallet-admin backup` and `restore`: the cluster's tree in ZooKeeper, in a file."""

import time
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from wallet_engine.admin.placement import parse_shard
from wallet_engine.admin.session import Plan, Session, admin_command, changing_command
from wallet_engine.admin.tree_file import (
    Backup,
    Restoration,
    plan_restoration,
    read_backup,
    restore_audit,
    take_backup,
    write_backup,
)
from wallet_engine.admin.tree_file import restore as restore_tree
from wallet_engine.admin.verbs.protect import Users, restrict, roles_of, service_options
from wallet_engine.domain.errors import ConfigError, as_usage
from wallet_engine.domain.paths import path_text
from wallet_engine.domain.times import time_text
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import PartitionMap, check_name
from wallet_engine.routing.moves import MOVES
from wallet_engine.routing.zookeeper import SESSION_TIMEOUT_S

#: A process that lost ZooKeeper starts a new session after a session timeout, and then registers.
REGISTERED_S_MAX: Final = SESSION_TIMEOUT_S + 5.0
_POLL_S: Final = 0.2
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@admin_command
@click.argument("file", type=_FILE)
def backup(session: Session, file: Path) -> None:
    """Write the cluster's tree in ZooKeeper into FILE, which must not exist yet.

    It contains configuration, map, shards, journal copies, moves in progress and audit records, with the version of
    each node and a checksum. It contains no balances: those are in the journal. Registrations and locks are left out.

    Take a backup after every change of shards or journal copies. wallet-admin restore --help says what an old backup
    can be used for. If a journal copy runs but does not count yet, the answer names it: take another backup when it
    counts.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 backup /backup/wallet-tree-$(date +%F).json
    """
    with session.directory() as directory:
        taken = take_backup(directory)
        counted = taken.copies.copies
        not_counted = sorted(directory.journals().keys() - set(counted))
    write_backup(taken, file)
    document = {
        "file": path_text(file),
        "nodes": len(taken.nodes),
        "sha256": taken.sha256,
        "journal_copies": list(counted),
        "not_counted": not_counted,
    }

    def show(console: Console) -> None:
        console.print(f"{len(taken.nodes)} nodes in {file}", soft_wrap=True)
        console.print(f"it counts the journal copies {', '.join(counted) or 'none'}")
        if not_counted:
            console.print(
                f"not {', '.join(not_counted)}, which run and have not joined yet: take another backup when "
                f"wallet-admin doctor says that all count",
                soft_wrap=True,
            )

    session.answer(document, show)


@click.command()
@changing_command
@click.argument("file", type=_FILE)
@click.option("--replace", is_flag=True, help="Also replace a cluster that exists already.")
@click.option(
    "--shard",
    metavar="NAME=HOST:PORT[,HOST:PORT…]",
    multiple=True,
    help="A shard that was added after the backup; may be repeated.",
)
@click.option(
    "--journal-copies",
    metavar="NAME[,NAME…]",
    help="The journal copies that counted last, if they are not those of the backup, or not all of them run.",
)
@service_options
def restore(
    session: Session,
    file: Path,
    replace: bool,
    shard: tuple[str, ...],
    journal_copies: str | None,
    users: Users,
) -> None:
    """Restore the cluster's tree in ZooKeeper from a backup FILE.

    For a ZooKeeper that lost its data. Redis must run: its primaries say where each partition is, not the file. The
    epochs of all partitions are raised far above any that were ever used. So every partition stops until the journal
    processes have compared and certified it again, which takes a moment; no old process can write by an old map, and
    no epoch is used twice. Moves are not restored. Running processes notice the new tree by themselves.

    The journal copies and the quorum must be those that counted last: a recovery depends on them. The list of the
    backup is used if exactly these copies run; they get some seconds to register again. If a copy is dead, was
    replaced, or joined since, name those that counted last with --journal-copies. Check the quorum in the plan.

    A cluster that exists is only replaced with --replace. Its list of journal copies and its quorum then stay.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 restore /backup/wallet-tree-2026-11-21.json --dry-run
      wallet-admin --zookeeper zk1:2181 restore /backup/wallet-tree-2026-11-21.json
      wallet-admin --zookeeper zk1:2181 restore /backup/wallet-tree-2026-11-21.json --journal-copies j1,j2,j4
    """
    stated = _stated(journal_copies)
    shards = tuple(map(parse_shard, shard))
    roles = roles_of(session, users)
    taken = read_backup(file)
    with session.directory() as directory:
        present = _present_map(directory, replace)
        if stated is None and directory.members().version < 0:
            _wait_for_copies(directory, taken)
        plan_ = plan_restoration(directory, taken, shards, present, stated)
        document = _document(plan_, taken.made_ms)
        plan = Plan(
            f"restore the tree of {time_text(taken.made_ms)}",
            document,
            lambda console: _show(console, document),
            destroys=True,
        )
        if not session.agreed(plan):
            return
        restore_audit(directory.tree, taken)
        with session.change(directory, plan):
            restore_tree(directory, plan_, present)
            if roles is not None:
                restrict(directory, roles)
        document["map_version"] = directory.partition_map().version

    def show(console: Console) -> None:
        _show(console, document)
        console.print("restored; wallet-admin doctor says when every partition is certified again")

    session.answer(document, show)


def _present_map(directory: Directory, replace: bool) -> PartitionMap | None:
    """The map of an existing cluster. Raises `ConfigError` when it must not be replaced."""
    present = directory.partition_map() if directory.initialised else None
    if present is not None and not replace:
        raise ConfigError("there is an initialised cluster already: --replace puts the backup in its place")
    if directory.tree.children(MOVES):
        raise ConfigError("a move is under way: finish it first, see wallet-admin moves")
    return present


def _stated(journal_copies: str | None) -> tuple[str, ...] | None:
    """The names in `--journal-copies`. Raises `WrongUsage`."""
    if journal_copies is None:
        return None
    with as_usage():
        return tuple(check_name(name, "journal id") for name in journal_copies.split(","))


def _wait_for_copies(directory: Directory, taken: Backup) -> None:
    """Wait for running copies to register again: their sessions end when ZooKeeper loses its data."""
    deadline = time.monotonic() + REGISTERED_S_MAX
    while set(directory.journals()) != set(taken.copies.copies) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _document(plan: Restoration, made_ms: int) -> dict[str, Any]:
    return {
        "made": time_text(made_ms),
        "partitions": len(plan.map.partitions),
        "shards": [{"name": shard.name, "nodes": list(shard.nodes)} for shard in plan.shards],
        "epoch": plan.map.epoch_of(0),
        "moved_since": {
            str(p): {"then": then, "now": plan.map.shard_of(p)} for p, then in plan.moved.items()
        },
        "journal_quorum": plan.config.journal_quorum,
        "journal_copies": list(plan.copies.copies),
        "never_again": list(plan.copies.replaced),
    }


def _show(console: Console, document: dict[str, Any]) -> None:
    console.print(f"the tree of {document['made']}, {document['partitions']} partitions", style="bold")
    for shard in document["shards"]:
        console.print(f"  shard {shard['name']}: {', '.join(shard['nodes'])}", soft_wrap=True)
    for partition, place in document["moved_since"].items():
        console.print(f"  partition {partition} was on {place['then']} then, and is on {place['now']} now")
    console.print(f"  all epochs become {document['epoch']}; every partition is certified again")
    copies = ", ".join(document["journal_copies"]) or "none noted"
    console.print(f"  journal copies {copies}; an answer needs {document['journal_quorum']} of them")
    if document["never_again"]:
        console.print(f"  replaced, and never counted again: {', '.join(document['never_again'])}")
