"""The test server of the HTTP providers; waits of closed channels: short ones, or none."""

from collections.abc import Iterator

import pytest

from alerts.phases.send import channel_state, gates
from tests.support.providers import HttpProvider


@pytest.fixture
def provider() -> Iterator[HttpProvider]:
    with HttpProvider() as found:
        yield found


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first closing takes a fifth of a second."""
    monkeypatch.setattr(channel_state, "FIRST_SECONDS", 0.2)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run waits for no channel."""
    monkeypatch.setattr(gates, "SAT_OUT_SECONDS", -1.0)
