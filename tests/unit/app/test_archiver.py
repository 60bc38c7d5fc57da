"""Archives sealed segments with real commands: in order, with retries, until the journal ends."""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.admin.made import MadeJournal, txid
from unit.journal.samples import append, entry

from wallet_engine.app import archiver
from wallet_engine.app.archiver import Archiver, read_archived_snapshots, run_in_group
from wallet_engine.app.troubles import Tell
from wallet_engine.domain.errors import ConfigError
from wallet_engine.journal import JournalWriter, verify_directory
from wallet_engine.journal.archive import Archived, archive_name, expand, read_archived, read_rewrites
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.snapshots import SNAPSHOT_VERSION, list_snapshots
from wallet_engine.recovery.snapshotting import make_snapshots
from wallet_engine.telemetry.metrics import Metrics

WAIT_S_MAX = 30.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiver, "POLL_S", 0.01)
    monkeypatch.setattr(archiver, "RETRY_S_MIN", 0.01)
    monkeypatch.setattr(archiver, "RETRY_S_MAX", 0.02)


def sealed(directory: Path, count: int) -> None:
    """Add `count` sealed segments to the journal."""
    writer = JournalWriter(directory, "sample", segment_bytes_max=2000)
    for _ in range(count):
        append(writer, 0, 20)
        writer.sync()
    writer.close()


def ignore(what: str) -> None:
    pass


def archive_until(
    directory: Path,
    command: str,
    done: Callable[[], bool],
    tell: Tell = ignore,
    metrics: Metrics | None = None,
) -> Metrics:
    """Run an archiver until the condition is true."""
    metrics = metrics or Metrics()

    async def run() -> None:
        task = asyncio.create_task(Archiver(directory, command, metrics, tell).run())
        deadline = time.monotonic() + WAIT_S_MAX
        while not done() and not task.done():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return metrics


def test_the_placeholders_are_those_of_postgresql() -> None:
    command = "cp %p /a/%f # 100%% of %x %"
    expanded = expand(command, {"%p": "/j/00000001.wal", "%f": "00000001-r2.wal"})
    assert expanded == "cp /j/00000001.wal /a/00000001-r2.wal # 100% of %x %"


@pytest.mark.parametrize(
    "folder", ["plain", "two words", "o'clock", 'say "x"', "a$HOME`b`", "back\\slash", "m\u00fcller"]
)
@pytest.mark.parametrize(
    "command",
    [
        "printf %%s %p",
        'printf %%s "%p"',
        "printf %%s '%p'",
        "printf '%%s' x %p",
        'printf "%%s" "\\"" "%p"',
        "printf %%s it\\'s '\\' %p",
        "printf %%s 'it'\\''s' %p",
        "printf %%s '\\\\' \\\\ %p",
    ],
)
def test_a_path_is_one_word_wherever_it_stands(folder: str, command: str) -> None:
    path = f"/j/{folder}/00000001.wal"
    said = subprocess.run(
        ["/bin/sh", "-c", expand(command, {"%p": path, "%f": "1.wal"})], capture_output=True, check=True
    ).stdout.decode()
    assert said.endswith(path)


def test_every_sealed_segment_is_archived_in_order_and_the_open_one_is_not(tmp_path: Path) -> None:
    sealed(tmp_path / "j", 3)
    log, archive = tmp_path / "log", tmp_path / "archive"
    archive.mkdir()
    command = f"echo %f >> {log} && test ! -e {archive}/%f && cp %p {archive}/%f"
    archive_until(tmp_path / "j", command, lambda: read_archived(tmp_path / "j").number == 3)
    assert log.read_text().split() == ["00000001.wal", "00000002.wal", "00000003.wal"]
    assert sorted(os.listdir(archive)) == ["00000001.wal", "00000002.wal", "00000003.wal"]
    assert (archive / "00000002.wal").read_bytes() == (tmp_path / "j" / "00000002.wal").read_bytes()


