"""A dry run's channel."""

from alerts.channels.base import Message


class CountingChannel:
    """Takes every message and does nothing: in a dry run it counts as it would have gone."""

    name = "dry-run"

    def send(self, message: Message) -> str | None:
        """Take the message."""
        return None

    def close(self) -> None:
        """Nothing is kept open."""
