"""`wallet-admin redis acl`: the Redis users of API processes, journal processes and operators."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from redis.exceptions import RedisError, ResponseError
from rich.console import Console

from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.domain.errors import ConfigError, WrongUsage, as_usage
from wallet_engine.redis_store.acl import ADMIN, API, JOURNAL, AclUser, acl_users
from wallet_engine.redis_store.greeting import hindrance_at
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.model import check_address
from wallet_engine.telemetry.flags import VerbGroup
from wallet_engine.telemetry.secrets import read_secret


@click.group(cls=VerbGroup)
def redis() -> None:
    """Manage the users of the Redis nodes."""


@redis.command()
@click.option("--apply", is_flag=True, help="Set the users whose password file is given, on every node.")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="HOST:PORT",
    help="Set them on this node; may be repeated.  [default: every node of every shard]",
)
@click.option("--api-password-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option("--journal-password-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option("--admin-password-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@changing_command
def acl(
    session: Session,
    apply: bool,
    nodes: tuple[str, ...],
    api_password_file: Path | None,
    journal_password_file: Path | None,
    admin_password_file: Path | None,
) -> None:
    """Print the ACL SETUSER lines of the users api, journal and admin, or set them with --apply.

    Start serve with --redis-user api, journal with --redis-user journal, wallet-admin with --redis-user admin, and
    each with the --redis-password-file of that user. Only the SHA-256 of a password is printed and sent, so use long
    random passwords. An existing user is changed to what the line says; open connections stay open.

    With --apply the users are saved on nodes that have an aclfile. On other nodes they are lost at the next restart:
    put the lines, as user NAME …, into its redis.conf. When all processes use these users, disable the default one:
    ACL SETUSER default off.

    \b
    EXAMPLES
      wallet-admin redis acl
      wallet-admin --zookeeper zk1:2181 redis acl --apply --api-password-file api.pw --journal-password-file journal.pw
      wallet-admin --zookeeper zk1:2181 redis acl --apply --node 10.0.0.1:6379 --api-password-file api.pw
    """
    with as_usage():
        for node in nodes:
            check_address(node, "--node")
    files = {API: api_password_file, JOURNAL: journal_password_file, ADMIN: admin_password_file}
    passwords = {
        name: read_secret(file, f"Redis password of {name}")
        for name, file in files.items()
        if file is not None
    }
    users = acl_users()
    if not apply:
        lines = [" ".join(user.words(passwords.get(name))) for name, user in users.items()]
        session.answer({"lines": lines}, lambda console: _print_lines(console, lines))
        return
    if not passwords:
        raise WrongUsage("--apply sets the users whose password file is given: --api-password-file FILE, …")
    chosen = [users[name] for name in passwords]
    with session.directory() as directory:
        addresses = nodes or [node for shard in directory.shards().values() for node in shard.nodes]
        if not addresses:
            raise ConfigError("no shard is written down yet: name the nodes with --node HOST:PORT")
        lines = [" ".join(user.words(passwords[user.name])) for user in chosen]
        plan = Plan(
            f"set the Redis users {', '.join(passwords)} on {len(addresses)} nodes",
            {"lines": lines, "nodes": list(addresses)},
            lambda console: _print_lines(console, [f"on {', '.join(addresses)}:", *lines]),
        )
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            saved = {address: _set_users(address, chosen, passwords) for address in addresses}
    document: dict[str, Any] = {"users": list(passwords), "nodes": saved}
    session.answer(document, lambda console: _show(console, document))


def _set_users(address: str, users: Iterable[AclUser], passwords: Mapping[str, str]) -> str:
    """Set the users. Returns why the node did not save them, "" if it did. Raises `ConfigError` when it refuses."""
    with closing(connect(address)) as client:
        try:
            for user in users:
                client.execute_command(*user.words(passwords[user.name]))  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise ConfigError(f"Redis at {address} {hindrance_at(address, error).text}") from None
        try:
            client.execute_command("ACL", "SAVE")  # type: ignore[no-untyped-call]
        except ResponseError as error:
            return str(error)
        except (RedisError, OSError) as error:
            raise ConfigError(f"Redis at {address} {hindrance_at(address, error).text}") from None
    return ""


def _print_lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _show(console: Console, document: Mapping[str, Any]) -> None:
    for address, why in document["nodes"].items():
        said = f"set, but not saved: {why}" if why else "set and saved"
        console.print(f"{address}: {', '.join(document['users'])} {said}", soft_wrap=True)