def test_the_documented_command_goes_on_when_a_full_archive_has_room_again(tmp_path: Path) -> None:
    """`test ! -e FILE && cp` left half a file, and refused from then on to archive anything."""
    deploy = (Path(__file__).parents[3] / "cluster_config" / "DEPLOY.md").read_text("utf-8")
    (documented,) = re.findall(r"^    --archive-command '(.*)'$", deploy, re.MULTILINE)
    archive, tools = tmp_path / "archive", tmp_path / "tools"
    for folder in (archive, tools):
        folder.mkdir()
    full = tools / "cp"
    full.write_text('#!/bin/sh\nhead -c 100 "$1" >"$2"\nexit 1\n')
    full.chmod(0o755)
    command = f"PATH={tools}:$PATH; {documented.replace('/archive', str(archive))}"
    sealed(tmp_path / "j", 2)
    shutil.copy(tmp_path / "j" / "00000001.wal", archive)  # archived, and not recorded before a crash
    told: list[str] = []
    archive_until(
        tmp_path / "j", command, lambda: any("00000002.wal: --archive" in each for each in told), told.append
    )
    full.unlink()
    archive_until(tmp_path / "j", command, lambda: read_archived(tmp_path / "j").number == 2)
    assert sorted(os.listdir(archive)) == ["00000001.wal", "00000002.wal"]
    assert (archive / "00000002.wal").read_bytes() == (tmp_path / "j" / "00000002.wal").read_bytes()

    sealed(tmp_path / "j", 1)
    (archive / "00000003.wal").write_bytes(b"of another journal")
    told.clear()
    archive_until(
        tmp_path / "j", command, lambda: any("00000003.wal: --archive" in each for each in told), told.append
    )
    assert (archive / "00000003.wal").read_bytes() == b"of another journal"


def test_a_restart_goes_on_with_what_was_not_archived(tmp_path: Path) -> None:
    sealed(tmp_path / "j", 2)
    log = tmp_path / "log"
    archive_until(tmp_path / "j", f"echo %f >> {log}", lambda: read_archived(tmp_path / "j").number == 2)
    sealed(tmp_path / "j", 1)
    archive_until(tmp_path / "j", f"echo %f >> {log}", lambda: read_archived(tmp_path / "j").number == 3)
    assert log.read_text().split() == ["00000001.wal", "00000002.wal", "00000003.wal"]


def test_rewritten_segments_are_archived_again_under_names_that_tell(tmp_path: Path) -> None:
    """Segments that were archived before, too. The latest archived file of each number is the present journal."""
    journal, archive, restored = tmp_path / "j", tmp_path / "archive", tmp_path / "restored"
    archive.mkdir()
    command = f"test ! -e {archive}/%f && cp %p {archive}/%f"

    def all_archived() -> bool:
        return Archiver(journal, command, Metrics(), ignore).waiting() == 0

    for branch in ("", "b", "c"):
        writer = JournalWriter(journal, "sample", segment_bytes_max=2000)
        if branch:  # the last archived segments are of the rejected chain; entry 35 is in the second one
            writer.begin_rewrite()
            assert writer.rewrite({0: 35 if branch == "b" else 55})
        for seq in range(writer.position(0).seq + 1, 81):
            writer.append(0, *entry(0, seq, branch=branch, prev=writer.nonce_in_memory(0, seq - 1)))
            writer.sync()
        writer.close()
        archive_until(journal, command, all_archived)
    first = read_rewrites(journal)
    assert len(first) == 2
    assert 1 < first[0] < first[1]
    names = sorted(os.listdir(archive))
    assert {name[8:] for name in names} == {".wal", "-r1.wal", "-r2.wal"}
    restored.mkdir()
    for name in sorted(names, key=lambda name: (name[:8], name[8:] != ".wal", name)):
        shutil.copy(archive / name, restored / f"{name[:8]}.wal")  # a later file replaces an earlier one
    for path in restored.iterdir():
        assert path.read_bytes() == (journal / path.name).read_bytes(), path.name
    assert len(list(restored.iterdir())) == read_archived(journal).number
    verify_directory(restored)


def test_a_rewrite_while_a_segment_is_archived_brings_it_again() -> None:
    """The note has the number of rewrites that the archive knows. Segments from the first later rewrite on follow."""
    assert Archived(7, 0).next([]) == 8
    assert Archived(7, 0).next([9]) == 8
    assert Archived(7, 0).next([5]) == 5
    assert Archived(7, 1).next([5]) == 8
    assert Archived(5, 1).next([5, 6, 3]) == 3
    assert [archive_name(Path("0000000n.wal"), n, [5, 7, 6]) for n in (4, 5, 6)] == [
        "0000000n.wal",
        "0000000n-r1.wal",
        "0000000n-r3.wal",
    ]


def test_a_command_that_fails_is_asked_again_and_nothing_is_skipped(tmp_path: Path) -> None:
    sealed(tmp_path / "j", 2)
    log, repaired = tmp_path / "log", tmp_path / "repaired"
    command = f"echo %f >> {log}; test -e {repaired}"

    def done() -> bool:
        if log.exists() and len(log.read_text().split()) >= 4:
            repaired.touch()
        return read_archived(tmp_path / "j").number == 2

    metrics = archive_until(tmp_path / "j", command, done)
    asked = log.read_text().split()
    assert asked[-1] == "00000002.wal"
    assert set(asked[:-1]) == {"00000001.wal"}
    text = metrics.render().decode()
    assert f"wallet_journal_archive_failures_total {len(asked) - 2}.0" in text


