"""Checks whether a Redis node may join the cluster, for `add-shard`, `add-replica` and `replace-node`."""

from collections.abc import Collection, Mapping

from redis.exceptions import RedisError

from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.greeting import hindrance_at
from wallet_engine.redis_store.membership import Membership, membership


def asked(address: str) -> Membership:
    """The membership that the node reports. Raises `ConfigError` when it does not answer."""
    try:
        return membership(address)
    except (RedisError, OSError) as error:
        raise ConfigError(f"Redis at {address} {hindrance_at(address, error).text}") from None


def check_newcomer(
    address: str,
    known: Membership,
    members: Mapping[str, str],
    newcomers: Collection[str] = (),
    *,
    may_follow: bool = False,
) -> None:
    """Raises `ConfigError` for a node that is in use already. Its data may be live, so no message says to delete it.

    `members`: node id -> address of the cluster's nodes; `newcomers`: ids of the nodes that join together with it.
    `may_follow`: the node may be a replica already, with a copy of its primary's keys.
    """
    if known.node_id in members:
        raise ConfigError(
            f"Redis at {address} is {members[known.node_id]} under another name, and belongs to the cluster already"
        )
    if known.slots:
        raise ConfigError(
            f"Redis at {address} owns slots of a cluster, and may hold the money in them: give a new node "
            f"(of a shard that this cluster forgot, wallet-admin doctor says what to do)"
        )
    if known.keys and not (may_follow and known.in_sync):
        raise ConfigError(f"Redis at {address} holds {known.keys} keys: give a node with an empty --dir")
    strangers = known.known_ids - set(newcomers) - {known.node_id}
    if strangers and not strangers & members.keys():
        raise ConfigError(f"Redis at {address} belongs to another cluster: give a node that belongs to none")
