"""The settings of the cluster that may be changed, when a change is safe, and the change itself.

Retention. A running process keeps the old retention until it is restarted, so for a while two are in force. A
credit is remembered for at least the smaller one. An open debit is driven again without a look into the journal
for up to half of the larger one. So the new retention may be at most twice the old, and no entry may be open for
longer than half of the smaller one.

Quorum. A recovery fences n - quorum + 1 copies and takes the longest chain among them. That chain holds every
answered entry only if each was answered with as many copies as the quorum says. So raising the quorum is safe
only when every copy has everything that was answered under the old one, and nobody answers under the old one any
more: all copies answer and are up to date, no API process runs, and no recovery is under way during the change.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from wallet_engine.admin.survey import Survey, survey
from wallet_engine.admin.tracing.open_entries import find_open_entries
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.directory import CONFIG, Directory
from wallet_engine.routing.model import ClusterConfig, encode
from wallet_engine.routing.tree import VersionConflict

HOUR_MS: Final = 3600 * 1000
RETENTION_HOURS_MIN: Final = 24
RETENTION_HOURS_MAX: Final = 24 * 365
SYSTEM_ACCOUNTS: Final = "system-accounts"
#: How long to wait for recoveries that are under way.
RECOVERY_WAIT_S_MAX: Final = 30.0


@dataclass(frozen=True, slots=True)
class Setting:
    """`fixed`: why it cannot be changed; empty if it can."""

    name: str
    value: int | str
    meaning: str
    fixed: str = ""


def settings_of(config: ClusterConfig) -> list[Setting]:
    """Every setting, as `wallet-admin config` names it."""
    return [
        Setting(
            "retention-hours",
            config.retention_ms // HOUR_MS,
            "how long a transaction id is remembered at least",
        ),
        Setting(
            "journal-quorum",
            config.journal_quorum,
            "journal copies that must have an entry before it is answered",
        ),
        Setting(
            "stream-entries-max",
            config.stream_entries_max,
            "entries of a partition in Redis and not on disk; with more it takes no new work",
        ),
        Setting(
            "partitions", config.partitions, "fixed by init", "it decides in which partition each account is"
        ),
        Setting(
            SYSTEM_ACCOUNTS,
            ",".join(config.system_accounts),
            "system accounts that exist; only the role admin may use others",
        ),
    ]


def changed(config: ClusterConfig, name: str, text: str) -> ClusterConfig:
    """The configuration with one setting changed. Raises `ConfigError` for a value out of bounds."""
    setting = next((s for s in settings_of(config) if s.name == name), None)
    if setting is None:
        raise ConfigError(f"there is no setting {name}: {', '.join(s.name for s in settings_of(config))}")
    if setting.fixed:
        raise ConfigError(f"{name} cannot be changed: {setting.fixed}")
    if name == SYSTEM_ACCOUNTS:
        return replace(config, system_accounts=tuple(dict.fromkeys(filter(None, text.split(",")))))
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ConfigError(f"{name} must be a whole number: {text[:40]!r}")
    value = int(text)
    if name == "journal-quorum":
        return replace(config, journal_quorum=value)
    if name == "stream-entries-max":
        return replace(config, stream_entries_max=value)
    if not RETENTION_HOURS_MIN <= value <= RETENTION_HOURS_MAX:
        raise ConfigError(f"retention-hours must be {RETENTION_HOURS_MIN} to {RETENTION_HOURS_MAX}: {value}")
    return replace(config, retention_ms=value * HOUR_MS)


def check_safe(directory: Directory, old: ClusterConfig, new: ClusterConfig) -> None:
    """Raises `ConfigError` when the change is not safe in the present state of the cluster."""
    if new.retention_ms == old.retention_ms and new.journal_quorum == old.journal_quorum:
        return
    if new.retention_ms > 2 * old.retention_ms:
        raise ConfigError(
            f"retention-hours may be doubled at most, to {2 * old.retention_ms // HOUR_MS}: "
            f"do that, restart every API process, then go on"
        )
    found = survey(directory)
    if new.retention_ms != old.retention_ms:
        _check_nothing_old_is_open(found, min(old.retention_ms, new.retention_ms) // 2)
    if new.journal_quorum > old.journal_quorum:
        _check_level(found, set(directory.members().copies), new.journal_quorum)


def write(directory: Directory, old: ClusterConfig, new: ClusterConfig) -> None:
    """Write the new configuration if the present one still is `old` and the change is still safe.

    Raises `ConfigError`, `LockTimeout` while a recovery is under way, `VersionConflict`.
    """
    with _no_recovery(directory):
        check_safe(directory, old, new)
        node = directory.tree.get(CONFIG)
        if node is None or directory.config() != old:
            raise VersionConflict(
                "somebody else has changed the configuration meanwhile: see wallet-admin config get"
            )
        directory.tree.set(CONFIG, encode(new), node.version)


@contextmanager
def _no_recovery(directory: Directory) -> Iterator[None]:
    """Keep recoveries of all shards from running, by taking their locks (those of `recovery/recover.py`)."""
    with ExitStack() as stack:
        for shard in directory.shards():
            stack.enter_context(directory.lock(f"recovery-{shard}", timeout_s=RECOVERY_WAIT_S_MAX))
        yield


def _check_nothing_old_is_open(found: Survey, age_ms_max: int) -> None:
    if any(p.state == "unreachable" for p in found.partitions):
        raise ConfigError("not every shard answers, so open entries are not known: see wallet-admin doctor")
    old = [e for e in find_open_entries(found) if e.age_ms is None or e.age_ms > age_ms_max]
    if old:
        raise ConfigError(
            f"{len(old)} entries are open for too long: end them first, see wallet-admin pending"
        )


def _check_level(found: Survey, copies: set[str], quorum: int) -> None:
    if found.services:
        running = ", ".join(info.service_id for info in found.services)
        raise ConfigError(f"stop every API process first, they answer under the old quorum: {running}")
    here = {state.info.journal_id: state for state in found.journals if state.durable is not None}
    if missing := copies - here.keys():
        raise ConfigError(f"journal copy {', '.join(sorted(missing))} does not answer: every copy must")
    if len(here) < quorum:
        raise ConfigError(f"there are {len(here)} journal copies: start {quorum - len(here)} more first")
    behind = [name for name, state in here.items() if state.lag_entries != 0 or state.silent_partitions]
    if behind:
        raise ConfigError(
            f"journal copy {', '.join(sorted(behind))} is behind Redis: wait, and see journal info"
        )
