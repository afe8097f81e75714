"""Runs the benchmarks; each figure is shown next to its reference from the same run.

    .dev/venv/bin/python scripts/bench/run.py [--only NAME,...] [--sizes 1,10,100] [--json FILE]
        [--docs FILE]

Prints a Markdown table. docs/benchmarks.md explains the rows.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

# The script can be run by path from any folder, so import from the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.engine_bench import idle, recording
from scripts.bench.history_bench import phases
from scripts.bench.provider_bench import outbox, provider, slow_provider
from scripts.bench.queue_bench import digests, fanout, sending, sending_growth, trigger_cost
from scripts.bench.risk_bench import risk_to_phone
from scripts.bench.senders_bench import senders
from scripts.bench.web_bench import readings, runs
from scripts.bench.world import Row

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
HEAD = (
    "| benchmark | rows | figure | reference, same run | target | met |\n"
    "| --- | --- | --- | --- | --- | --- |"
)

BENCHMARKS: dict[str, Callable[[float], Row | list[Row]]] = {
    "idle": idle,
    "recording": recording,
    "fanout": fanout,
    "digests": digests,
    "sending": sending,
    "sending1000": lambda size: sending(size, record=1_000),
    "sending_growth": sending_growth,
    "recording1": lambda size: sending(size, record=1),
    "provider": provider,
    "outbox": outbox,
    "slow_provider": slow_provider,
    **{f"senders{n}": partial(senders, hosts=n) for n in (1, 2, 4, 8)},
    "risk": risk_to_phone,
    "triggers": trigger_cost,
    "history": phases,
    "readings": readings,
    "runs": runs,
}


def line(row: Row) -> str:
    """The row as Markdown."""
    met = "yes" if row["met"] else "no"
    cells = (row["benchmark"], f"{row['size']:,}", row["figure"], row["reference"], row["target"])
    return f"| {' | '.join((*cells, met))} |"


def write_between_markers(file: Path, table: str, markers: tuple[str, str] = (BEGIN, END)) -> None:
    """Write the table between the document's markers."""
    text = file.read_text()
    before, begin, rest = text.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not begin or not end:
        raise SystemExit(f"{file} lacks the lines {' and '.join(markers)} to write between")
    file.write_text(f"{before}{begin}\n{table}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmarks of the engine and its health.")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="names, with commas")
    parser.add_argument("--sizes", default="1,10,100", help="factors, with commas")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    parser.add_argument("--docs", type=Path, help="put the table between this file's markers")
    options = parser.parse_args()
    names = options.only.split(",")
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS)}")
    try:
        sizes = [float(part) for part in options.sizes.split(",")]
    except ValueError:
        parser.error(f"--sizes takes numbers with commas, not {options.sizes!r}")
    print(f"Python {platform.python_version()}, {platform.machine()}\n\n{HEAD}", flush=True)
    rows: list[Row] = []
    printed = 0
    for name in names:
        for size in sizes:
            found = BENCHMARKS[name](size)
            rows += found if isinstance(found, list) else [found]
            print("\n".join(map(line, rows[printed:])), flush=True)
            printed = len(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    if options.docs:
        write_between_markers(options.docs, "\n".join((HEAD, *map(line, rows))))


if __name__ == "__main__":
    main()
