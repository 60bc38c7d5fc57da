"""The same cases run with the client on a cluster, and with `FakeWallet`."""

import secrets
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from support.dev_process import DevCluster

from wallet_engine import client
from wallet_engine.client import Leg, Wallet, order
from wallet_engine.client.calls import amount_text
from wallet_engine.client.testing import FakeWallet

Name = Callable[[str], str]
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def real(api_cluster: DevCluster) -> Iterator[Wallet]:
    with Wallet(api_cluster.url) as wallet:
        yield wallet


@pytest.fixture(params=["cluster", "fake"])
def wallet(request: pytest.FixtureRequest) -> Iterator[Wallet]:
    if request.param == "cluster":
        yield request.getfixturevalue("real")
    else:
        with FakeWallet() as fake:
            yield fake


@pytest.fixture
def name() -> Name:
    """A name that no other test uses."""
    run = secrets.token_hex(4)
    return lambda word: f"{word}-{run}"


@pytest.fixture
def ann(wallet: Wallet, name: Name) -> str:
    return opened(wallet, name("ann"), "100.00")


@pytest.fixture
def bob(wallet: Wallet, name: Name) -> str:
    return opened(wallet, name("bob"))


def opened(wallet: Wallet, account: str, funds: str | None = None) -> str:
    wallet.open_account(account, "USD")
    if funds is not None:
        wallet.transfer("@bank", account, funds, "USD")
    return account


def available(wallet: Wallet, account: str) -> Decimal:
    return wallet.balance(account, "USD").available


@pytest.mark.parametrize("account", [".", "..", "-", "a..b"])
def test_an_account_may_be_named_like_a_step_in_a_path(wallet: Wallet, account: str) -> None:
    """The client asked for `/v1/accounts`, or for `/v1`."""
    wallet.open_account(account, "USD")
    assert wallet.account(account).account_id == wallet.freeze_account(account).account_id == account
    assert wallet.unfreeze_account(account).status == "active"
    assert wallet.balance(account, "USD").account_id == account


def test_accounts(wallet: Wallet, name: Name) -> None:
    account = name("carol")
    first = wallet.open_account(account, "JPY", overdraft_limit=50, max_balance=Decimal(900))
    assert (first.status, first.balance, first.max_balance) == ("active", 0, 900)
    assert wallet.open_account(account, "JPY", overdraft_limit=50, max_balance=900) == first
    with pytest.raises(client.IdempotencyConflict):
        wallet.open_account(account, "JPY", overdraft_limit=51)
    patched = wallet.patch_account(account, overdraft_limit=60, metadata={"why": "loyal"})
    (shown,) = patched.balances
    assert patched.metadata == wallet.account(account).metadata == {"why": "loyal"}
    assert (shown.overdraft_limit, shown.max_balance) == (60, 900)
    (shown,) = wallet.patch_account(account, max_balance=None).balances
    assert (shown.overdraft_limit, shown.max_balance) == (60, None)
    assert wallet.patch_account(account, overdraft_limit=None, metadata=None).metadata is None
    assert wallet.account(account).balances[0].overdraft_limit == 0
    wallet.open_account(account, "EUR")
    assert [b.currency for b in wallet.account(account).balances] == ["EUR", "JPY"]
    assert wallet.freeze_account(account).status == "frozen"
    assert wallet.unfreeze_account(account).status == "active"
    assert wallet.close_account(account).status == "closed"
    with pytest.raises(client.AccountClosed):
        wallet.freeze_account(account)
    with pytest.raises(client.AccountNotFound):
        wallet.account(name("nobody"))
    with pytest.raises(client.AccountNotFound):
        wallet.balance(account, "USD")
    with pytest.raises(client.Malformed) as refused:
        wallet.open_account("@bank", "USD")
    assert refused.value.code == "invalid_request"


def test_a_transfer_is_paid_once(wallet: Wallet, ann: str, bob: str) -> None:
    paid = wallet.transfer(ann, bob, Decimal("12.30"), "USD", reference="order 1", metadata={"shop": "7"})
    assert paid.replayed is False
    again = wallet.transfer(
        *(ann, bob, "12.3", "USD"),
        transaction_id=paid.transaction_id,
        reference="order 1",
        metadata={"shop": "7"},
    )
    assert (again.replayed, again.transaction_id) == (True, paid.transaction_id)
    assert (available(wallet, ann), available(wallet, bob)) == (Decimal("87.70"), Decimal("12.30"))
    found = wallet.find_transfer(paid.transaction_id, ann)
    assert (found.status, found.reference, found.metadata) == ("success", "order 1", {"shop": "7"})
    with pytest.raises(client.IdempotencyConflict):
        wallet.transfer(ann, bob, "12.31", "USD", transaction_id=paid.transaction_id)


