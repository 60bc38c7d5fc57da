"""Reading /proc, with lines as proc(5) describes them."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from bench.core_speed import Loops, Probe, core_speed
from bench.machine import cpu_model, file_system
from bench.measure import (
    MachineTimes,
    Moment,
    ProcessReplaced,
    ProcessTimes,
    parse_machine,
    parse_process,
    process_times,
    shown,
    usage,
)

TICKS = os.sysconf("SC_CLK_TCK")


def stat(pid: int, name: str, user: int, system: int, started: int) -> str:
    return f"{pid} ({name}) S 1 1 1 0 -1 4194560 9 8 7 6 {user} {system} 55 66 20 0 12 0 {started} 1000 200\n"


@pytest.mark.parametrize("name", ["redis-server", "a b", "odd) R 1 (name", "("])
def test_a_process_may_be_called_anything(name: str) -> None:
    assert parse_process(stat(7, name, 3 * TICKS, TICKS, 99)) == ProcessTimes(name, 4.0, 99)


def test_guest_time_is_not_counted_twice() -> None:
    times = parse_machine("cpu  100 10 30 800 50 1 2 7 40 5\ncpu0 1 2 3 4\n")
    assert times == MachineTimes(total=1000, idle=850, steal=7)
    assert times.busy_s == 143 / TICKS


def test_this_process_is_found() -> None:
    assert process_times()[os.getpid()].cpu_s > 0


def moment(at_s: float, total: int, idle: int, steal: int, *processes: tuple[int, str, float, int]) -> Moment:
    known = {pid: ProcessTimes(name, cpu_s, started) for pid, name, cpu_s, started in processes}
    loops = Loops(int(at_s) * 10, at_s * 0.004, 0.0002)  # 0.4 ms each, the best one 0.2 ms
    return Moment(at_s, known, MachineTimes(total * TICKS, idle * TICKS, steal * TICKS), loops)


BEFORE = moment(
    10, 100, 50, 1, (1, "redis", 5, 11), (2, "redis", 6, 12), (3, "api", 1, 13), (9, "java", 3, 19)
)


def test_cpu_is_told_apart_by_role_and_others_are_named() -> None:
    after = moment(
        *(20, 120, 53, 3),
        *(
            (1, "redis", 8, 11),
            (2, "redis", 7, 12),
            (3, "api", 4, 13),
            (9, "java", 8, 19),
            (10, "new", 1, 90),
        ),
    )
    found = usage(BEFORE, after, {"redis": [1, 2], "api": [3]})
    assert found.seconds == 10
    assert found.cpu_s == {"redis": 4, "api": 3}
    assert found.steal_percent == 10
    assert found.core_speed == 0.5
    assert found.others == {"java (9)": 0.5, "new (10)": 0.1}
    assert found.other_cores == pytest.approx((20 - 3 - 2 - 7) / 10)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (
            ["python", "-m", "wallet_engine.recovery.snapshotting", "x"],
            "wallet_engine.recovery.snapshotting (7)",
        ),
        (["java", "-m"], "java (7)"),
        ([], "java (7)"),
    ],
)
def test_a_program_in_python_is_called_by_its_module(tmp_path: Path, words: list[str], name: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cmdline").write_text("".join(f"{word}\0" for word in words))
    assert shown(7, "java", tmp_path) == name
    assert shown(8, "gone", tmp_path) == "gone (8)"


def test_cores_are_as_fast_as_the_mean_loop_against_the_best_one() -> None:
    before, after = Loops(100, 1.0, 0.002), Loops(110, 1.04, 0.001)
    assert core_speed(before, after) == pytest.approx(0.25)  # ten loops of 4 ms; the best one ever took 1 ms
    assert core_speed(after, after) == 0


def test_the_probe_goes_on_between_readings_and_ends_when_closed() -> None:
    probe = Probe()
    first = last = probe.read()
    while last.done < first.done + 3:
        last = probe.read()
    assert 0 < last.best_s <= last.cpu_s / last.done
    assert core_speed(first, last) > 0
    assert probe.close() == 0


def test_a_probe_that_was_killed_says_so() -> None:
    probe = Probe()
    probe.read()
    process = max(psutil.Process().children(), key=psutil.Process.create_time)
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    with pytest.raises(ChildProcessError, match="times the cores has ended"):
        probe.read()
    assert probe.close() == -signal.SIGKILL


@pytest.mark.parametrize("last", [[], [(3, "api", 4, 99)]], ids=["died", "its number is another's"])
def test_a_process_that_was_replaced_spoils_the_run(last: list[tuple[int, str, float, int]]) -> None:
    with pytest.raises(ProcessReplaced, match="api process 3"):
        usage(BEFORE, moment(20, 120, 53, 3, *last), {"api": [3]})


def test_the_innermost_mount_counts() -> None:
    mounts = "/dev/a / ext4 rw 0 0\ntmpfs /mnt tmpfs rw 0 0\n/dev/b /mnt/disk xfs rw 0 0\n"
    assert file_system(Path("/mnt/disk/x"), mounts) == "xfs"
    assert file_system(Path("/mnt/diskette"), mounts) == "tmpfs"
    assert file_system(Path("/home"), mounts) == "ext4"


def test_the_cpu_has_a_name() -> None:
    assert (
        cpu_model("processor : 0\nmodel name\t: Some CPU @ 3 GHz\nmodel name\t: other\n")
        == "Some CPU @ 3 GHz"
    )
    assert cpu_model("") == "unknown"
