"""History by HTTP on a real cluster with a real PostgreSQL; it stays right whatever process is killed."""

import csv
import io
import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import quote
from uuid import UUID

import msgspec
import psutil
import pytest
from support.databases import asked, rows_of
from support.dev_process import DevCluster, admin_environment
from support.dev_process import json_admin as admin
from support.forgetting import no_group_is_open, rotated
from support.http_client import Reply
from support.redis_peek import node_of
from support.stopped import stopped
from support.wallet_api import WalletApi, check_problem, new_id, transfer_body

from wallet_engine.app.priority import LOW_NICENESS
from wallet_engine.client import Wallet, WebhookNotFound
from wallet_engine.dev.ports import free_port
from wallet_engine.history.clearing import clear
from wallet_engine.history.database import make_months
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect as connect_redis
from wallet_engine.routing.slots import partition_of, tag_of

PARTITIONS = 16
#: A payment is in the history within a second or two; the rest is for a machine that is busy with other tests.
ARRIVES_S_MAX = 30.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    folder = tmp_path_factory.mktemp("history") / "dev"
    extra = ("--history", "--webhooks-allow-private")
    made = DevCluster(folder, partitions=PARTITIONS, embedded=True, extra=extra)
    try:
        yield made.start()
    finally:
        made.kill_all()


@pytest.fixture
def api(cluster: DevCluster) -> Iterator[WalletApi]:
    with WalletApi(cluster.url, PARTITIONS) as found:
        yield found


def database_url(cluster: DevCluster) -> str:
    found = admin_environment(cluster)
    password = Path(found["WALLET_DATABASE_PASSWORD_FILE"]).read_text("utf-8").strip()
    return found["WALLET_DATABASE"].replace("wallet@", f"wallet:{password}@")


def eventually(look: Any, what: str = "") -> Any:
    """The result of `look` as soon as it is true."""
    deadline = time.monotonic() + ARRIVES_S_MAX
    while not (found := look()):
        assert time.monotonic() < deadline, what or "it never came"
        time.sleep(0.05)
    return found


def listed(api: WalletApi, account: str, count: int, query: str = "") -> list[dict[str, Any]]:
    """The transactions of an account as soon as there are so many."""

    def look() -> list[dict[str, Any]] | None:
        reply = api.get(f"/v1/accounts/{account}/transactions?{query}")
        found = reply.json().get("transactions", [])
        return found if len(found) >= count else None

    return eventually(look, f"{count} transactions of {account}")


def pay(api: WalletApi, sender: str, receiver: str, amount: str, **more: Any) -> str:
    """Pay, with retries under the same id after a 503; returns the id."""
    transaction_id = new_id()
    body = {**transfer_body(sender, receiver, amount, transaction_id), **more}
    reply: Reply = eventually(
        lambda: (said := api.post("/v1/wallet/balance_transfer", body)).status != 503 and said
    )
    assert reply.status in (200, 422, 404), reply
    return transaction_id


def opened(api: WalletApi, partition: int, funds: str | None = None) -> str:
    account = api.name(partition)
    assert api.post("/v1/accounts", {"account_id": account, "currency": "USD"}).status == 201
    if funds is not None:
        pay(api, "@bank", account, funds)
    return account


def minor(text: str) -> int:
    return int(text.replace(".", ""))


def test_what_was_paid_is_listed_newest_first(api: WalletApi) -> None:
    ann, bob = opened(api, 1, "100.00"), opened(api, 2)
    rent = pay(api, ann, bob, "30.00", reference="rent May", metadata={"flat": "3"})
    refused = pay(api, ann, bob, "900.00")
    sent, deposit = listed(api, ann, 2)
    assert (sent["transaction_id"], sent["direction"], sent["amount"]) == (rent, "out", "30.00")
    assert (sent["counterparty"], sent["balance_after"], sent["type"]) == (bob, "70.00", "transfer")
    assert (sent["reference"], sent["metadata"], sent["status"]) == ("rent May", {"flat": "3"}, "success")
    assert (deposit["type"], deposit["direction"], deposit["counterparty"]) == ("deposit", "in", "@bank")
    assert (deposit["reference"], deposit["metadata"]) == (None, None)
    (got,) = listed(api, bob, 1)
    assert (got["transaction_id"], got["direction"], got["counterparty"]) == (rent, "in", ann)
    (declined,) = listed(api, ann, 1, "status=declined")
    assert (declined["transaction_id"], declined["code"]) == (refused, "insufficient_funds")
    assert (declined["amount"], declined["balance_after"]) == ("900.00", "70.00")
    assert [t["transaction_id"] for t in listed(api, ann, 3, "status=all&order=asc")][1:] == [rent, refused]
    (found,) = api.get(f"/v1/transfers?reference={quote('rent May')}&limit=1").json()["transfers"]
    assert (found["from_account"], found["to_account"], found["status"]) == (ann, bob, "success")


