"""`wallet-admin key create | list | show | rotate | revoke`: who may call the API, and what each key may do."""

import time
from collections.abc import Callable
from typing import Any, Final

import click
from rich.console import Console

from wallet_engine.admin.durations import duration_ms
from wallet_engine.admin.session import Plan, Session, admin_command, changing_command, plain_table
from wallet_engine.domain.errors import ConfigError, InvalidInput, WrongUsage
from wallet_engine.domain.money import check_currency, format_amount, parse_amount
from wallet_engine.domain.times import time_text
from wallet_engine.routing.api_keys import ApiKey, Role, check_key, new_key, rotated
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.flags import FiniteRange, VerbGroup

#: How long the old secret of a rotated key stays valid.
KEEP_DEFAULT: Final = "24h"


@click.group(cls=VerbGroup)
def key() -> None:
    """Create, show, rotate and revoke API keys.

    A key identifies a caller: Authorization: Bearer wk_… . As soon as there is a first key, every caller needs one,
    even after all keys are revoked. API processes notice a change within a second.

    \b
    ROLES
      payer          pays from accounts to ordinary accounts; reads those accounts and what they paid
      treasury       the same, also from and to system accounts such as @fees
      account-admin  opens, freezes, closes and reads accounts
      bank           nothing yet: reserved for deposits and withdrawals
      auditor        reads everything, moves nothing
      metrics        reads /metrics
      admin          everything

    An auditor with --accounts reads those accounts only. An admin with --accounts or --amount-max is a treasury and an
    account-admin within them, and manages no webhooks.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 key create shop --role payer --accounts 'shop-*'
      wallet-admin --zookeeper zk1:2181 key list
      wallet-admin --zookeeper zk1:2181 key rotate shop --keep 1h
      wallet-admin --zookeeper zk1:2181 key revoke shop
    """


