"""`wallet-admin protect`: restrict who may change the cluster's tree in ZooKeeper."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.console import Console

from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.domain.errors import ConfigError, WrongUsage
from wallet_engine.routing.access import Roles, read_credentials
from wallet_engine.routing.access import protect as protect_tree
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.zookeeper import Credentials, ZooKeeperTree

#: Role -> its processes, and the option whose user has the role if this one has no user of its own.
_ROLES: Final = {
    "service": ("journal processes", "--zookeeper-user"),
    "api": ("API processes and followers", "--service-user"),
}


class Users(NamedTuple):
    """The users of the command line."""

    service: str | None
    service_file: Path | None
    api: str | None
    api_file: Path | None


def service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--service-user`, `--api-user` and their password files, as the argument `users`, for `roles_of`."""

    @functools.wraps(command)
    def collecting(*args: Any, **kwargs: Any) -> None:
        given = Users(
            *(kwargs.pop(f"{role}_{what}") for role in _ROLES for what in ("user", "password_file"))
        )
        command(*args, users=given, **kwargs)

    decorated: Callable[..., Any] = collecting
    for role, (who, default) in reversed(_ROLES.items()):
        decorated = click.option(
            f"--{role}-password-file",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="File whose first line is that user's password.",
        )(decorated)
        decorated = click.option(
            f"--{role}-user", metavar="NAME", help=f"ZooKeeper user of {who}.  [default: {default}]"
        )(decorated)
    return decorated


def roles_of(session: Session, users: Users) -> Roles | None:
    """The ZooKeeper user of each role; None when the session has no credentials. Raises `ConfigError`."""
    service = _credentials("service", users.service, users.service_file)
    api = _credentials("api", users.api, users.api_file)
    sre = session.credentials
    if sre is None:
        for role, found in (("service", service), ("api", api)):
            if found is not None:
                raise ConfigError(
                    f"--{role}-user needs --zookeeper-user: you must still have access afterwards"
                )
        return None
    for role, found in (("service", service), ("api", api)):
        if found is not None and found.user == sre.user:
            raise WrongUsage(f"--{role}-user and --zookeeper-user are two roles: give two names")
    if service is not None and api is not None and api.user == service.user:
        raise WrongUsage("--api-user and --service-user are two roles: give two names, or no --api-user")
    return Roles(sre, service or sre, api or service or sre)


def _credentials(role: str, user: str | None, file: Path | None) -> Credentials | None:
    try:
        return read_credentials(user, file)
    except ConfigError as error:
        raise type(error)(str(error).replace("--zookeeper-", f"--{role}-")) from None


def restrict(directory: Directory, roles: Roles) -> int:
    """`routing.access.protect` for the tree of `--zookeeper`; returns the number of nodes."""
    if not isinstance(directory.tree, ZooKeeperTree):
        raise TypeError("credentials are for ZooKeeper only")
    return protect_tree(directory.tree, roles)


@click.command()
@changing_command
@service_options
def protect(session: Session, users: Users) -> None:
    """Restrict who may change the cluster's tree in ZooKeeper.

    Everybody may still read it: it holds no secrets. --zookeeper-user gets the SRE role: only it may change
    configuration, shards, moves, and the audit records. --service-user gets the role of journal processes, which may
    write their registrations, locks, the list of copies, and the map (a recovery raises epochs in it). --api-user
    gets the role of API processes and followers, which register themselves and note the use of keys; without it they
    have the role of journal processes. `wallet-admin init` does the same if it gets credentials.

    BEFORE you run this, give every wallet-engine process its credentials (--zookeeper-user and
    --zookeeper-password-file; they have no effect while access is not restricted), and restart it. A process without
    them serves only until it must register again.

    May be repeated, and completes an interrupted run. Only ZooKeeper's own superuser can change the passwords.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 protect --zookeeper-user sre --zookeeper-password-file /etc/wallet/sre \\
          --service-user journal --service-password-file /etc/wallet/journal --api-user api --api-password-file …
    """
    if session.map_file is not None:
        raise WrongUsage("a map file has no users: chmod it instead")
    roles = roles_of(session, users)
    if roles is None:
        raise WrongUsage("give the SRE role with --zookeeper-user and --zookeeper-password-file")
    named = {f"{role}_user": who.user for role, who in roles._asdict().items()}
    with session.directory() as directory:
        directory.config()
        plan = Plan(
            f"let only {', '.join(dict.fromkeys(named.values()))} change the tree",
            named,
            lambda console: _show(console, roles),
        )
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            nodes = restrict(directory, roles)
    document = {**named, "nodes": nodes}
    session.answer(document, lambda console: console.print(f"{nodes} nodes are restricted"))


def _show(console: Console, roles: Roles) -> None:
    sre, service, api = roles
    console.print(
        f"{sre.user} may change everything, {service.user} what journal processes must, {api.user} what API "
        f"processes must; everybody may read"
    )
    if sre == service:
        console.print("(give --service-user to tell journal processes from SREs)")
    if api == service:
        console.print("(give --api-user, or an API process may say which journal copies count)")
