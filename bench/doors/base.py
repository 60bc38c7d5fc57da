"""What a run asks of a door."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.cluster import Cluster
from bench.pacing import Pacing
from bench.recorder import Recorder
from bench.workload import Pair


@dataclass(frozen=True, slots=True)
class Load:
    """The same for every door: transfers that are sent over and over in requests of `batch`, and who notes it."""

    cluster: Cluster
    recorder: Recorder
    workload: str
    pairs: Sequence[Pair]
    batch: int
    callers: int
    #: Whether some requests are sent again with the ids they had.
    repeats: bool
    pacing: Pacing
    #: Callers show this key; empty: none.
    key: str = ""


class Door(Protocol):
    """Callers that send requests when `Pacing` lets them, one at a time each."""

    #: Where the CPU of the benchmark's own process is counted: `load`, or `api` when the engine runs in it.
    own_role: str

    @classmethod
    def make(cls, load: Load) -> "Door":
        """A door with its requests ready. Raises `ValueError`."""

    async def start(self) -> None:
        """Connect, start the pacing, and set all callers going."""

    async def stop(self) -> None:
        """Stop the pacing, send nothing new; return when everything sent is answered, and close."""

    async def figures(self) -> dict[str, float]:
        """Counters of this door only, growing; a run reports what they grew by per second measured."""
