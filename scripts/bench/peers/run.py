"""Compares this engine with other PostgreSQL queues: same server, alternating, all jobs checked.

    .dev/venv/bin/python scripts/bench/peers/run.py [--only NAME,...] [--jobs 200000]
        [--recorded-jobs 20000] [--rounds 3] [--docs FILE]

Installs the peers into .dev/peers/ the first time and prints a Markdown table. docs/benchmarks.md
explains the columns.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

# The script can be run by path from any folder, so import from the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from scripts.bench.peers.contest import (
    BATCHED,
    ENQUEUE,
    FIGURES,
    RECORDED,
    Contestant,
    Unaccounted,
    rate,
)
from scripts.bench.peers.install import Unavailable
from scripts.bench.peers.ours import Ours
from scripts.bench.peers.peers import PEERS, Failed, Peer
from scripts.bench.place import connect, database
from scripts.bench.run import write_between_markers

OURS = "ours"
MARKERS = ("<!-- peers: begin -->", "<!-- peers: end -->")
Rates = dict[tuple[str, str], list[float]]  # (contestant, figure): one rate per round


def measure(contestants: list[Contestant], sizes: Mapping[str, int], rounds: int) -> Rates:
    """Measure every figure of every contestant once per round, rotating the order each round."""
    rates: Rates = {}
    for number in range(rounds):
        turn = contestants[:: -1 if number % 2 else 1]
        for figure in FIGURES:
            for contestant in (one for one in turn if figure in one.figures):
                found = rate(contestant, figure, sizes[figure])
                rates.setdefault((contestant.name, figure), []).append(found)
                print(f"{number + 1} {figure} {contestant.name}: {found:,.0f}/s", file=sys.stderr)
    return rates


def table(contestants: list[Contestant], sizes: Mapping[str, int], rates: Rates) -> str:
    """One line per contestant: median and range of each figure, and what it does not do."""
    head = (
        f"| queue | {sizes[ENQUEUE]:,} enqueued, ours fanned out"
        f" | {sizes[BATCHED]:,} worked off in batches"
        f" | {sizes[RECORDED]:,} recorded one by one | what it does not do |"
    )
    lines = [head, "| --- | --- | --- | --- | --- |"]
    for one in contestants:
        cells = [spread(rates.get((one.name, figure), [])) for figure in FIGURES]
        lines.append(f"| {' | '.join((title(one), *cells, one.lacks))} |")
    return "\n".join(lines)


def title(contestant: Contestant) -> str:
    """The name, with the version after the library's name: "a 1.2, with such settings"."""
    library, comma, settings = contestant.name.partition(",")
    return f"{library} {contestant.version}".strip() + comma + settings


def spread(rates: list[float]) -> str:
    """The median, with the range if there are several rates."""
    if not rates:
        return "-"
    low, high = min(rates), max(rates)
    span = f" ({low:,.0f} to {high:,.0f})" if len(rates) > 1 else ""
    return f"{statistics.median(rates):,.0f}/s{span}"


def server() -> dict[str, str]:
    """The server's durability settings, which decide what a commit costs."""
    with database() as url:
        cursor = connect(url)
        found = {}
        for name in ("server_version", "fsync", "synchronous_commit", "full_page_writes"):
            cursor.execute("SELECT current_setting(%s)", (name,))
            found[name] = (cursor.fetchone() or ("",))[0]
        return found


def available(names: list[str]) -> list[Contestant]:
    """Return the requested contestants that can run here; report the others with the reason."""
    found: list[Contestant] = []
    for name in names:
        if name == OURS:
            found.append(Ours())
            continue
        peer: Peer = PEERS[name]
        try:
            peer.installed()
        except Unavailable as error:
            print(f"{peer.name} skipped: {error}", file=sys.stderr)
        else:
            found.append(peer)
    return found


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    known = [OURS, *PEERS]
    parser = argparse.ArgumentParser(description="This engine beside other queues on PostgreSQL.")
    parser.add_argument("--only", default=",".join(known), help="names, with commas")
    parser.add_argument("--jobs", type=positive, default=200_000)
    parser.add_argument("--recorded-jobs", type=positive, help="default: a tenth of --jobs")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--docs", type=Path, help="put the table between this file's markers")
    options = parser.parse_args(words)
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    options.recorded_jobs = options.recorded_jobs or max(1, options.jobs // 10)
    return options


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    found = server()
    if options.docs and found["fsync"] != "on":
        sys.exit("fsync is off on this server: such figures are not for a document")
    sizes = dict.fromkeys(FIGURES, options.jobs) | {RECORDED: options.recorded_jobs}
    contestants = available(options.only)
    try:
        rates = measure(contestants, sizes, options.rounds)
    except (Unaccounted, Failed) as error:
        sys.exit(str(error))
    told = (
        f"PostgreSQL {found.pop('server_version')},"
        f" {', '.join(f'{name} {value}' for name, value in found.items())};"
        f" {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()};"
        f" rounds: {options.rounds}."
    )
    text = f"{told}\n\n{table(contestants, sizes, rates)}"
    print(text)
    if options.docs:
        write_between_markers(options.docs, text, MARKERS)


if __name__ == "__main__":
    main()