def grant_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that restrict a key."""
    for option in (
        click.option(
            "--expires", metavar="DURATION", help="Lifetime of the key: 90d, 12h.  [default: unlimited]"
        ),
        click.option(
            "--in-flight",
            type=click.IntRange(1),
            metavar="N",
            help="Maximum transfers in flight, in each API process.",
        ),
        click.option(
            "--rate",
            type=FiniteRange(min=0, min_open=True),
            metavar="N",
            help="Maximum transfers per second, in each API process.",
        ),
        click.option(
            "--amount-max",
            "amounts_max",
            metavar="AMOUNT:CURRENCY[,…]",
            help="Maximum amount of one transfer, 1000.00:USD; other currencies are then not allowed.",
        ),
        click.option(
            "--system",
            metavar="@NAME[,…]",
            help="System accounts of a treasury, '@bank:*'.  [default: all in the configuration]",
        ),
        click.option(
            "--accounts", metavar="PATTERN[,…]", help="Ordinary accounts, 'shop-*,u:*'.  [default: all]"
        ),
    ):
        command = option(command)
    return command


@key.command()
@changing_command
@click.argument("name")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), required=True, help="What it is for."
)
@grant_options
def create(
    session: Session,
    name: str,
    role: str,
    accounts: str | None,
    system: str | None,
    amounts_max: str | None,
    rate: float | None,
    in_flight: int | None,
    expires: str | None,
) -> None:
    """Make a key called NAME and print it. It is printed only now: the secret is stored nowhere.

    The other options only restrict what the role allows.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 key create shop --role payer --accounts 'shop-*,u:*' --expires 90d
      wallet-admin --map-file data/map.json key create till --role treasury --system @fees --amount-max 1000.00:USD
      wallet-admin --map-file data/map.json key create prometheus --role metrics --json
    """
    asked = ApiKey(
        id="",
        name=name,
        role=role,
        accounts=_listed(accounts, "--accounts"),
        system=_listed(system, "--system"),
        amount_max=_amounts(amounts_max),
        rate=rate,
        in_flight=in_flight,
        expires_ms=None if expires is None else _now_ms() + _lifetime_ms(expires),
    )
    with session.directory() as directory:
        check_key(asked, system_accounts=directory.config().system_accounts)
        first = directory.api_keys.all() is None
        made, shown = new_key(asked)
        plan = Plan(f"create key {made.id} {name}, role {role}", _document(made), lambda c: _show(c, made))
        if session.dry_run:
            session.agreed(plan)
            return

        def add(keys: dict[str, ApiKey]) -> None:
            if any(other.name == name for other in keys.values()):
                raise ConfigError(
                    f"there is a key {name} already: rotate it, revoke it, or take another name"
                )
            keys[made.id] = made

        with session.change(directory, plan):
            directory.api_keys.change(add)
    if first:
        click.echo("from now on every caller of the API needs a key", err=True)

    def show(console: Console) -> None:
        _show(console, made)
        console.print(f"key: {shown}", soft_wrap=True)
        console.print("keep it now: it is not shown again")

    session.answer({**_document(made), "key": shown}, show)


@key.command("list")
@admin_command
def list_(session: Session) -> None:
    """List the keys, without their secrets.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 key list
    """
    with session.directory() as directory:
        keys = _keys(directory)
        used_ms = directory.api_keys.used_ms()
    listed = sorted(keys.values(), key=lambda key: (key.name, key.id))

    def show(console: Console) -> None:
        if not listed:
            console.print("no keys")
            return
        table = plain_table("id", "name", "role", "accounts", "expires", "last used")
        for each in listed:
            ends = _time_or_none(each.expires_ms) or "never"
            used = _time_or_none(used_ms.get(each.id)) or "never"
            table.add_row(each.id, each.name, each.role, " ".join(each.accounts) or "all", ends, used)
        console.print(table)

    session.answer(
        {
            "keys": [
                {
                    "id": each.id,
                    "name": each.name,
                    "role": each.role,
                    "expires": _time_or_none(each.expires_ms),
                    "last_used": _time_or_none(used_ms.get(each.id)),
                }
                for each in listed
            ]
        },
        show,
    )


@key.command()
@admin_command
@click.argument("key_name", metavar="ID|NAME")
def show(session: Session, key_name: str) -> None:
    """Show what one key may do, without its secret.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 key show shop --json
    """
    with session.directory() as directory:
        found = _find(_keys(directory), key_name)
        used_ms = directory.api_keys.used_ms().get(found.id)
    document = {**_document(found), "last_used": _time_or_none(used_ms)}
    session.answer(document, lambda console: _show(console, found))


@key.command()
@changing_command
@click.argument("key_name", metavar="ID|NAME")
@click.option(
    "--keep",
    metavar="DURATION",
    default=KEEP_DEFAULT,
    show_default=True,
    help="How long the old secret stays valid; 0s ends it at once.",
)
def rotate(session: Session, key_name: str, keep: str) -> None:
    """Give a key a new secret and print it. It is printed only now: the secret is stored nowhere.

    Both secrets are valid until --keep has passed, so callers can change over without being refused.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 key rotate shop
      wallet-admin --zookeeper zk1:2181 key rotate shop --keep 0s --yes
    """
    old_ends_ms = _now_ms() + duration_ms(keep, "--keep")
    with session.directory() as directory:
        found = _find(_keys(directory), key_name)
        document = {**_document(found), "old_secret_ends": time_text(old_ends_ms)}
        plan = Plan(
            f"rotate key {found.id} {found.name}, the old secret ends at {time_text(old_ends_ms)}",
            document,
            lambda console: _show(console, found, f"  the old secret ends at {time_text(old_ends_ms)}"),
        )
        if not session.agreed(plan):
            return
        shown = ""

        def edit(keys: dict[str, ApiKey]) -> None:
            nonlocal shown
            keys[found.id], shown = rotated(_find(keys, found.id), old_ends_ms)

        with session.change(directory, plan):
            directory.api_keys.change(edit)

    def tell(console: Console) -> None:
        plan.show(console)
        console.print(f"key: {shown}", soft_wrap=True)
        console.print("keep it now: it is not shown again")

    session.answer({**document, "key": shown}, tell)


@key.command()
@changing_command
@click.argument("key_name", metavar="ID|NAME")
def revoke(session: Session, key_name: str) -> None:
    """Revoke a key: within a second no API process accepts it any more.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 key revoke shop
    """
    with session.directory() as directory:
        found = _find(_keys(directory), key_name)
        what = f"revoke key {found.id} {found.name}"
        plan = Plan(what, _document(found), lambda c: _show(c, found), destroys=True)
        if not session.agreed(plan):
            return

        def edit(keys: dict[str, ApiKey]) -> None:
            del keys[_find(keys, found.id).id]

        with session.change(directory, plan):
            directory.api_keys.change(edit)
            directory.api_keys.forget_used(found.id)
    session.answer({**_document(found), "revoked": True}, lambda console: _show(console, found, "  revoked"))


def _lifetime_ms(expires: str) -> int:
    """Raises `WrongUsage`."""
    lifetime = duration_ms(expires, "--expires")
    if not lifetime:  # a first key that nobody can use would still close the door
        raise WrongUsage(f"--expires {expires}: such a key is never valid")
    return lifetime


def _keys(directory: Directory) -> dict[str, ApiKey]:
    directory.config()
    return directory.api_keys.all() or {}


def _find(keys: dict[str, ApiKey], name: str) -> ApiKey:
    found = keys.get(name) or next((key for key in keys.values() if key.name == name), None)
    if found is None:
        raise ConfigError(f"there is no key {name}: see wallet-admin key list")
    return found


def _listed(text: str | None, flag: str) -> tuple[str, ...]:
    """The words of a list. Raises `ConfigError` for an empty one, which would restrict nothing."""
    words = () if text is None else tuple(dict.fromkeys(text.split(",")))
    if "" in words:
        raise WrongUsage(f"{flag} {text!r} lacks a word: leave the flag out if there is no restriction")
    return words


def _amounts(text: str | None) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for word in _listed(text, "--amount-max"):
        amount, _, currency = word.partition(":")
        try:
            check_currency(currency)
            minor = parse_amount(amount, currency)
        except InvalidInput:
            raise WrongUsage(
                f"--amount-max {word!r} is no amount of a currency such as 1000.00:USD"
            ) from None
        if currency in amounts:
            raise WrongUsage(f"--amount-max has two amounts of {currency}")
        amounts[currency] = minor
    return amounts


def _document(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "accounts": list(key.accounts),
        "system": list(key.system),
        "amount_max": {c: format_amount(minor, c) for c, minor in sorted(key.amount_max.items())},
        "rate": key.rate,
        "in_flight": key.in_flight,
        "expires": _time_or_none(key.expires_ms),
        "created": time_text(key.created_ms),
    }


def _show(console: Console, key: ApiKey, *more: str) -> None:
    console.print(f"{key.id}  {key.name}  {key.role}", style="bold")
    console.print(f"  accounts {' '.join(key.accounts) or 'all'}", soft_wrap=True)
    if key.role == Role.TREASURY:
        console.print(f"  system {' '.join(key.system) or 'all that are listed'}", soft_wrap=True)
    if key.amount_max:
        most = " ".join(f"{format_amount(minor, c)} {c}" for c, minor in sorted(key.amount_max.items()))
        console.print(f"  at most {most} in one transfer")
    if key.rate is not None:
        console.print(f"  at most {key.rate:g} transfers a second in each API process")
    if key.in_flight is not None:
        console.print(f"  at most {key.in_flight} transfers in flight in each API process")
    console.print(f"  expires {_time_or_none(key.expires_ms) or 'never'}")
    for line in more:
        console.print(line)


def _time_or_none(time_ms: int | None) -> str | None:
    return None if time_ms is None else time_text(time_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
