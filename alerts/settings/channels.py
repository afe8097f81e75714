"""Which provider serves which channel, as the environment says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import unquote, urlsplit

from alerts.settings.env import EnvReader, Problem, Secret, parse_origin

OUTBOX_SENDER = "EnergyRiskIQ <alerts@example.com>"


@dataclass(frozen=True)
class SmtpServer:
    """A mail server: ``tls_from_start`` for smtps, STARTTLS otherwise (optional on loopback)."""

    host: str
    port: int
    user: str | None
    password: Secret | None
    tls_from_start: bool


@dataclass(frozen=True)
class ChannelSettings:
    """Providers by channel, their credentials and addresses.

    ``providers`` maps ``email``, ``telegram`` and ``sms`` to ``smtp``, ``brevo``, ``resend``,
    ``telegram``, ``twilio`` or ``outbox``; a channel that is missing there is not configured.
    ``incomplete`` says what a channel that was begun still lacks.
    """

    providers: Mapping[str, str]
    incomplete: tuple[Problem, ...]
    email_from: str | None
    smtp: SmtpServer | None
    brevo_api_key: Secret | None
    resend_api_key: Secret | None
    telegram_bot_token: Secret | None
    twilio_account_sid: str | None
    twilio_auth_token: Secret | None
    twilio_phone_number: str | None
    brevo_api_base: str
    resend_api_base: str
    telegram_api_base: str
    twilio_api_base: str
    outbox_dir: Path | None

    @classmethod
    def read(cls, env: EnvReader) -> ChannelSettings:
        """Read the channels' variables; problems are noted on ``env``."""
        outbox_dir = env.text("ALERTS_OUTBOX_DIR")
        providers, incomplete = _choose_providers(env)
        sender = env.parsed("EMAIL_FROM", None, _parse_sender, "an address or Name <address>")
        if sender is None and providers.get("email") == "outbox":
            sender = OUTBOX_SENDER
        return cls(
            providers=providers,
            incomplete=tuple(incomplete),
            email_from=sender,
            smtp=env.parsed("SMTP_URL", None, _parse_smtp_url, _SMTP_TAKES, hide=True),
            brevo_api_key=env.secret("BREVO_API_KEY"),
            resend_api_key=env.secret("RESEND_API_KEY"),
            telegram_bot_token=env.secret("TELEGRAM_BOT_TOKEN"),
            twilio_account_sid=env.text("TWILIO_ACCOUNT_SID"),
            twilio_auth_token=env.secret("TWILIO_AUTH_TOKEN"),
            twilio_phone_number=env.text("TWILIO_PHONE_NUMBER"),
            brevo_api_base=_origin(env, "BREVO_API_BASE", "https://api.brevo.com"),
            resend_api_base=_origin(env, "RESEND_API_BASE", "https://api.resend.com"),
            telegram_api_base=_origin(env, "TELEGRAM_API_BASE", "https://api.telegram.org"),
            twilio_api_base=_origin(env, "TWILIO_API_BASE", "https://api.twilio.com"),
            outbox_dir=Path(outbox_dir) if outbox_dir else None,
        )


_SMTP_TAKES = "smtp://user:password@host:587 or smtps://user:password@host:465"
_EMAIL_NEEDS = {
    "smtp": ("SMTP_URL", "EMAIL_FROM"),
    "brevo": ("BREVO_API_KEY", "EMAIL_FROM"),
    "resend": ("RESEND_API_KEY", "EMAIL_FROM"),
    "outbox": ("ALERTS_OUTBOX_DIR",),
}
_TWILIO_NEEDS = ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_PHONE_NUMBER")


def _choose_providers(env: EnvReader) -> tuple[dict[str, str], list[Problem]]:
    """Providers of the complete channels, and what the incomplete ones lack.

    With ``EMAIL_PROVIDER=outbox`` the channels without credentials of their own write to the
    outbox too, so that a demonstration shows every message; those with credentials keep them.
    """
    providers: dict[str, str] = {}
    incomplete: list[Problem] = []

    def use(channel: str, provider: str, needs: tuple[str, ...]) -> None:
        missing = [name for name in needs if env.text(name) is None]
        if not missing:
            providers[channel] = provider
        for name in missing:
            message = f"{name} is not set; {channel} through {provider} needs it"
            incomplete.append(Problem(name, message))

    email = _email_provider(env)
    if email:
        use("email", email, _EMAIL_NEEDS[email])
    if env.text("TELEGRAM_BOT_TOKEN"):
        providers["telegram"] = "telegram"
    if any(env.text(name) for name in _TWILIO_NEEDS):
        use("sms", "twilio", _TWILIO_NEEDS)
    if providers.get("email") == "outbox":
        providers.setdefault("telegram", "outbox")
        if not any(env.text(name) for name in _TWILIO_NEEDS):
            providers.setdefault("sms", "outbox")
    return providers, incomplete


def _email_provider(env: EnvReader) -> str | None:
    chosen = env.choice("EMAIL_PROVIDER", None, tuple(_EMAIL_NEEDS))
    if chosen or env.text("EMAIL_PROVIDER"):
        return chosen
    with_credentials = [
        provider for provider in ("smtp", "brevo", "resend") if env.text(_EMAIL_NEEDS[provider][0])
    ]
    if len(with_credentials) > 1:
        names = ", ".join(_EMAIL_NEEDS[provider][0] for provider in with_credentials)
        env.add_problem(
            "EMAIL_PROVIDER", f"is not set while {names} are; it takes {' or '.join(_EMAIL_NEEDS)}"
        )
    return with_credentials[0] if with_credentials else None


def _origin(env: EnvReader, name: str, default: str) -> str:
    parse: Callable[[str], str] = parse_origin
    return env.parsed(name, default, parse, f"scheme, host and port only, like {default}")


def _parse_sender(text: str) -> str | None:
    _, address = parseaddr(text)
    local, _, domain = address.rpartition("@")
    if not local.isascii() or not local or not domain or any(c in text for c in "\r\n\0"):
        raise ValueError("no address")
    domain.encode("idna")  # UnicodeError is a ValueError
    return text


def _parse_smtp_url(text: str) -> SmtpServer | None:
    parts = urlsplit(text)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path.strip("/"):
        raise ValueError("no mail server")
    if parts.query or parts.fragment or any(c.isspace() for c in text) or parts.port == 0:
        raise ValueError("more than a mail server")  # options such as ?tls=no do not exist
    tls_from_start = parts.scheme == "smtps"
    if bool(parts.username) != bool(parts.password):
        raise ValueError("a user and a password go together")
    return SmtpServer(
        host=parts.hostname,
        port=parts.port or (465 if tls_from_start else 587),
        user=unquote(parts.username) if parts.username else None,
        password=Secret(unquote(parts.password)) if parts.password else None,
        tls_from_start=tls_from_start,
    )
