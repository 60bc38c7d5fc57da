"""The command-line behaviour that `wallet-engine` and `wallet-admin` share.

A `VerbGroup` is a click group with these properties:
- A verb is given as the name of its module, which is imported only when the verb runs.
- Flags may be before or after the verb: `wallet-admin --json status` is `wallet-admin status --json`.
- Each flag can be set by an environment variable, `--map-file` by `WALLET_MAP_FILE`, the same for every verb. Variables
  that Kubernetes makes for Services are ignored.
- The exit status is 0, 1 (failure: one line on standard error, no traceback) or 2 (usage).
"""

import functools
import importlib
import io
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

import click

from wallet_engine.domain.errors import WalletError, WrongUsage
from wallet_engine.telemetry.lean import uncollected, without
from wallet_engine.telemetry.secrets import read_secret

ENVIRONMENT_PREFIX: Final = "WALLET"
_is_service_link: Final = re.compile(r"(?:tcp|udp|sctp)://.+:[0-9]+\Z").match
_is_host: Final = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:]*)(?::[0-9]{0,5})?\Z").match

PORT: Final = click.IntRange(0, 65535)

SEGMENT_BYTES_MIN: Final = 4096
SEGMENT_BYTES_MAX: Final = 256 * 1024 * 1024
#: A gibibyte has about 15 million operations. Their replay takes about two minutes.
SNAPSHOT_BYTES_DEFAULT: Final = 1024 * 1024 * 1024

RESTORE_COMMAND_HELP: Final = (
    "Shell command that brings a segment back from the archive: %f is its name there, %p the path to write it to, "
    "quoted if need be, %j the id of its journal copy, %% a percent sign. The segment is checked against the "
    "running hash.  [default: none]"
)


