"""Lets nodes join and leave a Redis Cluster. Other code decides which nodes may do so.

Unless they say otherwise, functions raise what redis-py raises. Addresses are `host:port`; this code resolves
host names, because CLUSTER MEET takes only IP addresses.
"""

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.greeting import hindrance_at
from wallet_engine.redis_store.topology import ask_settings, connect, parse_myself, slot_owners

#: The setting for how a node drops the keys of slots that it loses.
LAZY_DROP: Final = "lazyfree-lazy-server-del"
#: Stands for the value of a setting that we may not ask for.
_UNKNOWN: Final = "?"


@dataclass(frozen=True, slots=True)
class Membership:
    """What one node knows of its cluster. `handshaking`: it has not yet met all of the known nodes."""

    node_id: str
    known_ids: frozenset[str]
    handshaking: bool
    slots: int
    keys: int
    #: True also if we may not ask for the setting.
    lazy_drop: bool
    in_sync: bool
    #: `redis` or `valkey`, and its own version: `7.0.15`.
    program: str
    version: str
    #: How often it has sent its whole memory to a replica since its start.
    full_syncs: int


def membership(address: str) -> Membership:
    """Ask the node."""
    with closing(connect(address)) as client:
        lines = [line.split(" ") for line in _said(client, "CLUSTER", "NODES").splitlines()]
        role: Any = client.execute_command("ROLE")  # type: ignore[no-untyped-call]
        settings, _ = ask_settings(client, [LAZY_DROP])
        keys = int(client.dbsize())
        server: dict[str, Any] = client.info("server")
        stats: dict[str, Any] = client.info("stats")
    myself = next(words for words in lines if "myself" in words[2])
    flags = [words[2] for words in lines]
    return Membership(
        myself[0],
        frozenset(words[0] for words in lines),
        any("handshake" in words or "noaddr" in words for words in flags),
        sum(not word.startswith("[") for word in myself[8:]),
        keys,
        settings.get(LAZY_DROP, _UNKNOWN) in ("yes", _UNKNOWN),
        str(role[0]) == "slave" and str(role[3]) == "connected",
        *_program(server),
        int(stats["sync_full"]),
    )


def meet(newcomer: str, members: Iterable[str]) -> None:
    """Introduce a node to every member directly: gossip would take seconds."""
    host, port = split_address(newcomer)
    ip = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
    for address in members:
        with closing(connect(address)) as client:
            client.execute_command("CLUSTER", "MEET", ip, port)  # type: ignore[no-untyped-call]


def check_can_follow(replica: str, primary: str) -> None:
    """Raises `ConfigError` for a replica older than its primary: it can load only data of older versions."""
    mine, theirs = membership(replica), membership(primary)
    if mine.program == theirs.program:
        loads = _release(mine.version) >= _release(theirs.version)
    else:  # Valkey can load data of Redis up to 7.2; Redis cannot load data of Valkey
        loads = mine.program == "valkey" and _release(theirs.version) <= (7, 2)
    if not loads:
        raise ConfigError(
            f"{mine.program} {mine.version} at {replica} cannot load the memory of {primary}, which is "
            f"{theirs.program} {theirs.version}: start it with {theirs.program} {theirs.version} or newer"
        )


def follow(replica: str, primary_id: str) -> None:
    """Make an empty node a replica."""
    with closing(connect(replica)) as client:
        client.execute_command("CLUSTER", "REPLICATE", primary_id)  # type: ignore[no-untyped-call]


def forget(node_ids: Sequence[str], members: Iterable[str]) -> list[str]:
    """Have every member forget the nodes. Returns the members that could not be told."""
    untold = []
    for address in members:
        try:
            with closing(connect(address)) as client:
                for node_id in node_ids:
                    _forget(client, node_id)
        except (RedisError, OSError):
            untold.append(address)
    return untold


def ids_at(address: str, member: str) -> list[str]:
    """The ids under which a member knows the node at an address, dead or alive.

    Raises `ConfigError` when the member does not answer.
    """
    text = _nodes(member)
    host, port = split_address(address)
    hosts = {host}
    with suppress(OSError):
        hosts.update(str(found[4][0]) for found in socket.getaddrinfo(host, port))
    ids = []
    for line in text.splitlines():
        node_id, where, *_ = line.split(" ")  # where: `ip:port@bus port`, with `,host name` since Redis 7
        ip, _, at = where.partition("@")[0].rpartition(":")
        if at == str(port) and not hosts.isdisjoint((ip, where.partition(",")[2])):
            ids.append(node_id)
    return ids


def own_slots(node_ids: Iterable[str], member: str) -> bool:
    """Whether a member believes that one of the nodes owns slots. Raises `ConfigError` when it does not answer."""
    return not set(node_ids).isdisjoint(slot_owners(_nodes(member))[0].values())


def _nodes(member: str) -> str:
    try:
        with closing(connect(member)) as client:
            return _said(client, "CLUSTER", "NODES")
    except (RedisError, OSError) as error:
        raise ConfigError(f"Redis at {member} {hindrance_at(member, error).text}") from None


def leave(address: str) -> None:
    """Empty the node and make it a cluster of its own. Raises `ConfigError` if it owns slots, maybe live."""
    with closing(connect(address)) as client:
        if _is_primary(client):
            nodes = str(client.execute_command("CLUSTER", "NODES"))  # type: ignore[no-untyped-call]
            if parse_myself(address, nodes).slots:
                raise ConfigError(f"Redis at {address} owns slots, and is not emptied")
            client.execute_command("FLUSHALL", "ASYNC")  # type: ignore[no-untyped-call]
        client.execute_command("CLUSTER", "RESET", "HARD")  # type: ignore[no-untyped-call]


def _program(server: Mapping[str, Any]) -> tuple[str, str]:
    """Name and version, from the section `server` of INFO. Valkey also calls itself Redis 7.2.4 there."""
    if "valkey_version" in server:
        return "valkey", str(server["valkey_version"])
    return "redis", str(server["redis_version"])


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".")[:2])


def _forget(client: Any, node_id: str) -> None:
    try:
        client.execute_command("CLUSTER", "FORGET", node_id)
    except RedisError as error:
        if "Unknown node" not in str(error):
            raise


def _is_primary(client: Any) -> bool:
    return str(client.execute_command("ROLE")[0]) == "master"


def _said(client: Any, *words: str) -> str:
    return str(client.execute_command(*words))
