"""Old segments are only in the archive: everything goes on, and what needs them gets them from there (G6, G9)."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.journal_copies import BIN, entries, folder, lags, wait_for
from support.wallet_api import WalletApi, new_id, transfer_body

from wallet_engine.journal.archive import archived_up_to
from wallet_engine.journal.head import read_head
from wallet_engine.journal.reader import ends_of
from wallet_engine.journal.restore import restore_with
from wallet_engine.journal.segments import numbers_on_disk, restore_by

PARTITIONS = 4


def run_admin(cluster: Any, *words: str, restore: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "wallet-admin"), *cluster.coordination_flags(), "--json", *words]
    environ = {**os.environ, **({"WALLET_RESTORE_COMMAND": restore} if restore else {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environ)


def answered(cluster: Any, *words: str, restore: str = "") -> dict[str, Any]:
    run = run_admin(cluster, *words, restore=restore)
    assert run.returncode == 0, run.stdout + run.stderr
    document: dict[str, Any] = json.loads(run.stdout)
    return document


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "the archive"
    for name in ("j1", "j2"):
        (path / name).mkdir(parents=True)
    yield path
    restore_by(None)


@pytest.mark.timeout(240)
def test_g6_g9_what_is_in_the_archive_alone_is_there_for_all(
    dev_cluster: Any, tmp_path: Path, archive: Path
) -> None:
    quoted = shlex.quote(str(archive))
    archive_command, restore = f"cp %p {quoted}/%j/%f", f"cp {quoted}/%j/%f %p"
    extra = ("--segment-bytes=32768", "--snapshot-bytes=0")
    commands = (f"--archive-command={archive_command}", f"--restore-command={restore}")
    cluster = dev_cluster(partitions=PARTITIONS, embedded=True, extra=(*extra, *commands))
    journal = folder(cluster, 1)
    told = (Path(cluster.data_dir) / "admin.env").read_text().splitlines()
    assert f"WALLET_RESTORE_COMMAND={shlex.quote(restore)}" in told
    with WalletApi(cluster.url, PARTITIONS) as api:
        ann, bob = api.account(0, "1000.00"), api.account(1)
        first = answered(cluster, "balance", ann, "USD")
        for _ in range(20):
            api.batch([transfer_body(ann, bob, "0.01", new_id()) for _ in range(50)])
        wait_for(lambda: archived_up_to(journal) == read_head(journal) - 1, "all that is sealed is archived")
        answered(cluster, "snapshot")
        pruned = answered(cluster, "journal", "prune", "--keep", "0s", "--yes")
        assert pruned["segments"][0] == "00000001.wal"
        assert numbers_on_disk(journal)[0] > 2

        cluster.kill("journal")  # it starts again without what was removed
        _paid(cluster, api, ann, bob)
        cluster.kill("redis")
        _paid(cluster, api, ann, bob)

        at = ("balance", ann, "USD", "--at", str(first["seq"]))
        assert "is only in the archive: give --restore-command" in run_admin(cluster, *at).stderr
        assert answered(cluster, *at, restore=restore)["balance"] == "1000.00"
        assert answered(cluster, "verify", restore=restore)["ok"]
        assert answered(cluster, "replay", "--into", str(tmp_path / "state"), restore=restore)["totals"]

        shutil.rmtree(journal / "snapshots")  # now the whole journal is needed
        assert answered(cluster, "rebuild", "0", "--yes")["seq"]
        _paid(cluster, api, ann, bob)

        with _second_copy(cluster, tmp_path / "second", commands, extra) as second:
            wait_for(
                lambda: lags(cluster) == {"j1": 0, "j2": 0}, "a copy that began with nothing has everything"
            )
            _paid(cluster, api, ann, bob)
            wait_for(lambda: ends_of(second) == ends_of(journal), "both are at the end")
            restore_with(restore)
            copied = entries(second)
            for partition, payloads in entries(
                journal
            ).items():  # read later than `copied`, so there may be more
                assert copied[partition] == payloads[: len(copied[partition])]


def _paid(cluster: Any, api: WalletApi, ann: str, bob: str) -> None:
    """Retry until it is paid: a process that was just killed may still be thought to live."""
    cluster.wait_ready()
    paid = new_id()
    wait_for(lambda: api.pay(ann, bob, "0.01", transaction_id=paid).status == 200, "a payment goes through")


@contextmanager
def _second_copy(cluster: Any, directory: Path, *flags: tuple[str, ...]) -> Iterator[Path]:
    command = [
        str(BIN / "wallet-engine"),
        "journal",
        *cluster.coordination_flags(),
        "--directory",
        str(directory),
    ]
    with directory.with_suffix(".log").open("w") as said:
        process = subprocess.Popen(
            [*command, "--journal-id", "j2", *(flag for some in flags for flag in some)],
            stderr=said,
            stdout=said,
        )
    try:
        yield directory
    finally:
        process.kill()
        process.wait()
