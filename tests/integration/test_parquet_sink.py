"""The sink `parquet:`, read by DuckDB."""

import asyncio
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.written import Written
from unit.events.test_making import T, U, events_of_all, write_across

from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.events import saved
from wallet_engine.exports import extras, parquet
from wallet_engine.exports.parquet import GRACE_MS, HOUR_MS, Group, ParquetSink, TakenOver

DOCS = Path(__file__).parents[2] / "docs/events.md"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def asked(directory: Path, query: str) -> list[tuple[Any, ...]]:
    """DuckDB's answer; `events` stands for all files, with the folders' names as columns."""
    files = f"read_parquet('{directory}/*/*/*.parquet', hive_partitioning = true)"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(query.replace("events", files)).fetchall()


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*.parquet"))


async def begun(directory: Path, written: Written, groups: int = 2) -> ParquetSink:
    """A sink that has taken all entries so far."""
    sink = ParquetSink(f"parquet:{directory}", written, groups)
    await sink.start()
    await more(sink, written)
    return sink


async def more(sink: ParquetSink, written: Written) -> None:
    positions = await sink.positions(list(written.states))
    batch = [at for at in written.all() if at.seq > positions[at.partition].seq]
    if batch:
        await sink.take(batch)
    await sink.flush()


async def ids_of(written: Written) -> list[str]:
    return sorted(event.id for event in await events_of_all(written))


def ids_in(directory: Path) -> list[str]:
    return [name for (name,) in asked(directory, "SELECT id FROM events ORDER BY id")]


