"""Lists the processes that follow the journal for each sink, their partitions, and how far they are behind."""

from collections.abc import Mapping
from dataclasses import dataclass

from wallet_engine.routing.directory import Directory
from wallet_engine.routing.following import WHOLE, FollowerInfo, SinkState, groups_of


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """One sink, with or without processes that follow for it."""

    sink: str
    #: Process -> the partitions that it has claimed.
    claimed: Mapping[str, tuple[int, ...]]
    members: tuple[FollowerInfo, ...]
    #: Partitions that no process has claimed.
    unclaimed: tuple[int, ...]
    #: Entries not yet noted as taken (noted every `routing.followers.NOTE_S`); None when Redis does not answer.
    lag_entries: int | None


def sinks_of(
    directory: Directory, ends: Mapping[int, int | None], damaged: list[str] | None = None
) -> tuple[SinkStatus, ...]:
    """All sinks that have taken entries or have followers. `ends`: partition -> newest seq, read before.

    `damaged` gets a sentence about each node of the directory that cannot be read, else the log does.
    """
    taken, followed = directory.followers.taken(damaged), directory.following.sinks(damaged)
    nobody = SinkState({}, {})
    return tuple(
        _status(name, followed.get(name, nobody), taken.get(name, {}), ends)
        for name in sorted(taken.keys() | followed.keys())
    )


def _status(
    sink: str, state: SinkState, taken: Mapping[int, int], ends: Mapping[int, int | None]
) -> SinkStatus:
    groups = 1 if sink in WHOLE else groups_of(len(ends))
    claimed: dict[str, list[int]] = {name: [] for name in state.members}
    unclaimed = []
    for partition in sorted(ends):
        owner = state.claims.get(partition % groups)
        if owner is None:
            unclaimed.append(partition)
        else:
            claimed.setdefault(owner, []).append(partition)
    known = [(seq or 0) - taken.get(partition, 0) for partition, seq in ends.items()]
    return SinkStatus(
        sink,
        {name: tuple(partitions) for name, partitions in claimed.items()},
        tuple(state.members.values()),
        tuple(unclaimed),
        None if None in ends.values() else sum(max(0, behind) for behind in known),
    )
