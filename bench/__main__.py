"""`python -m bench`: see `--help`."""

import sys
from typing import Final

import click

try:
    from bench.commands.beside import beside
    from bench.commands.client import client
    from bench.commands.compare import compare
    from bench.commands.fair import fair
    from bench.commands.history import history
    from bench.commands.memory import memory
    from bench.commands.move import move
    from bench.commands.peers import peers
    from bench.commands.quick import quick
    from bench.commands.rebuild import rebuild
    from bench.commands.report import report
    from bench.commands.run import run
    from bench.commands.scale import scale
    from bench.commands.small import small
    from wallet_engine.dev.process import share_cores
except ModuleNotFoundError as error:
    sys.exit(
        f"the benchmark needs the Python package that has {error.name}: "
        f"{sys.executable} -m pip install --editable '.[bench]' (`make bench` does it)"
    )

#: The subcommands; each has its own module.
COMMANDS: Final[tuple[click.Command, ...]] = (
    *(run, quick, small, client, peers, scale, memory, rebuild, history, beside, fair, move, report, compare),
)


@click.group()
def main() -> None:
    """Measure the wallet engine on a cluster that is started for this and stopped afterwards.

    The load generator runs on the same machine, so all figures include its load. A run reports nothing and exits 1 if
    its books do not add up, or if an answer was neither a success nor an expected decline.
    """
    share_cores()


for command in COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main()