def test_filters_narrow_and_are_checked(api: WalletApi) -> None:
    ann, bob = opened(api, 3, "100.00"), opened(api, 3)
    for amount in ("1.00", "2.00", "3.00"):
        pay(api, ann, bob, amount)
    listed(api, ann, 4)

    def amounts(query: str) -> list[str]:
        return [
            t["amount"] for t in api.get(f"/v1/accounts/{ann}/transactions?{query}").json()["transactions"]
        ]

    assert amounts("type=transfer") == ["3.00", "2.00", "1.00"]
    assert amounts("direction=in") == ["100.00"]
    assert amounts(f"counterparty={bob}&order=asc") == ["1.00", "2.00", "3.00"]
    assert amounts("currency=USD&min_amount=2&max_amount=3.00") == ["3.00", "2.00"]
    assert amounts("currency=EUR") == []
    assert amounts("from=2999-01-01T00:00:00Z") == []
    assert amounts("to=2000-01-01T00:00:00Z") == []
    for query, code in (
        *(
            ("min_amount=2", "invalid_request"),
            ("limit=0", "invalid_request"),
            ("limit=201", "invalid_request"),
        ),
        *(("from=yesterday", "invalid_request"), ("from=2026-01-01T00:00:00", "invalid_request")),
        *(("order=up", "invalid_request"), ("type=gift", "invalid_request"), ("status=x", "invalid_request")),
        *(("currency=XXY", "invalid_currency"), ("cursor=abc", "cursor_mismatch")),
        ("currency=USD&min_amount=-1", "invalid_amount"),
        *(("min_position=x", "invalid_request"), ("min_position=9999.1", "invalid_request")),
    ):
        check_problem(api.get(f"/v1/accounts/{ann}/transactions?{query}"), 400, code)
    check_problem(api.get("/v1/accounts/nobody/transactions"), 404, "account_not_found")


def test_g14_an_account_that_the_history_does_not_know_yet_is_waited_for(
    cluster: DevCluster, api: WalletApi
) -> None:
    """It was 404, "never opened", also while its partition was made anew."""
    with stopped(*cluster.processes("follower")) as go_on:
        ann = opened(api, 6)
        check_problem(api.get(f"/v1/accounts/{ann}/statement?currency=EUR"), 404, "account_not_found")
        Timer(0.3, go_on).start()
        path = f"/v1/accounts/{ann}/transactions"
        reply = eventually(lambda: (found := api.get(path)).status != 503 and found)
    assert (reply.status, reply.json()["transactions"]) == (200, [])


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_neither_skip_nor_repeat_while_rows_are_added(api: WalletApi, order: str) -> None:
    ann, bob = opened(api, 4, "100.00"), opened(api, 5)
    paid = [pay(api, ann, bob, "0.01") for _ in range(12)]
    listed(api, ann, 13)
    query, found, cursor = f"order={order}&limit=5&type=transfer", [], ""
    while True:
        page = api.get(f"/v1/accounts/{ann}/transactions?{query}{cursor}").json()
        found += [t["transaction_id"] for t in page["transactions"]]
        if page["next_cursor"] is None:
            break
        if len(paid) < 16:
            paid.append(pay(api, ann, bob, "0.01"))
            listed(api, ann, len(paid) + 1)
        cursor = f"&cursor={page['next_cursor']}"
        other = f"/v1/accounts/{ann}/transactions?order={order}&limit=5&type=refund{cursor}"
        check_problem(api.get(other), 400, "cursor_mismatch")
    assert found == (paid if order == "asc" else paid[11::-1])


def test_the_client_walks_the_past(cluster: DevCluster, api: WalletApi) -> None:
    began, ann, bob = datetime.now(UTC), opened(api, 3), opened(api, 4)
    with Wallet(cluster.url) as wallet:
        for number in range(5):
            wallet.transfer("@bank", ann, f"{number}.25", "USD", reference=f"for {ann}")
        held = wallet.place_hold(ann, "1.00", "USD")
        position = wallet.transfer(ann, bob, Decimal("2.00"), "USD").position
        assert position is not None
        assert position.startswith("4.")
        since: dict[str, Any] = {"from_": began, "min_position": position}
        lines = list(wallet.transactions(ann, page_size=2, order="asc", **since))
        assert [line.amount for line in lines] == [*(Decimal(f"{n}.25") for n in range(5)), Decimal("2.00")]
        assert lines[-1].counterparty == bob
        assert lines[-1].at > began
        assert [line.direction for line in wallet.transactions(ann, direction="out")] == ["out"]
        statement = wallet.statement(ann, "USD", **since)
        assert statement.closing_balance == sum(line.amount for line in statement.lines) == Decimal("9.25")
        found = list(wallet.transfers(f"for {ann}", page_size=2))
        assert [transfer.from_account for transfer in found] == ["@bank"] * 5
        assert [hold.hold_id for hold in wallet.account_holds(ann, status="open")] == [held.hold_id]
        past = wallet.past_balance(ann, "USD", lines[4].at)
        assert (past.balance, past.at) == (Decimal("11.25"), lines[4].at)
        with pytest.raises(ValueError, match="time zone"):
            wallet.past_balance(ann, "USD", datetime(2026, 11, 21))


