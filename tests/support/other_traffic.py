"""Callers of a soak beside those of `traffic.py`: groups, holds with captures, and refunds, with books of their own.

Every request is retried with its id until it has an answer. Answered requests are repeated, and the answers say what
each account must have.
"""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from support.http_client import HttpClient, NoReply
from support.traffic import open_and_fund

#: Refusals that are not remembered: the answer about a hold that is gone changes with time.
HOLD_IS_GONE: Final = frozenset({"hold_not_found", "hold_not_open", "hold_expired"})
ASKED_AGAIN_MAX: Final = 200
TRIES_MAX: Final = 4
AT_ONCE_MAX: Final = 16


@dataclass(slots=True)
class Wanted:
    """One request. `answer` is "success" or a code once it is final; `moves`, if it is paid: payer, receiver, cents."""

    kind: str
    path: str
    body: dict[str, Any]
    moves: tuple[tuple[str, str, int], ...] = ()
    answer: str = ""


def _amount(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


@dataclass
class OtherCallers:
    """`run` until `stop`; `finish` when all is calm, and then `check` every account."""

    urls: Sequence[str]
    accounts: Sequence[str]
    funded_cents: int
    rng: random.Random
    wanted: list[Wanted] = field(default_factory=list)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: How many of `wanted` were there at the last reckoning.
    _settled: int = 0
    _few: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE_MAX))

    async def open(self) -> None:
        async with HttpClient() as http:
            await open_and_fund(http, self.urls[0], self.accounts, self.funded_cents)

    def _id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128)))

    async def run(self, stop: asyncio.Event, count: int, pause_s: float) -> None:
        async def caller(http: HttpClient) -> None:
            while not stop.is_set():
                await self.rng.choice((self._group, self._hold, self._refund))(http)
                await asyncio.sleep(pause_s)

        async with HttpClient() as http:
            await asyncio.gather(*(caller(http) for _ in range(count)))

    async def _want(
        self, http: HttpClient, kind: str, path: str, body: dict[str, Any], *moves: tuple[str, str, int]
    ) -> Wanted:
        """Ask a few times; `finish` goes on with a request that has no answer by then."""
        wanted = Wanted(kind, path, body if kind == "void" else {**body, "transaction_id": self._id()}, moves)
        self.wanted.append(wanted)
        for _ in range(TRIES_MAX):
            if await self._ask(http, wanted):
                break
            await asyncio.sleep(0.2 * self.rng.random())
        return wanted

    async def _ask(self, http: HttpClient, wanted: Wanted) -> bool:
        """Ask once; returns whether there is an answer. It must equal an earlier one."""
        try:
            reply = await http.post(f"{self.rng.choice(list(self.urls))}{wanted.path}", wanted.body)
        except NoReply:
            return False
        found = "success"
        if reply.status >= 400:
            problem = reply.json()
            if problem["retryable"]:
                return False
            found = "hold is gone" if problem["code"] in HOLD_IS_GONE else str(problem["code"])
        assert wanted.answer in ("", found), f"{wanted} is now answered {reply}"
        wanted.answer = found
        self.answers[wanted.kind, found] += 1
        return True

    async def _group(self, http: HttpClient) -> None:
        """2 to 4 legs; some are more than the payer has."""
        legs, moves = [], []
        for _ in range(self.rng.randint(2, 4)):
            payer, receiver = self.rng.sample(list(self.accounts), 2)
            cents = self.rng.randint(1, 300) if self.rng.random() < 0.97 else self.funded_cents * 100
            moves.append((payer, receiver, cents))
            legs.append(
                {"from_account": payer, "to_account": receiver, "amount": _amount(cents), "currency": "USD"}
            )
        await self._want(http, "group", "/v1/transfers/group", {"legs": legs}, *moves)

    async def _hold(self, http: HttpClient) -> None:
        """Place a hold, and then capture a part of it or void it."""
        payer, receiver = self.rng.sample(list(self.accounts), 2)
        cents = self.rng.randint(2, 500)
        words = {"account_id": payer, "amount": _amount(cents), "currency": "USD"}
        placed = await self._want(http, "hold", "/v1/holds", words)
        if placed.answer != "success":  # `finish` voids one that is placed later
            return
        path = f"/v1/holds/{placed.body['transaction_id']}"
        if self.rng.random() < 0.3:
            await self._want(http, "void", f"{path}/void", {"account_id": payer})
            return
        taken = self.rng.randint(1, cents)
        words = {"account_id": payer, "to_account": receiver, "amount": _amount(taken)}
        await self._want(http, "capture", f"{path}/capture", words, (payer, receiver, taken))

    async def _refund(self, http: HttpClient) -> None:
        """Pay, and ask for parts of it back; together they may be more than was paid."""
        payer, receiver = self.rng.sample(list(self.accounts), 2)
        cents = self.rng.randint(2, 400)
        words = {"from_account": payer, "to_account": receiver, "amount": _amount(cents), "currency": "USD"}
        paid = await self._want(
            http, "payment", "/v1/wallet/balance_transfer", words, (payer, receiver, cents)
        )
        for _ in range(self.rng.randint(1, 3) if paid.answer == "success" else 0):
            back = self.rng.randint(1, cents)
            await self._want(
                http,
                "refund",
                f"/v1/transfers/{paid.body['transaction_id']}/refunds",
                {"from_account": payer, "amount": _amount(back)},
                (receiver, payer, back),
            )

    async def finish(self, timeout_s: float) -> None:
        """Retry until every request has its answer, repeat some, and void the holds that were not captured."""
        async with HttpClient() as http, asyncio.timeout(timeout_s):
            await self._answer([wanted for wanted in self.wanted if not wanted.answer], http)
            await self._answer(self.rng.sample(self.wanted, min(ASKED_AGAIN_MAX, len(self.wanted))), http)
            placed = [wanted for wanted in self.wanted[self._settled :] if wanted.kind == "hold"]
            self._settled = len(self.wanted)
            voids = [
                Wanted(
                    "void",
                    f"/v1/holds/{hold.body['transaction_id']}/void",
                    {"account_id": hold.body["account_id"]},
                )
                for hold in placed
                if hold.answer == "success"
            ]
            await self._answer(voids, http)

    async def _answer(self, asked: Sequence[Wanted], http: HttpClient) -> None:
        async def insist(wanted: Wanted) -> None:
            async with self._few:
                while not await self._ask(http, wanted):
                    await asyncio.sleep(0.1)

        await asyncio.gather(*map(insist, asked))

    async def check(self) -> None:
        """Every balance is what the answers say, and nothing is set aside any more."""
        expected = dict.fromkeys(self.accounts, self.funded_cents)
        for wanted in self.wanted:
            for payer, receiver, cents in wanted.moves if wanted.answer == "success" else ():
                expected[payer] -= cents
                expected[receiver] += cents
        async with HttpClient() as http:
            for account, cents in expected.items():
                reply = await http.get(f"{self.urls[0]}/v1/accounts/{account}/balance?currency=USD")
                found = reply.json()
                shown = tuple(found[name] for name in ("balance", "held", "pending"))
                assert shown == (_amount(cents), "0.00", "0.00"), f"{account}: {found}, not {cents} cents"
