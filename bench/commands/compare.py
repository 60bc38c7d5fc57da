"""`bench compare`: shows whether two runs of the same command give the same ratios."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from bench.commands.session import guard, json_option, write_json
from bench.compare import HEADINGS
from bench.compare import compare as compare_documents
from bench.small import ratios_of
from bench.text import table

NEAR: Final = 1.1
RATIO_HEADINGS: Final = ("ratio of rows in turns", "A", "B", "B/A")
_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("first", type=_file)
@click.argument("second", type=_file)
@json_option
def compare(first: Path, second: Path, json_file: Path | None) -> None:
    """Compare two JSON files of this program, plain or .gz, row by row: FIRST is A, SECOND is B.

    `drift` is B/A of a row, divided by B/A of all rows together. It is 1.00 when the row changed as the others did.
    Ratios of small requests are compared too, where both files have them.
    """
    one, other = _read(first), _read(second)
    rows = guard(lambda: compare_documents(one, other))
    drifts = sorted(row.drift for row in rows)
    write_json(json_file, {row.name: row.drift for row in rows})
    click.echo(table(HEADINGS, [row.cells() for row in rows]))
    if "small" in one and "small" in other:
        click.echo("\n" + table(RATIO_HEADINGS, compare_ratios(one["small"], other["small"])) + "\n")
    near = sum(1 / NEAR <= drift <= NEAR for drift in drifts)
    click.echo(
        f"drift is between {drifts[0]:.2f} and {drifts[-1]:.2f}; for {near} of {len(drifts)} rows it is within 10 %"
    )


def compare_ratios(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[list[str]]:
    """The ratios of small requests that both documents have, each with that of the second over that of the first."""
    before = {aim.what: aim.measured for aim in ratios_of(first)}
    pairs = [(aim.what, before.get(aim.what), aim.measured) for aim in ratios_of(second)]
    return [[what, f"{a:.3g}", f"{b:.3g}", f"{b / a:.2f}"] for what, a, b in pairs if a and b]


def _read(file: Path) -> Any:
    raw = file.read_bytes()
    return json.loads(gzip.decompress(raw) if file.suffix == ".gz" else raw)
