"""`bench scale`: measures the cost per transfer with 1, 2, 3 and 6 shards, and plans for a million transfers/s."""

from pathlib import Path
from typing import Any, Final

import click

from bench.commands import session
from bench.commands.session import Session, guard, shape_of, write_json
from bench.model import ROLES, Machines, calibrate, plan_for, plan_rows
from bench.result import CIRCUMSTANCES, Document, Plan, circumstance_cells
from bench.text import table
from bench.textbook import TARGET_TRANSFERS_PER_S

SHARDS: Final = (1, 2, 3, 6)
#: Batch sizes and callers of each cluster. The model is fitted to these runs.
SIZES: Final = ((1000, 8), (100, 32))
#: Batch size and callers of the run that checks the model, and its shards.
HELD_OUT: Final = (300, 16)
HELD_OUT_SHARDS: Final = 6
HEADINGS: Final = (
    *("shards", "batch", "callers", "transfers/s", "redis µs", "api µs", "journal µs", "ops/call", "p99 ms"),
    *CIRCUMSTANCES,
)


@click.command()
@session.seconds_option(5.0)
@session.warmup_option(2.0)
@session.runs_option(1)
@session.accounts_option
@session.apis_option
@session.embedded_option
@session.folder_option
@click.option(
    "--node-gb",
    type=click.FloatRange(min=0, min_open=True),
    default=64.0,
    show_default=True,
    help="Memory of a Redis node.",
)
@click.option(
    "--disk-mb-s",
    type=click.FloatRange(min=0, min_open=True),
    default=500.0,
    show_default=True,
    help="Megabytes that one journal disk writes per second.",
)
@click.option(
    "--utilisation",
    type=click.FloatRange(0.05, 1.0),
    default=0.7,
    show_default=True,
    help="Maximum utilisation of a core.",
)
@click.option(
    "--million-accounts",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="Accounts of the plan, in millions.",
)
@session.json_option
def scale(
    seconds: float,
    warmup: float,
    runs: int,
    accounts: int,
    apis: int,
    embedded: bool,
    folder: Path | None,
    node_gb: float,
    disk_mb_s: float,
    utilisation: float,
    million_accounts: float,
    json_file: Path | None,
) -> None:
    """Measure 1, 2, 3 and 6 shards on this machine, fit a model of the cost to these runs, and check it with another.

    All shards share the machine's cores, so the transfers per second do not grow here. More nodes give more capacity if
    the CPU per transfer stays the same.
    """
    machines = Machines(utilisation, node_gb * 1e9, disk_mb_s * 1e6, round(million_accounts * 1e6))
    document = measure_scale(
        Session(folder), accounts, seconds, warmup, runs, apis, machines, embedded=embedded
    )
    write_json(json_file, document)
    click.echo(scale_text(document))


def measure_scale(
    bench: Session,
    accounts: int,
    seconds: float,
    warmup: float,
    runs: int,
    apis: int,
    machines: Machines,
    *,
    embedded: bool,
) -> dict[str, Any]:
    """`{"rows", "held_out", "errors", "flatness", "model", "plan"}`."""

    def plan(batch: int, callers: int) -> Plan:
        return Plan("http", "across", batch, callers, seconds, warmup, bench.seed())

    rows: list[Document] = []
    held_out: Document = {}
    for shards in SHARDS:
        sizes = [*SIZES, HELD_OUT] if shards == HELD_OUT_SHARDS else list(SIZES)
        shape = shape_of(shards, 64, apis, embedded=embedded)
        found = bench.measure(shape, accounts, [plan(*size) for size in sizes], runs=runs)
        if shards == HELD_OUT_SHARDS:
            held_out = found.pop()
        rows += found
    for document in (*rows, held_out):
        document["name"] = f"{document['shards']} shards, {document['name']}"
    model = guard(lambda: calibrate(rows))
    like = next(row for row in rows if row["shards"] == HELD_OUT_SHARDS and row["batch"] == SIZES[0][0])
    known = [row["memory_bytes_per_remembered_transfer"] for row in rows if row["batch"] == SIZES[0][0]]
    return {
        "rows": rows,
        "held_out": held_out,
        "errors": {role: round(error, 3) for role, error in model.errors(held_out).items()},
        "flatness": flatness(rows),
        "model": {
            role: {"fixed_us": round(line.fixed, 3), "shared_us": round(line.slope, 2)}
            for role, line in model.lines.items()
        },
        "plan": plan_for(
            TARGET_TRANSFERS_PER_S,
            model,
            like,
            account_bytes=like["memory_bytes_per_account"],
            remembered_bytes=max((size for size in known if size is not None), default=0.0),
            machines=machines,
        ),
    }


def flatness(rows: list[Document]) -> dict[str, dict[str, float]]:
    """Batch size -> role -> largest cost per transfer / smallest, over all numbers of shards."""
    found: dict[str, dict[str, float]] = {}
    for batch, _ in SIZES:
        costs = [row["cpu_us_per_transfer"] for row in rows if row["batch"] == batch]
        found[str(batch)] = {
            role: round(max(cost[role] for cost in costs) / min(cost[role] for cost in costs), 2)
            for role in ROLES
            if costs and min(cost[role] for cost in costs) > 0
        }
    return found


def cells(document: Document) -> list[str]:
    """A row of the table of shards."""
    cpu = document["cpu_us_per_transfer"]
    return [
        *(f"{document['shards']}", f"{document['batch']:,}", f"{document['callers']}"),
        *(f"{document['transfers_per_s']:,.0f}", *(f"{cpu[role]:.1f}" for role in ROLES)),
        *(f"{document['operations_per_script_call']:.0f}", f"{document['latency_ms']['p99']:.0f}"),
        *circumstance_cells(document),
    ]


def model_lines(document: dict[str, Any]) -> list[str]:
    """Lines about how little the cost changes with the shards, about the model, and about its error."""
    lines = []
    for batch, by_role in document["flatness"].items():
        shown = ", ".join(f"{role} {ratio:.2f}" for role, ratio in by_role.items())
        lines.append(f"batches of {batch}: largest cost per transfer over smallest, 1 to 6 shards: {shown}")
    for role, line in document["model"].items():
        what = "request" if role == "api" else "script call"
        lines.append(
            f"{role}: {line['fixed_us']:.2f} µs + {line['shared_us']:.1f} µs / (what a {what} holds)"
        )
    held_out = document["held_out"]
    shown = ", ".join(f"{role} {error:+.0%}" for role, error in document["errors"].items())
    lines.append(f"error of the model on a run it has not seen ({held_out['name']}): {shown}")
    return lines


def scale_text(document: dict[str, Any]) -> str:
    """The whole result as text."""
    rows = [cells(row) for row in (*document["rows"], document["held_out"])]
    plan = table(("for 1,000,000 transfers/s", "it takes"), plan_rows(document["plan"]))
    return "\n".join([table(HEADINGS, rows), *model_lines(document), "", plan])
