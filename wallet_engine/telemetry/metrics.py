"""Every metric of a process in one place: name, unit, labels, buckets.

Names follow the Prometheus conventions: base units (seconds, bytes), `_total` on counters. A process makes one
`Metrics` and passes it to its parts. Nothing here is global, so tests do not share state. Labels have few values: a
partition, a shard, a route template, an outcome; never an account.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from wallet_engine.telemetry.certificate_ends import CertificateEnds
from wallet_engine.telemetry.tallies import TallyCounter, TallyHistogram

#: Content type of `Metrics.render`.
EXPOSITION_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

#: Value of `partition_state` for each state. Only a `live` partition takes transfers.
PARTITION_STATES: Final = {"live": 0, "moving": 1, "recovering": 2, "unavailable": 3}

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SCRIPT_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1)
_BATCH = (1, 2, 5, 10, 20, 50, 100, 200, 400)
_LEGS = (1, 2, 5, 10, 20, 50, 100)
_CALL = (1, 10, 100, 500, 1000, 2000, 5000, 10_000)

#: Returns a value of `READY_VALUES`, and for each condition how many partitions it stops.
Readings = Callable[[], tuple[int, Mapping[str, int]]]
#: Value of `wallet_ready` for each status of `readyz`.
READY_VALUES: Final = {"unready": 0, "degraded": 1, "ready": 2}


class Metrics:
    """The registry of one process and the metrics in it."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        ProcessCollector(registry=r)
        PlatformCollector(registry=r)
        GCCollector(registry=r)
        self._make_http(r)
        self._make_payments(r)
        self._make_upkeep(r)
        self._make_journal(r)
        self._make_followers(r)
        self._make_oracle(r)

    def _make_http(self, r: CollectorRegistry) -> None:
        self.http_requests = TallyCounter(
            "wallet_http_requests", "Requests answered.", ("route", "status"), r
        )
        self.http_request_seconds = TallyHistogram(
            "wallet_http_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route",),
            r,
            _SECONDS,
        )
        self.http_requests_in_flight = Gauge(
            "wallet_http_requests_in_flight", "Requests not yet answered.", registry=r
        )
        self.paused = Gauge("wallet_paused", "1 while no new payments are taken.", registry=r)
        self.http_call_transfers = TallyHistogram(
            "wallet_http_call_transfers", "Transfers in one batch call.", (), r, _CALL
        )

    def _make_payments(self, r: CollectorRegistry) -> None:
        self.transfers = TallyCounter(
            "wallet_transfers",
            "Transfers answered: success, the code of a decline or of an outage.",
            ("outcome",),
            r,
        )
        self.groups = Counter(
            "wallet_groups_total",
            "Groups answered: success, the code of a decline or of an outage.",
            ("outcome",),
            registry=r,
        )
        self.group_legs = Histogram("wallet_group_legs", "Legs in one group.", buckets=_LEGS, registry=r)
        self.refunds = TallyCounter(
            "wallet_refunds",
            "Refunds answered: success, the code of a decline or of an outage.",
            ("outcome",),
            r,
        )
        self.transfers_in_flight = Gauge(
            "wallet_transfers_in_flight", "Transfers accepted and not yet answered.", registry=r
        )
        self.script_operations = TallyHistogram(
            "wallet_script_operations", "Operations in one script call.", (), r, _BATCH
        )
        self.script_seconds = TallyHistogram(
            "wallet_script_duration_seconds",
            "From sending a script call to Redis to its answer.",
            ("shard",),
            r,
            _SCRIPT_SECONDS,
        )
        self.receipt_wait_seconds = TallyHistogram(
            "wallet_receipt_wait_seconds",
            "From the answer of a script to the quorum's receipts.",
            (),
            r,
            _SECONDS,
        )

    def _make_upkeep(self, r: CollectorRegistry) -> None:
        self.partition_state = Gauge(
            "wallet_partition_state",
            "State of a partition as this process sees it: " + _legend(PARTITION_STATES),
            ("partition",),
            registry=r,
        )
        self.shard_recoveries = Counter(
            "wallet_shard_recoveries_total",
            "Recoveries of a shard (compared with the journal, missing entries replayed): certified or failed.",
            ("shard", "result"),
            registry=r,
        )
        self.sweeper_transfers = Counter(
            "wallet_sweeper_transfers_total",
            "Interrupted transfers that the sweeper ended: credited, refunded or failed.",
            ("result",),
            registry=r,
        )
        self.sweeper_groups = Counter(
            "wallet_sweeper_groups_total",
            "Parts of interrupted groups that the sweeper ended: paid or given back.",
            ("result",),
            registry=r,
        )
        self.sweeper_open_entries = Gauge(
            "wallet_sweeper_open_entries",
            "Entries with outgoing money not yet settled, at the sweeper's last look at each partition.",
            registry=r,
        )

    def _make_journal(self, r: CollectorRegistry) -> None:
        self.journal_lag_entries = Gauge(
            "wallet_journal_lag_entries",
            "Entries of a partition that this copy has not yet on disk, at its last look (once a second).",
            ("partition",),
            registry=r,
        )
        self.journal_entries = TallyCounter(
            "wallet_journal_entries", "Entries this copy made durable.", (), r
        )
        self.journal_bytes = TallyCounter(
            "wallet_journal_written_bytes", "Bytes this copy appended to segments.", (), r
        )
        self.journal_segments_to_archive = Gauge(
            "wallet_journal_segments_to_archive",
            "Sealed segments that the archive command has not yet taken.",
            registry=r,
        )
        self.journal_archive_failures = Counter(
            "wallet_journal_archive_failures_total", "Runs of the archive command that failed.", registry=r
        )
        self.journal_refused = Counter(
            "wallet_journal_refused_total",
            "Connections and messages that the journal's port refused, by reason.",
            ("reason",),
            registry=r,
        )
        self.journal_bytes_since_snapshot = Gauge(
            "wallet_journal_bytes_since_snapshot",
            "Bytes journaled since the newest snapshot, which a rebuild must replay.",
            registry=r,
        )
        self.journal_disk_wait_seconds = Gauge(
            "wallet_journal_disk_wait_seconds",
            "For how long this copy has been blocked, for example by a hanging disk; 0 while it works.",
            registry=r,
        )
        self.journal_sync_seconds = TallyHistogram(
            "wallet_journal_sync_duration_seconds", "One fdatasync.", (), r, _SECONDS
        )

    def _make_followers(self, r: CollectorRegistry) -> None:
        self.follow_entries = Counter(
            "wallet_follow_entries_total", "Entries handed to a sink.", ("sink",), registry=r
        )
        self.webhook_attempts = Counter(
            "wallet_webhook_attempts_total",
            "Attempts to deliver an event: delivered, pending (it will be tried again) or parked.",
            ("status",),
            registry=r,
        )
        self.follow_failures = Counter(
            "wallet_follow_failures_total",
            "Times that a sink failed and was opened again.",
            ("sink",),
            registry=r,
        )
        self.follow_behind_entries = Gauge(
            "wallet_follow_behind_entries",
            "Durable entries that a sink has not received yet, at the last look (once a second).",
            ("sink",),
            registry=r,
        )
        self.follow_lag_seconds = Gauge(
            "wallet_follow_lag_seconds",
            "For how long a sink has not had all entries: 0 when it has them; it grows while a sink hangs or fails.",
            ("sink",),
            registry=r,
        )

    def _make_oracle(self, r: CollectorRegistry) -> None:
        self.oracle_operations = Counter(
            "wallet_oracle_operations_total", "Operations of journaled entries decided again.", registry=r
        )
        self.oracle_partitions_differ = Gauge(
            "wallet_oracle_partitions_differ",
            "Partitions with an entry whose outcome differs from the oracle's, and that no person has accepted.",
            registry=r,
        )

    def observe_in_flight(self, requests: Callable[[], float]) -> None:
        """Call `requests` for the value of `http_requests_in_flight` at each scrape."""
        self.http_requests_in_flight.set_function(requests)

    def observe_readiness(self, look: "Readings") -> None:
        """Call `look` for the values of `wallet_ready` and `wallet_conditions` at each scrape."""
        self.registry.register(_ReadinessCollector(look))

    def observe_partitions(self, look: Callable[[], Iterable["PartitionReading"]]) -> None:
        """Call `look` for the waiting work of each partition at each scrape."""
        self.registry.register(_PartitionsCollector(look))

    def observe_certificates(self, ends: CertificateEnds) -> None:
        """Read `wallet_certificate_ends_timestamp_seconds` from the certificate files at each scrape."""
        self.registry.register(_CertificatesCollector(ends))

    def render(self) -> bytes:
        """All metrics in the exposition format (`EXPOSITION_CONTENT_TYPE`)."""
        return generate_latest(self.registry)