def test_what_waits_is_in_the_metrics(tmp_path: Path) -> None:
    sealed(tmp_path / "j", 2)
    tried = tmp_path / "tried"
    metrics = archive_until(tmp_path / "j", f"touch {tried} # %f\nfalse", tried.exists)
    assert "wallet_journal_segments_to_archive 2.0" in metrics.render().decode()
    assert read_archived(tmp_path / "j").number == 0


def test_what_waits_behind_a_command_that_hangs_is_in_the_metrics(tmp_path: Path) -> None:
    journal, hangs = tmp_path / "j", tmp_path / "hangs"
    sealed(journal, 1)
    metrics, more = Metrics(), iter([2])

    def done() -> bool:
        if hangs.exists():
            for count in more:
                sealed(journal, count)
        return metrics.registry.get_sample_value("wallet_journal_segments_to_archive") == 3

    archive_until(journal, f"touch {shlex.quote(str(hangs))} # %f\nsleep 600", done, metrics=metrics)


def test_a_command_that_hangs_ends_with_the_journal_and_so_do_its_children(tmp_path: Path) -> None:
    sealed(tmp_path / "j", 1)
    pid = tmp_path / "pid"
    command = f"sh -c 'echo $$ > {shlex.quote(str(pid))}; sleep 600' # %f\nwait"
    archive_until(tmp_path / "j", command, lambda: pid.exists() and pid.read_text().endswith("\n"))
    deadline = time.monotonic() + WAIT_S_MAX
    while Path(f"/proc/{int(pid.read_text())}").exists():
        assert time.monotonic() < deadline, "the command's child is still there"
        time.sleep(0.02)
    assert read_archived(tmp_path / "j").number == 0


def test_a_program_that_is_missing_is_a_failure_like_another(tmp_path: Path) -> None:
    assert asyncio.run(run_in_group("/no/such/program")) == 127


def test_bad_settings_and_a_damaged_note_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="%p"):
        Archiver(tmp_path, "cp it", Metrics(), ignore)
    (tmp_path / "archived").write_bytes(b"0000000x\n")
    with pytest.raises(Damaged, match="archived at offset 0"):
        Archiver(tmp_path, "cp %p", Metrics(), ignore)


def test_it_tells_of_a_command_that_fails_and_that_it_works_again(tmp_path: Path) -> None:
    sealed(tmp_path / "j", 2)
    mended, told = tmp_path / "mended", list[str]()

    def tell(what: str) -> None:
        told.append(what)
        if len(told) == 2:
            mended.touch()

    archive_until(tmp_path / "j", f"test -e {mended} # %p", lambda: len(told) >= 4, tell)
    failed = "00000001.wal: --archive-command ended with status 1"
    assert told[:4] == [failed, failed, "", ""]


def test_it_tells_of_a_command_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiver, "RUN_S_WARN", 0.05)
    sealed(tmp_path / "j", 1)
    told = list[str]()
    archive_until(tmp_path / "j", "sleep 60 # %p", lambda: bool(told), told.append)
    assert told == ["00000001.wal: --archive-command does not end"]


def test_the_newest_snapshots_are_archived_behind_the_segments(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = MadeJournal(journal, segment_bytes_max=2000)
    made.add(0, "o - ann - 0 USD")
    for number in range(30):
        made.add(0, f"t {txid(number)} @bank ann 1 USD")
    make_snapshots(journal)
    made.add(0, f"t {txid(100)} @bank ann 1 USD")
    make_snapshots(journal)
    made.close()
    archive, log = tmp_path / "archive", tmp_path / "log"
    archive.mkdir()
    command = f"echo %f of %j >> {log}; test ! -e {archive}/%f && cp %p {archive}/%f"
    newest = list_snapshots(journal)[0][0]
    name = f"{newest.stem}-v{SNAPSHOT_VERSION}.snapshot"
    archive_until(journal, command, lambda: name in read_archived_snapshots(journal))
    *segments, snapshot = log.read_text().splitlines()
    assert snapshot == f"{name} of j1"
    assert segments
    assert all(line.endswith(".wal of j1") for line in segments)
    assert (archive / name).read_bytes() == newest.read_bytes()
    (journal / "rewrites").write_text("00000001\n")  # the rewritten segments may have other contents
    again = f"{newest.stem}-v{SNAPSHOT_VERSION}-r1.snapshot"
    archive_until(journal, command, lambda: again in read_archived_snapshots(journal))
    assert read_archived_snapshots(journal) == {again}


def test_an_archive_that_is_behind_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiver, "WAITING_WARN", 2)
    sealed(tmp_path, 5)
    told: list[str] = []
    archive_until(
        tmp_path, "true %p", lambda: read_archived(tmp_path).number >= 5 and told[-1] == "", told.append
    )
    assert told[0] == "archiving is behind: 5 sealed segments wait"
