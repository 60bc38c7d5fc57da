"""How long dedupe windows have been in force, as this process' own monotonic clock has seen it.

What a partition remembers must not become less because a wall clock steps, so Redis is told how much time has passed. A
witness knows how long a window had been in force when it looked, and how much has passed since: its word is never
more than what has really passed, whatever other witnesses say. Redis believes the largest. Time that no witness has
seen, because no journal process ran, does not count, and the window lasts longer.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class _Seen:
    """`seconds` were over at a moment before `since_s` (loop time), which is set when the next word is given."""

    epoch: int
    window: int
    seconds: int
    since_s: float | None = None
    said_s: int = 0


class Witness:
    """For the partitions that one process looks at."""

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
        """What the script answered: another window, or somebody who has seen more."""
        seen = self._seen.get(partition)
        if seen is None or (seen.epoch, seen.window) != (epoch, window) or seconds > seen.said_s:
            self._seen[partition] = _Seen(epoch, window, seconds)

    def forget(self, partition: int) -> None:
        """It is not looked at any more."""
        self._seen.pop(partition, None)
