"""Email through Brevo: POST /v3/smtp/email."""

from __future__ import annotations

import json
import ssl
import uuid

from alerts.channels.base import Channel, Message
from alerts.channels.provider import (
    CallOptions,
    Provider,
    Values,
    origin_variable,
    secret_variable,
)
from alerts.channels.transport.addresses import Mailbox
from alerts.channels.transport.answers import Shape, message_id
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

API_KEY = secret_variable("BREVO_API_KEY")
API_BASE = origin_variable("BREVO_API_BASE", "https://api.brevo.com")

# Brevo accepts only UUIDs as idempotency keys; this namespace derives them from our keys.
_KEY_NAMESPACE = uuid.UUID("7c0b7f0e-5f0a-5d8e-9a52-1f9a3a1d5b0c")
SHAPE = Shape(
    taken=lambda fields: "messageId" in fields or "messageIds" in fields,
    refused=lambda fields: (
        isinstance(fields.get("code"), str) and isinstance(fields.get("message"), str)
    ),
)
# A refused sender has no code of its own; it is reported as invalid_parameter, like much else.
CODES = {
    "not_enough_credits": FailureCode.QUOTA_PROVIDER,
    "unauthorized": FailureCode.AUTH_FAILED,  # also for an IP address that is not authorized
    "permission_denied": FailureCode.AUTH_FAILED,
    "reseller_permission_denied": FailureCode.AUTH_FAILED,
    "account_under_validation": FailureCode.AUTH_FAILED,
    "duplicate_request": FailureCode.OUTCOME_UNKNOWN,
}


class BrevoChannel:
    """Sends emails with an idempotency key, which Brevo keeps for 15 to 30 minutes."""

    name = "brevo"

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
            "Brevo",
            base,
            API_BASE.name,
            SHAPE,
            timeout=timeout,
            answer=answer,
            connections=connections,
            tls=tls,
        )

    def send(self, message: Message) -> str | None:
        """Hand the email to Brevo and return its message id."""
        sender = self._sender.usable()
        recipient = recipient_of(message, smtputf8=False)
        headers = {
            "api-key": header_value(self._key, API_KEY.name),
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        answer = self._api.post("/v3/smtp/email", self._body(message, sender, recipient), headers)
        if answer.taken:
            given = answer.fields.get("messageId")
            return message_id(given, message.destination, self._key.reveal())
        own_code = answer.fields.get("code")
        if answer.status == 400 and own_code == "duplicate_parameter":
            return None  # the idempotency key is known: an earlier attempt was accepted
        code = CODES.get(str(own_code)) if answer.status < 500 else None
        if answer.status == 403:
            code = code or FailureCode.AUTH_FAILED
        raise self._api.failure(answer, own_code, code)

    def close(self) -> None:
        """Close the open connections."""
        self._api.close()

    def _body(self, message: Message, sender: Mailbox, recipient: Mailbox) -> bytes:
        from_ = {"email": str(sender)}
        if self._sender.name:
            from_["name"] = self._sender.name
        # Brevo sets the Message-ID itself and accepts no other.
        body: dict[str, object] = {
            "sender": from_,
            "to": [{"email": str(recipient)}],
            "subject": one_line(message.subject),
            "textContent": encodable(message.text),
            "headers": {
                "idempotencyKey": str(uuid.uuid5(_KEY_NAMESPACE, message.key)),
                **extra_headers(message),
            },
        }
        if message.html:
            body["htmlContent"] = encodable(message.html)
        return json.dumps(body, ensure_ascii=False).encode()


def _build(values: Values, channel: str, options: CallOptions) -> Channel:
    return BrevoChannel(values[API_KEY], values[EMAIL_FROM], values[API_BASE], **options)


PROVIDER = Provider(
    name=BrevoChannel.name,
    title="Brevo",
    channels=("email",),
    build=_build,
    credentials=(API_KEY,),
    requires=(EMAIL_FROM,),
    optional=(API_BASE,),
)