def test_declines(wallet: Wallet, ann: str, bob: str, name: Name) -> None:
    with pytest.raises(client.InsufficientFunds) as declined:
        wallet.transfer(bob, ann, 1, "USD")
    error = declined.value
    assert (error.code, error.retryable, error.status) == ("insufficient_funds", False, 422)
    assert error.transaction_id is not None
    assert wallet.find_transfer(error.transaction_id, bob).code == "insufficient_funds"
    with pytest.raises(client.InsufficientFunds):
        wallet.transfer(ann, bob, 60, "USD", min_balance_after=50)
    with pytest.raises(client.AccountNotFound):
        wallet.transfer(ann, name("nobody"), 1, "USD")
    with pytest.raises(client.TransferNotFound):
        wallet.find_transfer(UNKNOWN, ann)
    wallet.freeze_account(bob)
    with pytest.raises(client.AccountFrozen):
        wallet.transfer(ann, bob, 1, "USD")
    with pytest.raises(client.BalanceNotZero):
        wallet.close_account(ann)
    for wrong, code in (("1.234", "invalid_amount"), ("-1", "invalid_amount")):
        with pytest.raises(client.Malformed) as malformed:
            wallet.transfer(ann, bob, wrong, "USD")
        assert malformed.value.code == code


def test_a_batch_decides_each_on_its_own(wallet: Wallet, ann: str, bob: str) -> None:
    orders = [order(ann, bob, "1.00", "USD"), order(bob, ann, "5.00", "USD"), order(ann, bob, 2, "USD")]
    results = wallet.transfer_batch(orders).results
    assert [r.transaction_id for r in results] == [o.transaction_id for o in orders]
    assert [(r.status, r.code) for r in results] == [
        ("success", None),
        ("declined", "insufficient_funds"),
        ("success", None),
    ]


def test_a_group_is_whole_or_nothing(wallet: Wallet, ann: str, bob: str) -> None:
    legs = [Leg(ann, bob, Decimal("5.00"), "USD", "rent"), Leg(ann, "@fees", Decimal("0.10"), "USD")]
    paid = wallet.transfer_group(legs, reference="march")
    found = wallet.find_transfer(paid.transaction_id, ann)
    assert (found.status, found.legs) == ("success", legs)
    assert wallet.transfer_group(legs, reference="march", transaction_id=paid.transaction_id).replayed
    too_much = [*legs, Leg(bob, ann, Decimal("500"), "USD")]
    with pytest.raises(client.InsufficientFunds) as declined:
        wallet.transfer_group(too_much)
    assert declined.value.leg == 2
    assert declined.value.transaction_id is not None
    assert wallet.find_transfer(declined.value.transaction_id, ann).leg == 2
    assert available(wallet, bob) == 5


def test_holds(wallet: Wallet, ann: str, bob: str) -> None:
    placed = wallet.place_hold(ann, "40.00", "USD", expires_in_s=3600, reference="room 7")
    assert (placed.status, placed.remaining, placed.reference) == ("open", 40, "room 7")
    assert placed.expires_at.tzinfo is not None
    assert wallet.increase_hold(placed.hold_id, ann, 5).amount == 45
    part = wallet.capture_hold(placed.hold_id, ann, to_account=bob, amount="10.00", final=False)
    assert part.hold is not None
    assert (part.hold.captured, part.hold.remaining) == (10, 35)
    assert wallet.hold(placed.hold_id, ann) == part.hold
    with pytest.raises(client.AmountExceedsHold):
        wallet.capture_hold(placed.hold_id, ann, to_account=bob, amount=36)
    last = wallet.capture_hold(placed.hold_id, ann, to_account=bob, amount=20)
    assert last.hold is not None
    assert (last.hold.status, last.hold.released) == ("captured", 15)
    with pytest.raises(client.HoldNotOpen):
        wallet.void_hold(placed.hold_id, ann)
    again = wallet.capture_hold(
        placed.hold_id, ann, to_account=bob, amount=20, transaction_id=last.transaction_id
    )
    assert again.replayed
    assert (available(wallet, ann), available(wallet, bob)) == (70, 30)


