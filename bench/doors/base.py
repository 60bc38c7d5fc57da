"""The interface of a door."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.cluster import Cluster
from bench.pacing import Pacing
from bench.recorder import Recorder
from bench.workload import Pair


@dataclass(frozen=True, slots=True)
class Load:
    """The load for a door of any kind: `pairs` are sent over and over in requests of `batch` transfers."""

    cluster: Cluster
    recorder: Recorder
    workload: str
    pairs: Sequence[Pair]
    batch: int
    callers: int
    #: Whether some requests are sent a second time with the same ids.
    repeats: bool
    pacing: Pacing
    #: The key that callers send; empty for none.
    key: str = ""


class Door(Protocol):
    """Callers that send requests when `Pacing` tells them, each one at a time."""

    #: The role of the benchmark's own process, for its CPU: `load`, or `api` when the engine runs in it.
    own_role: str

    @classmethod
    def make(cls, load: Load) -> "Door":
        """A door with its requests ready. Raises `ValueError` for a load that it does not support."""

    async def start(self) -> None:
        """Connect, start the pacing, and start all callers."""

    async def stop(self) -> None:
        """Stop the pacing and send nothing new. When all requests are answered, close the connections."""

    async def figures(self) -> dict[str, float]:
        """Growing counters: `operations` and `script_calls`. A run uses their growth in the measured time."""
