"""Keys on a real cluster (G13): which pay, which are refused, how soon a key counts, and where it is written down."""

import contextlib
import dataclasses
import json
import os
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from support.advice import run_advice
from support.certificates import Authority
from support.dev_process import DevCluster, admin_environment, admin_login, end, json_admin
from support.replicated import ReplicatedShard
from support.stopped import stopped

from wallet_engine.admin.service_calls import Caller, ask_one
from wallet_engine.dev.certificates import Certificates
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.process import wait_until
from wallet_engine.dev.redis_users import RedisUsers
from wallet_engine.dev.zookeeper_users import ZooKeeperUsers
from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.principals import checked
from wallet_engine.redis_store import login
from wallet_engine.redis_store.login import Login
from wallet_engine.routing.api_keys import Role
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.zookeeper import SESSION_TIMEOUT_S
from wallet_engine.telemetry import authority

#: How soon a change must count, and what a busy machine is allowed beyond it.
COUNTS_S, SLACK_S = 1.0, 4.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    started = DevCluster(tmp_path_factory.mktemp("keys") / "dev", apis=2, partitions=4, extra=["--auth"])
    try:
        yield started.start()
    finally:
        started.kill_all()


def keys_of(cluster: DevCluster) -> dict[str, str]:
    keys: dict[str, str] = json.loads((cluster.data_dir / "keys.json").read_bytes())
    return keys


