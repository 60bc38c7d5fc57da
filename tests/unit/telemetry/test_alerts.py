"""`alerts.yml` and the dashboard, checked by promtool: they use existing metrics, and each alert fires."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from wallet_engine.telemetry.certificate_ends import CertificateEnds
from wallet_engine.telemetry.metrics import Metrics, PartitionReading

CONFIG = Path(__file__).parents[3] / "cluster_config"
RULES = CONFIG / "alerts.yml"
ALERTS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]

ROUTE = 'route="/v1/wallet/balance_transfer"'
#: Alert -> series of a cluster in which it fires, minute by minute.
TROUBLE: dict[str, dict[str, str]] = {
    "WalletProcessDown": {'up{job="wallet-api", instance="a"}': "0x120"},
    "WalletNothingPaid": {'wallet_ready{instance="a"}': "0x120", 'wallet_ready{instance="b"}': "0x120"},
    "WalletNotReady": {'wallet_ready{instance="a"}': "0x120", 'wallet_ready{instance="b"}': "2x120"},
    "WalletPartitionsDown": {'wallet_conditions{condition="unreachable"}': "3x120"},
    "WalletJournalQuorumLost": {'wallet_conditions{condition="no_quorum"}': "16x120"},
    "WalletRedisRefusesWrites": {'wallet_conditions{condition="refused"}': "8x120"},
    "WalletMemoryFull": {'wallet_conditions{condition="memory"}': "8x120"},
    "WalletStreamFull": {'wallet_conditions{condition="full"}': "1x120"},
    "WalletClocksApart": {'wallet_conditions{condition="skewed"}': "16x120"},
    "WalletPaused": {"wallet_paused": "1x120"},
    "WalletAnswersSlow": {
        f'wallet_http_request_duration_seconds_bucket{{{ROUTE}, le="0.5"}}': "0+90x120",
        f'wallet_http_request_duration_seconds_bucket{{{ROUTE}, le="1"}}': "0+100x120",
        f'wallet_http_request_duration_seconds_bucket{{{ROUTE}, le="+Inf"}}': "0+100x120",
    },
    "WalletTransfersFail": {
        'wallet_transfers_total{outcome="success"}': "0+95x120",
        'wallet_transfers_total{outcome="journal_unavailable"}': "0+5x120",
    },
    "WalletTransfersInterrupted": {
        'wallet_partition_oldest_open_seconds{instance="a", partition="3"}': "0+60x120",
        'wallet_partition_oldest_open_seconds{instance="a", partition="4"}': "0x120",
    },
    "WalletRecoveryFails": {'wallet_shard_recoveries_total{shard="s1", result="failed"}': "0+1x120"},
    "WalletJournalBehind": {'wallet_journal_lag_entries{instance="j", partition="3"}': "5000x120"},
    "WalletJournalDiskSlow": {
        'wallet_journal_sync_duration_seconds_bucket{instance="j", le="0.1"}': "0+90x120",
        'wallet_journal_sync_duration_seconds_bucket{instance="j", le="0.2"}': "0+100x120",
        'wallet_journal_sync_duration_seconds_bucket{instance="j", le="+Inf"}': "0+100x120",
    },
    "WalletArchiveFails": {'wallet_journal_archive_failures_total{instance="j"}': "0+1x120"},
    "WalletArchiveBehind": {'wallet_journal_segments_to_archive{instance="j"}': "30x120"},
    "WalletSnapshotsMissing": {'wallet_journal_bytes_since_snapshot{instance="j"}': "9000000000x120"},
    "WalletFollowerBehind": {'wallet_follow_lag_seconds{sink="history"}': "500x120"},
    "WalletFollowerFails": {'wallet_follow_failures_total{sink="history"}': "0+1x120"},
    # The series begin at the Unix time 0.
    "WalletCertificateEnds": {
        'wallet_certificate_ends_timestamp_seconds{file="a", instance="j"}': "2000000x120"
    },
    "WalletCertificateEndsSoon": {
        'wallet_certificate_ends_timestamp_seconds{file="a", instance="j"}': "300000x120"
    },
    "WalletEntryNotRight": {"wallet_oracle_partitions_differ": "1x120"},
    "WalletOracleBehind": {'wallet_follow_lag_seconds{sink="oracle"}': "12x120"},
}
#: More series in which an alert fires.
MORE_TROUBLE: list[tuple[str, dict[str, str]]] = [
    (
        "WalletNothingPaid",
        {'up{job="wallet-api", instance="a"}': "0x120", 'up{job="wallet-journal"}': "1x120"},
    ),
    ("WalletPartitionsDown", {'wallet_conditions{condition="stopped"}': "1x120"}),
    ("WalletJournalDiskSlow", {'wallet_journal_disk_wait_seconds{instance="j"}': "30+60x120"}),
    ("WalletPartitionsDown", {'wallet_conditions{condition="recovering"}': "1x120"}),
]
WELL = {
    'up{job="wallet-api", instance="a"}': "1x120",
    'wallet_ready{instance="a"}': "2x120",
    **{
        f'wallet_conditions{{condition="{name}"}}': "0x120"
        for name in (
            "unreachable",
            "fenced",
            "stopped",
            "recovering",
            "no_quorum",
            "no_receipt",
            "refused",
            "memory",
            "full",
            "skewed",
        )
    },
    "wallet_paused": "0x120",
    f'wallet_http_request_duration_seconds_bucket{{{ROUTE}, le="0.01"}}': "0+100x120",
    f'wallet_http_request_duration_seconds_bucket{{{ROUTE}, le="+Inf"}}': "0+100x120",
    'wallet_transfers_total{outcome="success"}': "0+99x120",
    'wallet_transfers_total{outcome="insufficient_funds"}': "0+50x120",
    'wallet_partition_oldest_open_seconds{instance="a", partition="3"}': "4x120",
    'wallet_journal_lag_entries{partition="3"}': "2x120",
    'wallet_journal_sync_duration_seconds_bucket{le="0.01"}': "0+100x120",
    'wallet_journal_sync_duration_seconds_bucket{le="+Inf"}': "0+100x120",
    "wallet_journal_disk_wait_seconds": "0x120",
    "wallet_journal_archive_failures_total": "0x120",
    "wallet_journal_segments_to_archive": "1x120",
    "wallet_journal_bytes_since_snapshot": "100000000x120",
    'wallet_follow_lag_seconds{sink="history"}': "0x120",
    'wallet_follow_lag_seconds{sink="oracle"}': "1x120",
    "wallet_oracle_partitions_differ": "0x120",
    'wallet_follow_failures_total{sink="history"}': "0x120",
    'wallet_certificate_ends_timestamp_seconds{file="a", instance="j"}': "2700000x120",
}


def promtool(*words: str | Path) -> None:
    ran = subprocess.run(["promtool", *words], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def case(name: str, series: dict[str, str], *alerts: str, fire: bool) -> dict[str, Any]:
    """A test case for promtool: whether these alerts fire at the end of these series."""
    expected = [{"labels": "{}", "value": 1}] if fire else []
    asked = [f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) > bool 0' for alert in alerts]
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": metric, "values": values} for metric, values in series.items()],
        "promql_expr_test": [{"expr": expr, "eval_time": "100m", "exp_samples": expected} for expr in asked],
    }


def run(folder: Path, tests: dict[Path, list[dict[str, Any]]]) -> None:
    """Run promtool. `tests`: file of rules -> its test cases."""
    files = []
    for rules, cases in tests.items():
        files.append(folder / f"test-{rules.name}")
        files[-1].write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": cases}))
    promtool("test", "rules", *files)


def alone(folder: Path, rule: dict[str, Any]) -> Path:
    """A file with only this rule: promtool computes all rules of a file for each case, minute by minute."""
    file = folder / f"{rule['alert']}.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "wallet", "rules": [rule]}]}))
    return file


def metrics_in(expression: str) -> set[str]:
    return {
        re.sub(r"_(?:total|bucket|sum|count)$", "", name)
        for name in re.findall(r"\bwallet_[a-z_]+\b(?!\")", expression)
    }


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of all metrics of the engine's processes."""
    metrics = Metrics()
    metrics.observe_readiness(lambda: (2, {"memory": 0}))
    metrics.observe_partitions(lambda: [PartitionReading(0, 0, 0, 0.0)])
    metrics.observe_certificates(CertificateEnds([]))
    return {family.name for family in metrics.registry.collect()}


