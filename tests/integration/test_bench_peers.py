"""The peers keep the same books as the engine: checked on their real servers, and one real row of a run."""

import asyncio
import re
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uvloop

from bench import ring
from bench.core_speed import probe
from bench.funding import funds_of
from bench.peers import tigerbeetle
from bench.peers.base import PeerMissing
from bench.peers.measure import PeerPlan, measure_peer
from bench.peers.postgresql import PostgreSql, find_postgresql
from bench.peers.redis_server import BALANCES, SEEN, NaiveRedis
from bench.peers.tigerbeetle import TigerBeetle
from bench.runner import Refused
from bench.workload import Pair

ACCOUNTS = 50
MONEY = funds_of(1, ACCOUNTS)
A, B, C = (f"acct-{number:08d}" for number in (1, 2, 3))
IDS = [str(uuid.UUID(int=number)) for number in range(1, 6)]
#: (id, from, to, amount, outcome), in order; every peer that decides must come to these outcomes.
CASES: list[tuple[str, str, str, int, str]] = [
    (IDS[0], A, B, 5, "+"),
    (IDS[0], A, B, 5, "+"),  # a repeat gets the first answer
    (IDS[0], A, B, 6, "!"),  # another body is refused
    (IDS[1], B, C, MONEY + 6, "i"),
    (IDS[2], B, C, MONEY + 5, "+"),  # the whole balance, with the money received just before
    (IDS[3], A, "nobody", 1, "a"),
    (IDS[1], B, C, MONEY + 6, "i"),
]
AFTER = {A: MONEY - 5, B: 0, C: 2 * MONEY + 5}


def say(text: str) -> None:
    print(text)


@pytest.fixture(scope="module", autouse=True)
def _probe_of_the_cores() -> Iterator[None]:
    """It lives as long as its program, which here goes on."""
    yield
    probe().close()
    probe.cache_clear()


@pytest.fixture(autouse=True)
def _few_prepared_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "RING_TRANSFERS", 4_000)


def plan() -> PeerPlan:
    return PeerPlan(ACCOUNTS, (100,), seconds=0.5, warmup_s=0.1, seed=3)


@pytest.fixture(scope="module")
def naive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NaiveRedis]:
    peer = NaiveRedis()
    try:
        peer.start(tmp_path_factory.mktemp("naive"))
        yield peer
    finally:
        peer.stop()


def test_the_naive_script_decides_as_the_engine_does(naive: NaiveRedis) -> None:
    uvloop.run(naive.fund(ACCOUNTS))
    with naive._client() as client:
        found = [
            client.evalsha(naive._sha, 2, BALANCES, SEEN, id_, sender, to, str(minor)).decode()
            for id_, sender, to, minor, _ in CASES
        ]
        assert found == [case[4] for case in CASES]
        assert {name: int(client.hget(BALANCES, name) or 0) for name in AFTER} == AFTER


def test_a_row_of_a_peer_has_every_figure() -> None:
    [document] = uvloop.run(measure_peer(NaiveRedis(), plan(), None, say))
    assert document["conserved"] is True
    assert document["transfers_per_s"] > 0
    assert document["cpu_us_per_transfer"].keys() == {"server", "load"}
    assert "appendfsync always" in document["durability"]
    assert document["bytes_on_disk_per_transfer"] > 100
    assert (document["batch"], document["callers"]) == (100, 16)


class _Thief(NaiveRedis):
    """Takes a cent after the transfers were made."""

    async def faults(self, accounts: int, succeeded: int) -> list[str]:
        with self._client() as client:
            client.hincrby(BALANCES, A, -1)
        return await super().faults(accounts, succeeded)


def test_a_peer_whose_books_do_not_add_up_is_not_reported() -> None:
    with pytest.raises(Refused, match="redis-naive: the accounts hold"):
        uvloop.run(measure_peer(_Thief(), plan(), None, say))


def test_a_peer_that_is_not_there_is_reported_as_not_run(tmp_path: Path) -> None:
    [document] = uvloop.run(measure_peer(TigerBeetle(None), plan(), None, say))
    assert "--tigerbeetle PATH" in document["not_run"]
    binary = tmp_path / "tigerbeetle"
    binary.write_text("#!/bin/sh\necho 'TigerBeetle version 0.0.1+abc'\n")
    binary.chmod(0o755)
    [document] = uvloop.run(measure_peer(TigerBeetle(binary), plan(), None, say))
    assert "pip install tigerbeetle==0.0.1" in document["not_run"]


