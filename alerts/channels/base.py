"""The interface of every channel adapter."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One message, rendered for its channel and ready to send.

    ``subject`` and ``html`` are empty for channels without them. For Telegram ``text`` is
    already escaped for ``parse_mode`` HTML and within its limit; for SMS it fits two segments.
    ``key`` is the same for every attempt at the same delivery or digest and differs between
    deployments: adapters derive idempotency keys and the ``Message-ID`` from it. Only
    ``[a-z0-9-]``, at most 64 characters. ``unsubscribe`` is the HTTPS address of an email's
    one-click unsubscription, empty where there is none.
    """

    key: str
    destination: str
    text: str
    subject: str = ""
    html: str = ""
    unsubscribe: str = ""

    def __repr__(self) -> str:
        # Destination and texts are personal data, and reprs end up in tracebacks.
        return f"Message(key={self.key!r})"


@dataclass(frozen=True, slots=True)
class Moved:
    """The message was accepted at another address, which replaces the recipient's from now on."""

    message_id: str | None
    destination: str

    def __repr__(self) -> str:
        return f"Moved(message_id={self.message_id!r})"


class Channel(Protocol):
    """An adapter for one provider; must be safe to use from several threads at once."""

    name: str  # the provider's name

    def send(self, message: Message) -> str | Moved | None:
        """Hand the message to the provider and return its message id, or None if it gave none.

        Returns :class:`Moved` if the provider has a new address for the recipient.

        Raises :class:`alerts.failures.DeliveryError`. Any other exception is a bug and is
        recorded as ``outcome_unknown``.
        """

    def close(self) -> None:
        """Close open connections. Called once, when no send is in progress."""
