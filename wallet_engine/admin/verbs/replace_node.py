"""`wallet-admin replace-node`: puts a new node in the place of one that is gone."""

from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import click
from redis.exceptions import RedisError
from rich.console import Console

from wallet_engine.admin.audit_log import audit_records
from wallet_engine.admin.newcomers import asked, check_newcomer
from wallet_engine.admin.nodes import NodeState, look_at_all, primary_of
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.admin.waiting import wait_until
from wallet_engine.domain.errors import ConfigError, as_usage
from wallet_engine.redis_store.membership import (
    check_can_follow,
    follow,
    forget,
    ids_at,
    leave,
    meet,
    own_slots,
)
from wallet_engine.redis_store.topology import NodeView, check_settings
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import Shard, by_name, check_address

#: How long gossip may take, and the copy of the primary's whole memory.
MEET_S_MAX: Final = 30.0
SYNC_S_MAX: Final = 600.0
#: A replica that cannot load the copy asks for it again at once, without end.
SYNC_ATTEMPTS_MAX: Final = 5


@click.command("replace-node")
@changing_command
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
def replace_node(session: Session, old: str, new: str) -> None:
    """Put the node NEW (HOST:PORT) into the shard of OLD, as a replica, and forget OLD.

    OLD must be gone, or a replica; if it is the primary, use `switchover` first. NEW must run in cluster mode with
    maxmemory-policy noeviction (see cluster_config/redis.conf), be empty, and have no older version of Redis than the
    primary. Payments go on meanwhile; the primary sends its memory to NEW once.

    OLD need not be dead: a process that hangs is forgotten too. End it before you use the machine again. NEW may be
    OLD: a node that was started again empty, after its disk was lost, or the same node under another name.

    A shard that has lost its only node has no primary to copy from. Start redis-server on that address again, empty;
    the journal process fills it.

    After an interruption, run the same command again.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 replace-node 10.0.0.2:6379 10.0.0.8:6379 --dry-run
      wallet-admin --zookeeper zk1:2181 replace-node 10.0.0.2:6379 10.0.0.8:6379 --yes
    """
    with as_usage():
        check_address(old, "OLD")
        check_address(new, "NEW")
    with session.directory() as directory:
        shards = directory.shards()
        shard = next((shard for shard in shards.values() if old in shard.nodes), None)
        if shard is None:
            _finish(session, directory, old, new)
            return
        changed = replace(shard, nodes=tuple(new if node == old else node for node in shard.nodes))
        by_name([changed, *(other for other in shards.values() if other.name != shard.name)])
        seen = look_at_all(address for each in shards.values() for address in each.nodes)
        primary = serving_primary(shard, seen)
        _check(old, new, shard, seen, primary)
        document = {"shard": shard.name, "old": old, "new": new, "primary": primary.address}
        plan = Plan(
            f"replace node {old} of shard {shard.name} by {new}",
            document,
            lambda console: _show(console, document),
            destroys=True,
        )
        if not session.agreed(plan):
            return
        members = [address for address, node in seen.items() if node.reachable and address != old]
        with session.change(directory, plan):
            # Read it first: Redis forgets the address of a node when another node takes it.
            before = ids_at(old, primary.address)
            join_as_replica(new, members, primary)
            write_shard(directory, shard, changed)
            new_id = asked(new).node_id
            view = seen[old].view
            if view is not None and view.node_id != new_id:
                with suppress(RedisError, OSError):
                    leave(old)
            untold = forget([node_id for node_id in before if node_id != new_id], [*members, new])
    session.answer(
        {"replaced": document, "nodes_not_told": untold},
        lambda console: console.print(f"{new} is a replica of {primary.address}; {old} is forgotten"),
    )


def _finish(session: Session, directory: Directory, old: str, new: str) -> None:
    """Forget OLD, a node of no shard: NEW took its place before the command was interrupted.

    Tells so when it was done before. Raises `ConfigError` when it was not and Redis does not know OLD, when NEW does
    not follow the primary of its shard, or when Redis knows OLD as the owner of slots.
    """
    shards = directory.shards()
    seen = look_at_all(address for each in shards.values() for address in each.nodes)
    shard = next((each for each in shards.values() if new in each.nodes), None)
    ours: set[str] = set()
    before: list[str] = []
    primary = None if shard is None else serving_primary(shard, seen)
    if primary is not None:
        for address, node in seen.items():
            ours.update(ids_at(address, primary.address) if node.view is None else (node.view.node_id,))
        before = [node_id for node_id in ids_at(old, primary.address) if node_id not in ours]
    if shard is None or primary is None or not (before or _was_replaced(directory, old, new)):
        done = "" if shard is None else f", and {new} is in shard {shard.name}: perhaps this is done already"
        raise ConfigError(f"no shard has a node {old}{done}: see wallet-admin shards")
    if not before:
        view = seen[new].view
        if view is None or primary.node_id not in (view.node_id, view.primary_id):
            raise ConfigError(
                f"no shard has a node {old}, and {new} is in shard {shard.name}, but does not follow its primary: "
                f"see wallet-admin doctor"
            )
        document = {"shard": shard.name, "old": old, "new": new, "primary": primary.address}
        done = f"nothing is left to do: no shard has a node {old}, and {new} serves shard {shard.name}"
        session.answer(
            {"replaced": document, "nodes_not_told": []}, lambda console: console.print(done, soft_wrap=True)
        )
        return
    if own_slots(before, primary.address):
        raise ConfigError(f"{old} owns slots, and may hold the money in them: see wallet-admin doctor")
    document = {"shard": shard.name, "old": old, "new": new, "primary": primary.address}
    plan = Plan(
        f"forget node {old}, in whose place {new} is in shard {shard.name}",
        document,
        lambda console: console.print(
            f"shard {shard.name}: {new} is there; {old} is in no shard and is forgotten", style="bold"
        ),
        destroys=True,
    )
    if not session.agreed(plan):
        return
    with session.change(directory, plan):
        with suppress(RedisError, OSError):
            leave(old)
        untold = forget(before, [address for address, node in seen.items() if node.reachable])
    session.answer(
        {"replaced": document, "nodes_not_told": untold},
        lambda console: console.print(f"{old} is forgotten"),
    )


