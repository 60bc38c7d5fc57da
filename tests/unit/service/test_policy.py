"""Rights of callers: one row per case. Single calls and batches give the same result in each case."""

import pytest

from wallet_engine.domain.errors import Forbidden
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.routing.api_keys import ApiKey, Role
from wallet_engine.routing.model import SYSTEM_ACCOUNTS_DEFAULT
from wallet_engine.service.policy import ANYONE, Principal


def principal(role: str, accounts: str = "", system: str = "", **more: object) -> Principal:
    key = ApiKey(
        id="k", name="n", role=role, accounts=tuple(accounts.split()), system=tuple(system.split()), **more
    )  # type: ignore[arg-type]
    return Principal(key, SYSTEM_ACCOUNTS_DEFAULT)


def command(payer: str, receiver: str, minor: int = 100, currency: str = "USD") -> TransferCommand:
    return TransferCommand(payer, receiver, minor, currency, "A" * 22)


ALL = ("shop-1", "shop-", "u:7", "other", "@bank", "@fees", "@bank:eu", "@mint", "@bank2", "@transit")
ORDINARY = tuple(account for account in ALL if account[0] != "@")
KNOWN = ("@bank", "@fees", "@bank:eu")

#: The caller, the payers that it may pay from, and the receivers that it may pay to.
PAYS = [
    (principal("payer"), ORDINARY, ORDINARY),
    (principal("payer", "shop-*"), ("shop-1", "shop-"), ORDINARY),
    (principal("payer", "shop-* u:*"), ("shop-1", "shop-", "u:7"), ORDINARY),
    (principal("payer", "*"), ORDINARY, ORDINARY),
    (principal("payer", "*-*"), ("shop-1", "shop-"), ORDINARY),
    (principal("payer", "shop"), (), ORDINARY),
    (principal("treasury"), (*ORDINARY, *KNOWN), (*ORDINARY, *KNOWN)),
    (principal("treasury", "shop-*"), ("shop-1", "shop-", *KNOWN), (*ORDINARY, *KNOWN)),
    (principal("treasury", "u:*", "@fees"), ("u:7", "@fees"), (*ORDINARY, "@fees")),
    (principal("treasury", "", "@bank:*"), (*ORDINARY, "@bank:eu"), (*ORDINARY, "@bank:eu")),
    (principal("account-admin"), (), ()),
    (principal("bank"), (), ()),
    (principal("auditor"), (), ()),
    (principal("metrics"), (), ()),
    (principal("a role of a newer version"), (), ()),
    (principal("auditor", "shop-*"), (), ()),
    (principal("admin"), ALL, ALL),
    (principal("admin", "shop-*"), ("shop-1", "shop-", *KNOWN), (*ORDINARY, *KNOWN)),
    (principal("admin", amount_max={"USD": 100}), (*ORDINARY, *KNOWN), (*ORDINARY, *KNOWN)),
    (ANYONE, ALL, ALL),
]


@pytest.mark.parametrize(("who", "payers", "receivers"), PAYS, ids=lambda value: repr(value)[:60])
def test_who_may_pay_from_where_to_where(
    who: Principal, payers: tuple[str, ...], receivers: tuple[str, ...]
) -> None:
    filler = [command(payers[0], receivers[0])] * 7 if payers else []
    for payer in ALL:
        for receiver in ALL:
            if payer == receiver:
                continue
            asked = command(payer, receiver)
            if payer in payers and receiver in receivers:
                who.check_transfer(asked)
                who.check_transfers([*filler, asked, *filler])
                continue
            with pytest.raises(Forbidden, match="may not pay") as single:
                who.check_transfer(asked)
            for position in range(len(filler) + 1):
                with pytest.raises(Forbidden) as many:
                    who.check_transfers([*filler[:position], asked, *filler[position:]])
                assert str(many.value) == f"transfers[{position}]: {single.value}"


