"""Fixtures of the adapter tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import make_certificate
from tests.support.mailserver import MailServer
from tests.support.providers import HttpProvider


@pytest.fixture
def provider() -> Iterator[HttpProvider]:
    """The four HTTP providers on a local port."""
    with HttpProvider() as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine that nobody trusts of himself."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A mail server on a local port, without encryption."""
    with MailServer() as server:
        yield server
