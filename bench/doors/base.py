"""What a run asks of a door."""

from typing import Protocol

from bench.cluster import Cluster
from bench.pacing import Pacing
from bench.recorder import Recorder
from bench.workload import Pair


class Door(Protocol):
    """Callers that send requests when `Pacing` lets them, one at a time each."""

    #: Where the CPU of the benchmark's own process is counted: `load`, or `api` when the engine runs in it.
    own_role: str

    @classmethod
    def make(
        cls,
        cluster: Cluster,
        recorder: Recorder,
        pairs: list[Pair],
        batch: int,
        callers: int,
        repeats: bool,
        pacing: Pacing,
    ) -> "Door":
        """A door that sends these transfers over and over in requests of `batch`. Raises `ValueError`."""

    async def start(self) -> None:
        """Connect, start the pacing, and set all callers going."""

    async def stop(self) -> None:
        """Stop the pacing, send nothing new; return when everything sent is answered, and close."""

    async def figures(self) -> dict[str, float]:
        """Counters of this door only, growing; a run reports what they grew by per second measured."""
