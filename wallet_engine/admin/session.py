"""The flags of every verb, its two forms of output, and the steps of every verb that changes something.

A changing verb makes a `Plan`, and acts only if the user agrees:

    plan = Plan("freeze account alice", {"account_id": "alice"}, lambda console: console.print(…))
    if session.agreed(plan):                  # shown and asked, or --yes; False under --dry-run
        with session.change(directory, plan):  # the audit record
            …                                  # do it, then wait until it is seen (`waiting`)
        session.answer(…)
"""

import functools
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec

import click
import msgspec
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from wallet_engine.admin.audit_log import audited
from wallet_engine.admin.service_calls import Caller, sendable_key
from wallet_engine.domain.errors import WalletError, text_of
from wallet_engine.domain.principals import PeerRole
from wallet_engine.journal import peer_tls
from wallet_engine.redis_store import login
from wallet_engine.routing import zookeeper_tls
from wallet_engine.routing.access import read_credentials
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.zookeeper import Credentials
from wallet_engine.telemetry.flags import FiniteRange, credentials_options, peer_options, redis_options
from wallet_engine.telemetry.secrets import read_secret

P = ParamSpec("P")

#: The environment variable with an API key: a flag would show the key to everybody on the machine.
KEY_VARIABLE: Final = "WALLET_KEY"

#: Width of output that goes to no terminal.
PIPE_COLUMNS: Final = 10_000

#: Seconds between two looks of `--watch`: the default and the bounds.
WATCH_S: Final = 2.0
WATCH_S_MIN: Final = 0.2
WATCH_S_MAX: Final = 86_400.0

#: A verb's answer: what `--json` prints.
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a changing verb is about to do.

    `what` is one line for the question and the audit record: "move partition 12 from s1 to s2". `document` is what
    `--dry-run --json` prints; `show` prints the same for people. `destroys`: something is lost for good.
    """

    what: str
    document: Document
    show: Callable[[Console], object]
    destroys: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """One run of one verb."""

    zookeeper: str | None
    map_file: Path | None
    json: bool
    yes: bool
    credentials: Credentials | None = None
    dry_run: bool = False
    key_file: Path | None = None
    api_ca: Path | None = None
    #: Whether `yes` comes from an environment variable, and not from the command line.
    yes_by_environment: bool = False

    def caller(self) -> Caller:
        """The key of --key-file, or else of `WALLET_KEY`, for calls to API processes. Raises `ConfigError`."""
        if self.key_file is not None:
            text, where = read_secret(self.key_file, "API key"), f"--key-file {self.key_file}"
        else:
            text, where = os.environ.get(KEY_VARIABLE, ""), KEY_VARIABLE
        return Caller(sendable_key(text, where) if text else None, self.api_ca)

    @contextmanager
    def directory(self) -> Iterator[Directory]:
        """The directory that the flags name. Raises `ConfigError` when none, or both, are given."""
        directory = open_directory(self.zookeeper, self.map_file, credentials=self.credentials)
        try:
            yield directory
        finally:
            directory.close()

    def answer(self, document: Document, show: Callable[[Console], object]) -> None:
        """Print the document, or let `show` print it for people. Called once per run."""
        if self.json:
            click.echo(msgspec.json.encode(document))
        else:
            show(plain_console())

    def watch(
        self, look: Callable[[], tuple[Document, Callable[[Console], object]]], every_s: float | None
    ) -> None:
        """`answer` the result of `look`; with `every_s`, repeat it until Ctrl-C.

        If a look fails, the error is printed, and the next look follows.
        """
        if every_s is None:
            self.answer(*look())
            return
        with suppress(KeyboardInterrupt):
            while True:
                try:
                    document, show = look()
                except WalletError as error:
                    document, show = _trouble(text_of(error))
                self._again(document, show)
                time.sleep(every_s)

    def _again(self, document: Document, show: Callable[[Console], object]) -> None:
        if self.json:
            click.echo(msgspec.json.encode(document))
            return
        console = plain_console()
        with console.capture() as shown:
            console.print(time.strftime("%H:%M:%S"))
            show(console)
        # Overwrites the last output, so that nothing flickers.
        click.echo(f"\x1b[H\x1b[2J{shown.get()}" if draws(console) else shown.get())

    def confirm(self, question: str, *, destroys: bool = False) -> None:
        """Ask, unless `--yes`. Ends the command with status 1 if the answer is no, or there is nobody to answer."""
        if not self._said_yes(destroys):
            click.confirm(question, abort=True, err=True)

    def _said_yes(self, destroys: bool) -> bool:
        return self.yes and not (destroys and self.yes_by_environment)

    def agreed(self, plan: Plan) -> bool:
        """Show the plan and ask; True if the user agrees. With `--dry-run`, only print the plan; False.

        Ends the command with status 1 when the answer is no.
        """
        if self.dry_run:
            self.answer({"dry_run": True, "plan": plan.document}, plan.show)
            return False
        if not self._said_yes(plan.destroys):
            plan.show(plain_console(stderr=True))
            hint = " (WALLET_YES does not answer this; --yes does)" if self.yes else ""
            self.confirm(f"Do it?{hint}", destroys=plan.destroys)
        return True

    def change(self, directory: Directory, plan: Plan) -> AbstractContextManager[None]:
        """Record the change that the block makes; see `audited`."""
        verb = click.get_current_context().command_path.partition(" ")[2]
        user = None if self.credentials is None else self.credentials.user
        return audited(directory, verb, plan.what, zookeeper_user=user)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Progress bars on standard error if it is a terminal that can draw them; else nothing."""
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=console, disable=not draws(console), transient=True) as progress:
            yield progress


