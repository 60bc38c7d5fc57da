"""Shared by the subcommands: measurements on a cluster, options, progress lines and output files."""

import json
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
import uvloop

from bench.apis import ApisFailed
from bench.cluster import Cluster, ClusterFailed, Say, Shape, system_is_there
from bench.core_speed import probe
from bench.funding import SetupFailed
from bench.latency import SECONDS_MAX
from bench.measure import ProcessReplaced
from bench.result import Document, Plan
from bench.runner import Prepared, Refused, measure, prepare
from bench.runs import in_turns
from wallet_engine.dev.process import preempt_others
from wallet_engine.domain.errors import WalletError
from wallet_engine.domain.limits import PARTITIONS_MAX
from wallet_engine.routing.slots import valid_partitions
from wallet_engine.telemetry.logging import configure_logging

#: A command's decorator.
Option = Callable[[Callable[..., None]], Callable[..., None]]

_NOTHING_TO_REPORT: Final = (
    *(Refused, SetupFailed, ProcessReplaced, ChildProcessError, ClusterFailed, ApisFailed, WalletError),
)

_option = click.option


def _checked_partitions(_context: click.Context, _param: click.Parameter, partitions: int) -> int:
    if not valid_partitions(partitions):
        raise click.BadParameter(f"{partitions} is no power of two up to {PARTITIONS_MAX}")
    return partitions


def partitions_option(least: int) -> Option:
    return _option(
        "--partitions",
        type=click.IntRange(least),
        default=64,
        show_default=True,
        callback=_checked_partitions,
        help="A power of two.",
    )


json_option = _option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures there."
)
accounts_option = _option(
    "--accounts", type=click.IntRange(2, 10**8), default=100_000, show_default=True, help="Accounts."
)
apis_option = _option(
    "--apis", type=click.IntRange(1, 16), default=1, show_default=True, help="API processes."
)
embedded_option = _option(
    "--embedded",
    is_flag=True,
    help="Bundled Redis, no ZooKeeper.  [default: if Redis or ZooKeeper is missing]",
)
folder_option = _option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder for the data of a run.  [default: the system's temporary folder]",
)


def seconds_option(default: float) -> Option:
    """`--seconds`"""
    return _option(
        "--seconds",
        type=click.FloatRange(0.5, SECONDS_MAX),
        default=default,
        show_default=True,
        help="Measured seconds of each run.",
    )


def warmup_option(default: float) -> Option:
    """`--warmup`"""
    return _option(
        "--warmup",
        type=click.FloatRange(min=0),
        default=default,
        show_default=True,
        help="Seconds of load before the measured part of each run.",
    )


def runs_option(default: int) -> Option:
    """`--runs`"""
    return _option(
        "--runs",
        type=click.IntRange(1, 100),
        default=default,
        show_default=True,
        help="Runs of each row. The medians are reported.",
    )


def shape_of(
    shards: int,
    partitions: int,
    apis: int,
    *,
    embedded: bool,
    history: bool = False,
    auth: bool = False,
    tls: bool = False,
    https: bool = False,
    journals: int = 1,
) -> Shape:
    """The shape of a cluster; embedded too when Redis or ZooKeeper is not installed."""
    embedded = embedded or not system_is_there()
    return Shape(shards, partitions, apis, embedded, history, auth, tls, https, journals)


class Session:
    """Measures on new clusters. Ends the program with status 1 when there is nothing to report, 2 for wrong usage."""

    def __init__(self, folder: Path | None = None, *, keep: bool = False) -> None:
        began_s = time.monotonic()
        self._folder = folder
        self._keep = keep
        self._seed = secrets.randbits(31)
        probe()  # starts now, so that it knows the best speed of the cores early

        def say(text: str) -> None:
            print(f"bench {time.monotonic() - began_s:6.1f} s  {text}", file=sys.stderr, flush=True)

        self.say: Say = say
        signal.signal(signal.SIGTERM, _terminated)
        configure_logging("error")

    def seed(self) -> int:
        """A new seed for each call."""
        self._seed += 2
        return self._seed

    def measure(self, shape: Shape, accounts: int, plans: Sequence[Plan], *, runs: int = 1) -> list[Document]:
        """Run all plans on one cluster, in turns: a document for each."""

        async def work(cluster: Cluster, prepared: Prepared) -> list[Document]:
            return await in_turns(lambda plan, _: self.measure_on(cluster, prepared, plan), plans, runs)

        documents: list[Document] = self.on_cluster(shape, accounts, work)
        return documents

    async def measure_on(self, cluster: Cluster, prepared: Prepared, plan: Plan) -> Document:
        """Run one plan once."""
        return (await measure(cluster, plan, prepared, self.say)).document()

    def on_cluster(self, shape: Shape, accounts: int, work: Callable[[Cluster, Prepared], Any]) -> Any:
        """Run `work` (a coroutine function) on a new cluster with funded accounts, and return its result."""

        async def prepared_work(cluster: Cluster) -> Any:
            return await work(cluster, await prepare(cluster, accounts, self.say))

        def start() -> Any:
            if shape.history:
                preempt_others()  # as the cluster's processes do
            with Cluster(shape, self.say, folder=self._folder, keep=self._keep) as cluster:
                return uvloop.run(prepared_work(cluster))

        return guard(start)


def guard(work: Callable[[], Any]) -> Any:
    """Return the result of `work`. Expected failures end the program with status 1; `ValueError` with 2 (usage)."""
    try:
        return work()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except _NOTHING_TO_REPORT as error:
        raise click.ClickException(f"no report: {error}") from None


def write_json(path: Path | None, document: object) -> None:
    """Write the document as JSON; nothing without a path."""
    if path is not None:
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _terminated(number: int, frame: FrameType | None) -> None:
    """On SIGTERM: stop in order. A second SIGTERM (`timeout` sends one) is ignored, or the cluster would stay."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)