def test_the_client_reads_events_and_manages_webhooks(cluster: DevCluster, api: WalletApi) -> None:
    ann = opened(api, 5, "10.00")
    with Wallet(cluster.url) as wallet:
        told = eventually(lambda: [*wallet.events(types=["transfer.*"], account=ann)])
        assert [(event.type, event.data["to_account"]) for event in told] == [("transfer.succeeded", ann)]
        behind = wallet.events_page(account=ann).next
        pay(api, "@bank", ann, "1.00")
        waiting = wallet.events(types=["transfer.*"], account=ann, after=behind, wait_s=20)
        assert next(waiting).data["amount"] == "1.00"

        made = wallet.create_webhook(f"http://127.0.0.1:{free_port()}/", ["hold.*"], accounts=[ann])
        assert made.secret is not None
        assert wallet.webhook(made.webhook_id) == msgspec.structs.replace(made, secret=None)
        assert made.webhook_id in [each.webhook_id for each in wallet.webhooks().webhooks]
        tested = wallet.test_webhook(made.webhook_id)
        sent = eventually(lambda: [*wallet.deliveries(made.webhook_id, page_size=1)])
        assert [delivery.event_id for delivery in sent] == [tested.event_id]
        assert wallet.rotate_webhook(made.webhook_id).secret != made.secret
        assert wallet.replay_webhook(made.webhook_id, datetime.now(UTC)).status == "enabled"
        assert wallet.patch_webhook(made.webhook_id, status="disabled").status == "disabled"
        wallet.delete_webhook(made.webhook_id)
        with pytest.raises(WebhookNotFound):
            wallet.webhook(made.webhook_id)


def test_a_statement_adds_up(api: WalletApi) -> None:
    ann, bob = opened(api, 6, "100.00"), opened(api, 7)
    for amount in ("10.00", "20.50"):
        pay(api, ann, bob, amount)
    pay(api, ann, "nobody", "5.00")  # debited and refunded
    listed(api, ann, 3)

    def all_of_it() -> Any:  # of the refused payment both lines, or none
        found = api.get(f"/v1/accounts/{ann}/statement?currency=USD").json()
        return found if found["closing_balance"] == "69.50" and len(found["lines"]) >= 3 else None

    found = eventually(all_of_it)
    assert found["opening_balance"] == "0.00"
    assert sum(minor(line["amount"]) for line in found["lines"]) == 6950
    since = quote(found["lines"][1]["at"])
    later = api.get(f"/v1/accounts/{ann}/statement?currency=USD&from={since}").json()
    assert (later["opening_balance"], later["closing_balance"]) == ("100.00", "69.50")
    behind = since.replace(
        "Z", "0001Z"
    )  # entries have whole milliseconds: the entry of `since` is before this
    for side, balances in (("from", ("90.00", "69.50")), ("to", ("0.00", "90.00"))):
        half = api.get(f"/v1/accounts/{ann}/statement?currency=USD&{side}={behind}").json()
        assert (half["opening_balance"], half["closing_balance"]) == balances, side
    reply = api.get(f"/v1/accounts/{ann}/statement?currency=USD&format=csv&to={since}")
    lines = list(csv.DictReader(io.StringIO(reply.body.decode())))
    assert [line["type"] for line in lines] == ["opening", "deposit", "closing"]
    assert [line["balance_after"] for line in lines] == ["0.00", "100.00", "100.00"]
    assert reply.headers["wallet-as-of"] >= since, "a file of lines has no place for as_of"
    reply = api.get(f"/v1/accounts/{ann}/statement?currency=USD")
    assert reply.headers["wallet-as-of"] == reply.json()["as_of"]["at"]