def _was_replaced(directory: Directory, old: str, new: str) -> bool:
    """Whether an earlier command came to its end. An address that never was a node's may be a slip."""
    whole, rest = f"replace node {old} of shard ", f"forget node {old}, in whose place {new} is in "
    said = [record.what for record in audit_records(directory) if record.state == "done"]
    return any(
        what.startswith(rest) or (what.startswith(whole) and what.endswith(f" by {new}")) for what in said
    )


def serving_primary(shard: Shard, seen: dict[str, NodeState]) -> NodeView:
    """The primary of the shard. Raises `ConfigError` when none serves."""
    primary = primary_of([seen[address] for address in shard.nodes])
    if primary is None or primary.view is None or not primary.cluster_ok:
        nodes = ", ".join(shard.nodes)
        raise ConfigError(f"shard {shard.name} has no primary that serves: start one of {nodes} again")
    return primary.view


def _check(old: str, new: str, shard: Shard, seen: dict[str, NodeState], primary: NodeView) -> None:
    """Raises `ConfigError` for a node that cannot be replaced, or that cannot take its place."""
    if primary.address == old:
        others = [address for address in shard.nodes if address != old and seen[address].reachable]
        first = (
            f"wallet-admin switchover {shard.name} --to {others[0]}"
            if others
            else f"give it a replica that can take over: wallet-admin add-replica {shard.name} NEW"
        )
        raise ConfigError(f"{old} is the primary: first {first}")
    view = seen[old].view
    if view is not None and view.slots:
        raise ConfigError(f"{old} owns slots, and may hold the money in them: see wallet-admin doctor")
    check_settings(new)
    check_can_follow(new, primary.address)
    members = {node.view.node_id: address for address, node in seen.items() if node.view and address != old}
    check_newcomer(new, asked(new), members, may_follow=True)


def join_as_replica(new: str, members: list[str], primary: NodeView) -> None:
    """Returns when NEW knows all members and has a copy of its primary's memory. Raises `ConfigError`."""
    try:
        meet(new, members)
        ids = {asked(address).node_id for address in members}
        wait_until(lambda: _knows(new, ids), f"{new} does not find the other nodes", MEET_S_MAX)
        begun = asked(primary.address).full_syncs
        follow(new, primary.node_id)
        wait_until(
            lambda: _in_sync(new, primary.address, begun),
            f"{new} does not get its primary's memory",
            SYNC_S_MAX,
        )
    except (RedisError, OSError) as error:
        raise ConfigError(f"{new} could not join the Redis Cluster: {error}") from None


def _knows(new: str, ids: set[str]) -> bool:
    known = asked(new)
    return ids <= known.known_ids and not known.handshaking


def _in_sync(new: str, primary: str, begun: int) -> bool:
    """Whether NEW has the copy. Raises `ConfigError` after `SYNC_ATTEMPTS_MAX` copies that it could not load."""
    if asked(new).in_sync:
        return True
    attempts = asked(primary).full_syncs - begun
    if attempts >= SYNC_ATTEMPTS_MAX:
        raise ConfigError(
            f"{primary} has sent its memory {attempts} times and {new} could not load it: the log of redis-server "
            f"at {new} says why; mend that and give the command again"
        )
    return False


def write_shard(directory: Directory, shard: Shard, changed: Shard) -> None:
    """Raises `ConfigError` when the shard is not as it was."""
    with directory.lock("shards"):
        if directory.shards().get(shard.name) != shard:
            raise ConfigError(
                f"shard {shard.name} was changed by somebody else meanwhile: see wallet-admin shards"
            )
        directory.put_shard(changed)


def _show(console: Console, document: dict[str, Any]) -> None:
    console.print(
        f"shard {document['shard']}: {document['new']} in the place of {document['old']}", style="bold"
    )
    console.print(f"  {document['primary']}, its primary, sends its memory to {document['new']} once")
