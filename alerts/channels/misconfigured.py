"""A channel whose settings cannot be used."""

from alerts.channels.base import Message
from alerts.failures import DeliveryError, FailureCode


class MisconfiguredChannel:
    """Refuses every message, so that they wait until the named variables are mended."""

    name = "misconfigured"

    def __init__(self, variables: list[str]) -> None:
        self._variables = ", ".join(sorted(set(variables)))

    def send(self, message: Message) -> str | None:
        """Refuse it; the channel is held."""
        raise DeliveryError(FailureCode.MISCONFIGURED, f"see {self._variables}")

    def close(self) -> None:
        """Nothing is kept open."""
