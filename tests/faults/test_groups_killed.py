"""G9 for groups: a group's driver dies at any step; by itself, the group ends as a whole or as nothing."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import doomed_group
from support.dev_process import DevCluster, end
from support.http_client import HttpClient, Reply
from support.verification import verified
from support.wallet_api import WalletApi, new_id

PARTITIONS = 16
#: Two prepares, the decision, two payments (or refusals), and the home partition forgets the group.
OPERATIONS = range(6)
#: Interrupted groups end within 30 s; more is for a machine that is busy with other tests.
ENDED_S_MAX = 60.0
DIED_S_MAX = 60.0


def leg(payer: str, receiver: str, amount: str) -> dict[str, str]:
    return {"from_account": payer, "to_account": receiver, "amount": amount, "currency": "USD"}


def figures(api: WalletApi, account: str) -> tuple[str, ...]:
    found = api.get(f"/v1/accounts/{account}/balance?currency=USD").json()
    return tuple(found[name] for name in ("balance", "available", "held", "pending"))


class Doomed:
    """A group of three accounts in three shards, whose service dies before the group has ended."""

    def __init__(self, api: WalletApi, operation: int, when: str, refused: bool) -> None:
        self.operation, self.when, self.refused = operation, when, refused
        self.accounts = [api.account(p, "10.00") for p in (1, 6, 11)]
        a, b, c = self.accounts
        amounts = ("1.00", "2.00", "11.00" if refused else "4.00")
        legs = [leg(a, b, amounts[0]), leg(b, c, amounts[1]), leg(c, a, amounts[2])]
        self.body = {"transaction_id": new_id(), "legs": legs}

    def __repr__(self) -> str:
        return f"<Doomed {self.when} {self.operation} refused={self.refused}>"

    def stands(self, api: WalletApi) -> str:
        """`paid`, `nothing`, or `under way`. Anything else is a fault."""
        found = [figures(api, account) for account in self.accounts]
        if found == [(b, b, "0.00", "0.00") for b in ("13.00", "9.00", "8.00")] and not self.refused:
            return "paid"
        if found == [("10.00", "10.00", "0.00", "0.00")] * 3:
            return "nothing"
        return "under way"


def kill_all(cluster: DevCluster, doomed: list[Doomed]) -> None:
    every = [(each.operation, each.when, each.body) for each in doomed]
    ends = doomed_group.die(cluster.state()["zookeeper"], every, DIED_S_MAX)
    assert len(ends) == len(doomed)
    assert set(ends) <= {0, -signal.SIGKILL}, ends


def end_of(api: WalletApi, doomed: list[Doomed]) -> dict[Doomed, str]:
    deadline_s = time.monotonic() + ENDED_S_MAX
    ends = {each: each.stands(api) for each in doomed}
    while any(end == "under way" for end in ends.values()):
        assert time.monotonic() < deadline_s, [each for each, end in ends.items() if end == "under way"]
        time.sleep(0.3)
        ends = {each: each.stands(api) for each in doomed}
    return ends


def test_g9_a_service_that_dies_at_any_step_leaves_a_whole_group_or_nothing(cluster: DevCluster) -> None:
    """And a repeat with the same id comes to the same end, or makes the whole group where there was nothing."""
    with WalletApi(cluster.urls[1], PARTITIONS) as api:
        doomed = [
            Doomed(api, operation, when, refused)
            for refused in (False, True)
            for operation in OPERATIONS
            for when in ("before", "sent")
        ]
    kill_all(cluster, doomed)
    with WalletApi(cluster.urls[1], PARTITIONS) as api:  # the earlier connection may have been closed as idle
        ends = end_of(api, doomed)
        print({str(each): end for each, end in ends.items()})
        for each, end in ends.items():
            if each.refused or (each.operation, each.when) <= (2, "before"):
                assert end == "nothing", each
            elif each.operation > 2:
                assert end == "paid", each
        for each in doomed:
            reply = api.post("/v1/transfers/group", each.body)
            assert (reply.status, reply.json().get("leg")) == ((422, 2) if each.refused else (200, None)), (
                each
            )
            assert each.stands(api) == ("nothing" if each.refused else "paid")
            if ends[each] == "paid":
                assert reply.headers["idempotent-replayed"] == "true"
        verified(cluster)


def test_pending_tells_what_a_group_waits_for(cluster: DevCluster) -> None:
    """A prepared group waits for its home partition's decision. A service that died leaves it so for some seconds."""
    command = [str(Path(sys.executable).with_name("wallet-admin")), *cluster.coordination_flags()]
    with WalletApi(cluster.urls[1], PARTITIONS) as api:
        for _ in range(5):  # on a busy machine it may have ended before `pending` looks
            doomed = Doomed(api, 2, "before", refused=False)
            kill_all(cluster, [doomed])
            run = subprocess.run([*command, "--json", "pending"], capture_output=True, text=True, check=True)
            groups = json.loads(run.stdout)["groups"]
            if len(groups) == 2:
                break
        assert {(g["state"], g["legs"]) for g in groups} == {("prepared", 2)}
        assert all(g["waits_for"].startswith("the decision of partition 1 on ") for g in groups), groups
        assert end_of(api, [doomed]) == {doomed: "nothing"}


@pytest.mark.parametrize(
    "role", ["redis", *(pytest.param(role, marks=pytest.mark.soak) for role in ("api", "journal"))]
)
def test_g9_a_process_dies_under_groups(cluster: DevCluster, role: str) -> None:
    """Each group is sent to both API processes at once; every answer is true, and no money stays set aside."""
    with WalletApi(cluster.urls[1], PARTITIONS) as api:
        groups = [Doomed(api, 0, "before", number % 4 == 3) for number in range(24)]
        victim = cluster.living(role)["pid"]

        async def ask() -> list[list[Reply | BaseException]]:
            async with HttpClient() as http:

                async def one(group: Doomed) -> list[Reply | BaseException]:
                    urls = [f"{url}/v1/transfers/group" for url in cluster.urls]
                    return await asyncio.gather(
                        *(http.post(url, group.body) for url in urls), return_exceptions=True
                    )

                asked = [asyncio.create_task(one(group)) for group in groups[:12]]
                await asyncio.sleep(0.02)
                end(victim)
                asked += [asyncio.create_task(one(group)) for group in groups[12:]]
                return await asyncio.gather(*asked)

        replies = asyncio.run(ask())
        cluster.wait_replaced(victim)
        cluster.wait_ready()
        ends = end_of(api, groups)
        for group, answers in zip(groups, replies, strict=True):
            for answer in answers:
                if isinstance(answer, Reply) and answer.status != 503:
                    assert answer.status == (422 if group.refused else 200), (group, answer)
                    assert ends[group] == ("nothing" if group.refused else "paid"), (group, answer)
            again = api.post("/v1/transfers/group", group.body)
            assert again.status == (422 if group.refused else 200), again
            assert group.stands(api) == ("nothing" if group.refused else "paid")
        verified(cluster)
