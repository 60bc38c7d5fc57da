"""The ends of a process's certificates in its metrics."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from wallet_engine.domain.principals import checked
from wallet_engine.telemetry.authority import Authority, holder_of
from wallet_engine.telemetry.certificate_ends import CertificateEnds
from wallet_engine.telemetry.metrics import Metrics

NAME = "wallet_certificate_ends_timestamp_seconds"


def told(metrics: Metrics) -> dict[tuple[str, str], float]:
    """(name of the file, holder) -> days left."""
    now = datetime.now(UTC).timestamp()
    return {
        (Path(sample.labels["file"]).name, sample.labels["holder"]): (sample.value - now) / 86_400
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == NAME
    }


def test_each_file_is_told_and_read_anew_when_it_changes(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path, "test", days=100)
    cert, _ = authority.issue(checked("journal", "j1"), days=20)
    metrics = Metrics()
    metrics.observe_certificates(CertificateEnds([authority.pair.cert, cert, cert, tmp_path / "none.pem"]))
    found = told(metrics)
    assert found.keys() == {("ca.pem", ""), ("journal-j1.pem", "journal/j1")}
    assert 19.9 < found["journal-j1.pem", "journal/j1"] <= 20
    assert 99.9 < found["ca.pem", ""] <= 100

    authority.issue(checked("journal", "j1"), days=60, renew=True)
    assert 59.9 < told(metrics)["journal-j1.pem", "journal/j1"] <= 60
    assert holder_of(cert)[1] - datetime.now(UTC) < timedelta(days=60)

    cert.write_text("it is being replaced")
    assert told(metrics).keys() == {("ca.pem", "")}


def test_a_process_without_certificates_has_none() -> None:
    metrics = Metrics()
    metrics.observe_certificates(CertificateEnds([]))
    assert told(metrics) == {}