def test_a_statement_of_a_system_account_adds_up_line_by_line(api: WalletApi) -> None:
    """Each line told the balance of its partition alone."""
    accounts = [opened(api, partition, "7.00") for partition in (1, 5, 9)]
    for account in accounts:
        listed(api, account, 1)
    path = "/v1/accounts/@bank/statement?currency=USD"
    found = api.get(path).json()
    running = minor(found["opening_balance"])
    for line in found["lines"]:
        running += minor(line["amount"])
        assert minor(line["balance_after"]) == running
    assert minor(found["closing_balance"]) == running
    rows = list(csv.DictReader(io.StringIO(api.get(f"{path}&format=csv").body.decode())))
    assert rows[-1]["balance_after"] == rows[-2]["balance_after"]


def test_times_at_the_ends_of_the_calendar(api: WalletApi) -> None:
    """The last one was rounded up to a year that no date has: 500; and year 1 was told without its zeros."""
    ann = opened(api, 6, "100.00")
    listed(api, ann, 1)
    span = "from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59.9999Z"
    found = api.get(f"/v1/accounts/{ann}/statement?currency=USD&{span}").json()
    assert (found["from"], found["to"]) == ("0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z")
    assert found["closing_balance"] == "100.00"
    for path in (f"/v1/accounts/{ann}/transactions?{span}", f"/v1/transfers?reference=x&{span}"):
        assert api.get(path).status == 200


def test_a_balance_of_then(api: WalletApi) -> None:
    ann, bob = opened(api, 8, "100.00"), opened(api, 9)
    before = listed(api, ann, 1)[0]["at"]
    time.sleep(0.01)
    pay(api, ann, bob, "40.00")
    after = listed(api, ann, 2)[0]["at"]

    def then(at: str) -> Any:
        return eventually(
            lambda: (
                (reply := api.get(f"/v1/accounts/{ann}/balance?currency=USD&at={at}")).status != 503 and reply
            )
        )

    assert then(before).json()["balance"] == "100.00"
    found = then(after).json()
    assert (found["balance"], found["available"], found["held"], found["pending"]) == (
        *("60.00", "60.00", "0.00", "0.00"),
    )
    assert found["at"] == after
    check_problem(then("2020-01-01T00:00:00Z"), 404, "account_not_found")
    future = api.get(f"/v1/accounts/{ann}/balance?currency=USD&at=2999-01-01T00:00:00Z")
    check_problem(future, 400, "invalid_request")


@pytest.mark.parametrize(
    "asked_for", ["balance?currency=USD&at=2026-11-21T10:00:00Z", "statement?currency=USD", "transactions"]
)
def test_g14_the_past_of_transit_is_not_told_as_zero(api: WalletApi, asked_for: str) -> None:
    """The history has no rows of it: a balance of then was 0.00, whatever was on its way."""
    reply = api.get(f"/v1/accounts/@transit/{asked_for}")
    check_problem(reply, 404, "account_not_found")
    assert "wallet-admin balance --at" in reply.json()["detail"]


def test_holds_are_listed_also_when_they_have_ended(api: WalletApi) -> None:
    ann, bob = opened(api, 10, "100.00"), opened(api, 11)
    holds = []
    for amount in ("1.00", "2.00", "3.00"):
        body = {"account_id": ann, "amount": amount, "currency": "USD", "transaction_id": new_id()}
        holds.append(api.post("/v1/holds", body).json()["hold_id"])
    capture = {"account_id": ann, "transaction_id": new_id(), "to_account": bob}
    assert api.post(f"/v1/holds/{holds[0]}/capture", capture).status == 200
    assert api.post(f"/v1/holds/{holds[1]}/void", {"account_id": ann}).status == 200

    def statuses(query: str = "") -> list[tuple[str, str]]:
        found = api.get(f"/v1/accounts/{ann}/holds?{query}").json()
        return [(hold["hold_id"], hold["status"]) for hold in found.get("holds", [])]

    expected = [(holds[2], "open"), (holds[1], "voided"), (holds[0], "captured")]
    eventually(lambda: statuses() == expected, "the holds")
    assert statuses("status=voided") == [expected[1]]
    first = api.get(f"/v1/accounts/{ann}/holds?limit=2").json()
    assert statuses(f"limit=2&cursor={first['next_cursor']}") == expected[2:]
    assert listed(api, ann, 2)[0]["type"] == "capture"


