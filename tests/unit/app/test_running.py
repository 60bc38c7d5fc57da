"""A process ends when it is told to, whatever it does at the moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wallet_engine.app.follow import default_priority
from wallet_engine.app.priority import LEAST_NICENESS, LOW_NICENESS

PROGRAM = """
import asyncio, sys
from wallet_engine.app.running import run

def spin():
    print("started", flush=True)
    while True:
        pass

async def main(stop):
    what = sys.argv[1]
    if what == "loop":
        spin()
    elif what == "thread":  # waited for when the loop is closed
        asyncio.get_running_loop().run_in_executor(None, spin)
    else:
        print("started", flush=True)
    await stop.wait()

run(main, "info", float(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("busy", "stop_s_max", "status"), [("loop", 0.3, 1), ("thread", 0.3, 1), ("nothing", 60.0, 0)]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_g10_a_signal_ends_a_process(busy: str, stop_s_max: float, status: int, number: int) -> None:
    """It ends at once if possible, and within its limit when the event loop or a thread is busy."""
    command = [sys.executable, "-c", PROGRAM, busy, str(stop_s_max)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == status, said
    assert ("does not stop" in said) == bool(status)
    assert ("in spin" in said) == bool(status)


@pytest.mark.parametrize("name", ["normal", "low", "idle"])
def test_a_process_takes_its_turn(name: str) -> None:
    program = (
        "import os, threading; from wallet_engine.app.priority import take_priority; "
        f"take_priority({name!r}); said = lambda: print(os.sched_getscheduler(0), os.nice(0), flush=True); "
        "thread = threading.Thread(target=said); thread.start(); thread.join()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    policy, niceness = map(int, done.stdout.split())
    assert (policy == os.SCHED_IDLE) == (name == "idle")
    assert niceness == min(19, os.nice(0) + (LOW_NICENESS if name == "low" else 0))


@pytest.mark.parametrize("name", ["normal", "low", "idle"])
@pytest.mark.parametrize("leads", [True, False])
def test_a_turn_counts_among_sessions_too(name: str, leads: bool) -> None:
    """Where the kernel shares cores among sessions, a session of its own gets the low weight. A shared one does not.

    A session without its own group, such as one that started with the machine, has no line in the file.
    """
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("this kernel does not group processes by session")
    program = (
        f"from pathlib import Path; from wallet_engine.app.priority import take_priority; "
        f"said = lambda: print(repr(Path('/proc/self/autogroup').read_text())); "
        f"said(); take_priority({name!r}); said()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        start_new_session=leads,
    )
    before, after = done.stdout.splitlines()
    if leads and name != "normal":
        niceness = LOW_NICENESS if name == "low" else LEAST_NICENESS
        assert f"nice {niceness}\\n" in after
    else:
        assert after == before


def test_who_may_have_to_stop_payments_does_not_wait_for_them() -> None:
    assert default_priority(["history", "kafka://b/t"]) == "low"
    assert default_priority(["oracle:/var/lib/oracle"]) == "normal"