def test_each_alert_fires(tmp_path: Path) -> None:
    cases: dict[str, list[dict[str, Any]]] = {}
    for name, series in [*TROUBLE.items(), *MORE_TROUBLE]:
        cases.setdefault(name, []).append(case(name, series, name, fire=True))
    run(tmp_path, {alone(tmp_path, rule): cases[rule["alert"]] for rule in ALERTS})


def test_none_fires_while_all_is_well(tmp_path: Path) -> None:
    run(tmp_path, {RULES: [case("all is well", WELL, *(rule["alert"] for rule in ALERTS), fire=False)]})


def test_every_alert_has_a_case_and_a_runbook() -> None:
    runbooks = (CONFIG / "RUNBOOKS.md").read_text().partition("\n## Alerts\n")[2]
    assert {alert["alert"] for alert in ALERTS} == TROUBLE.keys()
    for alert in ALERTS:
        assert alert["annotations"]["runbook"] == "RUNBOOKS.md#alerts"
        assert alert["alert"] in runbooks


def test_alerts_and_panels_are_of_metrics_that_there_are(known: set[str], tmp_path: Path) -> None:
    board = json.loads((CONFIG / "grafana" / "wallet.json").read_text())
    panels = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    for expression in (*panels, *(alert["expr"] for alert in ALERTS)):
        assert metrics_in(expression) <= known, expression
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(panels)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", file)
