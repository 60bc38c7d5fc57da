"""Measures with this process's monotonic clock how long dedupe windows have been in force.

A step of a wall clock must not shorten the memory of a partition, so journal processes (witnesses) tell Redis how much
time has passed. A witness knows how long a window had been in force when it looked, and adds the time since then. So it
never says more than the time that has really passed. Redis takes the largest value. Time in which no journal process
ran does not count: the window then lasts longer.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class _Seen:
    """A window of a partition. It had been in force for `seconds` at or before `since_s` (loop time).

    `since_s` is set when the next word is given. `said_s`: the seconds of that word.
    """

    epoch: int
    window: int
    seconds: int
    since_s: float | None = None
    said_s: int = 0


class Witness:
    """The windows of the partitions that one process looks at."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}

    def __repr__(self) -> str:
        return f"<Witness partitions={len(self._seen)}>"

    def word(self, partition: int, now_s: float) -> tuple[int, int, int]:
        """(epoch, window, whole seconds that the window has been in force): arguments of `lua/witness.lua`."""
        seen = self._seen.get(partition)
        if seen is None:
            return 0, 0, 0
        if seen.since_s is None:
            seen.since_s = now_s
        seen.said_s = seen.seconds + int(now_s - seen.since_s)
        return seen.epoch, seen.window, seen.said_s

    def saw(self, partition: int, epoch: int, window: int, seconds: int) -> None:
        """Take the answer of `lua/witness.lua`: it replaces what is known if the window is another one, or if another
        process has seen more time.
        """
        seen = self._seen.get(partition)
        if seen is None or (seen.epoch, seen.window) != (epoch, window) or seconds > seen.said_s:
            self._seen[partition] = _Seen(epoch, window, seconds)

    def forget(self, partition: int) -> None:
        """Forget a partition that this process no longer looks at."""
        self._seen.pop(partition, None)