def _postgresql_is_there() -> bool:
    try:
        find_postgresql()
    except PeerMissing:
        return False
    return True


@pytest.mark.soak  # making a database takes as long as all the other tests here
@pytest.mark.skipif(
    not _postgresql_is_there(), reason="apt-get install postgresql: only the benchmark needs it"
)
def test_postgresql_decides_as_the_engine_does_and_is_checked() -> None:
    peer = PostgreSql()
    # Not pytest's folder, which only its owner may enter: the server does not run as root.
    with tempfile.TemporaryDirectory(prefix="wallet-bench-") as folder:
        try:
            peer.start(Path(folder))
            uvloop.run(_decide(peer))
        finally:
            peer.stop()


async def _decide(peer: PostgreSql) -> None:
    await peer.fund(ACCOUNTS)
    connection = await asyncpg.connect(host="127.0.0.1", port=peer._port, user="bench", database="postgres")
    query = "SELECT transfer_many($1, $2, $3, $4)"

    async def ask(cases: list[tuple[str, str, str, int, str]]) -> str:
        columns: list[Any] = [list(column) for column in zip(*cases, strict=True)][:4]
        return b"".join(await connection.fetchval(query, *columns)).decode()

    try:
        # One by one; then all at once, as repeats that get their first answers.
        assert "".join([await ask([case]) for case in CASES]) == "".join(case[4] for case in CASES)
        assert await ask(CASES) == "".join(case[4] for case in CASES)
        rows = await connection.fetch("SELECT id, balance FROM accounts WHERE id = ANY($1)", list(AFTER))
        assert {row["id"]: row["balance"] for row in rows} == AFTER
        assert await peer.faults(ACCOUNTS, succeeded=2) == []
        assert "3 succeeded" in str(await peer.faults(ACCOUNTS, succeeded=3))
        await connection.execute("UPDATE accounts SET balance = balance + 1 WHERE id = $1", A)
        assert "all balances sum to 1" in str(await peer.faults(ACCOUNTS, succeeded=2))
    finally:
        await connection.close()
    send = await peer.connect()
    pairs = [Pair(4, 5, 7), Pair(5, 4, 7)]
    [request] = peer.requests(pairs, 2)
    counts = await asyncio.gather(send(request.payload, 1))
    await peer.disconnect()
    assert counts == [(2, 0)]


SILENT_SERVER = """#!/bin/sh
case "$1" in
  version) echo "TigerBeetle version 0.17.8" ;;
  format) for data; do :; done; echo made > "$data" ;;
  start)
    echo "info(main): listening"
    exec {python} -c '
import socket, sys, time
host, port = sys.argv[1].removeprefix("--addresses=").split(":")
taken = socket.create_server((host, int(port)))
time.sleep(600)' "$2" ;;
esac
"""
SILENT_CLIENT = """
import asyncio
class ClientAsync:
    def __init__(self, cluster_id, replica_addresses): pass
    async def lookup_accounts(self, ids): await asyncio.Event().wait()
    async def close(self): pass
"""


def test_a_tigerbeetle_that_does_not_answer_is_named_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client would wait for ever, in native code."""
    binary = tmp_path / "tigerbeetle"
    binary.write_text(SILENT_SERVER.format(python=sys.executable), "utf-8")
    binary.chmod(0o755)
    modules = tmp_path / "modules"
    (modules / "tigerbeetle-0.17.8.dist-info").mkdir(parents=True)
    (modules / "tigerbeetle.py").write_text(SILENT_CLIENT, "utf-8")
    metadata = "Metadata-Version: 2.1\nName: tigerbeetle\nVersion: 0.17.8\n"
    (modules / "tigerbeetle-0.17.8.dist-info" / "METADATA").write_text(metadata, "utf-8")
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.setenv("PYTHONPATH", str(modules))
    monkeypatch.setattr(tigerbeetle, "ANSWER_S_MAX", 3.0)
    [document] = uvloop.run(measure_peer(TigerBeetle(binary), plan(), tmp_path, say))
    assert re.match(r"its client 0\.17\.8 has had no answer within 3 s: .*listening", document["not_run"])