class FiniteRange(click.FloatRange):
    """A number within bounds. `nan` is within all of them, and `inf` within those that are open: neither is one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


class Verb(NamedTuple):
    """A lazily imported command: where it is, and its line in the list of commands."""

    #: `module:attribute` of a `click.Command`
    target: str
    summary: str


class VerbGroup(click.Group):
    """See the module. `verbs`: the lazily imported verbs. Others can be added as to any click group."""

    def __init__(self, *args: Any, verbs: Mapping[str, Verb] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verbs = dict(verbs or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.verbs, *(name for name in super().list_commands(ctx) if name not in self.verbs)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in self.verbs:
            command = _load(cmd_name, self.verbs[cmd_name].target)
            self.add_command(command, cmd_name)
        if command is not None and not isinstance(command, VerbGroup):
            _read_environment(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's method, which alone would not know verbs that are not imported yet."""
        if args and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            self._refuse_verb(ctx, args[0])
        return super().resolve_command(ctx, args)

    def _refuse_verb(self, ctx: click.Context, word: str) -> None:
        near = get_close_matches(word, self.list_commands(ctx), n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        ctx.fail(f"No such command {word!r}.{hint}")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands. Lazy ones are not imported."""
        rows = []
        for name in self.list_commands(ctx):
            if name in self.verbs:
                rows.append((name, self.verbs[name].summary))
            elif (command := self.get_command(ctx, name)) is not None and not command.hidden:
                rows.append((name, command.get_short_help_str()))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        write_anything()
        pass_over_service_links(os.environ)
        return super().main(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._flags_after_verb(ctx, args))

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_failures():
            return super().invoke(ctx)

    def _flags_after_verb(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments with the verb's flags moved after the verb; unchanged if no verb has these flags."""
        own = list(self.get_params(ctx))
        for position, word in enumerate(args):
            if word not in self.list_commands(ctx) or not _looks_like_flags(args[:position]):
                continue
            command = self.get_command(ctx, word)
            flags = own if command is None else [*own, *_params_below(command, ctx)]
            groups = _split(args[:position], flags)
            if groups is not None:
                ahead = [group for group in groups if _names(own) & {_name(group[0])}]
                moved = [group for group in groups if group not in ahead]
                return [*_flat(ahead), word, *_flat(moved), *args[position + 1 :]]
        strange = args and args[0].startswith("-") and _name(args[0]) not in _names(own)
        if strange and not ctx.resilient_parsing:
            flags = [*own, *_params_below(self, ctx)]  # imports all verbs, which takes a moment
            for position, word in enumerate(args):
                if not word.startswith("-") and _split(args[:position], flags):
                    if word not in self.list_commands(ctx):
                        self._refuse_verb(ctx, word)
                    break
        return args


def credentials_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--zookeeper-user` and `--zookeeper-password-file`, for `routing.access.read_credentials`, and TLS flags."""
    file = click.Path(path_type=Path, dir_okay=False)
    for name, what in (
        ("key", "Private key of --zookeeper-cert."),
        ("cert", "Certificate (PEM) to show to ZooKeeper, if it asks for one."),
        ("ca", "Use TLS to ZooKeeper: certificates (PEM) of the authorities of its servers."),
    ):
        command = click.option(f"--zookeeper-{name}", type=file, metavar="FILE", help=what)(command)
    command = click.option(
        "--zookeeper-password-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="File whose first line is that user's password.",
    )(command)
    return click.option(
        "--zookeeper-user", metavar="NAME", help="ZooKeeper user, if access to the tree is restricted."
    )(command)


def redis_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--redis-user` and the other flags for `redis_store.login.use_flags`."""
    file = click.Path(path_type=Path, dir_okay=False)
    for name, metavar, what in (
        ("key", "FILE", "Private key of --redis-cert."),
        ("cert", "FILE", "Certificate (PEM) to show to Redis, if it asks for one."),
        ("ca", "FILE", "Use TLS to Redis: certificates (PEM) of the authorities of its nodes."),
        ("password-file", "FILE", "File whose first line is the Redis password of that user."),
    ):
        command = click.option(f"--redis-{name}", type=file, metavar=metavar, help=what)(command)
    return click.option("--redis-user", metavar="NAME", help="Redis ACL user.  [default: default]")(command)


def peer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--peer-ca` and the other flags for `journal.peer_tls.use_flags`."""
    file = click.Path(path_type=Path, dir_okay=False)
    command = click.option(
        "--peer-tls",
        type=click.Choice(("required", "optional")),
        help="required: use TLS with all other processes of the engine. optional: only with those that have "
        "certificates already, while a running cluster changes over.  [default: required, with --peer-ca]",
    )(command)
    for name, what in (
        ("key", "Private key of --peer-cert."),
        ("cert", "Certificate (PEM) that names this process, made by wallet-admin ca issue."),
        ("ca", "Use TLS between the engine's processes: certificate (PEM) of their common authority."),
    ):
        command = click.option(f"--peer-{name}", type=file, metavar="FILE", help=what)(command)
    return command


def journal_disk_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags about a journal copy's directory: `--archive-command`, `--restore-command` and others."""
    for option in (
        click.option(
            "--archive-command",
            metavar="COMMAND",
            callback=lambda _context, _param, command: check_archive_command(command),
            help="Shell command that archives each sealed segment: %p is its path, quoted if need be, %f its name in "
            "the archive, %j the id of its copy, %% a percent sign. Exit status 0 means archived; otherwise it is "
            "run again, for ever. It must not replace an archived file by a different one.  [default: none]",
        ),
        click.option("--restore-command", metavar="COMMAND", help=RESTORE_COMMAND_HELP),
        click.option(
            "--keep",
            metavar="DURATION|BYTES",
            help="Keep on disk the segments of this time (7d, 12h), or the newest ones of this size (200GB, 64GiB). "
            "Older segments are removed once they are archived and nothing needs them.  [default: everything]",
        ),
        click.option(
            "--segment-bytes",
            type=click.IntRange(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
            default=SEGMENT_BYTES_MAX,
            show_default=True,
            help="Size at which a segment is sealed and the next one begun.",
        ),
        click.option(
            "--snapshot-bytes",
            type=click.IntRange(0),
            default=SNAPSHOT_BYTES_DEFAULT,
            show_default=True,
            help="Make new snapshots after this many bytes of journal since the last ones, slowly until half as many "
            "were added meanwhile; 0 makes none.",
        ),
    ):
        command = option(command)
    return command


def check_archive_command(command: str | None) -> str | None:
    """The command of `--archive-command`. Raises `WrongUsage` when it does not say which segment."""
    if command and "%p" not in command and "%f" not in command:
        raise WrongUsage("--archive-command must say which segment: %p for its path, %f for its file name")
    return command


def database_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--database` and `--database-password-file`. The command gets `database`: a URL with password, or None."""

    @functools.wraps(command)
    def with_password(
        *args: Any, database: str | None, database_password_file: Path | None, **kwargs: Any
    ) -> Any:
        return command(*args, database=database_url(database, database_password_file), **kwargs)

    decorated = click.option(
        "--database-password-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="File whose first line is the password of that user.",
    )(with_password)
    return click.option(
        "--database",
        metavar="URL",
        help="PostgreSQL of the history: postgresql://USER@HOST:PORT/NAME. Give a password in "
        "--database-password-file or in the variable WALLET_DATABASE, never on a command line.",
    )(decorated)


def database_url(url: str | None, password_file: Path | None) -> str | None:
    """The URL with the password from the file. Raises `ConfigError`, also for a password in a command line."""
    if url is None:
        if password_file is not None:
            raise WrongUsage("--database-password-file needs --database")
        return None
    try:
        parts = urlsplit(url)
    except ValueError:  # its text may have the password in it
        raise WrongUsage("--database must be a URL such as postgresql://user@host:5432/name") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise WrongUsage("--database must be a URL such as postgresql://user@host:5432/name")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    if not all(map(_is_host, hosts.split(","))):  # several hosts: the nodes of one PostgreSQL cluster
        raise WrongUsage(
            "--database has no valid HOST:PORT; in a password, characters such as / and @ must be %2F and %40"
        )
    context = click.get_current_context(silent=True)
    source = None if context is None else context.get_parameter_source("database")
    if parts.password is not None and source is click.core.ParameterSource.COMMANDLINE:
        raise WrongUsage(
            "--database has a password in it, which everybody on this machine can read: "
            "put it into --database-password-file, or the URL into WALLET_DATABASE"
        )
    if password_file is None:
        return url
    password = quote(read_secret(password_file, "password of the database"), safe="")
    user = userinfo.partition(":")[0]  # unchanged: special characters are quoted already
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{hosts}"))


def pass_over_service_links(environ: MutableMapping[str, str]) -> None:
    """Remove the variables that Kubernetes makes for a Service whose name begins with `wallet`.

    A Service `wallet` makes WALLET_PORT=tcp://10.0.0.1:8080 (kubernetes.io, "Discovering services"). No flag has a
    value of that form.
    """
    for name in [name for name in environ if name.startswith(f"{ENVIRONMENT_PREFIX}_")]:
        if _is_service_link(environ[name]):
            del environ[name]


def write_anything() -> None:
    """Let standard output and error take every text: a character that the locale lacks is escaped by its number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def one_line_failures() -> Iterator[None]:
    """Turn a `WalletError` into one line on standard error, without a traceback.

    The exit status is 1, after `WrongUsage` 2.
    """
    try:
        yield
    except WrongUsage as error:
        raise click.UsageError(" ".join(str(error).split())) from error
    except WalletError as error:
        raise click.ClickException(" ".join(str(error).split())) from error


def _load(name: str, target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    try:
        # redis-py would load the SDK of OpenTelemetry for its own metrics. This program loads it only when traced.
        with without("opentelemetry"), uncollected():
            command = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise click.ClickException(f"this installation lacks the command {name} ({module})") from None
    if not isinstance(command, click.Command):
        raise TypeError(f"{target} is not a click command")
    return command


def _read_environment(command: click.Command) -> None:
    """Give every flag of the command an environment variable, and show it in the help."""
    for param in command.params:
        if isinstance(param, click.Option):
            flags = [name.removeprefix("--") for name in param.opts if name.startswith("--")]
            param.envvar = [f"{ENVIRONMENT_PREFIX}_{flag.replace('-', '_').upper()}" for flag in flags]
            param.show_envvar = True


def _params_below(command: click.Command, ctx: click.Context) -> list[click.Parameter]:
    """The parameters of a command, and of every command below it when it is a group."""
    params = list(command.get_params(ctx))
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            params += [] if below is None else _params_below(below, ctx)
    return params


def _looks_like_flags(words: list[str]) -> bool:
    return not words or (words[0].startswith("-") and "--" not in words)


def _split(words: list[str], params: Iterable[click.Parameter]) -> list[list[str]] | None:
    """The words grouped as flags with their values; None when they are not all flags of these parameters."""
    values = {
        name: 0 if param.is_flag or param.count else param.nargs
        for param in params
        if isinstance(param, click.Option)
        for name in (*param.opts, *param.secondary_opts)
    }
    groups, position = [], 0
    while position < len(words):
        name = _name(words[position])
        if name not in values:
            return None
        length = 1 if "=" in words[position] else 1 + values[name]
        groups.append(words[position : position + length])
        position += length
    return groups if position == len(words) else None


def _name(word: str) -> str:
    return word.partition("=")[0]


def _names(params: Iterable[click.Parameter]) -> set[str]:
    return {name for param in params for name in (*param.opts, *param.secondary_opts)}


def _flat(groups: Iterable[list[str]]) -> list[str]:
    return [word for group in groups for word in group]