def test_every_write_says_where_it_is(api: WalletApi) -> None:
    """A read with the position of a write as `min_position` sees that write."""
    ann, bob, cid = opened(api, 1, "100.00"), api.name(2), opened(api, 3, "50.00")

    def read(written: Reply, path: str) -> Any:
        assert written.status in (200, 201, 422), written
        position = quote(written.headers["wallet-position"])
        where = f"{path}{'&' if '?' in path else '?'}min_position={position}"
        reply = eventually(lambda: (found := api.get(where)).status != 503 and found)
        assert reply.status == 200, reply
        return reply.json()

    def newest(written: Reply, account: str) -> tuple[str, str]:
        found = read(written, f"/v1/accounts/{account}/transactions?limit=1")["transactions"][0]
        return found["type"], found["amount"]

    def hold_of(written: Reply) -> tuple[str, str]:
        found = read(written, f"/v1/accounts/{ann}/holds?limit=1")["holds"][0]
        return found["status"], found["amount"]

    def legs(*amounts: str) -> list[dict[str, str]]:
        return [
            {**transfer_body(ann, to, a, ""), "transaction_id": new_id()}
            for a in amounts
            for to in (bob, cid)
        ]

    account = api.open(bob)
    assert read(account, f"/v1/accounts/{bob}/transactions")["transactions"] == []
    original = new_id()
    paid = api.post("/v1/wallet/balance_transfer", transfer_body(ann, bob, "5.00", original))
    assert [newest(paid, who) for who in (ann, bob)] == [("transfer", "5.00")] * 2
    batch = api.post("/v1/transfers/batch", {"transfers": legs("1.00", "2.00")})
    assert [newest(batch, who) for who in (ann, bob, cid)] == [("transfer", "2.00")] * 3
    parts = [{name: leg[name] for name in leg if name != "transaction_id"} for leg in legs("3.00")]
    parts[0]["reference"], words = "to bob", {"reference": "wages", "metadata": {"month": "may"}}
    group = api.post("/v1/transfers/group", {"transaction_id": new_id(), "legs": parts, **words})
    assert [newest(group, who) for who in (ann, bob, cid)] == [("group", "3.00")] * 3
    for who, references in ((ann, {"to bob", "wages"}), (bob, {"to bob"}), (cid, {"wages"})):
        told = read(group, f"/v1/accounts/{who}/transactions?type=group")["transactions"]
        assert {(t["reference"], t["metadata"]["month"]) for t in told} == {(r, "may") for r in references}
    parts[1]["amount"] = "900.00"
    declined = api.post("/v1/transfers/group", {"transaction_id": new_id(), "legs": parts})
    told = read(declined, f"/v1/accounts/{ann}/transactions?type=group&status=declined")["transactions"]
    assert {(t["amount"], t["code"]) for t in told} == {
        *(("3.00", "insufficient_funds"), ("900.00", "insufficient_funds")),
    }
    refund = {"from_account": ann, "transaction_id": new_id(), "amount": "4.00"}
    for _ in ("made", "repeated"):
        back = api.post(f"/v1/transfers/{original}/refunds", refund)
        assert [newest(back, who) for who in (ann, bob)] == [("refund", "4.00")] * 2

    named = {"account_id": ann, "transaction_id": new_id()}
    placed = api.post("/v1/holds", {**named, "amount": "6.00", "currency": "USD"})
    assert hold_of(placed) == ("open", "6.00")
    hold = f"/v1/holds/{placed.json()['hold_id']}"
    named["transaction_id"] = new_id()
    assert hold_of(api.post(f"{hold}/increase", {**named, "amount": "1.00"})) == ("open", "7.00")
    named["transaction_id"] = new_id()
    for _ in ("made", "repeated"):
        captured = api.post(f"{hold}/capture", {**named, "to_account": bob})
        assert hold_of(captured) == ("captured", "7.00")
        assert [newest(captured, who) for who in (ann, bob)] == [("capture", "7.00")] * 2
    named["transaction_id"] = new_id()
    hold = (
        f"/v1/holds/{api.post('/v1/holds', {**named, 'amount': '8.00', 'currency': 'USD'}).json()['hold_id']}"
    )
    assert hold_of(api.post(f"{hold}/void", {"account_id": ann})) == ("voided", "8.00")

    seqs = []
    for changed in (
        api.patch(f"/v1/accounts/{ann}", {"currency": "USD", "overdraft_limit": "5.00"}),
        *(api.flag(ann, action) for action in ("freeze", "unfreeze")),
    ):
        read(changed, f"/v1/accounts/{ann}/transactions")
        partition, _, seq = changed.headers["wallet-position"].partition(".")
        assert partition == "1"
        seqs.append(int(seq))
    assert len(set(seqs)) == 3
    assert seqs == sorted(seqs)
    refused = api.post("/v1/wallet/balance_transfer", transfer_body(ann, bob, "900.00", new_id()))
    assert refused.status == 422
    assert refused.headers["wallet-position"].startswith("1.")
    empty = api.name(4)
    api.open(empty)
    closed = api.flag(empty, "close")
    assert read(closed, f"/v1/accounts/{empty}/transactions")["transactions"] == []
    behind = api.get(f"/v1/accounts/{ann}/transactions?min_position={'1.999999999,2.1'}")
    check_problem(behind, 503, "history_behind")


