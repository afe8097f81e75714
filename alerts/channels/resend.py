"""Email through Resend: POST /emails."""

from __future__ import annotations

import json
import ssl

from alerts.channels.base import Channel, Message
from alerts.channels.provider import (
    CallOptions,
    Provider,
    Values,
    origin_variable,
    secret_variable,
)
from alerts.channels.transport.addresses import Mailbox
from alerts.channels.transport.answers import Answer, Shape, message_id
from alerts.channels.transport.http import HttpApi, header_value
from alerts.channels.transport.mail import (
    EMAIL_FROM,
    Sender,
    encodable,
    extra_headers,
    one_line,
    recipient_of,
)
from alerts.failures import FailureCode
from alerts.settings.env import Secret

API_KEY = secret_variable("RESEND_API_KEY")
API_BASE = origin_variable("RESEND_API_BASE", "https://api.resend.com")

SHAPE = Shape(
    taken=lambda fields: "id" in fields,
    refused=lambda fields: (
        isinstance(fields.get("name"), str) and isinstance(fields.get("message"), str)
    ),
)
CODES = {
    "missing_api_key": FailureCode.AUTH_FAILED,
    "invalid_api_key": FailureCode.AUTH_FAILED,
    "restricted_api_key": FailureCode.AUTH_FAILED,
    "invalid_from_address": FailureCode.SENDER_REJECTED,
    "daily_quota_exceeded": FailureCode.QUOTA_PROVIDER,
    "monthly_quota_exceeded": FailureCode.QUOTA_PROVIDER,
    "concurrent_idempotent_requests": FailureCode.PROVIDER_UNAVAILABLE,
    # The key was used with a different body: an earlier attempt may have been sent, not this one.
    "invalid_idempotent_request": FailureCode.OUTCOME_UNKNOWN,
}
# With status 403 these mean an unverified domain; Resend renamed the code, so both are listed.
DOMAIN_CODES = ("validation_error", "invalid_to_address")


class ResendChannel:
    """Sends emails with an idempotency key, which Resend keeps for 24 hours."""

    name = "resend"

    def __init__(
        self,
        api_key: Secret,
        sender: str,
        base: str,
        *,
        timeout: float = 10.0,
        answer: float = 60.0,
        connections: int = 8,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._key = api_key
        self._sender = Sender.parse(sender)
        self._api = HttpApi(
            "Resend",
            base,
            API_BASE.name,
            SHAPE,
            timeout=timeout,
            answer=answer,
            connections=connections,
            tls=tls,
        )

    def send(self, message: Message) -> str | None:
        """Hand the email to Resend and return its id."""
        self._sender.usable()
        recipient = recipient_of(message, smtputf8=False)
        headers = {
            "Authorization": f"Bearer {header_value(self._key, API_KEY.name)}",
            "Idempotency-Key": message.key,
            "Content-Type": "application/json",
        }
        answer = self._api.post("/emails", self._body(message, recipient), headers)
        if answer.taken:
            given = answer.fields.get("id")
            return message_id(given, message.destination, self._key.reveal())
        own_code = answer.fields.get("name")
        raise self._api.failure(answer, own_code, _code(answer, own_code))

    def close(self) -> None:
        """Close the open connections."""
        self._api.close()

    def _body(self, message: Message, recipient: Mailbox) -> bytes:
        """Return the request body: the same bytes for every attempt, or Resend refuses the key."""
        # No Message-ID: Resend's mail system would replace it with its own.
        body: dict[str, object] = {
            "from": str(self._sender),
            "to": [str(recipient)],
            "subject": one_line(message.subject),
            "text": encodable(message.text),
            "headers": extra_headers(message),
        }
        if message.html:
            body["html"] = encodable(message.html)
        return json.dumps(body, ensure_ascii=False).encode()


def _code(answer: Answer, own_code: object) -> FailureCode | None:
    if answer.status >= 500:
        return None
    if answer.status == 403 and own_code in DOMAIN_CODES:
        return FailureCode.SENDER_REJECTED
    code = CODES.get(str(own_code))
    if answer.status == 403:
        code = code or FailureCode.AUTH_FAILED
    return code


def _build(values: Values, channel: str, options: CallOptions) -> Channel:
    return ResendChannel(values[API_KEY], values[EMAIL_FROM], values[API_BASE], **options)


PROVIDER = Provider(
    name=ResendChannel.name,
    title="Resend",
    channels=("email",),
    build=_build,
    credentials=(API_KEY,),
    requires=(EMAIL_FROM,),
    optional=(API_BASE,),
)
