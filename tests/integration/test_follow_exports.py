"""`wallet-engine follow` on a running cluster, for Kafka and Parquet at once, as a person would start it."""

import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import duckdb
from confluent_kafka import Producer
from integration.test_kafka_sink import messages
from support.dev_process import DevCluster
from support.journal_events import events_in
from support.wallet_api import WalletApi

from wallet_engine.exports.kafka import POSITIONS
from wallet_engine.exports.kafka_folds import FOLDS

PARTITIONS = 8
ARRIVE_S_MAX = 60.0
STOP_S_MAX = 20.0


def pay(cluster: DevCluster) -> None:
    with WalletApi(cluster.url, PARTITIONS) as api:
        accounts = [f"a{number}" for number in range(6)]
        for account in accounts:
            assert api.post("/v1/accounts", {"account_id": account, "currency": "USD"}).status == 201
        sides = [("@bank", account) for account in accounts]
        sides += [(payer, receiver) for payer in accounts for receiver in accounts if payer != receiver]
        for payer, receiver in sides:
            amount = "9.00" if payer == "@bank" else "1.00"
            body = {"from_account": payer, "to_account": receiver, "amount": amount, "currency": "USD"}
            reply = api.post("/v1/wallet/balance_transfer", {**body, "transaction_id": str(uuid.uuid4())})
            assert reply.status in (200, 422), reply


def test_kafka_and_parquet_get_every_event_of_a_cluster(dev_cluster: Any, tmp_path: Path) -> None:
    cluster: DevCluster = dev_cluster(embedded=True, partitions=PARTITIONS)
    pay(cluster)
    owner = Producer({"test.mock.num.brokers": 1})
    for topic in ("events", "events" + POSITIONS, "events" + FOLDS):
        owner.list_topics(topic, timeout=10)
    brokers = ",".join(f"{b.host}:{b.port}" for b in owner.list_topics(timeout=10).brokers.values())
    target, directory = f"kafka://{brokers}/events", tmp_path / "events"
    argv = [sys.executable, "-m", "wallet_engine", "follow", *cluster.coordination_flags()]
    argv += ["--to", target, "--to", f"parquet:{directory}", "--event-source", "urn:wallet:test"]
    log = tmp_path / "follow.log"
    wanted = {event.id: event for event in events_in(cluster.data_dir / "journal", PARTITIONS)}
    assert len(wanted) > 100
    with log.open("wb") as out:
        follower = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + ARRIVE_S_MAX
        while {event["id"] for _, event, _ in messages(target)} != wanted.keys():
            assert time.monotonic() < deadline, log.read_text("utf-8")[-3000:]
            assert follower.poll() is None, log.read_text("utf-8")[-3000:]
            time.sleep(0.3)
        follower.send_signal(signal.SIGTERM)
        assert follower.wait(STOP_S_MAX) == 0, log.read_text("utf-8")[-3000:]
    finally:
        follower.kill()
        follower.wait()
    assert all(event == wanted[event["id"]].document("urn:wallet:test") for _, event, _ in messages(target))
    rows = duckdb.sql(f"SELECT id FROM '{directory}/*/*/*.parquet' ORDER BY id").fetchall()
    assert [name for (name,) in rows] == sorted(wanted)
    owner.flush(1)
