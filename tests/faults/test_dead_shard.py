"""G9: a stopped shard stops no other shard, however long it lasts and whatever is on its way to it."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.advice import run_advice
from support.dev_process import DevCluster
from support.redis_peek import node_of, open_debits
from support.replicated import command, wait_until
from support.stopped import stopped_shard, trimming_refused
from support.strand import strand
from support.verification import verified
from support.wallet_api import WalletApi, check_problem, new_id, transfer_body
from unit.admin.made import answer

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.stream import stream_entries
from wallet_engine.routing.model import spread
from wallet_engine.routing.slots import tag_of

PARTITIONS = 16
SHARDS = ("s1", "s2", "s3")
STREAM_ENTRIES_MAX = 256
#: Open transfers to the dead shard, each in an entry of its own: more than the sweeper drives at a time.
ENTRIES_OPEN = 40
#: From the death of a service until its transfers have ended; the sweeper leaves entries alone for 5 s.
SWEPT_S_MAX = 15.0
TRANSFER = "/v1/wallet/balance_transfer"
#: An id that is never used.
NOBODYS = new_id()
#: Partitions of each shard; `s3` is the one that is stopped.
P_OF = {name: spread(PARTITIONS, SHARDS).partitions_of(name) for name in SHARDS}
PAYER, HEALTHY, DEAD = P_OF["s1"][0], P_OF["s2"][0], P_OF["s3"]


@pytest.fixture(scope="module")
def cramped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """3 shards without replicas, 2 API processes, streams of 256 entries."""
    path = tmp_path_factory.mktemp("cramped") / "dev"
    extra = ("--stream-entries-max", str(STREAM_ENTRIES_MAX))
    started = DevCluster(path, shards=3, partitions=PARTITIONS, apis=2, extra=extra)
    try:
        yield started.start()
        verified(started)
    finally:
        started.kill_all()


@pytest.fixture
def api(cramped: DevCluster) -> Iterator[WalletApi]:
    cramped.wait_ready()
    with WalletApi(cramped.urls[0], PARTITIONS) as client:
        yield client


def seq_of(cluster: DevCluster, partition: int) -> int:
    meta = PartitionKeys(tag_of(partition, PARTITIONS)).meta
    return int(command(node_of(cluster, partition, PARTITIONS), "HGET", meta, "seq"))


def nothing_open(cluster: DevCluster) -> bool:
    return not any(open_debits(cluster, partition, PARTITIONS) for partition in range(PARTITIONS))


def stream_is_whole(cluster: DevCluster, partition: int) -> bool:
    """Whether the stream has no holes. Trimming around open entries leaves some."""
    stream = PartitionKeys(tag_of(partition, PARTITIONS)).journal
    found = command(node_of(cluster, partition, PARTITIONS), "XRANGE", stream, "-", "+")
    seqs = [entry.seq for entry in stream_entries(found)]
    return seqs == list(range(seqs[0], seqs[-1] + 1))


@contextlib.contextmanager
def paying(url: str, transfers: list[dict[str, str]]) -> Iterator[None]:
    """A thread posts the transfers in one request, and waits for the answer meanwhile."""

    def ask() -> None:
        with WalletApi(url, PARTITIONS) as another:
            another.batch(transfers)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def patiently(api: WalletApi, payer: str, to: str) -> None:
    """A fast caller fills so short a stream between two trimmings; it is told to retry, and does."""
    body = transfer_body(payer, to, "0.01", new_id())
    wait_until(lambda: api.post("/v1/wallet/balance_transfer", body).status == 200, "it is paid")


def test_g9_an_open_entry_fills_no_stream(cramped: DevCluster, api: WalletApi) -> None:
    """Payments inside its partition, and from another one into it, go on past the limit of the partition's stream.

    G11: the partition can be moved meanwhile, with holes in its stream; its open transfers end at the new shard.
    """
    payer, near, other = api.account(PAYER, "500.00"), api.account(PAYER), api.account(HEALTHY, "500.00")
    there = [api.account(partition) for partition in DEAD]
    owed = [transfer_body(payer, to, "1.00", new_id()) for to in itertools.islice(itertools.cycle(there), 37)]
    begun = seq_of(cramped, PAYER)
    paid = 0
    with stopped_shard(cramped, "s3"), paying(cramped.urls[1], owed):
        wait_until(lambda: open_debits(cramped, PAYER, PARTITIONS), "debits are made")
        while seq_of(cramped, PAYER) < begun + STREAM_ENTRIES_MAX + 64:
            for _ in range(8):
                patiently(api, payer, near)
            patiently(api, other, near)
            paid += 9
        assert open_debits(cramped, PAYER, PARTITIONS)
        assert not stream_is_whole(cramped, PAYER)
        answer("move", str(PAYER), "s2", *cramped.coordination_flags(), "--yes")
        patiently(api, payer, near)
        paid += 1
    wait_until(lambda: nothing_open(cramped), "everything has ended")
    for body in owed:
        assert api.find(payer, body["transaction_id"]).json()["status"] == "success"
    assert api.balance(near) == f"{paid / 100:.2f}"
    stream = PartitionKeys(tag_of(PAYER, PARTITIONS)).journal
    node = node_of(cramped, PAYER, PARTITIONS)
    wait_until(lambda: command(node, "XLEN", stream) < STREAM_ENTRIES_MAX, "the stream is trimmed")
    verified(cramped)


def test_g9_new_debits_to_a_shard_that_is_held_are_refused(cramped: DevCluster, api: WalletApi) -> None:
    """Once the service knows that the receiver's partition takes nothing, it debits no payer. A repeat of an operation
    that has ended gets the recorded answer; a repeat of one on its way gets `outcome_unknown` again.
    """
    payer, near = api.account(PAYER, "500.00"), api.account(PAYER)
    there = [api.account(partition) for partition in DEAD]
    hold, captured = new_id(), new_id()
    placed = {"account_id": payer, "amount": "50.00", "currency": "USD", "transaction_id": hold}
    assert api.post("/v1/holds", placed).status == 201
    captures = [
        {"account_id": payer, "transaction_id": id_, "to_account": there[0], "amount": "5.00", "final": False}
        for id_ in (captured, new_id())
    ]
    capture = f"/v1/holds/{hold}/capture"
    assert api.post(capture, captures[0]).status == 200
    paid_before = transfer_body(payer, there[0], "1.00", new_id())
    declined = transfer_body(payer, there[0], "9999.00", new_id())
    assert [api.post(TRANSFER, body).status for body in (paid_before, declined)] == [200, 422]
    with stopped_shard(cramped, "s3"):
        for receiver in there:
            wait_until(lambda to=receiver: refused_at_once(api, payer, to), "it is known to be held")
        debited, balance = open_debits(cramped, PAYER, PARTITIONS), api.balance(payer)
        for receiver in there * 10:
            assert refused_at_once(api, payer, receiver)
        for path, body, status in (
            (TRANSFER, paid_before, 200),
            (TRANSFER, declined, 422),
            (capture, captures[0], 200),
        ):
            repeated = api.post(path, body)
            assert (repeated.status, repeated.headers.get("idempotent-replayed")) == (status, "true"), (
                repeated
            )
        other_body = transfer_body(payer, there[0], "2.00", paid_before["transaction_id"])
        check_problem(
            api.post(TRANSFER, other_body),
            409,
            "idempotency_conflict",
            transaction_id=paid_before["transaction_id"],
        )
        check_problem(
            api.post(capture, captures[1]),
            503,
            "partition_unavailable",
            transaction_id=captures[1]["transaction_id"],
        )
        held = api.get(f"/v1/holds/{hold}?account_id={payer}").json()
        assert (held["captured"], held["remaining"]) == ("5.00", "45.00")
        batch = [transfer_body(payer, to, "1.00", new_id()) for to in (*there, near)]
        *refused, paid = api.batch(batch).json()["results"]
        assert {(one["status"], one["code"]) for one in refused} == {("unknown", "partition_unavailable")}
        assert paid["status"] == "success"
        assert open_debits(cramped, PAYER, PARTITIONS) == debited
        assert float(api.balance(payer)) == float(balance) - 1
    wait_until(lambda: api.pay(payer, there[0], "1.00").status == 200, "it is paid into again")
    assert api.post(capture, captures[1]).status == 200
    wait_until(lambda: nothing_open(cramped), "everything has ended")
    verified(cramped)


def refused_at_once(api: WalletApi, payer: str, receiver: str) -> bool:
    """Whether a transfer is refused with the promise that nothing was done."""
    body = transfer_body(payer, receiver, "1.00", new_id())
    reply = api.post(TRANSFER, body)
    if reply.status == 200:
        return False
    code = reply.json()["code"]
    assert code in ("partition_unavailable", "outcome_unknown"), reply
    # A retry gets the same code: not begun, or still on its way.
    check_problem(api.post(TRANSFER, body), 503, code, transaction_id=body["transaction_id"])
    return bool(code == "partition_unavailable")


def test_g9_the_sweeper_ends_what_can_end_whatever_waits_for_a_dead_shard(
    cramped: DevCluster, api: WalletApi
) -> None:
    """An interrupted transfer to a healthy receiver ends within seconds, even when its entry also has one to a dead
    receiver, behind more open entries, and more refund markers, than a sweeper drives at a time.
    """
    payer = api.account(PAYER, "500.00")
    there, healthy, mixed = api.account(DEAD[0]), api.account(HEALTHY), api.account(HEALTHY)
    nobody = [api.name(HEALTHY) for _ in range(40)]
    asked = [transfer_body(payer, to, "1.00", new_id()) for to in (*nobody, there)]
    interrupted = [transfer_body(payer, to, "1.00", new_id()) for to in (mixed, there, healthy)]
    assert cramped.process is not None
    with stopped_shard(cramped, "s3"):
        try:
            with contextlib.ExitStack() as waiting:
                waiting.enter_context(paying(cramped.urls[1], asked))
                while open_entries(cramped, PAYER) < ENTRIES_OPEN:
                    asked.append(transfer_body(payer, there, "1.00", new_id()))
                    waiting.enter_context(paying(cramped.urls[1], asked[-1:]))
                strand(cramped, PARTITIONS, [PAYER], [("/v1/transfers/batch", {"transfers": interrupted})])
            with WalletApi(cramped.urls[1], PARTITIONS) as other:
                wait_until(
                    lambda: other.balance(mixed) == other.balance(healthy) == "1.00",
                    "they are paid",
                    SWEPT_S_MAX,
                )
        finally:
            cramped.process.send_signal(signal.SIGCONT)
        assert open_entries(cramped, PAYER) >= ENTRIES_OPEN
    wait_until(lambda: nothing_open(cramped), "everything has ended")
    cramped.wait_ready()
    with WalletApi(cramped.urls[0], PARTITIONS) as api:  # another process
        found = [api.find(payer, body["transaction_id"]) for body in (*asked, *interrupted)]
        ended = [one.json()["status"] for one in found if one.status == 200]  # the others were not debited
        assert set(ended) == {"success", "declined"}
        assert float(api.balance(there)) == ended.count("success") - 2 >= ENTRIES_OPEN
        assert float(api.balance(payer)) == 500 - ended.count("success")
    verified(cramped)


def open_entries(cluster: DevCluster, partition: int) -> int:
    """Without the markers of refunds."""
    key = PartitionKeys(tag_of(partition, PARTITIONS)).open
    members = command(node_of(cluster, partition, PARTITIONS), "ZRANGE", key, 0, -1)
    return sum("." not in member for member in members)


def test_g9_g14_a_full_partition_says_so_and_is_well_again_by_itself(
    cramped: DevCluster, api: WalletApi, tmp_path: Path
) -> None:
    """Nothing new begins in it or towards it; what had begun ends; readyz and doctor name it.

    A look-up of something that exists is answered. "Not found" would need an entry, for which there is no room: 503.
    """
    payer, near, other = api.account(PAYER, "500.00"), api.account(PAYER), api.account(HEALTHY, "50.00")
    node = node_of(cramped, PAYER, PARTITIONS)
    there, absent = looks_at(api, payer, near), looks_at(api, api.name(PAYER), None)
    begun = seq_of(cramped, PAYER)
    with trimming_refused(node):
        while (reply := api.pay(payer, near, "0.01")).status == 200:
            assert seq_of(cramped, PAYER) < begun + 3 * STREAM_ENTRIES_MAX
        check_problem(reply, 503, "journal_unavailable", transaction_id=reply.json()["transaction_id"])
        full = seq_of(cramped, PAYER)
        for sender, receiver in ((other, near), (payer, other), (payer, near)):
            body = transfer_body(sender, receiver, "0.01", new_id())
            refused = api.post("/v1/wallet/balance_transfer", body)
            check_problem(refused, 503, "journal_unavailable", transaction_id=body["transaction_id"])
        check_problem(api.open(api.name(PAYER)), 503, "journal_unavailable")
        assert api.balance(other) == "50.00"
        assert [api.get(path).status for path in there] == [200] * len(there)
        for path in absent:
            in_transfers = "/transfers/" in path
            check_problem(
                api.get(path), 503, "journal_unavailable", transaction_id=NOBODYS if in_transfers else None
            )
        assert seq_of(cramped, PAYER) == full
        api.paid(other, api.account(HEALTHY), "0.01")

        for url in cramped.urls:  # the second one has had no request
            wait_until(lambda url=url: "full" in conditions(url), f"{url} names the condition")
            with WalletApi(url, PARTITIONS) as one:
                ready = one.get("/readyz").json()
            assert ready["status"] == "degraded"
            assert [c["partitions"] for c in ready["conditions"] if c["condition"] == "full"] == [[PAYER]]
        findings = answer("doctor", *cramped.coordination_flags(), status=1)["findings"]
        (full_stream,) = (f for f in findings if f"partition {PAYER} is FULL" in f["what"])
        (unpaid,) = (f for f in findings if f["check"] == "payments")
        assert (full_stream["severity"], unpaid["commands"]) == ("error", full_stream["commands"])
        for found in (full_stream, unpaid):
            status, said = run_advice(found, tmp_path, cramped)
            assert (status, "j1" in said) == (0, True), said
    wait_until(lambda: api.pay(payer, near, "0.01").status == 200, "it takes new work again")
    wait_until(lambda: not any("full" in conditions(url) for url in cramped.urls), "nothing is full")


def looks_at(api: WalletApi, account: str, receiver: str | None) -> list[str]:
    """Paths of an account, a transfer of it and a hold of it; their ids do not exist when `receiver` is None."""
    paid = held = NOBODYS
    if receiver is not None:
        paid = api.paid(account, receiver, "1.00").json()["transaction_id"]
        body = {"account_id": account, "amount": "1.00", "currency": "USD", "transaction_id": new_id()}
        held = api.post("/v1/holds", body).json()["hold_id"]
    return [
        f"/v1/accounts/{account}",
        f"/v1/accounts/{account}/balance?currency=USD",
        f"/v1/transfers/{paid}?from_account={account}",
        f"/v1/holds/{held}?account_id={account}",
    ]


def conditions(url: str) -> set[str]:
    with WalletApi(url, PARTITIONS) as api:
        return {condition["condition"] for condition in api.get("/readyz").json()["conditions"]}
