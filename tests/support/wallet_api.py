"""The HTTP contract as tests use it: one keep-alive connection, no retries, names chosen by partition."""

import http.client
import itertools
import json
import secrets
import uuid
from typing import Any
from urllib.parse import urlsplit

from support.http_client import Reply

from wallet_engine.routing.slots import partition_of

#: Part of every account name: names of two runs never collide, so all tests can share a cluster.
_RUN = secrets.token_hex(3)
_numbers = itertools.count(1)

TIMEOUT_S = 30.0


def transfer_body(
    sender: str, receiver: str, amount: str, transaction_id: str, currency: str = "USD"
) -> dict[str, str]:
    return {
        "from_account": sender,
        "to_account": receiver,
        "amount": amount,
        "currency": currency,
        "transaction_id": transaction_id,
    }


def new_id() -> str:
    return str(uuid.uuid4())


class WalletApi:
    """`with WalletApi(url, partitions) as api: api.pay("ann", "bob", "1.00")`."""

    def __init__(self, url: str, partitions: int) -> None:
        self.url = url
        self.partitions = partitions
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)

    def __enter__(self) -> "WalletApi":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        self._connection.request(method, path, body, headers or {})
        answer = self._connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, named, answer.read())

    def get(self, path: str) -> Reply:
        return self.request("GET", path)

    def post(self, path: str, document: Any = None, headers: dict[str, str] | None = None) -> Reply:
        return self.request("POST", path, b"" if document is None else json.dumps(document).encode(), headers)

    def patch(self, path: str, document: Any) -> Reply:
        return self.request("PATCH", path, json.dumps(document).encode())

    # Accounts

    def name(self, partition: int = 0) -> str:
        """A new account name that lives in the partition."""
        return next(
            name
            for name in (f"a-{_RUN}-{number}" for number in _numbers)
            if partition_of(name, self.partitions) == partition
        )

    def open(self, account: str, currency: str = "USD", overdraft_limit: str | None = None) -> Reply:
        limit = {} if overdraft_limit is None else {"overdraft_limit": overdraft_limit}
        return self.post("/v1/accounts", {"account_id": account, "currency": currency, **limit})

    def account(
        self,
        partition: int = 0,
        funds: str | None = None,
        currency: str = "USD",
        overdraft: str | None = None,
    ) -> str:
        """A new account that is open and, if asked for, has money from `@bank`."""
        name = self.name(partition)
        reply = self.open(name, currency, overdraft)
        assert reply.status == 201, reply
        if funds is not None:
            self.paid("@bank", name, funds, currency)
        return name

    def flag(self, account: str, action: str) -> Reply:
        return self.post(f"/v1/accounts/{account}/{action}")

    def balance(self, account: str, currency: str = "USD") -> str:
        reply = self.get(f"/v1/accounts/{account}/balance?currency={currency}")
        assert reply.status == 200, reply
        return str(reply.json()["balance"])

    # Transfers

    def pay(
        self,
        sender: str,
        receiver: str,
        amount: str,
        currency: str = "USD",
        *,
        transaction_id: str | None = None,
    ) -> Reply:
        body = transfer_body(sender, receiver, amount, transaction_id or new_id(), currency)
        return self.post("/v1/wallet/balance_transfer", body)

    def paid(
        self,
        sender: str,
        receiver: str,
        amount: str,
        currency: str = "USD",
        *,
        transaction_id: str | None = None,
    ) -> Reply:
        """A transfer that must succeed."""
        reply = self.pay(sender, receiver, amount, currency, transaction_id=transaction_id)
        assert reply.status == 200, reply
        return reply

    def batch(self, transfers: list[dict[str, str]]) -> Reply:
        return self.post("/v1/transfers/batch", {"transfers": transfers})

    def find(self, sender: str, transaction_id: str) -> Reply:
        return self.get(f"/v1/transfers/{transaction_id}?from_account={sender}")


def check_problem(
    reply: Reply, status: int, code: str, *, transaction_id: str | None = None, replayed: bool = False
) -> None:
    """The reply is a problem with this code, and every part is as the contract says."""
    document = reply.json()
    assert (reply.status, document.get("code")) == (status, code), reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert document["status"] == status
    assert document["type"].endswith(code)
    assert document["title"]
    assert document["detail"]
    assert document["retryable"] == (status == 503)
    assert document.get("transaction_id") == transaction_id
    assert ("retry-after" in reply.headers) == (status == 503)
    assert (reply.headers.get("idempotent-replayed") == "true") == replayed, reply


def check_success(reply: Reply, transaction_id: str, *, replayed: bool = False) -> None:
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == {"status": "success", "transaction_id": transaction_id}
    assert (reply.headers.get("idempotent-replayed") == "true") == replayed, reply
