"""Callers that pay each other over HTTP and remember every answer; the bookkeeper of the fault tests.

The bookkeeper shares no code with the engine. It knows every request and answer, and so what the balances must be once
every transfer has an answer.
"""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from support.http_client import HttpClient, NoReply

#: The longest wait for the first answers.
WARM_S_MAX = 30.0
#: Attempts without an answer: nothing listened there, or the request was sent.
NOT_SENT, NO_ANSWER = "not sent", "no answer"
#: Answers that leave open what happened: the caller must retry with the same id.
RETRYABLE = frozenset({"overloaded", "partition_unavailable", "journal_unavailable", "outcome_unknown"})


@dataclass(slots=True)
class Payment:
    """One transfer a caller wants; `answer` is "success" or a code once it is final, and then never changes."""

    from_account: str
    to_account: str
    cents: int
    transaction_id: str
    answer: str | None = None
    attempts: int = 0

    def body(self) -> dict[str, str]:
        return {
            "from_account": self.from_account,
            "to_account": self.to_account,
            "amount": f"{self.cents // 100}.{self.cents % 100:02d}",
            "currency": "USD",
            "transaction_id": self.transaction_id,
        }


class Contradiction(AssertionError):
    """Two answers to the same transfer differ."""


@dataclass
class Books:
    """All payments ever asked for."""

    accounts: Sequence[str]
    funded_cents: int
    rng: random.Random
    payments: list[Payment] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    def next_payment(self) -> Payment:
        sender, receiver = self.rng.sample(list(self.accounts), 2)
        if self.rng.random() < 0.03:
            receiver = f"nobody-{self.rng.randrange(1000)}"
        # Some amounts are more than any account has: declines must be remembered too.
        cents = self.rng.randrange(1, 500) if self.rng.random() < 0.95 else self.funded_cents * 1000
        payment = Payment(sender, receiver, cents, str(uuid.UUID(int=self.rng.getrandbits(128))))
        self.payments.append(payment)
        return payment

    def note(self, payment: Payment, answer: str) -> None:
        self.answers[answer] += 1
        if answer in RETRYABLE:
            return
        if payment.answer not in (None, answer):
            raise Contradiction(f"{payment.transaction_id}: first {payment.answer}, then {answer}")
        payment.answer = answer

    @property
    def lost(self) -> int:
        """Payments asked for in attempts without an answer."""
        return self.answers[NO_ANSWER] + self.answers[NOT_SENT]

    @property
    def answered(self) -> list[Payment]:
        return [payment for payment in self.payments if payment.answer is not None]

    @property
    def unanswered(self) -> list[Payment]:
        return [payment for payment in self.payments if payment.answer is None]

    def expected_cents(self) -> dict[str, int]:
        """Balances once no payment is unanswered."""
        cents = dict.fromkeys(self.accounts, self.funded_cents)
        for payment in self.payments:
            if payment.answer == "success":
                cents[payment.from_account] -= payment.cents
                cents[payment.to_account] += payment.cents
        return cents


async def open_and_fund(http: HttpClient, url: str, accounts: Sequence[str], cents: int) -> None:
    """Open the accounts in USD and fund each with `cents` from `@bank`."""
    for account in accounts:
        reply = await http.post(f"{url}/v1/accounts", {"account_id": account, "currency": "USD"})
        assert reply.status in (200, 201), reply.body
    transfers = [
        {**Payment("@bank", account, cents, str(uuid.uuid5(uuid.NAMESPACE_OID, account))).body()}
        for account in accounts
    ]
    reply = await http.post(f"{url}/v1/transfers/batch", {"transfers": transfers})
    assert reply.status == 200, reply.body
    assert {result["status"] for result in reply.json()["results"]} == {"success"}


async def ask(http: HttpClient, url: str, books: Books, payment: Payment) -> None:
    """One attempt; a connection that breaks leaves the payment unanswered."""
    payment.attempts += 1
    try:
        reply = await http.post(f"{url}/v1/wallet/balance_transfer", payment.body())
    except NoReply as lost:
        books.answers[NO_ANSWER if lost.sent else NOT_SENT] += 1
        return
    document: dict[str, Any] = reply.json()
    assert document.get("transaction_id") == payment.transaction_id, document
    books.note(payment, "success" if reply.status == 200 else document["code"])


async def ask_batch(http: HttpClient, url: str, books: Books, payments: Sequence[Payment]) -> None:
    for payment in payments:
        payment.attempts += 1
    body = {"transfers": [payment.body() for payment in payments]}
    try:
        reply = await http.post(f"{url}/v1/transfers/batch", body)
    except NoReply as lost:
        books.answers[NO_ANSWER if lost.sent else NOT_SENT] += len(payments)
        return
    if reply.status == 503:
        books.answers[reply.json()["code"]] += len(payments)
        return
    assert reply.status == 200, reply.body
    for payment, result in zip(payments, reply.json()["results"], strict=True):
        assert result["transaction_id"] == payment.transaction_id
        books.note(payment, "success" if result["status"] == "success" else result["code"])


async def callers(
    http: HttpClient,
    urls: Sequence[str],
    books: Books,
    *,
    count: int,
    stop: asyncio.Event,
    pause_s: float = 0.0,
) -> None:
    """`count` callers that pay, some in batches, until `stop`; each attempt is made once, with a pause after it."""

    async def caller(number: int) -> None:
        while not stop.is_set():
            url = urls[number % len(urls)]
            before = books.lost
            if number % 4 == 0:
                await ask_batch(http, url, books, [books.next_payment() for _ in range(20)])
            else:
                await ask(http, url, books, books.next_payment())
            if books.lost > before:
                await asyncio.sleep(0.05)
            elif pause_s:
                await asyncio.sleep(pause_s)

    await asyncio.gather(*(caller(number) for number in range(count)))


async def until_answered(books: Books, *, count: int, after_s: float) -> list[Payment]:
    """The answered payments, after `after_s` and once there are `count`: the machine may be busy."""
    await asyncio.sleep(after_s)
    deadline = time.monotonic() + WARM_S_MAX
    while len(found := books.answered) < count:
        assert time.monotonic() < deadline, f"no {count} answers: {dict(books.answers)}"
        await asyncio.sleep(0.05)
    return found


async def finish(http: HttpClient, url: str, books: Books, *, timeout_s: float = 60.0) -> None:
    """Retry every unanswered payment with its own id until it has an answer."""
    async with asyncio.timeout(timeout_s):
        while unanswered := books.unanswered:
            for start in range(0, len(unanswered), 200):
                await ask_batch(http, url, books, unanswered[start : start + 200])
            if books.unanswered:
                await asyncio.sleep(0.2)


async def balances_cents(http: HttpClient, url: str, accounts: Sequence[str]) -> dict[str, int]:
    cents = {}
    for account in accounts:
        reply = await http.get(f"{url}/v1/accounts/{account}/balance?currency=USD")
        assert reply.status == 200, reply.body
        whole, _, fraction = reply.json()["balance"].partition(".")
        cents[account] = int(whole + fraction)
    return cents
