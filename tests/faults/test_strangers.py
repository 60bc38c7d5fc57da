"""G13: attacks on the journal's port by strangers, and by our own processes with a certificate for another role.

Each attack is made on real processes. One cluster has certificates (`dev --auth`). The other speaks without TLS on
loopback: it believes what a peer says it is, and still no peer can break it for good.
"""

import contextlib
import json
import os
import shlex
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.dev_process import DevCluster
from support.http_client import Reply
from support.replicated import wait_until
from support.rogue import FalseCopy, Rogue, client_context, minted, standings
from support.stopped import stopped
from support.wallet_api import WalletApi

from wallet_engine.dev.ports import free_port
from wallet_engine.domain.principals import checked
from wallet_engine.journal.bounds import EPOCH_AHEAD_MAX
from wallet_engine.journal.copies_wire import (
    EntriesAsk,
    EntryTexts,
    Follow,
    Followed,
    HeldAsk,
    PeerHello,
    Promise,
    Standing,
    StateAsk,
    Target,
    YesNo,
)
from wallet_engine.journal.feed_wire import FollowerHello, ReadAsk
from wallet_engine.journal.link_wire import (
    MESSAGE_BYTES_MAX,
    Asks,
    CopyHello,
    FindEntry,
    NewEntries,
    Recover,
    ServiceHello,
    Written,
)
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.model import JournalInfo
from wallet_engine.telemetry.authority import Authority, Pair

PARTITIONS = 4
COPIES = 3
SERVE_S_MAX = 60.0

#: Messages of a service (the first), and of a journal copy (the other two).
BRINGS = (NewEntries([(0, b"x", b"y")]), Written([0]), Recover("s1", "because"))
READS = (PeerHello("j1"), StateAsk([]), EntriesAsk([(0, 0, 9)]))
DECIDES = (Promise([(0, 9)]), Follow("j1", "127.0.0.1:1", [Target(0, 9, 0, "0" * 16)]))


class KeyedApi(WalletApi):
    """With the key of the role `admin`, where there is one."""

    def __init__(self, cluster: "Struck") -> None:
        super().__init__(cluster.dev.url, PARTITIONS)
        self._key = cluster.environ.get("WALLET_KEY")

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        known = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        return super().request(method, path, body, {**known, **(headers or {})})


class Struck:
    """A cluster of three journal copies, and what an attacker knows of it."""

    def __init__(self, path: Path, *, auth: bool) -> None:
        first = free_port(run=COPIES)
        self.dev = DevCluster(
            path,
            partitions=PARTITIONS,
            embedded=True,
            extra=("--journals", str(COPIES), *(("--auth",) if auth else ())),
            environ={"WALLET_METRICS_PORT": str(first)},
        )
        self._metrics_port = first
        self.auth = auth

    def start(self) -> "Struck":
        self.dev.start()
        lines = (self.dev.data_dir / "admin.env").read_text().splitlines()
        words = (line.partition("=") for line in lines)
        self.environ = {name: shlex.split(value)[0] for name, _, value in words}
        self._wait_settled()
        return self

    def _wait_settled(self) -> None:
        """The last copies join when it serves already: that raises the epochs, and so does the recovery behind it."""

        def settled() -> bool:
            with self.directory() as directory:
                joined = len(directory.members().copies) == COPIES
            found = self.admin("doctor")["findings"] if joined else []
            return joined and not any(each["check"] in ("partitions", "journal") for each in found)

        wait_until(settled, "all copies have joined, and the partitions are recovered", SERVE_S_MAX)

    @property
    def ca(self) -> Path:
        return self.dev.data_dir / "ca"

    def pair(self, who: str) -> Pair:
        """A certificate of the cluster's own authority, for `role/id`."""
        return Authority(self.ca).issue(checked(*who.split("/")), out=self.ca, renew=True)

    def context(self, who: str) -> ssl.SSLContext | None:
        """The TLS context with which `who` connects; None where there is no TLS."""
        return client_context(self.ca / "ca.pem", self.pair(who)) if self.auth else None

    def address(self, journal_id: str) -> str:
        return str(
            next(p["address"] for p in self.dev.processes("journal") if p["name"] == f"journal-{journal_id}")
        )

    @contextlib.contextmanager
    def directory(self) -> Iterator[Directory]:
        with contextlib.closing(open_directory(None, self.dev.data_dir / "map.json")) as opened:
            yield opened

    def refused(self, journal_id: str, reason: str) -> float:
        """How often the copy has counted a refusal for that reason."""
        port = self._metrics_port + int(journal_id.removeprefix("j")) - 1
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        wanted = f'wallet_journal_refused_total{{reason="{reason}"}} '
        return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))

    def ends(self, journal_id: str = "j1") -> dict[int, Standing]:
        with Rogue(self.address(journal_id), self.context("admin/t")) as reader:
            return standings(reader.say(PeerHello("wallet-admin")))

    def promises(self) -> dict[int, int]:
        """partition -> epoch below which copy j1 refuses entries."""
        return {partition: at.promised for partition, at in self.ends().items()}

    def admin(self, *words: str) -> dict[str, Any]:
        command = [str(Path(sys.executable).with_name("wallet-admin")), "--json", *words]
        environ = {**os.environ, **self.environ}
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=environ)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def check(self) -> None:
        """It pays in every partition, the copies hold the same, and the books are whole."""

        def pays() -> bool:
            with KeyedApi(self) as api:
                names = [api.name(partition) for partition in range(PARTITIONS)]
                opened = [api.open(name).status in (200, 201) for name in names]
                return all(opened) and all(api.pay("@bank", name, "1.00").status == 200 for name in names)

        wait_until(pays, "it pays", SERVE_S_MAX)
        found: dict[str, Any] = {}

        def verifies() -> bool:
            found.update(self.admin("verify"))
            return bool(found["ok"])

        wait_until(verifies, "it verifies", SERVE_S_MAX, lambda: found)


