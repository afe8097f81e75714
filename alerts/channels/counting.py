"""The channel of a dry run."""

from alerts.channels.base import Message


class CountingChannel:
    """Accepts every message without sending it, so that a dry run counts what would be sent."""

    name = "dry-run"

    def send(self, message: Message) -> str | None:
        return None

    def close(self) -> None:
        """Nothing to close."""
