"""Finds a shard's primary, and checks whether a node is fit to hold money; asks through redis-py.

The answer comes from Redis itself, never from a guess: it asks each node of the shard how it sees itself.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.exceptions import RedisError, ResponseError

from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import ConfigError, text_of
from wallet_engine.redis_store.greeting import hindrance_at
from wallet_engine.redis_store.login import login
from wallet_engine.redis_store.refusals import Hindrance, Obstacle, cannot_be_asked, hindrance_of

_TIMEOUT_S = 1.0
#: Maximum key names to read from one slot: many times the number that a partition has.
SLOT_KEYS_MAX: Final = 1000
#: The setting for what a node does when its memory is full.
POLICY: Final = "maxmemory-policy"


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node's own line of `CLUSTER NODES`."""

    address: str
    node_id: str
    is_primary: bool
    config_epoch: int
    slots: tuple[range, ...]
    #: Its own slots that an operator has set MIGRATING.
    leaving: frozenset[int] = frozenset()
    #: For a replica: the id of its primary.
    primary_id: str = ""

    def owns(self, slot: int) -> bool:
        return any(slot in slots for slots in self.slots)

    def keeps(self, slot: int) -> bool:
        """Whether it owns the slot and all its keys are here. Our moves never set a slot MIGRATING."""
        return self.owns(slot) and slot not in self.leaving


def connect(address: str, *, timeout_s: float = _TIMEOUT_S) -> redis.Redis:
    """A redis-py client of one node for administration, with our login: no retries, text replies."""
    host, port = split_address(address)
    return login().client(host, port, timeout_s, decode_responses=True, protocol=2)


def parse_myself(address: str, cluster_nodes: str) -> NodeView:
    """The line flagged `myself` of a `CLUSTER NODES` reply (columns: redis.io/commands/cluster-nodes)."""
    for line in cluster_nodes.splitlines():
        words = line.split(" ")
        flags = words[2].split(",")
        if "myself" in flags:
            slots, leaving = [], set()
            for word in words[8:]:
                if not word.startswith("["):
                    first, _, last = word.partition("-")
                    slots.append(range(int(first), int(last or first) + 1))
                elif "->-" in word:
                    leaving.add(int(word[1:].partition("-")[0]))
            return NodeView(
                address,
                words[0],
                "master" in flags,
                int(words[6]),
                tuple(slots),
                frozenset(leaving),
                words[3].strip("-"),
            )
    raise ConfigError(f"Redis at {address} does not name itself in CLUSTER NODES")


def slot_owners(cluster_nodes: str) -> tuple[dict[int, str], list[tuple[int, str]]]:
    """slot -> node id, and the half-moved slots of the node itself (redis.io/commands/cluster-nodes)."""
    owners: dict[int, str] = {}
    half: list[tuple[int, str]] = []
    for line in cluster_nodes.splitlines():
        words = line.split(" ")
        for word in words[8:]:
            if match := re.match(r"\[(\d+)-([<>])-", word):
                half.append((int(match[1]), "importing" if match[2] == "<" else "migrating"))
                continue
            first, _, last = word.partition("-")
            owners.update(dict.fromkeys(range(int(first), int(last or first) + 1), words[0]))
    return owners, half


def _cluster_nodes(client: redis.Redis) -> str:
    """The reply as text: redis-py does not parse it if the command is given as two words."""
    return str(client.execute_command("CLUSTER", "NODES"))  # type: ignore[no-untyped-call]


def view_node(address: str, refused: list[str] | None = None) -> NodeView | None:
    """How the node sees itself, or None when it does not answer.

    `refused` gets a sentence about a node that is there but does not admit us.
    """
    client = connect(address)
    try:
        return parse_myself(address, _cluster_nodes(client))
    except (RedisError, OSError) as error:
        hindrance = hindrance_at(address, error)
        if refused is not None and hindrance.obstacle is not Obstacle.SILENT:
            refused.append(f"Redis at {address} {hindrance.text}")
        return None
    except (ConfigError, ValueError, IndexError) as error:
        # It is no node, or its address no name: others may be.
        if refused is not None:
            refused.append(f"Redis at {address} cannot be understood: {text_of(error)}")
        return None
    finally:
        client.close()


def find_primary(nodes: Sequence[str], refused: list[str] | None = None) -> NodeView | None:
    """The primary of a shard: among nodes that call themselves one, the highest configuration epoch wins.

    `refused`: see `view_node`.
    """
    views = [
        view for address in nodes if (view := view_node(address, refused)) is not None and view.is_primary
    ]
    owners = [view for view in views if view.slots] or views
    return max(owners, key=lambda view: view.config_epoch, default=None)


def no_primary(refused: Sequence[str]) -> str:
    """Why `find_primary` found none."""
    return "; ".join(("no primary answers", *refused))


def keys_in_slots(address: str, slots: Iterable[int]) -> list[str]:
    """Names of the keys of these slots on a node, even if it does not own them; none if it is silent."""
    client = connect(address)
    try:
        with client.pipeline(transaction=False) as pipe:
            for slot in slots:
                pipe.execute_command("CLUSTER", "GETKEYSINSLOT", slot, SLOT_KEYS_MAX)  # type: ignore[no-untyped-call]
            return [str(name) for names in pipe.execute() for name in names]
    except (RedisError, OSError, UnicodeDecodeError):
        return []
    finally:
        client.close()


def check_settings(address: str, *, must_answer: bool = True) -> Hindrance | None:
    """Refuse a node that could lose or evict money. Raises `ConfigError` with the line to change.

    If the node could not be asked, returns the reason, or raises it if `must_answer`.

    The policy is read from INFO, because managed services without CONFIG still have INFO.
    """
    client = connect(address)
    try:
        info: dict[str, Any] = client.info("cluster")
        if not info.get("cluster_enabled"):
            raise ConfigError(
                f"Redis at {address} is not in cluster mode: set `cluster-enabled yes` and restart it"
            )
        policy = eviction_policy(client)
        if policy != "noeviction":
            raise ConfigError(
                f"Redis at {address} has maxmemory-policy {policy}, which may evict balances: "
                f"run CONFIG SET maxmemory-policy noeviction"
            )
    except (RedisError, OSError) as error:
        hindrance = hindrance_at(address, error)
        if must_answer:
            raise ConfigError(f"Redis at {address} {hindrance.text}") from None
        return hindrance
    finally:
        client.close()
    return None


def eviction_policy(client: redis.Redis) -> str:
    """`maxmemory-policy` from INFO. Raises what redis-py raises."""
    memory: dict[str, Any] = client.info("memory")
    return str(memory.get("maxmemory_policy", ""))


def ask_settings(client: redis.Redis, names: Iterable[str]) -> tuple[dict[str, str], str]:
    """(name -> value, "" for a setting unknown to this version; why some are missing, "" if none are).

    Without CONFIG it finds only the eviction policy. Raises what redis-py raises for anything else.
    """
    found: dict[str, str] = {}
    try:
        for name in names:
            found[name] = str(client.config_get(name).get(name, ""))
    except ResponseError as error:
        if not cannot_be_asked(error):
            raise
        return {POLICY: eviction_policy(client)}, hindrance_of(error).text
    return found, ""