def forget(cluster: DevCluster, api: WalletApi, *accounts: str) -> None:
    """Make these accounts' partitions forget their ids: for them, two windows have passed."""
    for account in accounts * 2:
        partition = partition_of(account, PARTITIONS)
        address = node_of(cluster, partition, PARTITIONS)["address"]
        with closing(connect_redis(address)) as client:
            client.hset(PartitionKeys(tag_of(partition, PARTITIONS)).meta, "witnessed_s", 10**9)
        pay(api, "@bank", account, "0.01")


def test_what_is_forgotten_is_refunded_as_far_as_the_history_knows(
    cluster: DevCluster, api: WalletApi
) -> None:
    ann, bob, cid = opened(api, 5, "100.00"), opened(api, 6), opened(api, 7)

    def refund(original: str, transaction_id: str | None = None, **more: Any) -> Reply:
        body = {"from_account": ann, "transaction_id": transaction_id or new_id(), **more}
        return eventually(
            lambda: (reply := api.post(f"/v1/transfers/{original}/refunds", body)).status != 503 and reply
        )

    def left(reply: Reply) -> tuple[str, str]:
        assert reply.status == 200, reply
        return reply.json()["refunded_total"], reply.json()["refundable"]

    original, first, group = pay(api, ann, bob, "10.00"), new_id(), new_id()
    assert left(refund(original, first, amount="3.00")) == ("3.00", "7.00")
    sides = {"from_account": ann, "to_account": bob, "amount": "2.00", "currency": "USD"}
    legs = [sides, {**sides, "amount": "4.00"}, {**sides, "to_account": cid}]
    paid = api.post("/v1/transfers/group", {"transaction_id": group, "legs": legs})
    assert paid.status == 200, paid
    assert left(refund(group, leg=1, amount="1.00")) == ("1.00", "3.00")
    forget(cluster, api, ann, bob, cid)
    assert api.find(ann, original).status == 404
    again = new_id()
    assert left(refund(original, again, amount="5.00")) == ("8.00", "2.00")
    repeated = refund(original, again, amount="5.00")
    assert left(repeated) == ("8.00", "2.00")
    assert repeated.headers["idempotent-replayed"] == "true"
    check_problem(
        refund(original, first, amount="2.01"), 422, "refund_exceeds", transaction_id=first
    )  # its id is forgotten too
    assert left(refund(original)) == ("10.00", "0.00")
    assert refund(original).json()["code"] == "refund_exceeds"
    assert refund(group).json()["code"] == "invalid_request"
    assert left(refund(group, leg=1)) == ("4.00", "0.00")
    assert left(refund(group, leg=0)) == ("2.00", "0.00")
    assert left(refund(group, leg=2, amount="0.50")) == ("0.50", "1.50")
    assert refund(new_id()).json()["code"] == "transfer_not_found"
    refused = pay(api, ann, "nobody", "1.00")
    forget(cluster, api, ann)
    assert refund(refused).json()["code"] == "not_refundable"

    aged = "UPDATE transfers SET at = at + $2 WHERE transaction_id = $1"
    days, url = timedelta(days=401), database_url(cluster)
    then = datetime.now(UTC) - days
    asked(url, lambda c: make_months(c, {(then.year, then.month)}))
    asked(url, lambda c: c.execute(aged, UUID(original), -days))
    assert refund(original).json()["code"] == "refund_window_closed"
    asked(url, lambda c: c.execute(aged, UUID(original), days))
    status, said = admin(cluster, "verify")
    assert status == 0, said


def test_refunds_of_what_is_forgotten_in_windows_that_follow(cluster: DevCluster, api: WalletApi) -> None:
    """Both windows then have a sum: the answer named the digits of one behind those of the other."""
    ann, bob = opened(api, 5, "100.00"), opened(api, 6)
    original = pay(api, ann, bob, "10.00")
    forget(cluster, api, ann, bob)
    for amount, total, rest in (("3.00", "3.00", "7.00"), ("2.00", "5.00", "5.00"), (None, "10.00", "0.00")):
        body = {"from_account": ann, "transaction_id": new_id(), **({"amount": amount} if amount else {})}
        path = f"/v1/transfers/{original}/refunds"
        reply = eventually(lambda b=body, p=path: (got := api.post(p, b)).status != 503 and got, "a refund")
        assert reply.status == 200, reply
        assert (reply.json()["refunded_total"], reply.json()["refundable"]) == (total, rest)
        rotated(cluster, api, partition_of(bob, PARTITIONS))


