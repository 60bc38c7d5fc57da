"""What has certainly existed for a given time, by this process' own monotonic clock, which does not step."""

from collections import deque
from typing import Final

#: Moments kept for each age; the precision is the age divided by this.
MARKS_MAX: Final = 8


class Passage:
    """Values of a growing number at some moments: the seq of a partition's newest entry."""

    __slots__ = ("_age_s", "_marks")

    def __init__(self, age_s: float) -> None:
        self._age_s = age_s
        #: (when it was seen, the number), the oldest first; of those older than the age only the newest is kept.
        self._marks: deque[tuple[float, int]] = deque()

    def __repr__(self) -> str:
        return f"<Passage age_s={self._age_s} marks={len(self._marks)}>"

    def note(self, number: int, now_s: float) -> None:
        """The newest number is this one, or higher."""
        marks = self._marks
        if not marks or now_s - marks[-1][0] >= self._age_s / MARKS_MAX:
            marks.append((now_s, number))
        self._forget(now_s)

    def passed(self, number: int, now_s: float) -> bool:
        """Whether the entry with this number has certainly existed for longer than the age."""
        return number <= self.newest_passed(now_s)

    def newest_passed(self, now_s: float) -> int:
        """The highest number that has certainly existed for longer than the age; -1 when none is known."""
        self._forget(now_s)
        marks = self._marks
        return marks[0][1] if marks and marks[0][0] <= now_s - self._age_s else -1

    def _forget(self, now_s: float) -> None:
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= now_s - self._age_s:
            marks.popleft()
