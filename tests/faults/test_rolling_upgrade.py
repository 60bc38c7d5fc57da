"""A rolling upgrade: a cluster goes from the previous version to this one, process by process, while payments go on.

The previous version is taken from the repository's history; where that is too short, the test is skipped.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dev_process import DevCluster, json_admin
from support.journal_copies import admin, lags
from support.paying import Paying
from support.replicated import wait_until
from support.secured import password_file
from support.verification import verified
from support.wallet_api import WalletApi, new_id

from wallet_engine.admin.verbs.status import VERSIONS_DIFFER
from wallet_engine.app.versions import OWN_VERSIONS
from wallet_engine.history.database import migrations

REPOSITORY = Path(__file__).parents[2]
#: Where there is no release yet: the last commit whose entries are of rules 2.
BEFORE = "a7f20b3"

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

#: `verify` decides every payment of the test again: a hundred thousand, on a busy machine.
VERIFY_S_MAX = 240.0


def git(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(REPOSITORY), *words], capture_output=True, check=False)


def release_before() -> str:
    tagged = git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
    return tagged.stdout.decode().strip() if tagged.returncode == 0 else BEFORE


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A link to the sources that processes run: the previous version's, until `turn`."""
    before = release_before()
    archive = git("archive", before, "wallet_engine", "lua", "cluster_config", "pyproject.toml")
    if archive.returncode != 0:
        pytest.skip(f"the history here does not reach back to {before}")
    old = tmp_path / "old"
    old.mkdir()
    subprocess.run(["tar", "x", "-C", str(old)], input=archive.stdout, check=True)
    link = tmp_path / "code"
    link.symlink_to(old)
    return link


@pytest.fixture
def cluster(tmp_path: Path, code: Path) -> Iterator[DevCluster]:
    started = DevCluster(
        tmp_path / "dev",
        shards=2,
        partitions=8,
        apis=2,
        extra=("--journals", "3", "--history"),
        environ={"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"},
    )
    try:
        yield started.start()
    finally:
        started.kill_all()


def turn(code: Path) -> None:
    """Processes that start from now on are of this version."""
    fresh = code.with_name("fresh")
    fresh.symlink_to(REPOSITORY)
    os.replace(fresh, code)


def versions(cluster: DevCluster, kind: str, key: str) -> dict[str, Any]:
    """Which version each process of a kind has registered, as `status` has it."""
    status = json.loads(admin(cluster, "status").stdout)
    return {process[key]: process.get("versions") for process in status[kind]}


def replaced(cluster: DevCluster, process: dict[str, Any], kind: str, key: str, name: str) -> None:
    """End a process as an upgrade does; returns when it is back as this version."""
    os.kill(process["pid"], signal.SIGTERM)
    cluster.wait_replaced(process["pid"])

    def there() -> bool:
        known = versions(cluster, kind, key).get(name)
        return known is not None and known["entries"] == OWN_VERSIONS.entries

    wait_until(there, f"{name} is of this version")


def set_users(cluster: DevCluster, folder: Path, *users: str) -> None:
    """As with Redis users; `dev` here uses none."""
    flags = [f"--{user}-password-file={password_file(folder, user, 'x' * 64)}" for user in users]
    assert set(asked(cluster, "redis", "acl", "--apply", *flags)["nodes"]) == {
        node["address"] for node in cluster.processes("redis")
    }


def asked(cluster: DevCluster, *words: str) -> dict[str, Any]:
    status, found = json_admin(cluster, *words)
    assert status == 0, found
    return found


def test_g9_no_answered_payment_is_lost_and_none_is_made_twice(
    cluster: DevCluster, code: Path, tmp_path: Path
) -> None:
    with WalletApi(cluster.url, 8) as api:
        payer, nobody, declined = api.account(1, "5.00"), api.name(5), new_id()
        assert api.pay(payer, nobody, "1.00", transaction_id=declined).json()["code"] == "account_not_found"
    assert set(versions(cluster, "journals", "journal_id").values()) == {None}, "they do not say it yet"
    paying = Paying(cluster)
    with paying.running() as books:
        turn(code)
        for number, process in enumerate(cluster.processes("journal"), 1):
            replaced(cluster, process, "journals", "journal_id", f"j{number}")
            wait_until(lambda: len(lags(cluster)) == 3 and not any(lags(cluster).values()), "it keeps up")
            before = books.answers["success"]
            wait_until(lambda before=before: books.answers["success"] > before + 50, "payments go on")
        warnings = json.loads(admin(cluster, "status").stdout)["warnings"]
        assert any(VERSIONS_DIFFER in warning for warning in warnings), warnings
        set_users(cluster, tmp_path, "journal")
        (follower,) = cluster.processes("follower")
        os.kill(follower["pid"], signal.SIGTERM)
        cluster.wait_replaced(follower["pid"])
        migrated = asked(cluster, "history", "migrate")
        assert migrated["version_before"] < migrated["version"] == max(migrations())
        for process in cluster.processes("api"):
            replaced(cluster, process, "services", "address", process["address"])
            cluster.wait_ready()
        set_users(cluster, tmp_path, "api", "admin")
    paying.check()
    print(books.answers)
    with WalletApi(cluster.url, 8) as api:
        again = api.pay(payer, nobody, "1.00", transaction_id=declined).json()
        assert (again["code"], api.balance(payer)) == ("account_not_found", "5.00")
        fresh = api.pay(payer, nobody, "1.00").json()
        assert "the receiver's account" in fresh["detail"]
    asked(cluster, "history", "rebuild", "--wait")  # the previous version told less
    assert asked(cluster, "history", "verify")["differences"] == []
    assert json.loads(admin(cluster, "status").stdout)["warnings"] == []
    assert not [found for found in asked(cluster, "doctor")["findings"] if found["severity"] == "error"]
    verified(cluster, VERIFY_S_MAX)