def plain_console(*, stderr: bool = False) -> Console:
    """Prints text as it is: account ids may look like markup or emoji codes. A pipe does not narrow tables."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_COLUMNS
    return console


def draws(console: Console) -> bool:
    """Whether the console can move its cursor: a pipe or a dumb terminal cannot."""
    return console.is_terminal and not console.is_dumb_terminal


def _trouble(text: str) -> tuple[Document, Callable[[Console], object]]:
    return {"error": text}, lambda console: console.print(f"! {text}", soft_wrap=True)


def watch_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--watch [SECONDS]`, for `Session.watch`."""
    return click.option(
        "--watch",
        "watch_s",
        type=FiniteRange(WATCH_S_MIN, WATCH_S_MAX),
        is_flag=False,
        flag_value=WATCH_S,
        metavar="[SECONDS]",
        help=f"Repeat every {WATCH_S:.0f} seconds, or every SECONDS, until Ctrl-C.",
    )(command)


def plain_table(*headings: str, right: Collection[str] = (), **options: Any) -> Table:
    """A table that wraps long values and cuts nothing. `right`: right-aligned columns, for numbers."""
    table = Table(**options)
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in right else "left")
    return table


def show_table(console: Console, table: Table, *spare: str) -> None:
    """Print the table. If it is too wide, leave out columns of `spare`, from the first, until it fits."""
    left_out, unbounded = [], console.options.update(max_width=PIPE_COLUMNS)
    for heading in spare:
        if console.measure(table, options=unbounded).maximum <= console.width:
            break
        table.columns = [column for column in table.columns if column.header != heading]
        left_out.append(heading)
    console.print(table)
    if left_out:
        console.print(f"left out, for want of width: {', '.join(left_out)}", soft_wrap=True)


def _source_of(parameter: str) -> ParameterSource | None:
    return click.get_current_context().get_parameter_source(parameter)


def admin_command(verb: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Give a verb the common flags (cluster, credentials, `--json`, `--yes`) as its `Session`.

    With `--json` a failure is also printed as a document, `{"error": "…"}`, beside the line on standard error.
    """
    return _with_session(verb)


def changing_command(verb: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """`admin_command` for a verb that changes something: adds `--dry-run`."""
    return click.option("--dry-run", is_flag=True, help="Show the plan, and change nothing.")(
        _with_session(verb)
    )


def _with_session(verb: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    @click.option("--zookeeper", metavar="HOST:PORT,…", help="ZooKeeper ensemble that describes the cluster.")
    @click.option(
        "--map-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Local file in ZooKeeper's place (embedded mode).",
    )
    @credentials_options
    @redis_options
    @peer_options
    @click.option(
        "--key-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File whose first line is an API key, for verbs that call an API process.  [default: WALLET_KEY]",
    )
    @click.option(
        "--api-ca",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Authorities (PEM) to trust for API processes with HTTPS.  [default: those of the system]",
    )
    @click.option("--json", is_flag=True, help="Print exactly one JSON document.")
    @click.option("--yes", is_flag=True, help="Ask no question.")
    @functools.wraps(verb)
    def command(
        zookeeper: str | None,
        map_file: Path | None,
        zookeeper_user: str | None,
        zookeeper_password_file: Path | None,
        key_file: Path | None,
        api_ca: Path | None,
        json: bool,
        yes: bool,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        dry_run = bool(kwargs.pop("dry_run", False))
        with failures_told(json):
            login.use_flags(kwargs)
            zookeeper_tls.use_flags(kwargs)
            peer_tls.use_flags(kwargs, PeerRole.ADMIN)
            credentials = read_credentials(zookeeper_user, zookeeper_password_file)
            by_environment = _source_of("yes") is ParameterSource.ENVIRONMENT
            session = Session(
                *(zookeeper, map_file, json, yes, credentials, dry_run, key_file, api_ca, by_environment)
            )
            verb(session, *args, **kwargs)

    return command


@contextmanager
def failures_told(json: bool) -> Iterator[None]:
    """With `json`, print a failure or a question that was not answered yes as a document too: `{"error": "…"}`."""
    try:
        yield
    except (WalletError, click.Abort) as error:
        if json:
            said = "not confirmed; --yes asks no question" if isinstance(error, click.Abort) else str(error)
            click.echo(msgspec.json.encode({"error": " ".join(said.split())}))
        raise
