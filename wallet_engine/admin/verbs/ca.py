"""`wallet-admin ca init | issue | list | revoke | show`: certificates by which our processes identify each other."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from wallet_engine.admin.session import failures_told
from wallet_engine.domain.errors import ConfigError, WrongUsage
from wallet_engine.domain.paths import path_text
from wallet_engine.domain.principals import PeerRole, checked
from wallet_engine.telemetry.authority import (
    CA_DAYS_DEFAULT,
    DAYS_MAX,
    LEAF_DAYS_DEFAULT,
    Authority,
    Pair,
    holder_of,
    serial_in,
)
from wallet_engine.telemetry.flags import VerbGroup

_NAME_DEFAULT = "wallet engine"


def _json_option(command: Callable[..., None]) -> Callable[..., None]:
    @click.option("--json", is_flag=True, help="Print exactly one JSON document.")
    @functools.wraps(command)
    def telling(*args: Any, json: bool, **kwargs: Any) -> None:
        with failures_told(json):
            command(*args, json=json, **kwargs)

    return telling


_folder = click.Path(path_type=Path, file_okay=False)


@click.group(cls=VerbGroup)
def ca() -> None:
    """Make certificates by which journal copies, API processes and SREs identify each other.

    A cluster has one authority. Keep its folder on one safe machine: ca.key allows to impersonate anybody.
    The other machines get ca.pem and the two files of each of their processes.

    \b
    ROLES
      journal    a journal copy, whose --journal-id is ID
      service    an API process; several may share one
      follower   reads the journal as it grows
      admin      wallet-admin, used by the person or machine ID
      key        a caller of the HTTP API, as the key ID (serve --tls-client-ca)
      server     a Redis node or a ZooKeeper server, with --hosts

    \b
    EXAMPLES
      wallet-admin ca init ca
      wallet-admin ca issue journal j1 --ca ca
      wallet-admin ca issue service api-1 --ca ca --hosts pay1.example,10.0.0.4
      wallet-admin ca issue journal j1 --ca ca --renew
      wallet-admin ca revoke service api-1 --ca ca
    """


@ca.command()
@click.argument("directory", type=_folder)
@click.option("--name", default=_NAME_DEFAULT, show_default=True, help="Name of the authority.")
@click.option(
    "--days",
    type=click.IntRange(1, DAYS_MAX),
    default=CA_DAYS_DEFAULT,
    show_default=True,
    help="How long it is valid.",
)
@_json_option
def init(directory: Path, name: str, days: int, json: bool) -> None:
    """Make an authority in DIRECTORY. An existing one is not changed."""
    if not 0 < len(name) <= 64:
        raise WrongUsage("--name has 1 to 64 characters")
    made = Authority.create(directory, name, days)
    text = path_text(directory)
    _answer(
        json,
        made.pair,
        made.ends,
        [
            f"Keep {path_text(made.pair.key)} secret: with it one can impersonate anybody. Next, for each process:",
            f"  wallet-admin ca issue journal j1 --ca {text}",
            f"  wallet-admin ca issue service api-1 --ca {text}",
            f"  wallet-admin ca issue admin NAME --ca {text}",
        ],
    )


@ca.command()
@click.argument("role", type=click.Choice([role.value for role in PeerRole]))
@click.argument("name", metavar="ID")
@click.option("--ca", "folder", type=_folder, required=True, metavar="DIR", help="Folder of the authority.")
@click.option(
    "--hosts",
    metavar="HOST[,…]",
    help="Names and addresses of its machine, for clients that check them: browsers, Redis, ZooKeeper. "
    "[default with --renew: those it had]",
)
@click.option(
    "--days",
    type=click.IntRange(1, DAYS_MAX),
    default=LEAF_DAYS_DEFAULT,
    show_default=True,
    help="How long the certificate is valid.",
)
@click.option("--out", type=_folder, metavar="DIR", help="Folder of the two files.  [default: that of --ca]")
@click.option("--renew", is_flag=True, help="Replace the files issued before. Processes reload them.")
@_json_option
def issue(
    role: str,
    name: str,
    folder: Path,
    hosts: str | None,
    days: int,
    out: Path | None,
    renew: bool,
    json: bool,
) -> None:
    """Issue a certificate with a new key, for the URI wallet:ROLE/ID.

    \b
    EXAMPLES
      wallet-admin ca issue journal j1 --ca ca --out j1-files
      wallet-admin ca issue server redis-1 --ca ca --hosts redis1.example,10.0.0.7
    """
    principal = checked(role, name)
    if out is not None and not out.is_dir():
        raise ConfigError(f"--out {path_text(out)} is not a folder")
    listed = None if hosts is None else [host.strip() for host in hosts.split(",") if host.strip()]
    found = Authority(folder)
    pair = found.issue(principal, hosts=listed, days=days, out=out, renew=renew)
    _, ends = holder_of(pair.cert)
    ca_file, cert, key = map(path_text, (found.pair.cert, *pair))
    told = [f"{principal.uri}: copy {cert}, {key} (readable by its process alone) and {ca_file} there."]
    match principal.role:
        case PeerRole.JOURNAL | PeerRole.SERVICE | PeerRole.FOLLOWER | PeerRole.ADMIN:
            verb = {
                PeerRole.JOURNAL: f"wallet-engine journal --journal-id {name}",
                PeerRole.SERVICE: "wallet-engine serve",
                PeerRole.ADMIN: "wallet-admin",
            }.get(principal.role, "its command")
            told.append(f"{verb} takes: --peer-ca {ca_file} --peer-cert {cert} --peer-key {key}")
        case PeerRole.KEY:
            told.append(f"serve takes: --tls-client-ca {ca_file}; the caller: curl --cert {cert} --key {key}")
        case PeerRole.SERVER:
            told.append("Clients of that server believe it by the same ca.pem: --redis-ca, --zookeeper-ca.")
    _answer(json, pair, ends, told, role=role, id=name, uri=principal.uri, ca=ca_file)


@ca.command("list")
@click.option("--ca", "folder", type=_folder, required=True, metavar="DIR", help="Folder of the authority.")
@_json_option
def list_issued(folder: Path, json: bool) -> None:
    """List the certificates that the authority issued: when they expire, and whether they are revoked."""
    found = Authority(folder)
    revoked = found.revoked()
    document = [
        {
            "principal": row.principal,
            "serial": row.serial,
            "ends": row.ends,
            "revoked": int(row.serial, 16) in revoked,
        }
        for row in found.issued()
    ]
    if json:
        click.echo(msgspec.json.encode({"issued": document}))
        return
    if not document:
        click.echo("nothing was issued, or only by a release that kept no list")
    for row in document:
        click.echo(
            f"{row['principal']}: {row['serial']}, until {row['ends']}{', revoked' if row['revoked'] else ''}"
        )


@ca.command()
@click.argument("role", type=click.Choice([role.value for role in PeerRole]), required=False)
@click.argument("name", metavar="ID", required=False)
@click.option("--ca", "folder", type=_folder, required=True, metavar="DIR", help="Folder of the authority.")
@click.option(
    "--cert",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Only the certificate in this file, of any role and id.",
)
@click.option("--yes", is_flag=True, help="Ask no question.")
@_json_option
def revoke(
    role: str | None, name: str | None, folder: Path, file: Path | None, yes: bool, json: bool
) -> None:
    """Revoke every certificate that was issued to ROLE ID so far. One that is issued later is valid again.

    The revocation list is appended to ca.pem, and takes effect where that file is copied to. Journal copies close
    connections with a revoked certificate within 2 s, API processes refuse requests on them, and no process accepts
    or opens new ones. Copy the file to the journal copies first. Redis and ZooKeeper have revocation lists of their
    own, and do not read this one.

    A file with several authorities needs a list of each. Without ROLE, ID and --cert, a list without new certificates
    is written.

    \b
    EXAMPLES
      wallet-admin ca revoke service api-1 --ca ca
      wallet-admin ca issue service api-1 --ca ca --renew
      wallet-admin ca revoke --ca ca --cert stolen.pem
    """
    if (role is None) != (name is None) or (role is not None and file is not None):
        raise WrongUsage("give ROLE and ID, or --cert FILE, or neither for a list without new certificates")
    principal = None if role is None or name is None else str(checked(role, name))
    found = Authority(folder)
    serials: set[int] = set()
    if principal is not None:
        serials = {int(row.serial, 16) for row in found.issued() if row.principal == principal}
        if not serials:
            raise ConfigError(
                f"nothing was issued to {principal}, or only by a release that kept no list: give --cert FILE"
            )
    elif file is not None:
        serials = {serial_in(file)}
    if not yes:
        click.confirm(f"Revoke {len(serials)} certificates?", abort=True, err=True)
    found.revoke(serials)
    ca_file = path_text(found.pair.cert)
    if json:
        document = {"revoked": [f"{serial:x}" for serial in sorted(serials)], "ca": ca_file}
        click.echo(msgspec.json.encode(document))
        return
    click.echo(f"revoked {len(serials)} certificates: copy {ca_file} to every process, journal copies first")


@ca.command()
@click.argument("certificates", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@_json_option
def show(certificates: tuple[Path, ...], json: bool) -> None:
    """Show the holders of certificates, and when they expire."""
    found = [(path, *holder_of(path)) for path in certificates]
    now = datetime.now(UTC)
    document = [
        {
            "file": path_text(path),
            "principal": None if principal is None else str(principal),
            "ends": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
            "days_left": (ends - now).days,
        }
        for path, principal, ends in found
    ]
    if json:
        click.echo(msgspec.json.encode({"certificates": document}))
        return
    for row in document:
        whose = row["principal"] or "nobody of ours"
        click.echo(f"{row['file']}: {whose}, until {row['ends']} ({row['days_left']} days)")


def _answer(json: bool, pair: Pair, ends: datetime, told: list[str], **more: Any) -> None:
    if json:
        files = {"cert": path_text(pair.cert), "key_file": path_text(pair.key)}
        click.echo(msgspec.json.encode({**more, **files, "ends": f"{ends:%Y-%m-%dT%H:%M:%SZ}"}))
        return
    # Not through rich: it would break lines that are meant to be copied.
    click.echo(f"made {path_text(pair.cert)} and {path_text(pair.key)}, good until {ends:%Y-%m-%d}")
    for line in told:
        click.echo(line)
