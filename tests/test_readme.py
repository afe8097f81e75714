"""What the documents show is what the product does."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = ROOT / "tests/scripts/expected/replay_2022-02-20_2022-03-12.txt"


def test_the_readme_shows_the_replay_table_that_the_replay_test_expects() -> None:
    assert f"```\n{EXPECTED.read_text().rstrip()}\n```" in (ROOT / "README.md").read_text()