def test_g4_a_refund_by_a_system_account_of_what_is_forgotten_is_repeated(
    cluster: DevCluster, api: WalletApi
) -> None:
    """The repeat did not find the words of the refund, and was a conflict."""
    ann = opened(api, 5, "100.00")
    original, refund_id = pay(api, ann, "@fees", "10.00"), new_id()
    forget(cluster, api, ann)
    body = {"from_account": ann, "transaction_id": refund_id, "amount": "3.00"}
    path = f"/v1/transfers/{original}/refunds"
    for replayed in (None, "true", "true"):
        reply = eventually(lambda: (got := api.post(path, body)).status != 503 and got, "a refund")
        assert reply.status == 200, reply
        assert (reply.json()["refunded_total"], reply.json()["refundable"]) == ("3.00", "7.00")
        assert reply.headers.get("idempotent-replayed") == replayed


@pytest.mark.parametrize(
    "remembers", [True, False], ids=["the receiver remembers it", "all have forgotten it"]
)
def test_a_transfer_whose_id_was_used_before_is_refunded_on_its_own(
    cluster: DevCluster, api: WalletApi, remembers: bool
) -> None:
    """What had gone back of the transfer before counted for it: less could be refunded, or nothing."""
    ann, bob = opened(api, 5, "100.00"), opened(api, 6)

    def refund(original: str, **more: Any) -> tuple[str, str]:
        body = {"from_account": ann, "transaction_id": new_id(), **more}
        path = f"/v1/transfers/{original}/refunds"
        reply = eventually(lambda: (got := api.post(path, body)).status != 503 and got, "a refund")
        assert reply.status == 200, reply
        return reply.json()["refunded_total"], reply.json()["refundable"]

    again = pay(api, ann, bob, "10.00")
    if remembers:
        assert refund(again, amount="7.00") == ("7.00", "3.00")
    forget(cluster, api, *([ann] if remembers else [ann, bob]))
    if not remembers:
        assert refund(again, amount="7.00") == ("7.00", "3.00")
    body = transfer_body(ann, bob, "6.00", again)
    assert api.post("/v1/wallet/balance_transfer", body).headers.get("idempotent-replayed") != "true"
    assert refund(again, amount="1.00") == ("1.00", "5.00")
    assert refund(again) == ("6.00", "0.00")
    forget(cluster, api, ann, bob)
    body = {"from_account": ann, "transaction_id": new_id(), "amount": "0.01"}
    reply = eventually(
        lambda: (got := api.post(f"/v1/transfers/{again}/refunds", body)).status != 503 and got, "a refund"
    )
    assert reply.json()["code"] == "refund_exceeds"


def test_what_its_receiver_alone_has_forgotten_is_refunded(cluster: DevCluster, api: WalletApi) -> None:
    """Its payer's partition still remembers it: it was not found, and a leg was pending until home forgot it too."""
    ann, bob = opened(api, 5, "100.00"), opened(api, 6)
    original, group = pay(api, ann, bob, "10.00"), new_id()
    legs = [{"from_account": ann, "to_account": bob, "amount": "10.00", "currency": "USD"}]
    assert api.post("/v1/transfers/group", {"transaction_id": group, "legs": legs}).status == 200
    no_group_is_open(cluster, api, 5)

    def refund(of: str, amount: str | None, id_: str = "") -> tuple[str, str]:
        body = {
            "from_account": ann,
            "transaction_id": id_ or new_id(),
            **({"amount": amount} if amount else {}),
        }
        path = f"/v1/transfers/{of}/refunds"
        reply = eventually(lambda: (got := api.post(path, body)).status != 503 and got, "a refund")
        assert reply.status == 200, reply
        return reply.json()["refunded_total"], reply.json()["refundable"]

    for of in (original, group):
        assert refund(of, "3.00") == ("3.00", "7.00")
    forget(cluster, api, bob)
    for of in (original, group):
        again = new_id()
        for _ in range(2):
            assert refund(of, "2.00", again) == ("5.00", "5.00")
        assert refund(of, None) == ("10.00", "0.00")


def test_verify_names_what_differs_and_rebuild_mends_it(cluster: DevCluster, api: WalletApi) -> None:
    ann, bob = opened(api, 12, "100.00"), opened(api, 13)
    for _ in range(5):
        pay(api, ann, bob, "1.00")
    listed(api, bob, 5)
    status, found = admin(cluster, "history", "verify")
    assert (status, found["ok"], found["differences"]) == (0, True, [])
    assert found["transfers"] >= 6
    assert admin(cluster, "history", "status")[0] == 0
    url = database_url(cluster)
    asked(url, lambda c: c.execute("UPDATE postings SET balance = balance + 1 WHERE account = $1", bob))
    asked(url, lambda c: c.execute("DELETE FROM transfers WHERE payer = $1", ann))
    status, found = admin(cluster, "history", "verify")
    assert (status, found["ok"]) == (1, False)
    assert any(bob in line for line in found["differences"])
    assert any("transfer success in USD of partition 12" in line for line in found["differences"])
    assert admin(cluster, "history", "rebuild", "12", "13", "--wait") == (0, {"partitions": [12, 13]})
    found = admin(cluster, "history", "verify")[1]
    assert found["ok"], found
    assert len(listed(api, bob, 5)) == 5