def _started(path: Path, *, auth: bool) -> Iterator[Struck]:
    struck = Struck(path, auth=auth)
    try:
        yield struck.start()
    finally:
        struck.dev.kill_all()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Struck]:
    yield from _started(tmp_path_factory.mktemp("secured") / "dev", auth=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Struck]:
    yield from _started(tmp_path_factory.mktemp("plain") / "dev", auth=False)


@pytest.fixture(params=["secured", "plain"])
def either(request: pytest.FixtureRequest) -> Struck:
    found: Struck = request.getfixturevalue(request.param)
    return found


# Strangers: no TLS, no certificate, or a wrong one ------------------------------------------------------------


@pytest.fixture(scope="module")
def strangers(secured: Struck, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    other = Authority.create(tmp_path_factory.mktemp("other"), "other")
    own = secured.ca / "ca.pem"
    return {
        "plain": None,
        "no certificate": client_context(None, None),
        "another authority": client_context(own, other.issue(checked("service", "api-1"))),
        "a caller of the API": client_context(own, secured.pair("key/abc")),
        "a Redis node": client_context(own, secured.pair("server/redis-1")),
    }


@pytest.mark.parametrize(
    "who", ["plain", "no certificate", "another authority", "a caller of the API", "a Redis node"]
)
def test_g13_a_stranger_reads_nothing_mints_nothing_and_decides_nothing(
    secured: Struck, strangers: Mapping[str, Any], who: str
) -> None:
    before = secured.promises()
    with KeyedApi(secured) as api:
        mallory = api.account(0)
        at = secured.ends()[0]
        attacks: list[tuple[msgspec.Struct, ...]] = [
            (ServiceHello("api-1"), NewEntries([minted(at, mallory, 100_000_000)])),
            (PeerHello("j2"), EntriesAsk([(0, 0, 1 << 40)])),
            (PeerHello("j2"), Promise([(0, at.promised + 1000)])),
            (Recover("s1", "because"),),
        ]
        for said in attacks:
            with Rogue(secured.address("j1"), strangers[who]) as rogue:
                assert rogue.say(*said).hear() is None, said
        assert api.balance(mallory) == "0.00"
    with Rogue(secured.address("j1"), secured.context("admin/t")) as reader:
        nonce = minted(at, mallory, 1)[1].split()[2].decode()
        reader.say(PeerHello("wallet-admin"), HeldAsk([(0, at.seq + 1, nonce)]))
        assert reader.answer(YesNo).answers == [False]
    assert secured.promises() == before


# Our own processes, with messages that their role may not send -------------------------------------------------


@pytest.mark.parametrize(
    ("who", "said"),
    [
        *(("follower/f1", message) for message in (*BRINGS, *DECIDES)),
        *(("admin/ann", message) for message in (BRINGS[0], *DECIDES)),
        *(("service/api-1", message) for message in (*READS, *DECIDES)),
        *(("journal/j2", message) for message in BRINGS),
        ("journal/j2", PeerHello("j3")),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_g13_nobody_says_what_his_role_may_not(secured: Struck, who: str, said: msgspec.Struct) -> None:
    before, counted = secured.promises(), secured.refused("j1", "role")
    with Rogue(secured.address("j1"), secured.context(who)) as rogue:
        assert isinstance(rogue.hear(), CopyHello)
        assert rogue.say(said).refused()
    assert secured.refused("j1", "role") == counted + 1
    assert secured.promises() == before


def test_followers_and_admins_read(secured: Struck) -> None:
    with KeyedApi(secured) as api:
        api.account(0, "5.00")
    for who in ("follower/f1", "admin/ann"):
        with Rogue(secured.address("j1"), secured.context(who)) as reader:
            at = standings(reader.say(PeerHello("reader")))[0]
            answer = reader.say(EntriesAsk([(0, 0, at.seq)])).answer(EntryTexts)
            assert len(answer.entries) == at.seq > 0


@pytest.mark.parametrize("said", DECIDES, ids=["Promise", "Follow"])
def test_g13_a_certificate_of_a_copy_that_does_not_count_decides_nothing(
    secured: Struck, said: msgspec.Struct
) -> None:
    if isinstance(said, Follow):
        said = Follow("j9", "127.0.0.1:1", said.targets)
    before = secured.promises()
    with Rogue(secured.address("j1"), secured.context("journal/j9")) as rogue:
        assert rogue.say(PeerHello("j9"), said).refused()
    assert secured.refused("j1", "asker") >= 1
    assert secured.promises() == before


# Rewriting what is on disk -----------------------------------------------------------------------------------


def test_g13_a_copy_follows_nobody_but_a_copy_that_counts_where_it_is_registered(either: Struck) -> None:
    """This used to undo an answered payment: the attacker's chain was shorter, and the rest was set aside."""
    with KeyedApi(either) as api:
        ann = api.account(0, "5.00")
        before = either.ends()
        with FalseCopy("j2").running() as false:
            for name, asker in (("j2", "journal/j2"), ("evil", "journal/evil")):
                target = Target(0, before[0].view, 0, "0" * 16)
                with Rogue(either.address("j1"), either.context(asker)) as rogue:
                    rogue.say(PeerHello(name), Follow(name, false.address, [target]))
                    answer = rogue.answer(Followed)
                    assert answer is None or "is registered at" in answer.why_not
            counted = either.refused("j1", "follow")
            with Rogue(either.address("j1"), either.context("journal/j2")) as rogue:
                assert rogue.say(PeerHello("j2"), Follow("j3", either.address("j3"), [target])).refused()
            assert either.refused("j1", "follow") == counted + 1
            assert not false.called.is_set()
        wait_until(lambda: either.ends()[0].seq >= before[0].seq, "nothing was taken out", SERVE_S_MAX)
        wait_until(lambda: api.pay(ann, "@bank", "1.00").status == 200, "it pays", SERVE_S_MAX)
        assert api.balance(ann) == "4.00"
    either.check()


# Fencing for ever ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ballot", [(0, 10**17), (0, 2**63), (0, 0), (0, -5), (PARTITIONS, 3), (70_000, 3)])
def test_g13_a_promise_of_what_cannot_be_is_refused(either: Struck, ballot: tuple[int, int]) -> None:
    """A promise of epoch 10^17 used to leave the journal unable to start."""
    before = either.promises()
    reason = "epoch" if ballot[0] == 0 else "partition"
    counted = either.refused("j1", reason)
    with Rogue(either.address("j1"), either.context("journal/j2")) as rogue:
        assert rogue.say(PeerHello("j2"), Promise([ballot])).refused()
    assert either.refused("j1", reason) == counted + 1
    assert either.promises() == before


def test_g13_on_a_plain_port_who_is_no_copy_cannot_have_promises(plain: Struck) -> None:
    with Rogue(plain.address("j1")) as rogue:
        assert rogue.say(PeerHello("evil"), Promise([(0, 1000)])).refused()
    assert plain.refused("j1", "asker") >= 1


@pytest.mark.parametrize(
    ("struck", "ahead"),
    [
        *(("j1", 1), ("j3", EPOCH_AHEAD_MAX // 2)),
        pytest.param("j1", EPOCH_AHEAD_MAX // 2, marks=pytest.mark.soak),
        pytest.param("j3", 1, marks=pytest.mark.soak),
    ],
)
def test_g13_no_promise_stops_payments_for_good(either: Struck, struck: str, ahead: int) -> None:
    """A promise to a peer that begins nothing used to stop the partition for ever, and doctor found nothing wrong."""
    with either.directory() as directory:
        epoch = directory.partition_map().epoch_of(1)
    with Rogue(either.address(struck), either.context("journal/j2")) as rogue:
        assert rogue.say(PeerHello("j2"), Promise([(1, epoch + ahead)])).refused()
    either.check()
    seq = either.ends("j2")[1].seq
    wait_until(lambda: either.ends(struck)[1].seq >= seq, "the copy goes on as the others do", SERVE_S_MAX)


# Receipts of copies that do not count ------------------------------------------------------------------------


# A payment that is not receipted is answered after 15 s.
@pytest.mark.parametrize("either", ["secured", pytest.param("plain", marks=pytest.mark.soak)], indirect=True)
def test_g13_receipts_of_a_copy_that_does_not_count_are_none(either: Struck) -> None:
    """A node in the directory used to count for receipts: an answered payment was gone after a restart.

    The false copy has a valid certificate, of a copy that never joined.
    """
    context = None
    if either.auth:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*either.pair("journal/j9"))
    others = [either.dev.living(f"journal-{name}") for name in ("j2", "j3")]
    with KeyedApi(either) as api, FalseCopy("j9", context).running() as false:
        ann = api.account(2, "5.00")
        with stopped(*others), announced(either, "j9", false.address):
            answer = api.pay(ann, "@bank", "1.00")
            assert answer.status == 503, answer
        assert false.receipts == 0
        assert not false.called.is_set(), "nobody asks it, followers neither"
    either.check()


@contextlib.contextmanager
def announced(struck: Struck, journal_id: str, address: str) -> Iterator[None]:
    """The directory says that a copy runs at the address."""
    with struck.directory() as directory:
        directory.register_journal(
            JournalInfo(journal_id, address, "/nowhere", 1, "elsewhere", tls="required")
        )
        time.sleep(1.0)  # the services hear of it
        try:
            yield
        finally:
            directory.tree.delete(f"/wallet/journals/{journal_id}")


# Too many, too long, or out of range -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("partition", Written([PARTITIONS])),
        ("partition", NewEntries([(PARTITIONS, b"h", b"c")])),
        ("partition", Asks([(1 << 20, 1, "n")])),
        ("partition", FindEntry(1, 99, 1, "n", 1)),
        ("shard", Recover("s" * 100_000, "because")),
        ("message", NewEntries([(0, b"h", b"c")])),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_g13_what_no_service_says_ends_the_connection(
    either: Struck, reason: str, said: msgspec.Struct
) -> None:
    counted = either.refused("j1", reason)
    with Rogue(either.address("j1"), either.context("service/api-9")) as rogue:
        assert rogue.say(said).refused()
    assert either.refused("j1", reason) == counted + 1


@pytest.mark.parametrize(
    "said", [StateAsk([0] * 100_000), EntriesAsk([(0, 0, 1)] * 100_000)], ids=["state", "entries"]
)
def test_g13_lists_are_no_longer_than_the_cluster_is_wide(either: Struck, said: msgspec.Struct) -> None:
    counted = either.refused("j1", "length")
    with Rogue(either.address("j1"), either.context("journal/j2")) as rogue:
        assert rogue.say(PeerHello("j2"), said).refused()
    assert either.refused("j1", "length") == counted + 1


@pytest.mark.parametrize(
    "said", [ReadAsk(1, 2**63, 9, False), ReadAsk(0, 0, 9, False)], ids=["offset", "segment"]
)
def test_g13_a_place_that_no_journal_has_ends_the_connection(either: Struck, said: msgspec.Struct) -> None:
    counted = either.refused("j1", "place")
    with Rogue(either.address("j1"), either.context("follower/f9")) as rogue:
        assert rogue.say(FollowerHello("f9"), said).refused()
    assert either.refused("j1", "place") == counted + 1


def test_g10_a_flood_of_calls_for_recovery_leaves_payments_alone(either: Struck) -> None:
    with KeyedApi(either) as api, Rogue(either.address("j1"), either.context("service/api-9")) as rogue:
        ann = api.account(3, "100.00")
        for _ in range(20):
            rogue.say(*[Recover("s1", "r" * 10_000)] * 50)
            assert api.pay(ann, "@bank", "0.01").status == 200
    log = (either.dev.data_dir / "logs" / "journal-j1.log").read_text()
    assert log.count("r" * 200) < 100
    assert "r" * 300 not in log


def test_g10_half_messages_are_bounded(either: Struck) -> None:
    """Each is nearly as long as a message may be; all together they are more than a copy keeps."""
    counted = either.refused("j1", "half_messages")
    half = (MESSAGE_BYTES_MAX).to_bytes(4, "little") + bytes(MESSAGE_BYTES_MAX - 1)
    with contextlib.ExitStack() as stack:
        context = either.context("service/api-9")
        for _ in range(20):
            stack.enter_context(Rogue(either.address("j1"), context)).send(half)
        wait_until(lambda: either.refused("j1", "half_messages") > counted, "some were refused", SERVE_S_MAX)
        with KeyedApi(either) as api:
            api.paid("@bank", api.account(1), "1.00")


def test_g10_silent_connections_keep_nobody_out(secured: Struck) -> None:
    """There are more of them than may be in their handshake at once, and none sends anything."""
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(Rogue(secured.address("j1")))
        assert secured.ends()[0].seq >= 0
        with KeyedApi(secured) as api:
            api.paid("@bank", api.account(1), "1.00")
    assert secured.refused("j1", "handshakes") >= 1