@pytest.mark.parametrize(
    ("who", "reads", "manages"),
    [
        (principal("payer", "shop-*"), ("shop-1", "shop-"), ()),
        (principal("treasury", "u:*", "@fees"), ("u:7", "@fees"), ()),
        (principal("treasury"), (*ORDINARY, *KNOWN), ()),
        (principal("account-admin", "shop-1"), ("shop-1",), ("shop-1",)),
        (principal("account-admin"), ORDINARY, ORDINARY),
        (principal("bank"), (), ()),
        (principal("auditor"), ALL, ()),
        (principal("auditor", "shop-* u:*"), ("shop-1", "shop-", "u:7"), ()),
        (principal("admin", "shop-1"), ("shop-1", *KNOWN), ("shop-1", *KNOWN)),
        (principal("admin", amount_max={"USD": 1}), (*ORDINARY, *KNOWN), (*ORDINARY, *KNOWN)),
        (principal("metrics"), (), ()),
        (principal("admin"), ALL, ALL),
        (ANYONE, ALL, ALL),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_who_may_read_and_manage_what(
    who: Principal, reads: tuple[str, ...], manages: tuple[str, ...]
) -> None:
    for check, allowed in ((who.check_reads, reads), (who.check_manages, manages)):
        for account in ALL:
            if account in allowed:
                check(account)
            else:
                with pytest.raises(Forbidden, match="may not"):
                    check(account)


@pytest.mark.parametrize("role", list(Role))
def test_who_sees_metrics(role: Role) -> None:
    if role in (Role.METRICS, Role.AUDITOR, Role.ADMIN):
        principal(role).check_metrics()
    else:
        with pytest.raises(Forbidden, match="/metrics"):
            principal(role).check_metrics()


def test_amounts_are_bounded_for_each_currency_and_other_currencies_are_not_moved() -> None:
    who = principal("treasury", amount_max={"USD": 100_000, "JPY": 5})
    for asked in (command("@bank", "u", 100_000), command("u", "@fees", 5, "JPY")):
        who.check_transfer(asked)
        who.check_transfers([asked] * 3)
    for asked in (
        command("@bank", "u", 100_001),
        command("@bank", "u", 6, "JPY"),
        command("u", "v", 1, "EUR"),
    ):
        with pytest.raises(Forbidden, match=r"--amount-max 5:JPY, 1000\.00:USD"):
            who.check_transfer(asked)
        with pytest.raises(Forbidden, match=r"transfers\[1\]"):
            who.check_transfers([command("@bank", "u"), asked])


def test_a_restricted_role_is_not_the_whole_of_it() -> None:
    for who in (
        principal("auditor", "shop-*"),
        principal("admin", "shop-*"),
        principal("admin", amount_max={"USD": 1}),
    ):
        for check in (who.check_reads_all, who.check_everything):
            with pytest.raises(Forbidden, match="may not list webhooks"):
                check("list webhooks")
        assert who.readable is not None
        assert not who.everything
        who.check_metrics()
    with pytest.raises(Forbidden, match=r"--amount-max 0\.01:USD"):
        principal("admin", amount_max={"USD": 1}).check_transfer(command("shop-1", "u:7", 2))
    for who in (principal("auditor"), principal("admin"), ANYONE):
        who.check_reads_all("list webhooks")
        assert who.readable is None


def test_what_is_missing_is_named() -> None:
    def said(who: Principal, payer: str, receiver: str) -> str:
        with pytest.raises(Forbidden) as error:
            who.check_transfer(command(payer, receiver))
        return str(error.value)

    payer = principal("payer", "shop-*")
    assert (
        said(payer, "u:7", "v")
        == "key k (payer, accounts shop-*) may not pay from u:7: it needs --accounts for it"
    )
    assert "may not pay to @fees: it needs the role treasury" in said(payer, "shop-1", "@fees")
    assert "it needs payer, treasury or admin" in said(principal("auditor"), "a", "b")


def test_a_pattern_that_could_be_tried_in_many_ways_is_decided_at_once() -> None:
    who = principal("payer", " ".join(f"{letter * 30}*{letter * 20}*" for letter in "abcdefghijklmnop"))
    hard = command("a" * 64, "b" * 64)
    with pytest.raises(Forbidden):
        who.check_transfers([command("a" * 50, "b")] * 9_999 + [command("a" * 30 + "b" * 34, "b")])
    who.check_transfers([hard] * 10_000)
