"""G9, G10: strangers hold as many connections as they can get. A process keeps the descriptors that it needs itself,
refuses connections for which none is left, and accepts again when there is room.
"""

import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.dev_process import DevCluster
from support.replicated import wait_until
from support.verification import verified
from support.wallet_api import WalletApi, new_id, transfer_body

from wallet_engine.telemetry.descriptors import DESCRIPTORS_MIN

PARTITIONS = 4
#: Descriptors that the process has left, and connections that strangers make.
LEFT, STRANGERS = 16, 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    path = tmp_path_factory.mktemp("descriptors") / "dev"
    started = DevCluster(path, partitions=PARTITIONS, embedded=True, extra=("--segment-bytes=4096",))
    try:
        yield started.start()
    finally:
        started.kill_all()


@contextlib.contextmanager
def crowded(cluster: DevCluster, role: str) -> Iterator[list[socket.socket]]:
    """The process has `LEFT` descriptors left, and strangers take as many of them as they can."""
    process = cluster.living(role)
    pid, (host, port) = process["pid"], process["address"].split(":")
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    limit = len(os.listdir(f"/proc/{pid}/fd")) + LEFT
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    with contextlib.ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
            for _ in range(STRANGERS)
        ]
        yield strangers
    assert cluster.pids(role) == [pid], "it did not end"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_g10_an_api_process_refuses_connections_that_it_has_no_room_for(cluster: DevCluster) -> None:
    with WalletApi(cluster.url, PARTITIONS) as api:
        ann, bob = api.account(0, "100.00"), api.account(1)
        with crowded(cluster, "api") as strangers:
            answers = [ask(stranger) for stranger in strangers]
            assert 1 <= sum(b"HTTP/1.1 200 " in answer for answer in answers) < LEFT
            (refused,) = {answer.partition(b"date:")[0] for answer in answers if b" 200 " not in answer}
            assert refused.startswith(b"HTTP/1.1 503 "), answers
            assert all(
                b'"code":"overloaded"' in a and b"retry-after: 1" in a for a in answers if b" 503 " in a
            )
            api.paid(ann, bob, "1.00")

            cluster.kill("redis")
            wait_until(lambda: api.pay(ann, bob, "1.00").status == 200, "it has found Redis again")
    with WalletApi(cluster.url, PARTITIONS) as api:
        api.paid(ann, bob, "1.00")
    verified(cluster)


def ask(stranger: socket.socket) -> bytes:
    """What the first read returns; nothing when the connection is reset."""
    with contextlib.suppress(ConnectionError):
        stranger.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        return stranger.recv(4096)
    return b""


def test_g9_a_journal_copy_that_strangers_crowd_goes_on(cluster: DevCluster) -> None:
    """It needs a descriptor for the next segment; it used to end when there was none."""
    segments = len(list((cluster.data_dir / "journal").glob("*.wal")))
    with WalletApi(cluster.url, PARTITIONS) as api:
        ann, bob = api.account(0, "100.00"), api.account(1)
        with crowded(cluster, "journal"):
            reply = api.batch([transfer_body(ann, bob, "0.01", new_id()) for _ in range(300)])
            assert {result["status"] for result in reply.json()["results"]} == {"success"}
            api.paid(ann, bob, "1.00")
            assert len(list((cluster.data_dir / "journal").glob("*.wal"))) > segments
    verified(cluster)


@pytest.mark.parametrize("left", [DESCRIPTORS_MIN - 1, 12])
def test_too_few_to_begin_with_are_one_line(tmp_path: Path, left: int) -> None:
    command = [
        sys.executable,
        "-m",
        "wallet_engine",
        "serve",
        "--map-file",
        str(tmp_path / "map.json"),
        "--port",
        "0",
    ]
    done = subprocess.run(
        ["sh", "-c", f'ulimit -n {left}; exec "$@"', "sh", *command],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: only {left} file descriptors are allowed".encode()), done.stderr
    assert done.stderr.count(b"\n") == 1
