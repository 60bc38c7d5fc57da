"""`wallet-admin protect`: restrict who may change the cluster's tree in ZooKeeper."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.access import protect as protect_tree
from wallet_engine.routing.access import read_credentials
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.zookeeper import Credentials, ZooKeeperTree


def service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--service-user` and `--service-password-file`, for `service_credentials`."""
    command = click.option(
        "--service-password-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="File whose first line is that user's password.",
    )(command)
    return click.option(
        "--service-user",
        metavar="NAME",
        help="ZooKeeper user of API and journal processes.  [default: --zookeeper-user]",
    )(command)


def service_credentials(session: Session, user: str | None, file: Path | None) -> Credentials | None:
    """The role of the services; None when the session has no credentials. Raises `ConfigError`."""
    try:
        service = read_credentials(user, file)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--zookeeper-", "--service-")) from None
    if session.credentials is None:
        if service is not None:
            raise ConfigError(
                "--service-user needs --zookeeper-user: who restricts access must be able to pass"
            )
        return None
    if service is not None and service.user == session.credentials.user:
        raise ConfigError("--service-user and --zookeeper-user are two roles: give two names")
    return service or session.credentials


def restrict(directory: Directory, sre: Credentials, service: Credentials) -> int:
    """`routing.access.protect` for what `--zookeeper` has opened; the number of nodes."""
    if not isinstance(directory.tree, ZooKeeperTree):
        raise TypeError("credentials are for ZooKeeper only")
    return protect_tree(directory.tree, sre, service)


@click.command()
@changing_command
@service_options
def protect(session: Session, service_user: str | None, service_password_file: Path | None) -> None:
    """Restrict who may change the cluster's tree in ZooKeeper.

    Everybody may go on reading it: there is no secret in it. --zookeeper-user becomes the SRE role, which alone
    changes configuration, shards, moves, and the audit records. --service-user becomes the role of API and
    journal processes, which may write their registrations, locks, and the map (a recovery raises epochs in it).
    `wallet-admin init` does the same when it is given credentials.

    Give every wallet-engine process its credentials BEFORE this is done (--zookeeper-user and
    --zookeeper-password-file; where access is not restricted they change nothing), and restart it: one without
    them goes on serving until it must register again.

    May be repeated, and finishes what was interrupted. The passwords can only be changed by ZooKeeper's own
    superuser.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 protect --zookeeper-user sre --zookeeper-password-file /etc/wallet/sre \\
          --service-user wallet --service-password-file /etc/wallet/service
    """
    if session.map_file is not None:
        raise ConfigError("a map file has no users: chmod it instead")
    service = service_credentials(session, service_user, service_password_file)
    if session.credentials is None or service is None:
        raise ConfigError("give the SRE role with --zookeeper-user and --zookeeper-password-file")
    sre = session.credentials
    with session.directory() as directory:
        directory.config()
        plan = Plan(
            f"let only {sre.user} and {service.user} change the tree",
            {"sre_user": sre.user, "service_user": service.user},
            lambda console: _show(console, sre, service),
        )
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            nodes = restrict(directory, sre, service)
    document = {"sre_user": sre.user, "service_user": service.user, "nodes": nodes}
    session.answer(document, lambda console: console.print(f"{nodes} nodes are restricted"))


def _show(console: Console, sre: Credentials, service: Credentials) -> None:
    console.print(f"{sre.user} may change everything, {service.user} what services must; everybody may read")
    if sre == service:
        console.print("(give --service-user to tell services from SREs)")
