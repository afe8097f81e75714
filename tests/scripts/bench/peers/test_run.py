"""The runner beside other queues: its arguments, its table, and peers that fail or are absent."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.bench.peers import install, run
from scripts.bench.peers.contest import BATCHED, ENQUEUE, FIGURES, RECORDED, Unaccounted, rate
from scripts.bench.peers.peers import Failed, Peer

SAFE = {"server_version": "18.4", "fsync": "on"}
BEGIN, END = run.MARKERS
PROGRAM = """
import json, os, sys
import psycopg2
conn = psycopg2.connect(os.environ["DATABASE_URL"])
conn.autocommit = True
cursor = conn.cursor()
step, jobs = sys.argv[1], int(sys.argv[2])
counts = {}
if step == "enqueue":
    cursor.execute("CREATE TABLE jobs AS SELECT generate_series(1, %s) AS n", (jobs,))
elif step == "fast":
    cursor.execute("DELETE FROM jobs")
    counts = {"ran": jobs, "distinct": jobs}
elif step == "twice":
    cursor.execute("DELETE FROM jobs")
    counts = {"ran": jobs + 1, "distinct": jobs}
else:
    sys.exit("no such step here")
print(json.dumps({"version": "1.2.3", "seconds": 0.5, **counts}))
"""


@dataclass
class Named:
    name: str
    version: str
    lacks: str
    figures: tuple[str, ...] = FIGURES


@pytest.fixture
def peer(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Peer:
    monkeypatch.setenv("DATABASE_URL", database_url)
    (tmp_path / "program.py").write_text(PROGRAM)
    return Peer(
        "a peer, with settings",
        lambda: (Path(sys.executable), tmp_path),
        "program.py",
        {ENQUEUE: "enqueue", BATCHED: "fast", RECORDED: "twice"},
        "SELECT count(*), NULL FROM jobs",
        "little",
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--only", "ours,graphyle"], "graphyle"),
        (["--jobs", "0"], "--jobs"),
        (["--recorded-jobs", "-1"], "--recorded-jobs"),
        (["--rounds", "many"], "--rounds"),
    ],
)
def test_what_is_not_known_is_a_usage_error(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run.main(words)
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "recorded"),
    [([], 20_000), (["--jobs", "5"], 1), (["--jobs", "5", "--recorded-jobs", "4"], 4)],
)
def test_a_tenth_is_recorded_one_by_one_unless_told_otherwise(
    words: list[str], recorded: int
) -> None:
    assert run.arguments(words).recorded_jobs == recorded


def test_the_table_tells_median_range_and_what_is_not_done() -> None:
    contestants = [Named("ours", "", "nothing"), Named("a, tuned", "1.2", "much")]
    rates = {("ours", ENQUEUE): [3000.0, 1000.0, 1500.0], ("a, tuned", BATCHED): [20.4]}
    sizes = {ENQUEUE: 2000, BATCHED: 2000, RECORDED: 200}
    assert run.table(contestants, sizes, rates).splitlines()[2:] == [
        "| ours | 1,500/s (1,000 to 3,000) | - | - | nothing |",
        "| a 1.2, tuned | - | 20/s | - | much |",
    ]


def test_the_order_turns_from_round_to_round(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def pretended(contestant: Named, figure: str, jobs: int) -> float:
        asked.append((contestant.name, figure))
        return float(jobs)

    monkeypatch.setattr(run, "rate", pretended)
    both = [Named("a", "", "", (BATCHED,)), Named("b", "", "", (ENQUEUE, BATCHED))]
    rates = run.measure(both, {ENQUEUE: 3, BATCHED: 2, RECORDED: 1}, 2)
    first = [("b", ENQUEUE), ("a", BATCHED), ("b", BATCHED)]
    assert asked == [*first, ("b", ENQUEUE), ("b", BATCHED), ("a", BATCHED)]
    assert rates == {("b", ENQUEUE): [3, 3], ("a", BATCHED): [2, 2], ("b", BATCHED): [2, 2]}


def test_table_and_document_agree(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setattr(run, "server", lambda: dict(SAFE))
    document = tmp_path / "page.md"
    document.write_text(f"Before.\n{BEGIN}\nold\n{END}\nAfter.\n")
    run.main(["--only", "ours", "--jobs", "6", "--rounds", "2", "--docs", str(document)])
    told = capsys.readouterr().out.strip()
    assert told.startswith("PostgreSQL 18.4, fsync on; ")
    assert document.read_text() == f"Before.\n{BEGIN}\n{told}\n{END}\nAfter.\n"
    assert len(re.findall(r"[\d,]+/s \([\d,]+ to [\d,]+\)", told)) == len(FIGURES)


def test_figures_of_a_server_that_forgets_reach_no_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "server", lambda: SAFE | {"fsync": "off"})
    document = tmp_path / "page.md"
    with pytest.raises(SystemExit, match="fsync is off"):
        run.main(["--only", "ours", "--docs", str(document)])
    assert not document.exists()


def test_a_peer_is_measured_by_its_program(peer: Peer) -> None:
    assert rate(peer, ENQUEUE, 4) == 8
    assert rate(peer, BATCHED, 4) == 8
    assert run.title(peer) == "a peer 1.2.3, with settings"


def test_a_peer_that_runs_a_job_twice_has_no_rate(peer: Peer) -> None:
    with pytest.raises(Unaccounted, match="of 4 jobs 4 ran, in 5 runs"):
        rate(peer, RECORDED, 4)


def test_a_program_that_fails_is_quoted(peer: Peer) -> None:
    peer.steps[BATCHED] = "unheard-of"
    with pytest.raises(Failed, match=r"a peer, with settings, unheard-of: exit 1\n.*no such step"):
        rate(peer, BATCHED, 4)


def test_peers_that_cannot_be_installed_are_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [one.name for one in run.available(["ours", "graphile", "pg-boss"])] == ["this engine"]
    assert capsys.readouterr().err.splitlines() == [
        "graphile-worker skipped: npm is not installed",
        "pg-boss skipped: npm is not installed",
    ]


def test_an_installation_that_failed_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho broken pipes; exit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(install, "PLACE", tmp_path / "peers")
    with pytest.raises(
        install.Unavailable, match=r"npm could not install them: see .*install\.log"
    ):
        install.node()
    assert "broken pipes" in (tmp_path / "peers" / "node" / "install.log").read_text()
    npm.write_text(
        "#!/bin/sh\nmkdir -p node_modules/node/bin && echo >node_modules/node/bin/node\n"
    )
    interpreter, folder = install.node()
    npm.write_text("#!/bin/sh\nexit 1\n")
    assert install.node() == (interpreter, folder)
    assert interpreter.exists()
    assert (folder / "use_graphile.mjs").exists()


def test_every_package_is_pinned_and_no_file_names_where_from() -> None:
    wanted = json.loads((install.HERE / "node" / "package.json").read_text())["dependencies"]
    lock = json.loads((install.HERE / "node" / "package-lock.json").read_text())["packages"]
    for name, version in wanted.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in one and "resolved" not in one for path, one in lock.items() if path)
    requirements = (install.HERE / "python" / "requirements.txt").read_text()
    pins = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", pin) for pin in pins)
    assert {"pgqueuer", "procrastinate"} <= {pin.partition("==")[0] for pin in pins}