class PartitionReading(NamedTuple):
    """The work that waits in a partition, as one process sees it."""

    partition: int
    queued_operations: int
    open_entries: int
    oldest_open_s: float


class _PartitionsCollector(Collector):
    """The waiting work of partitions, read at each scrape."""

    def __init__(self, look: Callable[[], Iterable[PartitionReading]]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        queued, opened, oldest = (
            GaugeMetricFamily(f"wallet_partition_{name}", text, labels=("partition",))
            for name, text in (
                ("queued_operations", "Operations that wait in this process until they are sent to Redis."),
                ("open_entries", "Entries and parts of groups whose money is on its way, at the last look."),
                ("oldest_open_seconds", "For how long this process has seen the oldest of them."),
            )
        )
        for reading in self._look():
            labels = (str(reading.partition),)
            queued.add_metric(labels, reading.queued_operations)
            opened.add_metric(labels, reading.open_entries)
            oldest.add_metric(labels, reading.oldest_open_s)
        yield from (queued, opened, oldest)


class _ReadinessCollector(Collector):
    """The state of `readyz` as numbers, read at each scrape."""

    def __init__(self, look: Readings) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        ready, stopped = self._look()
        yield GaugeMetricFamily("wallet_ready", "State of readyz: " + _legend(READY_VALUES), ready)
        conditions = GaugeMetricFamily(
            "wallet_conditions",
            "Partitions that take no transfers, by reason.",
            labels=("condition",),
        )
        for condition, partitions in stopped.items():
            conditions.add_metric((condition,), partitions)
        yield conditions


class _CertificatesCollector(Collector):
    """The ends of certificates, read at each scrape."""

    def __init__(self, ends: CertificateEnds) -> None:
        self._ends = ends

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        found = GaugeMetricFamily(
            "wallet_certificate_ends_timestamp_seconds",
            "Unix time at which a certificate ends that this process has in a file.",
            labels=("file", "holder"),
        )
        for one in self._ends.look():
            found.add_metric((one.file, one.holder), one.ends_s)
        yield found


def _legend(states: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in states.items())
