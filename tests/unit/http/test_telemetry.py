"""Logs have one format; metrics follow the Prometheus conventions."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from wallet_engine.telemetry import metrics
from wallet_engine.telemetry.logging import configure_logging, get_logger
from wallet_engine.telemetry.metrics import PARTITION_STATES, Metrics
from wallet_engine.telemetry.tallies import TallyCounter, TallyHistogram

pytestmark = pytest.mark.usefixtures("logging_restored")


def test_own_and_foreign_records_have_one_shape(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", json=True)
    get_logger("wallet.test").info("moved", partition=12)
    logging.getLogger("library").warning("slow %s", "disk")
    out, err = capsys.readouterr()
    own, foreign = (json.loads(line) for line in err.splitlines())
    assert out == ""
    assert own.pop("timestamp").endswith("Z")
    assert own == {"event": "moved", "partition": 12, "logger": "wallet.test", "level": "info"}
    assert (foreign["event"], foreign["level"], foreign["logger"]) == ("slow disk", "warning", "library")


def test_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=True)
    try:
        raise ValueError("cause")
    except ValueError:
        get_logger("wallet.test").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: cause" in json.loads(line)["exception"]


def test_level_holds_and_libraries_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", json=False)
    get_logger("wallet.test").info("unseen")
    get_logger("wallet.test").warning("seen", partition=1)
    configure_logging("info", json=False)
    logging.getLogger("kazoo").info("unseen")
    err = capsys.readouterr().err
    assert "unseen" not in err
    assert "seen" in err
    with pytest.raises(ValueError, match="log level"):
        configure_logging("loud")


def test_metric_names_carry_their_unit() -> None:
    names = {family.name: family.type for family in Metrics().registry.collect()}
    own = {name: type_ for name, type_ in names.items() if name.startswith("wallet_")}
    assert len(own) >= 18
    for name, type_ in own.items():
        assert ("duration" in name or "wait" in name or "_lag_s" in name) == name.endswith("_seconds"), name
        assert type_ in ("counter", "gauge", "histogram")
    assert Metrics().partition_state.labels("3").set(PARTITION_STATES["moving"]) is None


def test_tallies_are_exposed_as_the_library_exposes_its_own() -> None:
    values = [0.0, 0.001, 0.0010001, 0.7, 1, 2, 2.5, 100]
    bounds = (0.001, 1, 2.5)
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    counter = Counter("c_total", "Counted.", ("a", "b"), registry=theirs)
    tally = TallyCounter("c", "Counted.", ("a", "b"), ours)
    plain = Histogram("plain_seconds", "Plain.", buckets=bounds, registry=theirs)
    spread = TallyHistogram("plain_seconds", "Plain.", (), ours, bounds)
    Histogram("labelled", "Labelled.", ("a",), buckets=bounds, registry=theirs).labels("x").observe(3)
    TallyHistogram("labelled", "Labelled.", ("a",), ours, bounds).labels("x").observe(3)
    for value in values:
        plain.observe(value)
        spread.labels().observe(value)
        counter.labels("x", str(value > 1)).inc(2)
        tally.labels("x", str(value > 1)).inc(2)
    with pytest.raises(ValueError, match="labels"):
        tally.labels("x")

    def exposed(registry: CollectorRegistry) -> list[str]:
        return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]

    assert exposed(ours) == exposed(theirs)


def test_every_metric_is_fed_somewhere() -> None:
    package = Path(metrics.__file__).parents[1]
    texts = [path.read_text() for path in package.rglob("*.py") if path != Path(metrics.__file__)]
    names = [name for name in vars(Metrics()) if name not in ("registry", "http_requests_in_flight")]
    assert len(names) > 15
    assert [name for name in names if not any(f".{name}" in text for text in texts)] == []


def test_a_log_that_nobody_has_set_up_stays_off_standard_output() -> None:
    """`wallet-admin --json` prints one document to standard output."""
    program = 'from wallet_engine.telemetry.logging import get_logger; get_logger("wallet").warning("lost", copy="j1")'
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "lost" in done.stderr