def test_holds_that_end_otherwise(wallet: Wallet, ann: str, bob: str) -> None:
    bound = wallet.place_hold(ann, 7, "USD", to_account=bob)
    with pytest.raises(client.DestinationMismatch):
        wallet.capture_hold(bound.hold_id, ann, to_account="@fees")
    assert wallet.void_hold(bound.hold_id, ann).status == "voided"
    assert wallet.void_hold(bound.hold_id, ann).status == "voided"
    free = wallet.place_hold(ann, 7, "USD")
    with pytest.raises(client.Malformed, match="to_account"):
        wallet.capture_hold(free.hold_id, ann)
    wallet.void_hold(free.hold_id, ann)
    with pytest.raises(client.HoldNotOpen):
        wallet.capture_hold(free.hold_id, ann)
    again = wallet.place_hold(ann, 7, "USD", to_account=bob, hold_id=bound.hold_id)
    assert (again.replayed, again.status) == (True, "voided")
    with pytest.raises(client.HoldNotFound):
        wallet.hold(UNKNOWN, ann)
    with pytest.raises(client.HoldNotFound):
        wallet.capture_hold(UNKNOWN, ann, to_account=bob)
    paid = wallet.transfer(ann, bob, 1, "USD")
    with pytest.raises(client.IdempotencyConflict):
        wallet.capture_hold(UNKNOWN, ann, to_account=bob, transaction_id=paid.transaction_id)
    with pytest.raises(client.InsufficientFunds):
        wallet.place_hold(ann, 101, "USD")


def test_refunds(wallet: Wallet, ann: str, bob: str) -> None:
    paid = wallet.transfer(ann, bob, 10, "USD").transaction_id
    part = wallet.refund(paid, ann, amount="2.50", reference="one bottle")
    assert (part.refunded_total, part.refundable) == (Decimal("2.5"), Decimal("7.5"))
    found = wallet.find_transfer(part.transaction_id, bob)
    assert found.refunds is not None
    assert (found.refunds.from_account, found.refunds.transaction_id) == (ann, paid)
    with pytest.raises(client.RefundExceeds):
        wallet.refund(paid, ann, amount=8)
    rest = wallet.refund(paid, ann)
    assert (rest.refunded_total, rest.refundable) == (10, 0)
    assert wallet.refund(paid, ann, refund_id=rest.transaction_id).replayed
    with pytest.raises(client.NotRefundable):
        wallet.refund(rest.transaction_id, bob)
    with pytest.raises(client.TransferNotFound):
        wallet.refund(UNKNOWN, ann)


def test_a_leg_is_refunded(wallet: Wallet, ann: str, bob: str) -> None:
    legs = [Leg(ann, "@fees", Decimal(1), "USD"), Leg(ann, bob, Decimal(6), "USD")]
    group = wallet.transfer_group(legs).transaction_id
    with pytest.raises(client.Malformed):
        wallet.refund(group, ann)
    assert wallet.refund(group, ann, leg=1).refunded_total == 6


def test_what_the_service_says_of_itself(wallet: Wallet) -> None:
    assert wallet.readiness().ready


def test_every_code_of_a_refusal_has_a_class() -> None:
    from wallet_engine.client.errors import DECLINES
    from wallet_engine.http.problems import KINDS

    decided = {code for code, kind in KINDS.items() if kind.status in (404, 409, 410, 422)}
    assert decided - {"not_found"} == DECLINES.keys()


def test_time_passes_in_the_fake() -> None:
    with FakeWallet() as fake:
        opened(fake, "ann", "10")
        hold = fake.place_hold("ann", 4, "USD", expires_in_s=60)
        fake.advance(61)
        assert fake.hold(hold.hold_id, "ann").status == "expired"
        assert available(fake, "ann") == 10
        with pytest.raises(client.HoldExpired):
            fake.capture_hold(hold.hold_id, "ann", to_account="@fees")


@pytest.mark.parametrize("wrong", [1.0, True, None, b"1"])
def test_amounts_are_no_floats(wrong: object) -> None:
    with pytest.raises(TypeError):
        amount_text(wrong)  # type: ignore[arg-type]
