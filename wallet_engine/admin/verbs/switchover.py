"""`wallet-admin switchover`: makes a replica the primary of its shard, while payments go on."""

import time
from contextlib import suppress
from typing import Any, Final

import click
from redis.exceptions import RedisError
from rich.console import Console

from wallet_engine.admin.nodes import NodeState
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.admin.survey import ShardState, survey
from wallet_engine.admin.waiting import wait_until
from wallet_engine.domain.errors import ConfigError, as_usage
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import check_address

#: How long it may take until the replica is the primary, and then until the shard serves again.
SWITCHED_S_MAX: Final = 30.0
SERVING_S_MAX: Final = 60.0
#: Redis may give up an attempt, for example when two elections split the votes; then it is asked again.
ASK_AGAIN_S: Final = 6.0


@click.command()
@changing_command
@click.argument("shard")
@click.option("--to", metavar="NODE", help="Address of the replica.  [default: the one with the most keys]")
def switchover(session: Session, shard: str, to: str | None) -> None:
    """Make a replica the primary of SHARD, and its primary a replica: before maintenance of a host, or back after it.

    The primary takes no writes until the replica has all its data (CLUSTER FAILOVER), so nothing is lost. The journal
    process compares the new primary with the journal before it serves. Calls wait meanwhile, mostly for less than a
    second. Returns when all partitions of the shard are served again, also where NODE is the primary already.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 switchover s1
      wallet-admin --zookeeper zk1:2181 switchover s1 --to 10.0.0.2:6379 --yes
    """
    if to is not None:
        with as_usage():
            check_address(to, "--to")
    with session.directory() as directory:
        state = _state_of(directory, shard)
        if state.primary is None:
            raise ConfigError(f"shard {shard} has no primary that answers: see wallet-admin doctor")
        old = state.primary.address
        if to == old:  # switched before an interruption
            wait_until(lambda: _serves(directory, shard), f"shard {shard} does not serve", SERVING_S_MAX)
            document, done = (
                {"shard": shard, "from": old, "to": old},
                f"{to} is the primary of {shard} already",
            )
            session.answer(document, lambda console: console.print(done, soft_wrap=True))
            return
        new = _chosen(state, to).address
        document = {"shard": shard, "from": old, "to": new}
        plan = Plan(f"switch {shard} from {old} to {new}", document, lambda console: _show(console, document))
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            switch_over(directory, shard, new)
    session.answer(document, lambda console: _show(console, document))


def switch_over(directory: Directory, shard: str, new: str) -> None:
    """Make this replica the primary; returns when the shard serves. Raises `ConfigError` after a time limit."""
    _switch(directory, shard, new)
    wait_until(lambda: _serves(directory, shard), f"shard {shard} does not serve", SERVING_S_MAX)


def _state_of(directory: Directory, shard: str) -> ShardState:
    found = survey(directory)
    for state in found.shards:
        if state.shard.name == shard:
            return state
    raise ConfigError(f"there is no shard {shard}: {', '.join(s.shard.name for s in found.shards)}")


def fit_replicas(state: ShardState) -> list[NodeState]:
    """The replicas that may become the primary."""
    return [node for node in state.nodes if node.role == "replica" and node.link_up and node.reachable]


def _chosen(state: ShardState, to: str | None) -> NodeState:
    """The replica to use. Raises `ConfigError` for a node that cannot become the primary."""
    fit = fit_replicas(state)
    if to is None:
        if not fit:
            raise ConfigError(f"shard {state.shard.name} has no replica that follows its primary")
        return max(fit, key=lambda node: node.keys)
    for node in state.nodes:
        if node.address == to:
            if node in fit:
                return node
            raise ConfigError(f"{to} is no replica that follows its primary: see wallet-admin doctor")
    raise ConfigError(f"{to} is no node of shard {state.shard.name}")


def _switch(directory: Directory, shard: str, new: str) -> None:
    """Ask for the failover until it has happened. Raises `ConfigError` after `SWITCHED_S_MAX`."""
    asked_s = 0.0

    def switched() -> bool:
        nonlocal asked_s
        state = _state_of(directory, shard)
        if state.primary is not None and state.primary.address == new:
            return True
        if time.monotonic() - asked_s > ASK_AGAIN_S:
            asked_s = time.monotonic()
            with suppress(RedisError, OSError), connect(new) as client:  # an attempt may be under way
                client.execute_command("CLUSTER", "FAILOVER")
        return False

    wait_until(switched, f"{new} has not become the primary", SWITCHED_S_MAX)


def _serves(directory: Directory, shard: str) -> bool:
    """Whether every partition of the shard is live under the epoch of the map."""
    mine = [p for p in survey(directory).partitions if p.shard == shard]
    return all(p.state == "live" and p.redis_epoch == p.epoch for p in mine)


def _show(console: Console, document: dict[str, Any]) -> None:
    console.print(
        f"shard {document['shard']}: primary {document['from']} -> {document['to']}",
        style="bold",
        soft_wrap=True,
    )