async def test_an_hour_becomes_a_file_of_each_group_when_it_has_ended(tmp_path: Path) -> None:
    written = Written()
    write_across(written)
    sink = await begun(tmp_path, written)
    end_ms = (written.now_ms // HOUR_MS + 1) * HOUR_MS
    await sink.caught_up([0, 1], end_ms + GRACE_MS - 1)
    assert files(tmp_path) == []
    await sink.caught_up([0], end_ms + GRACE_MS)
    hour = "date=2026-11-21/hour=10"
    assert files(tmp_path) == [f"{hour}/group-00-000001.parquet"]
    await sink.caught_up([0, 1], end_ms + GRACE_MS)
    assert files(tmp_path) == [f"{hour}/group-00-000001.parquet", f"{hour}/group-01-000001.parquet"]
    assert ids_in(tmp_path) == await ids_of(written)
    written.write(0, f"+ t {T[5]} alice @fees 5 USD", after_ms=HOUR_MS)
    await more(sink, written)
    await sink.close()
    assert files(tmp_path)[-1] == "date=2026-11-21/hour=11/group-00-000002.parquet"
    assert ids_in(tmp_path) == await ids_of(written)
    assert list((tmp_path / ".writing").iterdir()) == []


async def test_an_hour_ends_also_while_each_partition_is_caught_up_at_another_time(tmp_path: Path) -> None:
    """Under load no group had all its partitions caught up at once: its files came up to four hours late."""
    written = Written()
    write_across(written)
    sink = await begun(tmp_path, written, groups=1)
    end_ms = (written.now_ms // HOUR_MS + 1) * HOUR_MS
    await sink.caught_up([1], end_ms + GRACE_MS)
    assert files(tmp_path) == []
    written.write(0, f"+ t {T[5]} alice @fees 1 USD", after_ms=end_ms + GRACE_MS - written.now_ms)
    await sink.take(written.all()[-1:])
    await sink.caught_up([1], end_ms + GRACE_MS + 1)
    assert files(tmp_path) == ["date=2026-11-21/hour=10/group-00-000001.parquet"]
    await sink.close()
    assert ids_in(tmp_path) == await ids_of(written)


async def test_what_the_documentation_asks_of_it(tmp_path: Path) -> None:
    """Of an account with several postings in an entry it took any of them for the last."""
    written = Written()
    write_across(written)
    written.write(0, *(f"+ t {T[number]} alice @fees {minor} USD" for number, minor in ((2, 100), (3, 250))))
    await (await begun(tmp_path, written)).close()
    query = DOCS.read_text("utf-8").partition("DuckDB")[2].partition("```sql")[2].partition("```")[0]
    query = query.replace("'/var/lib/wallet/events/", f"'{tmp_path}/").replace("2026-11-29", "2026-11-21")
    assert sorted(asked(tmp_path, query)) == [
        ("alice", "USD", Decimal("2.5000"), Decimal("2.5000")),
        ("bob", "USD", Decimal("4.0000"), Decimal("4.0000")),
    ]
    ((transaction, payer, receiver, amount, reference, key, date),) = asked(
        tmp_path,
        "SELECT transaction_id, account, counterparty, amount, reference, key, date FROM events "
        f"WHERE type = 'transfer.succeeded' AND transaction_id = '{U[1]}'",
    )
    assert (transaction, payer, receiver) == (U[1], "alice", "bob")
    assert (amount, reference, key, str(date)) == (Decimal("4.0000"), "rent", "k7", "2026-11-21")
    ((text,),) = asked(tmp_path, "SELECT data->>'$.account_id' FROM events WHERE id = '0.1.0'")
    assert text == "alice"


async def test_it_goes_on_where_it_stopped_and_the_hour_gets_a_second_file(tmp_path: Path) -> None:
    written = Written()
    write_across(written)
    await (await begun(tmp_path, written)).close()
    before = files(tmp_path)
    await (await begun(tmp_path, written)).close()
    assert files(tmp_path) == before
    written.write(0, f"+ t {T[5]} alice @fees 5 USD")
    await (await begun(tmp_path, written)).close()
    assert len(files(tmp_path)) == len(before) + 1
    assert ids_in(tmp_path) == await ids_of(written)


async def first_asked_for(directory: Path, written: Written) -> dict[int, int]:
    """Partition -> the seq after which a new process begins."""
    sink = ParquetSink(f"parquet:{directory}", written, 2)
    await sink.start()
    return {partition: at.seq for partition, at in (await sink.positions([0, 1])).items()}


async def test_what_was_saved_spares_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "SAVE_S_MIN", 0.0)
    monkeypatch.setattr(saved, "SAVE_SHARE_MAX", 1e9)
    written = Written()
    write_across(written)
    sink = await begun(tmp_path, written)
    assert await first_asked_for(tmp_path, written) == {0: 0, 1: 0}  # no event is in a file yet
    assert sink.resumes_after() == {0: 0, 1: 0}
    end_ms = (written.now_ms // HOUR_MS + 1) * HOUR_MS
    for number in range(3):
        written.write(0, f"+ t {T[5 + number]} alice @fees 5 USD", after_ms=HOUR_MS)
        await sink.take(written.all()[-1:])
    assert len(list((tmp_path / ".folds").glob("0000-*"))) == 2
    await sink.caught_up([0, 1], end_ms + GRACE_MS)
    assert await first_asked_for(tmp_path, written) == {
        0: 0,
        1: 2,
    }  # what was saved of partition 0 is of later hours
    await sink.caught_up([0, 1], end_ms + 4 * HOUR_MS)
    assert await first_asked_for(tmp_path, written) == {0: 6, 1: 2}
    assert sink.resumes_after() == {0: 6, 1: 2}
    await sink.close()
    assert sink.resumes_after() == {0: 6, 1: 2}
    written.write(0, f"+ t {T[8]} alice @fees 5 USD")
    await (await begun(tmp_path, written)).close()
    assert ids_in(tmp_path) == await ids_of(written)
    ((balance,),) = asked(tmp_path, "SELECT balance FROM events WHERE id = '0.7.0a'")
    assert balance == Decimal("5.8000")
    for path in (tmp_path / ".folds").glob("0000-*"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert await first_asked_for(tmp_path, written) == {0: 0, 1: 2}


async def test_nothing_new_comes_and_all_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written()
    write_across(written)
    sink = await begun(tmp_path, written)
    monkeypatch.setattr(sink._pace, "_wait_s", 0.0)
    await sink.caught_up([0, 1], written.now_ms)
    assert sink.resumes_after() == {0: 0, 1: 0}  # the hour has not ended
    await sink.caught_up([0, 1], written.now_ms + 2 * HOUR_MS)
    assert sink.resumes_after() == await first_asked_for(tmp_path, written) == {0: 3, 1: 2}
    await sink.close()


async def test_g5_what_a_commit_names_is_on_disk_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power keeps what was synced: the file, and its name in its folder."""
    written = Written(1)
    sink, until_ms = await two_hours(tmp_path, written)
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name.partition('-')[0]}")
        sync(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        steps.append(f"replace {path.name.partition('-')[0]}")
        return replace(path, target)

    monkeypatch.setattr(sink._pace, "_wait_s", 0.0)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    await sink.caught_up([0], until_ms)
    commit = steps.index("replace 00.next")
    assert [step for step in steps[:commit] if "next" not in step] == ["sync 00", "sync .writing"]
    fold = steps.index("replace writing")
    assert (steps[fold - 1], steps[fold + 1]) == ("sync writing", "sync .folds")
    monkeypatch.undo()
    await sink.close()


class Died(BaseException):
    """Ends the sink as a kill would: nothing is tidied up."""


@pytest.mark.parametrize("step", ["write", "close", "replace", "rename", "behind"])
async def test_killed_at_every_step_each_event_is_in_one_file(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written()
    write_across(written)
    sink = await begun(tmp_path, written)

    def dies(*_: Any) -> Any:
        raise Died

    replace = parquet._replace
    with monkeypatch.context() as patched:
        if step == "write":
            patched.setattr(parquet.Hour, "_write", dies)
        elif step == "close":
            patched.setattr(parquet, "_sync", dies)
        elif step == "replace":
            patched.setattr(parquet, "_replace", dies)
        elif step == "rename":
            patched.setattr(Path, "rename", dies)
        else:
            patched.setattr(parquet, "_replace", lambda *said: (replace(*said), dies()))
        with pytest.raises(Died):
            await sink.close()
    assert all((tmp_path / name).stat().st_size for name in files(tmp_path))
    written.write(0, f"+ t {T[5]} alice @fees 5 USD")
    await (await begun(tmp_path, written)).close()
    assert ids_in(tmp_path) == await ids_of(written)
    assert list((tmp_path / ".writing").iterdir()) == []


async def test_g5_the_name_of_a_file_is_on_disk_before_the_next_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process died between the two: after a loss of power the file could be gone, and the position beyond it."""
    written = Written(1)
    sink, until_ms = await two_hours(tmp_path, written)
    synced: list[Path] = []
    sync = parquet._sync

    def dies_there(path: Path) -> None:
        if path.name.startswith("hour="):
            raise Died
        sync(path)

    with monkeypatch.context() as patched:
        patched.setattr(parquet, "_sync", dies_there)
        with pytest.raises(Died):
            await sink.caught_up([0], until_ms)
    (file,) = files(tmp_path)
    monkeypatch.setattr(parquet, "_sync", lambda path: (synced.append(path), sync(path)))
    another = ParquetSink(f"parquet:{tmp_path}", written, 1)
    await another.start()
    await another.positions([0])
    assert (tmp_path / file).parent in synced
    await another.close()


async def test_who_was_overtaken_writes_nothing(tmp_path: Path) -> None:
    written = Written()
    write_across(written)
    slow = await begun(tmp_path, written)
    await (await begun(tmp_path, written)).close()
    with pytest.raises((TakenOver, OSError)):
        await slow.caught_up([0, 1], written.now_ms + 2 * HOUR_MS)
    assert ids_in(tmp_path) == await ids_of(written)


async def test_a_failure_leaves_no_half_of_an_entry_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written()
    write_across(written)
    sink = ParquetSink(f"parquet:{tmp_path}", written, 2)
    await sink.start()
    await sink.positions([0, 1])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Group, "add", full)
        with pytest.raises(OSError, match="No space"):
            await sink.take(written.all())
        await sink.close()
    assert files(tmp_path) == []
    await (await begun(tmp_path, written)).close()
    assert ids_in(tmp_path) == await ids_of(written)


async def two_hours(directory: Path, written: Written) -> tuple[ParquetSink, int]:
    """A sink with two open hours of one group, and when the first can end."""
    written.write(0, "+ o - alice - 0 USD", f"+ t {T[9]} @bank alice 1000 USD")
    end_ms = (written.now_ms // HOUR_MS + 1) * HOUR_MS
    written.write(0, f"+ t {T[1]} alice @fees 1 USD", after_ms=HOUR_MS)
    return await begun(directory, written, 1), end_ms + GRACE_MS


@contextmanager
def full_disk(bytes_max: int = 100) -> Iterator[None]:
    """No file can grow beyond these bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("when", ["an hour ends", "the partitions change"])
async def test_g9_an_hour_that_finds_the_disk_full_is_not_passed_over(tmp_path: Path, when: str) -> None:
    """The next hour was committed at the close, with positions behind the events of the lost one."""
    written = Written(1)
    sink, until_ms = await two_hours(tmp_path, written)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        await (sink.caught_up([0], until_ms) if when == "an hour ends" else sink.positions([0]))
    await sink.close()
    await (await begun(tmp_path, written, 1)).close()
    assert ids_in(tmp_path) == await ids_of(written)
    assert list((tmp_path / ".writing").iterdir()) == []


async def test_a_full_disk_leaves_no_unfinished_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROWS_MAX", 1)
    sink, _ = await two_hours(tmp_path, Written(1))
    sink._broken = True
    with full_disk():
        await sink.close()
    assert list((tmp_path / ".writing").iterdir()) == []


async def test_a_full_disk_leaves_no_half_of_a_fold_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt left another file, which nobody removed."""
    monkeypatch.setattr(saved, "SAVE_S_MIN", 0.0)
    monkeypatch.setattr(saved, "SAVE_SHARE_MAX", 1e9)
    written = Written(1)
    sink, _ = await two_hours(tmp_path, written)
    left, young = (tmp_path / ".folds" / f"writing-{name}" for name in ("left", "young"))
    for path in (left, young):
        path.touch()
    os.utime(left, (0, 0))
    written.write(0, f"+ t {T[5]} alice @fees 5 USD")
    before = {path.name for path in (tmp_path / ".folds").iterdir()}
    with full_disk(10), pytest.raises(OSError, match="File too large"):
        await sink.take(written.all()[-1:])
    assert {path.name for path in (tmp_path / ".folds").iterdir()} == before
    await sink.close()
    await sink.start()
    assert (left.exists(), young.exists()) == (False, True)


async def test_g9_who_was_paused_before_its_commit_commits_no_file_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(1)
    sink, _ = await two_hours(tmp_path, written)
    other = ParquetSink(f"parquet:{tmp_path}", written, 1)
    finish = parquet.Hour.finish

    def overtaken(hour: parquet.Hour) -> bool:
        rows = finish(hour)
        Group(tmp_path, 0, other._arrow, other._files)  # another process opens the group now
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(parquet.Hour, "finish", overtaken)
        with pytest.raises(TakenOver):
            await sink.close()
    await (await begun(tmp_path, written, 1)).close()
    assert ids_in(tmp_path) == await ids_of(written)


async def test_the_end_of_the_process_waits_for_a_commit_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the open hour is committed before the one that ends, and its events come again."""
    written = Written(1)
    sink, until_ms = await two_hours(tmp_path, written)
    reached, goes_on, sync = threading.Event(), threading.Event(), parquet._sync

    def slow_sync(path: Path) -> None:
        if not reached.is_set():
            reached.set()
            assert goes_on.wait(20)
        sync(path)

    monkeypatch.setattr(parquet, "_sync", slow_sync)
    ending = asyncio.create_task(sink.caught_up([0], until_ms))
    assert await asyncio.to_thread(reached.wait, 20)
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    closing = asyncio.create_task(sink.close())
    await asyncio.wait((closing,), timeout=0.3)
    goes_on.set()
    await closing
    await (await begun(tmp_path, written, 1)).close()
    assert ids_in(tmp_path) == await ids_of(written)


async def test_long_ago_is_read_with_few_files_open(tmp_path: Path) -> None:
    written = Written(1)
    written.write(0, "+ o - alice - 0 USD", f"+ t {T[9]} @bank alice 1000 USD")
    for number in range(8):
        written.write(0, f"+ t {T[number]} alice @fees 1 USD", after_ms=HOUR_MS)
    sink = await begun(tmp_path, written, 1)
    assert len(files(tmp_path)) == 9 - parquet.HOURS_MAX
    await sink.close()
    assert len(files(tmp_path)) == 9
    assert ids_in(tmp_path) == await ids_of(written)


async def test_positions_that_are_none_are_corruption(tmp_path: Path) -> None:
    (tmp_path / ".positions").mkdir()
    (tmp_path / ".positions" / "00.json").write_text('{"positions": {')
    with pytest.raises(Corruption, match="damaged"):
        await begun(tmp_path, Written(1), 1)


def test_what_is_no_target_is_refused() -> None:
    with pytest.raises(ConfigError):
        ParquetSink("parquet:", Written(1), 1)


def test_who_lacks_the_library_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'wallet-engine\[parquet\]'"):
        extras.needed("pyarrow", "parquet", "--to parquet:")
