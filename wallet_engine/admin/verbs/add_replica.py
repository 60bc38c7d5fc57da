"""`wallet-admin add-replica`: gives a shard one more replica."""

from dataclasses import replace

import click

from wallet_engine.admin.newcomers import asked, check_newcomer
from wallet_engine.admin.nodes import NodeState, look_at_all
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.admin.verbs.replace_node import join_as_replica, serving_primary, write_shard
from wallet_engine.domain.errors import ConfigError, as_usage
from wallet_engine.redis_store.membership import check_can_follow
from wallet_engine.redis_store.topology import NodeView, check_settings
from wallet_engine.routing.model import Shard, by_name, check_address


@click.command("add-replica")
@changing_command
@click.argument("name")
@click.argument("node", metavar="HOST:PORT")
def add_replica(session: Session, name: str, node: str) -> None:
    """Add the node HOST:PORT to the shard NAME, as a further replica.

    It must run in cluster mode with maxmemory-policy noeviction (see cluster_config/redis.conf), be empty, and have no
    older version of Redis than the primary. Payments go on meanwhile; the primary sends it its memory once.

    To put a node in the place of another one, use `replace-node`. After an interruption, run the same command again.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 add-replica s2 10.0.0.9:6379 --dry-run
      wallet-admin --zookeeper zk1:2181 add-replica s2 10.0.0.9:6379 --yes
    """
    with as_usage():
        check_address(node, "HOST:PORT")
    with session.directory() as directory:
        shards = directory.shards()
        if name not in shards:
            raise ConfigError(f"there is no shard {name}: there are {', '.join(shards)}")
        shard = shards[name]
        seen = look_at_all(address for each in shards.values() for address in each.nodes)
        primary = serving_primary(shard, seen)
        document = {"shard": name, "replica": node, "primary": primary.address}
        if node in shard.nodes:  # added before an interruption
            _check_follows(node, shard, seen[node], primary)
            _tell(session, document)
            return
        grown = replace(shard, nodes=(*shard.nodes, node))
        by_name([grown, *(other for other in shards.values() if other.name != name)])
        check_settings(node)
        check_can_follow(node, primary.address)
        members = {found.view.node_id: address for address, found in seen.items() if found.view}
        check_newcomer(node, asked(node), members, may_follow=True)
        plan = Plan(
            f"add replica {node} to shard {name}",
            document,
            lambda console: console.print(
                f"shard {name}: {primary.address}, its primary, sends its memory to {node} once",
                style="bold",
                soft_wrap=True,
            ),
        )
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            join_as_replica(node, [address for address, found in seen.items() if found.reachable], primary)
            write_shard(directory, shard, grown)
    _tell(session, document)


def _check_follows(node: str, shard: Shard, seen: NodeState, primary: NodeView) -> None:
    """Raises `ConfigError` unless the node of the shard is a replica of its primary."""
    if seen.view is None or seen.view.primary_id != primary.node_id:
        raise ConfigError(
            f"{node} is a node of shard {shard.name} already, and no replica that follows its primary: "
            f"see wallet-admin doctor"
        )


def _tell(session: Session, document: dict[str, str]) -> None:
    session.answer(
        {"added": document},
        lambda console: console.print(
            f"{document['replica']} is a replica of {document['primary']}", soft_wrap=True
        ),
    )