def call(
    url: str, path: str, key: str | None, body: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url + path, None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    if key is not None:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else {}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def pay(
    url: str, key: str | None, payer: str, receiver: str, amount: str = "1.00"
) -> tuple[int, dict[str, Any]]:
    body = {"from_account": payer, "to_account": receiver, "amount": amount, "currency": "USD"}
    return call(url, "/v1/wallet/balance_transfer", key, {**body, "transaction_id": str(uuid.uuid4())})


def accounts(cluster: DevCluster, *names: str) -> list[str]:
    """New accounts with 100.00 each."""
    keys, run = keys_of(cluster), uuid.uuid4().hex[:8]
    made = [f"{name}-{run}" for name in names]
    for account in made:
        opened = call(
            cluster.url, "/v1/accounts", keys["account-admin"], {"account_id": account, "currency": "USD"}
        )
        assert opened[0] == 201, opened
        assert pay(cluster.url, keys["treasury"], "@bank", account, "100.00")[0] == 200
    return made


def zookeeper_users(cluster: DevCluster) -> ZooKeeperUsers:
    return ZooKeeperUsers(cluster.data_dir / "credentials")


def admin(cluster: DevCluster, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    argv = [str(Path(sys.executable).with_name("wallet-admin")), *words]
    if not words[0].startswith("-"):
        argv += cluster.coordination_flags()
    known = admin_environment(cluster).items()
    users = {name: value for name, value in known if name.startswith(("WALLET_REDIS_", "WALLET_ZOOKEEPER_"))}
    environ = {**os.environ, **users}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environ)
    assert not check or done.returncode == 0, done.stderr
    return done


def created(cluster: DevCluster, *flags: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(admin(cluster, "key", "create", *flags, "--json").stdout)
    return document


def seconds_until(condition: Any) -> float:
    began = time.monotonic()
    assert wait_until(condition, COUNTS_S + SLACK_S, poll_s=0.02)
    return time.monotonic() - began


def test_dev_makes_a_key_for_each_role_that_only_its_owner_can_read(cluster: DevCluster) -> None:
    keys = keys_of(cluster)
    assert set(keys) == {role.value for role in Role}
    for name in ("keys.json", "admin.env"):
        assert stat.S_IMODE((cluster.data_dir / name).stat().st_mode) == 0o600
    alice, bob = accounts(cluster, "alice", "bob")
    for url in cluster.urls:
        assert pay(url, keys["payer"], alice, bob)[0] == 200
        assert pay(url, keys["payer"], "@bank", bob)[0] == 403
        assert pay(url, keys["treasury"], "@mint", bob)[0] == 403
        assert pay(url, keys["admin"], "@mint", bob)[0] == 200
        assert pay(url, keys["auditor"], alice, bob)[0] == 403
        assert pay(url, None, alice, bob)[0] == 401
        assert call(url, f"/v1/accounts/{alice}", keys["auditor"])[0] == 200
        assert call(url, "/metrics", keys["metrics"])[0] == 200
        assert call(url, "/metrics", keys["payer"])[0] == 403
        assert call(url, "/readyz", None)[0] == 200


def test_nobody_reaches_it_from_another_machine(cluster: DevCluster) -> None:
    """The API speaks no TLS here: keys must not leave the machine."""
    processes = [psutil.Process(process["pid"]) for process in cluster.processes()]
    listening = {
        (process.pid, link.laddr.ip)
        for process in processes
        for link in process.net_connections("tcp")
        if link.status == psutil.CONN_LISTEN
    }
    assert {address for _, address in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    # The oracle takes no calls, so it need not listen.
    assert len({pid for pid, _ in listening}) >= len(processes) - 1


def as_user(cluster: DevCluster, user: str | None, shown: Login | None = None) -> redis.Redis:
    """A client with the user's password from the cluster's folder. `shown` gives its TLS; else it has the SRE's."""
    (node,) = cluster.processes("redis")
    host, port = split_address(node["address"])
    file = cluster.data_dir / "credentials" / f"redis-{user}.pw"
    entering = dataclasses.replace(
        shown or admin_login(cluster), user=user, password=None if user is None else file.read_text().strip()
    )
    return entering.client(host, port, 5.0, protocol=2)


def test_redis_lets_in_its_users_alone(cluster: DevCluster) -> None:
    folder = cluster.data_dir / "credentials"

    def said(user: str | None, *words: str, shown: Login | None = None) -> str:
        with as_user(cluster, user, shown) as client:
            try:
                answer = client.execute_command(*words)  # type: ignore[no-untyped-call]
            except redis.RedisError as error:
                return str(error)
        return "let in" if answer is not None else "nothing"

    assert "Authentication required" in said(None, "PING")
    for words in (("EVAL", "return 1", "0"), ("SCRIPT", "FLUSH"), ("CONFIG", "GET", "*"), ("FLUSHALL",)):
        assert "Authentication required" in said(None, *words)
        assert "no permissions" in said("api", *words)
    assert said("api", "PING") == said("journal", "EVAL", "return 1", "0") == "let in"
    assert "no permissions" in said("journal", "CONFIG", "GET", "*")
    assert said("admin", "CONFIG", "GET", "save") == "let in"
    assert "Connection" in said(
        "admin", "PING", shown=Login()
    )  # the node speaks TLS, and closes a connection without it
    assert "_ssl.c" in said("admin", "PING", shown=Login(ca=admin_login(cluster).ca))  # no certificate
    secrets = [file.read_text().strip() for file in folder.glob("*.pw")]
    assert len(secrets) == 7, "those of ZooKeeper, too"
    for pid in cluster.pids():
        assert not any(secret.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() for secret in secrets)


@pytest.mark.parametrize("user", [None, "api"])
def test_zookeeper_lets_nobody_announce_a_copy_or_make_a_key_who_may_not(
    cluster: DevCluster, user: str | None
) -> None:
    """A stranger would need no more than a key or a journal copy of its own."""
    with contextlib.closing(KazooClient(cluster.state()["zookeeper"])) as client:
        client.start()
        try:
            if user is not None:  # a thief has the password, and no certificate
                password = (cluster.data_dir / "credentials" / f"zookeeper-{user}.pw").read_text().strip()
                client.add_auth("digest", f"{user}:{password}")
            assert client.exists("/wallet/services")
            attempts: list[Callable[[], object]] = [
                lambda: client.create("/wallet/journals/evil", b"{}"),
                lambda: client.set("/wallet/copies/members", b"[]"),
                lambda: client.create("/wallet/keys/evil", b"{}"),
                lambda: client.set("/wallet/keys", b"{}"),
                lambda: client.set("/wallet/map", b"{}"),
                lambda: client.set("/wallet/config", b"{}"),
                lambda: client.create("/wallet/moves/0", b"{}"),
                lambda: client.delete("/wallet/shards/s1"),
                lambda: client.get("/wallet/access") if user is None else client.delete("/wallet/access"),
            ]
            for attempt in attempts:
                with pytest.raises(NoAuthError):
                    attempt()
        finally:
            client.stop()


def test_our_processes_speak_tls_to_zookeeper(cluster: DevCluster) -> None:
    """Its port takes both TLS and plain connections; a plain one has no user."""
    folder = cluster.data_dir / "ca"

    def shook_hands(*flags: str) -> str:
        argv = ["openssl", "s_client", "-connect", cluster.state()["zookeeper"], "-brief"]
        argv += ["-CAfile", str(folder / "ca.pem"), *flags]
        return subprocess.run(argv, input="", capture_output=True, text=True, timeout=30, check=False).stderr

    assert "bad certificate" in shook_hands()
    known = shook_hands("-cert", str(folder / "admin-dev.pem"), "-key", str(folder / "admin-dev.key"))
    assert "Verification: OK" in known
    for process in (*cluster.processes("api"), *cluster.processes("journal"), *cluster.processes("oracle")):
        words = Path(f"/proc/{process['pid']}/cmdline").read_bytes().decode().split("\0")
        assert {"--zookeeper-ca", "--zookeeper-key", "--zookeeper-user"} <= set(words), words


def test_a_stolen_redis_password_is_good_for_nothing_once_there_is_a_new_one(
    cluster: DevCluster, tmp_path: Path
) -> None:
    """A new password replaces certificate revocation: Redis reads no list of revoked certificates."""
    new, old = tmp_path / "new.pw", cluster.data_dir / "credentials" / "redis-api.pw"
    new.write_text("another one\n")
    new.chmod(0o600)

    def may_enter() -> bool:
        with as_user(cluster, "api") as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return False

    def applied(file: Path) -> None:
        admin(cluster, "redis", "acl", "--apply", f"--api-password-file={file}", "--yes", "--json")

    assert may_enter()
    applied(new)
    try:
        assert not may_enter()
    finally:
        applied(old)
    assert may_enter()


def test_admin_env_is_all_that_wallet_admin_needs(cluster: DevCluster) -> None:
    (alice,) = accounts(cluster, "alice")
    env = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}

    def run(words: str, *, sourced: bool) -> "subprocess.CompletedProcess[str]":
        source = f"set -a; . '{cluster.data_dir}/admin.env'; " if sourced else ""
        shell = f"{source}exec {Path(sys.executable).with_name('wallet-admin')} {words}"
        return subprocess.run(
            ["sh", "-c", shell], capture_output=True, text=True, env=env, timeout=60, check=False
        )

    assert run("status --json", sourced=True).returncode == 0
    for verb in ("doctor", "verify"):
        done = run(f"{verb} --json", sourced=True)
        assert done.returncode == 0, done.stdout
    frozen = run(f"freeze {alice} --yes --json", sourced=True)
    assert json.loads(frozen.stdout)["status"] == "frozen", frozen.stderr
    flags = " ".join(cluster.coordination_flags())
    refused = run(f"unfreeze {alice} --yes {flags}", sourced=False)
    assert (refused.returncode, "WALLET_KEY" in refused.stderr) == (1, True)


def test_a_key_counts_everywhere_within_a_second_and_so_does_its_end(cluster: DevCluster) -> None:
    alice, other = accounts(cluster, "shop", "other")
    made = created(cluster, f"n-{alice}", "--role", "payer", "--accounts", "shop-*")
    key = made["key"]

    def answers(shown: str, status: int) -> bool:
        return all(pay(url, shown, alice, other)[0] == status for url in cluster.urls)

    took = [seconds_until(lambda: answers(key, 200))]
    for url in cluster.urls:
        status, problem = pay(url, key, other, alice)
        assert (status, problem["code"]) == (403, "forbidden")
    rotated = json.loads(
        admin(cluster, "key", "rotate", made["id"], "--keep", "1h", "--yes", "--json").stdout
    )
    took.append(seconds_until(lambda: answers(rotated["key"], 200)))
    assert answers(key, 200)
    listed = json.loads(admin(cluster, "key", "list", "--json").stdout)["keys"]
    assert next(each for each in listed if each["id"] == made["id"])["name"] == f"n-{alice}"

    def used() -> bool:
        keys = json.loads(admin(cluster, "key", "list", "--json").stdout)["keys"]
        return next(each for each in keys if each["id"] == made["id"])["last_used"] is not None

    assert wait_until(used, 20, poll_s=0.2)
    admin(cluster, "key", "revoke", made["id"], "--yes")
    took.append(seconds_until(lambda: answers(rotated["key"], 401) and answers(key, 401)))
    # The limit is for an idle machine; here most of the changes must keep it.
    assert sorted(took)[1] < COUNTS_S, took


def test_the_journal_says_which_key_did_it(cluster: DevCluster) -> None:
    keys = keys_of(cluster)
    of = {role: key.split("_")[1] for role, key in keys.items()}
    alice, bob = accounts(cluster, "alice", "bob")
    paid = {role: str(uuid.uuid4()) for role in ("payer", "treasury", "admin")}
    for role, transaction_id in paid.items():
        body = {"from_account": alice, "to_account": bob, "amount": "0.01", "currency": "USD"}
        body |= {"transaction_id": transaction_id}
        path = "/v1/transfers/batch" if role == "admin" else "/v1/wallet/balance_transfer"
        sent: dict[str, Any] = {"transfers": [body, {**body, "transaction_id": str(uuid.uuid4())}]}
        assert call(cluster.url, path, keys[role], sent if role == "admin" else body)[0] == 200
    assert call(cluster.url, f"/v1/accounts/{bob}/freeze", keys["account-admin"], {})[0] == 200
    for role, transaction_id in paid.items():
        document = json.loads(admin(cluster, "transfer", transaction_id, "--from", alice, "--json").stdout)
        assert document["key"] == of[role]
        # The key is on the debit, and on the credit in another partition.
        text = admin(cluster, "journal", "cat", "--account", bob, "--json").stdout
        operations = [operation for entry in json.loads(text)["entries"] for operation in entry["operations"]]
        assert {operation["key"] for operation in operations} >= {of["account-admin"], of[role]}
        assert all(operation["key"] for operation in operations if not operation["text"].startswith("settle"))


def test_whoever_a_transfer_touches_may_read_it_and_nobody_else(cluster: DevCluster) -> None:
    alice, bob, shop = accounts(cluster, "alice", "bob", "shop")
    made = created(cluster, f"n-{shop}", "--role", "payer", "--accounts", shop)
    key, treasury = made["key"], keys_of(cluster)["treasury"]
    seconds_until(lambda: call(cluster.url, f"/v1/accounts/{shop}", key)[0] == 200)

    def paid(payer: str, receiver: str) -> str:
        body = {"from_account": payer, "to_account": receiver, "amount": "1.00", "currency": "USD"}
        body["transaction_id"] = str(uuid.uuid4())
        assert call(cluster.url, "/v1/wallet/balance_transfer", treasury, body)[0] == 200
        return f"/v1/transfers/{body['transaction_id']}?from_account={payer}"

    for payer, receiver, status in (("@bank", shop, 200), (alice, shop, 200), (alice, bob, 403)):
        path = paid(payer, receiver)
        assert call(cluster.url, path, key)[0] == status, path
        assert call(cluster.url, path, treasury)[0] == 200
    assert call(cluster.url, f"/v1/transfers/{uuid.uuid4()}?from_account={alice}", key)[0] == 403


def test_a_key_ends_by_itself(cluster: DevCluster) -> None:
    alice, bob = accounts(cluster, "alice", "bob")
    key = created(cluster, f"n-{alice}", "--role", "payer", "--expires", "3s")["key"]
    assert wait_until(lambda: pay(cluster.url, key, alice, bob)[0] == 200, 3, poll_s=0.02)
    assert wait_until(lambda: pay(cluster.url, key, alice, bob)[0] == 401, 10, poll_s=0.1)


def test_known_keys_go_on_while_zookeeper_is_away(cluster: DevCluster) -> None:
    alice, bob = accounts(cluster, "alice", "bob")
    keys = keys_of(cluster)
    with stopped(cluster.living("zookeeper")):
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            for url in cluster.urls:
                assert pay(url, keys["payer"], alice, bob, "0.01")[0] == 200
                assert pay(url, None, alice, bob)[0] == 401
            time.sleep(0.5)


@pytest.mark.parametrize("stood_s", [0.5, pytest.param(SESSION_TIMEOUT_S + 3, marks=pytest.mark.soak)])
def test_a_key_that_was_revoked_while_a_process_stood_still_is_refused_by_it(
    cluster: DevCluster, stood_s: float
) -> None:
    """Its ZooKeeper session has ended meanwhile, or not. Requests that waited for the process may still be paid."""
    alice, bob = accounts(cluster, "alice", "bob")
    made = created(cluster, f"n-{alice}", "--role", "payer", "--accounts", alice)
    late = cluster.urls[1]
    assert wait_until(lambda: pay(late, made["key"], alice, bob, "0.01")[0] == 200, 10, poll_s=0.02)
    with ThreadPoolExecutor(4) as callers:
        with stopped(cluster.living("api-2")):
            admin(cluster, "key", "revoke", made["id"], "--yes")
            seconds_until(lambda: pay(cluster.url, made["key"], alice, bob)[0] == 401)
            waiting = [callers.submit(pay, late, made["key"], alice, bob, "0.01") for _ in range(4)]
            time.sleep(stood_s)
        took_s = refused_for_good(late, made["key"], alice, bob)
        assert {each.result()[0] for each in waiting} <= {200, 401}
    assert took_s < COUNTS_S + SLACK_S


@pytest.mark.parametrize("how", ["stopped", pytest.param("killed", marks=pytest.mark.soak)])
def test_a_key_that_is_revoked_when_zookeeper_is_back_is_refused_everywhere(
    cluster: DevCluster, how: str
) -> None:
    alice, bob = accounts(cluster, "alice", "bob")
    made = created(cluster, f"n-{alice}", "--role", "payer", "--accounts", alice)
    seconds_until(lambda: all(pay(url, made["key"], alice, bob, "0.01")[0] == 200 for url in cluster.urls))
    if how == "stopped":
        with stopped(cluster.living("zookeeper")):
            assert admin(cluster, "key", "revoke", made["id"], "--yes", check=False).returncode == 1
            assert all(pay(url, made["key"], alice, bob, "0.01")[0] == 200 for url in cluster.urls)
    else:
        cluster.restart("zookeeper")
    assert wait_until(
        lambda: admin(cluster, "key", "revoke", made["id"], "--yes", check=False).returncode == 0, 60
    )
    for url in cluster.urls:
        assert refused_for_good(url, made["key"], alice, bob) < COUNTS_S + SLACK_S


def refused_for_good(url: str, key: str, payer: str, receiver: str) -> float:
    """Seconds until the key is refused there; then it is tried for a while longer, and must stay refused."""
    began, refused_s = time.monotonic(), None
    while refused_s is None or time.monotonic() - began < refused_s + 2 * COUNTS_S:
        status, _ = pay(url, key, payer, receiver, "0.01")
        now_s = time.monotonic() - began
        assert status == 401 or (status, refused_s) == (200, None), (status, refused_s, now_s)
        assert refused_s is not None or now_s < COUNTS_S + SLACK_S, now_s
        if status == 401 and refused_s is None:
            refused_s = now_s
        time.sleep(0.01)
    return refused_s


def test_no_secret_is_written_anywhere_else(cluster: DevCluster) -> None:
    keys = keys_of(cluster)
    for url in cluster.urls:
        for key in (*keys.values(), "wk_aaaaaaaa_" + "1" * 64):
            call(url, "/v1/accounts/nobody", key)
    secrets = [key.rpartition("_")[2].encode() for key in (*keys.values(), "wk_aaaaaaaa_" + "1" * 64)]
    backup = cluster.data_dir.with_name("backup.json")
    admin(cluster, "backup", str(backup))
    found = set()
    for path in [backup, cluster.stderr_path, *cluster.data_dir.rglob("*")]:
        if path.is_file() and any(secret in path.read_bytes() for secret in secrets):
            found.add(path.name)
    assert found == {"keys.json", "admin.env"}
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    private = [p for p in cluster.data_dir.rglob("*") if not p.is_socket() and p.stat().st_mode & 0o077]
    assert private == []
    for pid in cluster.pids():
        assert not any(secret in Path(f"/proc/{pid}/cmdline").read_bytes() for secret in secrets)


def serve(cluster: DevCluster, *flags: str) -> "subprocess.Popen[str]":
    certificates = Certificates(cluster.data_dir / "ca")
    to_zookeeper = (
        *zookeeper_users(cluster).flags("serve"),
        *certificates.zookeeper_flags("serve", "another"),
    )
    argv = [sys.executable, "-m", "wallet_engine", "serve", *cluster.coordination_flags()]
    argv += [
        *certificates.flags("serve", "another"),
        *RedisUsers(cluster.data_dir / "credentials", certificates).flags("serve", "another"),
        *to_zookeeper,
        *flags,
    ]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


@pytest.mark.parametrize("identified", [True, False], ids=["with keys", "insecure"])
def test_beyond_loopback_callers_say_who_they_are_or_insecure_is_said_aloud(
    cluster: DevCluster, tmp_path: Path, identified: bool
) -> None:
    port, name = free_port(), f"open-{uuid.uuid4().hex[:6]}"
    process = serve(
        cluster,
        "--host",
        "0.0.0.0",
        "--port",
        str(port),
        "--service-id",
        name,
        *([] if identified else ["--insecure"]),
    )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return call(url, "/readyz", None)[0] == 200
        except OSError:
            return False

    try:
        assert wait_until(ready, 30, poll_s=0.1)
        assert call(url, "/v1/accounts/@bank", None)[0] == (401 if identified else 200)
        findings = json.loads(admin(cluster, "doctor", "--json", check=False).stdout)["findings"]
        told = [f for f in findings if f"API process {name} runs with --insecure" in f["what"]]
        assert bool(told) is not identified
        for found in told:
            status, said = run_advice(found, tmp_path, cluster, NAME=name, ROLE="payer")
            assert (status, name in said) == (0, True), said
    finally:
        process.terminate()
        _, stderr = process.communicate(timeout=30)
    assert ("insecure: anyone who can reach this address is let in" in stderr) is not identified


def test_a_certificate_that_ends_is_renewed(cluster: DevCluster, tmp_path: Path) -> None:
    """`doctor` warns of its own caller's certificate."""
    folder = cluster.data_dir / "ca"
    pair = authority.Authority(folder).issue(checked("admin", "sre"), days=3)
    flags = [f"--peer-ca={folder / 'ca.pem'}", f"--peer-cert={pair.cert}", f"--peer-key={pair.key}"]

    def ends() -> list[dict[str, Any]]:
        findings = json.loads(admin(cluster, "doctor", "--json", *flags, check=False).stdout)["findings"]
        return [found for found in findings if "the certificate of admin/sre" in found["what"]]

    (found,) = ends()
    status, said = run_advice(found, tmp_path, cluster, DIR=str(folder))
    assert (status, "admin-sre.pem" in said) == (0, True), said
    assert ends() == []


def test_an_api_process_that_speaks_https_is_asked_by_wallet_admin(
    cluster: DevCluster, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", "IP:127.0.0.1")
    port, name = free_port(), f"tls-{uuid.uuid4().hex[:6]}"
    flags = ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key), "--tls-client-ca", str(authority.cert)]
    process = serve(cluster, "--port", str(port), "--service-id", name, *flags)
    try:
        with contextlib.closing(open_directory(cluster.state()["zookeeper"], None)) as directory:
            assert wait_until(lambda: name in directory.services(), 30, poll_s=0.1)
            info = directory.services()[name]
        assert info.tls
        key = keys_of(cluster)["auditor"]
        assert wait_until(lambda: ask_one(info, "GET", "/readyz")[0] == 200, 30, poll_s=0.1)
        known = Caller(key, authority.cert)
        assert ask_one(info, "GET", "/v1/accounts/@bank", known)[0] == 200
        with pytest.raises(
            OSError, match="certificate verify failed"
        ):  # a key is not sent to an unknown server
            ask_one(info, "GET", "/v1/accounts/@bank", Caller(key))
        doctor = admin(cluster, "doctor", "--json", check=False).stdout
        assert f"API process {name}" not in doctor
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_embedded_and_started_again_the_keys_are_the_same(tmp_path: Path) -> None:
    cluster = DevCluster(
        tmp_path / "dev", embedded=True, shards=3, replicas=1, partitions=4, extra=["--auth"]
    )
    try:
        cluster.start()
        before = keys_of(cluster)
        new = created(cluster, "new", "--role", "auditor")["key"]
        seconds_until(lambda: call(cluster.url, "/v1/accounts/@bank", new)[0] == 200)
        assert cluster.stop() == 0
        (cluster.data_dir / "keys.json").write_text(json.dumps({**before, "payer": "wk_aaaaaaaa_gone"}))
        cluster.start()
        after = keys_of(cluster)
        assert {role for role in before if before[role] != after[role]} == {"payer"}
        for key, status in (
            (after["auditor"], 200),
            (new, 200),
            (after["payer"], 403),
            (before["payer"], 401),
        ):
            assert call(cluster.url, "/v1/accounts/@bank", key)[0] == status
        assert stat.S_IMODE((cluster.data_dir / "keys.json").stat().st_mode) == 0o600
        a_replica_takes_over(cluster)
    finally:
        cluster.kill_all()


def a_replica_takes_over(cluster: DevCluster) -> None:
    """With users and passwords, replicas log in, follow and are promoted."""
    accounts_before = accounts(cluster, *"abcdefgh")
    key = keys_of(cluster)["treasury"]
    login.use(admin_login(cluster))
    try:
        shard = ReplicatedShard(cluster, "s1", 4)
        shard.wait_in_sync()
        killed, replica = shard.primary(), shard.replica()
        end(killed["pid"])
        shard.wait_promoted(replica)
        assert shard.primary()["name"] == replica["name"]
        for account in accounts_before:
            assert wait_until(lambda to=account: pay(cluster.url, key, "@bank", to)[0] == 200, 60, poll_s=0.1)
        shard.wait_in_sync()
    finally:
        login.use(Login())
    found: dict[str, Any] = {}

    def sound() -> bool:
        found.update(json_admin(cluster, "verify")[1])
        return bool(found["ok"])

    assert wait_until(sound, 60, poll_s=0.5), found


def test_a_key_pays_no_faster_than_its_rate_and_what_was_refused_was_not_done(cluster: DevCluster) -> None:
    alice, bob = accounts(cluster, "alice", "bob")
    key = created(cluster, f"slow-{uuid.uuid4().hex[:6]}", "--role=payer", "--rate=5")["key"]
    began = time.monotonic()
    answers = [pay(cluster.url, key, alice, bob) for _ in range(40)]
    seconds = time.monotonic() - began
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 429}
    assert 5 <= statuses.count(200) <= 5 + 5 * seconds + 1
    refused = [answer for status, answer in answers if status == 429]
    assert {answer["code"] for answer in refused} == {"rate_limited"}
    assert call(cluster.url, f"/v1/accounts/{bob}/balance?currency=USD", key)[1]["balance"] == (
        f"{100 + statuses.count(200)}.00"
    )
    batch = {
        "transfers": [
            {
                "from_account": alice,
                "to_account": bob,
                "amount": "0.01",
                "currency": "USD",
                "transaction_id": str(uuid.uuid4()),
            }
            for _ in range(15)
        ]
    }
    assert wait_until(lambda: call(cluster.url, "/v1/transfers/batch", key, batch)[0] == 200, 10)
    assert pay(cluster.url, key, alice, bob)[0] == 429  # the batch used up the rate in advance
    assert wait_until(lambda: pay(cluster.url, key, alice, bob)[0] == 200, 20)


def test_a_key_has_no_more_in_flight_than_its_share(cluster: DevCluster) -> None:
    """While the journal is stopped nothing is answered, so a key's requests stay in flight."""
    alice, bob = accounts(cluster, "alice", "bob")
    key = created(cluster, f"few-{uuid.uuid4().hex[:6]}", "--role=payer", "--in-flight=3")["key"]
    assert wait_until(lambda: pay(cluster.url, key, alice, bob)[0] == 200, 10)
    with stopped(cluster.living("journal")) as go_on, ThreadPoolExecutor(8) as pool:
        statuses = [pool.submit(pay, cluster.url, key, alice, bob) for _ in range(8)]
        assert wait_until(lambda: sum(each.done() for each in statuses) == 5, 20)
        assert {each.result()[0] for each in statuses if each.done()} == {429}
        go_on()
        assert sorted(each.result()[0] for each in statuses) == [200] * 3 + [429] * 5
