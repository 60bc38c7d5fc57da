"""The kinds of sinks for `--to`, and what each needs from the command line."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wallet_engine.deciding.origin import origin_of
from wallet_engine.deciding.sink import OracleSink
from wallet_engine.domain.errors import WrongUsage
from wallet_engine.events.event import SOURCE_DEFAULT
from wallet_engine.exports.kafka import KafkaSink
from wallet_engine.exports.parquet import ParquetSink
from wallet_engine.follow.sink import Sink
from wallet_engine.history.sink import HistorySink
from wallet_engine.journal.feed import Feed, furthest
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.following import groups_of
from wallet_engine.telemetry.metrics import Metrics
from wallet_engine.webhooks.outbox import EVENTS_KEPT_DAYS
from wallet_engine.webhooks.sink import WebhookSink


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a sink may use."""

    directory: Directory
    partitions: int
    metrics: Metrics
    #: URL of PostgreSQL; None without `--database`.
    database: str | None
    #: The followed feed, in which sinks also look up earlier entries.
    feed: Feed
    #: Name of this process.
    name: str
    webhooks_allow_private: bool = False
    #: Settings of librdkafka.
    kafka: Mapping[str, str] = field(default_factory=dict)
    #: CloudEvents' `source`.
    source: str = SOURCE_DEFAULT
    events_kept_s: float = EVENTS_KEPT_DAYS * 86_400

    def needed_database(self, sink: str) -> str:
        """The database's URL. Raises `ConfigError` without one."""
        if self.database is None:
            raise WrongUsage(f"--to {sink} needs --database postgresql://…")
        return self.database


Maker = Callable[[str, Surroundings], Sink]


def _history(target: str, around: Surroundings) -> Sink:
    return HistorySink(around.needed_database(target))


def _webhooks(target: str, around: Surroundings) -> Sink:
    return WebhookSink(
        around.needed_database(target),
        around.feed,
        around.name,
        allow_private=around.webhooks_allow_private,
        source=around.source,
        metrics=around.metrics,
        events_kept_s=around.events_kept_s,
    )


def _kafka(target: str, around: Surroundings) -> Sink:
    return KafkaSink(target, around.feed, dict(around.kafka), around.source)


def _parquet(target: str, around: Surroundings) -> Sink:
    return ParquetSink(target, around.feed, groups_of(around.partitions))


def _oracle(target: str, around: Surroundings) -> Sink:
    folder = target.partition(":")[2]
    if not folder:
        raise WrongUsage("--to oracle needs a folder for its checkpoints: --to oracle:DIR")

    async def ends() -> tuple[Mapping[int, int], bool]:
        answers = await around.feed.answers()
        members = await asyncio.to_thread(around.directory.members)
        return furthest(answers), len(answers) >= len(members.copies)

    async def origin(partition: int, seq: int) -> str:
        return await origin_of(around.feed, partition, seq)

    folder_path = Path(folder)
    return OracleSink(folder_path, around.directory, around.partitions, ends, origin, around.metrics)


#: Word of `--to` before the colon -> function that makes the sink.
SINKS: Final[dict[str, Maker]] = {
    "history": _history,
    "webhooks": _webhooks,
    "kafka": _kafka,
    "parquet": _parquet,
    "oracle": _oracle,
}


def make_sink(target: str, around: Surroundings) -> Sink:
    """The sink of one `--to`. Raises `ConfigError`."""
    maker = SINKS.get(target.partition(":")[0])
    if maker is None:
        raise WrongUsage(f"--to {target} is no sink: {', '.join(SINKS)}")
    return maker(target, around)
