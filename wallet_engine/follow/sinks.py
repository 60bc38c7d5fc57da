"""Which sinks there are: what stands behind `--to`, and what each needs of the command line."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wallet_engine.domain.errors import ConfigError
from wallet_engine.follow.sink import Sink
from wallet_engine.history.sink import HistorySink
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a sink may use."""

    directory: Directory
    partitions: int
    metrics: Metrics
    #: URL of PostgreSQL; None without `--database`.
    database: str | None

    def needed_database(self, sink: str) -> str:
        """Raises `ConfigError` without one."""
        if self.database is None:
            raise ConfigError(f"--to {sink} needs --database postgresql://…")
        return self.database


Maker = Callable[[str, Surroundings], Sink]


def _history(target: str, around: Surroundings) -> Sink:
    return HistorySink(around.needed_database(target))


#: What `--to` begins with, up to a colon -> how its sink is made.
SINKS: Final[dict[str, Maker]] = {"history": _history}


def make_sink(target: str, around: Surroundings) -> Sink:
    """The sink of one `--to`. Raises `ConfigError`."""
    maker = SINKS.get(target.partition(":")[0])
    if maker is None:
        raise ConfigError(f"--to {target} is no sink: {', '.join(SINKS)}")
    return maker(target, around)