def test_g14_verify_names_a_partition_that_the_history_has_never_followed(
    cluster: DevCluster, api: WalletApi
) -> None:
    listed(api, opened(api, 12, "100.00"), 1)
    url, place = database_url(cluster), "positions WHERE sink = 'history' AND partition = 12"
    with stopped(*cluster.processes("follower")):
        (kept,) = rows_of(url, f"SELECT * FROM {place}")
        asked(url, lambda c: clear(c, [12]))
        asked(url, lambda c: c.execute(f"DELETE FROM {place}"))
        status, found = admin(cluster, "history", "verify")
        assert (status, found["ok"]) == (1, False), found
        said = [line for line in found["differences"] if line.startswith("partition 12: ")]
        assert len(said) == 1
        assert said[0].startswith(
            "partition 12: the history has nothing and no position, the journal ends at "
        )
        assert found["behind_entries"] >= kept["seq"]
        assert admin(cluster, "history", "status")[1]["unfollowed"] == [12]
    eventually(lambda: admin(cluster, "history", "verify")[0] == 0)


@pytest.mark.parametrize("role", ["follower", "database", pytest.param("journal", marks=pytest.mark.soak)])
def test_a_kill_loses_and_doubles_nothing(cluster: DevCluster, api: WalletApi, role: str) -> None:
    """kill -9 under traffic; payments go on while the history is away."""
    ann, bob = opened(api, 14, "1000.00"), opened(api, 15)
    for number in range(60):
        if number in (20, 40):
            cluster.kill(role)
        reply = api.post("/v1/wallet/balance_transfer", transfer_body(ann, bob, "1.00", new_id()))
        assert reply.status == 200 or (role == "journal" and reply.status == 503), reply
    paid = minor(api.get(f"/v1/accounts/{bob}/balance?currency=USD").json()["balance"])
    sums = "SELECT coalesce(sum(delta), 0)::bigint AS paid FROM postings WHERE account = $1"

    def arrived() -> bool:
        try:
            return bool(rows_of(database_url(cluster), sums, bob)[0]["paid"] == paid)
        except Exception:
            return False

    eventually(arrived, f"all of {bob}'s money")
    eventually(lambda: admin(cluster, "history", "verify")[1].get("ok"), "a sound history")


@pytest.mark.parametrize("then", [pytest.param("goes on", marks=pytest.mark.soak), "is killed"])
def test_a_database_that_stands_still_is_503_for_the_past_alone(
    cluster: DevCluster, api: WalletApi, then: str
) -> None:
    ann = opened(api, 0, "10.00")
    listed(api, ann, 1)
    pid = cluster.living("database")["pid"]
    stopped = [psutil.Process(pid), *psutil.Process(pid).children()]
    for each in stopped:
        each.suspend()
    try:
        check_problem(api.get(f"/v1/accounts/{ann}/transactions"), 503, "history_unavailable")
        check_problem(api.get("/v1/events?limit=1"), 503, "history_unavailable")
        assert api.get(f"/v1/accounts/{ann}/balance?currency=USD").json()["balance"] == "10.00"
        pay(api, "@bank", ann, "1.00")
    finally:
        for each in stopped if then == "goes on" else reversed(stopped):
            with suppress(psutil.NoSuchProcess):
                each.resume() if then == "goes on" else each.kill()
    if then == "is killed":  # in the middle of the follower's statement
        cluster.wait_replaced(pid)
    listed(api, ann, 2)


def test_a_restart_keeps_what_is_there(cluster: DevCluster, api: WalletApi) -> None:
    ann = opened(api, 1, "10.00")
    listed(api, ann, 1)
    roles = {p["role"] for p in cluster.state()["processes"]}
    assert {"database", "follower"} <= roles
    niceness = {p["role"]: psutil.Process(p["pid"]).nice() for p in cluster.state()["processes"]}
    assert niceness["follower"] == niceness["api"] + LOW_NICENESS
    # Payments have priority over the follower and PostgreSQL.
    assert os.sched_getscheduler(cluster.living("api-1")["pid"]) == os.SCHED_OTHER
    password = cluster.data_dir / "postgresql" / "password"
    assert password.stat().st_mode & 0o777 == 0o600
    cluster.stop()
    cluster.start()
    with WalletApi(cluster.url, PARTITIONS) as again:
        assert len(listed(again, ann, 1)) == 1
        pay(again, "@bank", ann, "1.00")
        assert len(listed(again, ann, 2)) == 2
