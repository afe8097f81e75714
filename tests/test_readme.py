"""What the documents show is what the product does."""

from tests.support import CHECKOUT

EXPECTED = CHECKOUT / "tests/scripts/expected/replay_2022-02-20_2022-03-12.txt"


def test_the_readme_shows_the_replay_table_that_the_replay_test_expects() -> None:
    assert f"```\n{EXPECTED.read_text().rstrip()}\n```" in (CHECKOUT / "README.md").read_text()
