"""Why this service, or a part of it, cannot pay: named conditions, noted where they occur, reported here.

A condition holds for the service, for a shard or for one partition. A partition has only its newest
condition: the reason of the last refusal. While no partition has a condition, this costs an applied batch
nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from wallet_engine.engine.refusals import ScriptRefusal
from wallet_engine.redis_store.refusals import Meaning, Refusal


class Condition(StrEnum):
    """`readyz` and `wallet_conditions` publish the names: add new ones, do not rename.

    Declared in the order in which they are reported.
    """

    #: The service has just started and has not heard from every partition.
    STARTING = "starting"
    #: This service stood still for so long that it may find old requests unread; until it has, it sends nothing.
    STOOD_STILL = "stood_still"
    #: Fewer journal copies are connected than an answer needs.
    NO_QUORUM = "no_quorum"
    #: The journal has not confirmed entries for longer than it should ever take.
    NO_RECEIPT = "no_receipt"
    #: The clocks of this service and of the Redis nodes are too far apart: recorded times are wrong somewhere.
    SKEWED = "skewed"
    #: No primary of the shard answers, or it is not known which node is the primary.
    UNREACHABLE = "unreachable"
    #: Redis refuses every write (MISCONF, NOREPLICAS and the like).
    REFUSED = "refused"
    #: The memory of the shard is nearly full: new work is refused, begun work can end.
    MEMORY = "memory"
    #: Another epoch or another node is certified for the partition.
    FENCED = "fenced"
    #: The partition's stream is at its limit: the journal is too far behind.
    FULL = "full"
    #: Too many transfers are on their way to the partition: no new ones are begun.
    UNSETTLED = "unsettled"
    #: Replay of the partition's journal gives other outcomes than recorded: an operator has to look
    #: (`wallet-admin doctor`).
    STOPPED = "stopped"
    #: Redis is being compared with the journal, or waits for that.
    RECOVERING = "recovering"
    #: The partition is frozen by a move, or has just left.
    MOVING = "moving"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A condition and its details."""

    condition: Condition
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """A condition that holds, and the partitions it stops; `partitions` is None when it stops all."""

    condition: Condition
    partitions: tuple[int, ...] | None
    detail: str


class Conditions:
    """The conditions that hold now. One object per engine."""

    def __init__(self) -> None:
        self.of_partition: dict[int, Trouble] = {}
        self.of_shard: dict[str, dict[Condition, str]] = {}
        self.of_service: dict[Condition, str] = {}

    def __repr__(self) -> str:
        shards = {shard: [*conditions] for shard, conditions in self.of_shard.items()}
        return (
            f"<Conditions service={[*self.of_service]} shards={shards} partitions={len(self.of_partition)}>"
        )

    def note(self, partition: int, condition: Condition, detail: str) -> None:
        """The partition takes no transfers now, for this reason."""
        self.of_partition[partition] = Trouble(condition, detail)

    def clear(self, partition: int) -> None:
        """The partition has just taken operations."""
        self.of_partition.pop(partition, None)

    def note_shard(self, shard: str, condition: Condition, detail: str) -> None:
        """No partition of the shard takes transfers now."""
        self.of_shard.setdefault(shard, {})[condition] = detail

    def clear_shard(self, shard: str, condition: Condition) -> None:
        """Nothing happens if it did not hold."""
        conditions = self.of_shard.get(shard)
        if conditions is not None and conditions.pop(condition, None) is not None and not conditions:
            del self.of_shard[shard]

    def note_service(self, condition: Condition, detail: str) -> None:
        """This service takes no transfers now."""
        self.of_service[condition] = detail

    def clear_service(self, condition: Condition) -> None:
        """Nothing happens if it did not hold."""
        self.of_service.pop(condition, None)

    def stopped(self, shards: Mapping[int, str]) -> set[int]:
        """The partitions that take no transfers now; `shards` maps every partition to its shard."""
        if self.of_service:
            return set(shards)
        return {p for p, shard in shards.items() if shard in self.of_shard} | self.of_partition.keys()

    def reports(self, shards: Mapping[int, str]) -> Iterator[Report]:
        """Every condition that holds, in the order of `Condition`; the detail is that of its first partition."""
        for condition in Condition:
            if condition in self.of_service:
                yield Report(condition, None, self.of_service[condition])
                continue
            found = {
                p: self.of_shard[shard][condition]
                for p, shard in shards.items()
                if condition in self.of_shard.get(shard, ())
            }
            for p, trouble in self.of_partition.items():
                if trouble.condition == condition:
                    found.setdefault(p, trouble.detail)
            if found:
                partitions = tuple(sorted(found))
                yield Report(condition, partitions, found[partitions[0]])


def condition_of(refusal: ScriptRefusal) -> Condition:
    """The condition of a partition whose script call was refused."""
    shown = refusal.shown
    match refusal.code:
        case "EPOCH" | "OWNER":
            return Condition.FENCED
        case "STATE":
            if shown == "stopped":
                return Condition.STOPPED
            return Condition.MOVING if shown in ("moving", "moved", "copying") else Condition.RECOVERING
        case "FULL":
            return Condition.FULL
        case "EXPIRED":
            return Condition.SKEWED
        case _:
            return Condition.REFUSED


def condition_of_error(refusal: Refusal) -> Condition:
    """The condition of a partition to which Redis itself replied with an error."""
    if refusal.meaning is Meaning.RECOVER or refusal.code == "LOADING":
        return Condition.RECOVERING
    if refusal.meaning is Meaning.MEMORY:
        return Condition.MEMORY
    if refusal.meaning is Meaning.ELSEWHERE or refusal.code in ("BUSY", "CLUSTERDOWN", "TRYAGAIN"):
        return Condition.UNREACHABLE
    return Condition.REFUSED
