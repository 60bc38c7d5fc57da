"""When answers came: how long a fault was felt, in seconds without a success and in seconds of 503."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from support.traffic import RETRYABLE, Books, Payment


@dataclass
class PulsedBooks(Books):
    """`Books` that note the time of every answer; `concerned` tells the payments that the fault may touch."""

    concerned: Callable[[Payment], bool] = lambda payment: True
    successes_s: list[float] = field(default_factory=list)
    concerned_successes_s: list[float] = field(default_factory=list)
    outages_s: list[float] = field(default_factory=list)

    def note(self, payment: Payment, answer: str) -> None:
        super().note(payment, answer)
        now_s = time.monotonic()
        if answer in RETRYABLE:
            self.outages_s.append(now_s)
        elif answer == "success":
            self.successes_s.append(now_s)
            if self.concerned(payment):
                self.concerned_successes_s.append(now_s)

    def report(self, fault: str, since_s: float) -> str:
        """One line; `since_s` is the moment of the fault (`time.monotonic`)."""
        outages = [at for at in self.outages_s if at >= since_s]
        said = f"{outages[-1] - outages[0]:.1f} s of 503 ({len(outages)})" if outages else "no 503"
        return (
            f"{fault}: longest gap between successes {longest_gap_s(self.successes_s, since_s):.1f} s, of those "
            f"concerned {longest_gap_s(self.concerned_successes_s, since_s):.1f} s; {said}; {dict(self.answers)}"
        )


def longest_gap_s(times_s: list[float], since_s: float) -> float:
    """The longest gap between times, from `since_s` to the last of them."""
    marks = [since_s, *sorted(at for at in times_s if at >= since_s)]
    return max((later - earlier for earlier, later in pairwise(marks)), default=0.0)
