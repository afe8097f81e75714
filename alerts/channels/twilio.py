"""Text messages through Twilio: POST /2010-04-01/Accounts/{sid}/Messages.json."""

from __future__ import annotations

import ssl
from base64 import b64encode
from urllib.parse import quote, urlencode

from alerts.channels.base import Channel, Message
from alerts.channels.provider import (
    CallOptions,
    Provider,
    Values,
    origin_variable,
    secret_variable,
    text_variable,
)
from alerts.channels.transport.answers import Answer, Shape, message_id
from alerts.channels.transport.http import HttpApi
from alerts.failures import DeliveryError, FailureCode
from alerts.settings.env import Secret

ACCOUNT_SID = secret_variable("TWILIO_ACCOUNT_SID")
AUTH_TOKEN = secret_variable("TWILIO_AUTH_TOKEN")
PHONE_NUMBER = text_variable("TWILIO_PHONE_NUMBER")
API_BASE = origin_variable("TWILIO_API_BASE", "https://api.twilio.com")

SHAPE = Shape(
    taken=lambda fields: "sid" in fields and "status" in fields,
    refused=lambda fields: "code" in fields and isinstance(fields.get("message"), str),
)
# Twilio error codes that sending a text can cause, immediately or in a message that Twilio accepted
# and then failed; docs/providers.md lists them with sources. Any other code means a bad payload.
CODES_OF = {
    FailureCode.AUTH_FAILED: (
        20003,  # the token does not belong to the account
        20006,  # access denied
        20008,  # test credentials
        20404,  # no such account
        70051,  # the key is not allowed to send
    ),
    FailureCode.ACCOUNT_LIMITED: (
        10001, 20005, 30002, 90010,  # the account is suspended, closed or not active
        10002, 21608, 30044,  # trial account: unverified number, text too long
        21408,  # the country is not enabled
        21612,  # this sender cannot reach that number
        21703,  # the messaging service has no sender
        30032, 30034,  # the sender's number is not registered
        30033,  # the campaign is suspended
    ),
    FailureCode.SENDER_REJECTED: (
        21210, 21212, 21213, 21401, 21601, 21603, 21606, 21657, 21659, 21660, 21661,
        21701, 21705,  # no such messaging service
        30024,  # the carrier does not know the sender
    ),
    FailureCode.QUOTA_PROVIDER: (
        30023, 30027,  # the carrier's daily limit
        60728, 63038,  # the account's hourly limit, daily limit
    ),
    FailureCode.RATE_LIMITED: (
        20429, 14107,
        21611, 30001,  # the queue is full
        30022, 63017,  # the sender's throughput limit, the account's
    ),
    FailureCode.PROVIDER_UNAVAILABLE: (
        20500, 20503, 21730,
        30003,  # the phone is off
        30008, 30017, 30036,  # unknown error, congestion, not delivered in time
    ),
    FailureCode.RECIPIENT_INVALID: (
        21211, 21214, 21217, 21604, 21614,
        21265, 21268,  # a short code, a premium number
        21266,  # the sender itself
        21635, 30005, 30006,  # a landline, an unassigned number
    ),
    FailureCode.RECIPIENT_BLOCKED: (
        21610,  # the recipient replied STOP
        30004,
    ),
}  # fmt: skip
_CODES = {number: code for code, numbers in CODES_OF.items() for number in numbers}
_NOT_SENT = ("failed", "undelivered", "canceled")


class TwilioChannel:
    """Sends from one number. Twilio does not support idempotency keys for messages."""

    name = "twilio"

    def __init__(
        self,
        account_sid: str,
        auth_token: Secret,
        from_number: str,
        base: str,
        *,
        timeout: float = 10.0,
        answer: float = 60.0,
        connections: int = 8,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._sid = account_sid
        self._token = auth_token
        self._from = from_number
        self._path = f"/2010-04-01/Accounts/{quote(account_sid, safe='')}/Messages.json"
        self._api = HttpApi(
            "Twilio",
            base,
            API_BASE.name,
            SHAPE,
            timeout=timeout,
            answer=answer,
            connections=connections,
            tls=tls,
        )

    def send(self, message: Message) -> str | None:
        """Hand the text to Twilio and return the message's SID."""
        form = {"To": message.destination, "From": self._from, "Body": message.text}
        credentials = f"{self._sid}:{self._token.reveal()}".encode()
        headers = {
            "Authorization": f"Basic {b64encode(credentials).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        content = urlencode(form, encoding="utf-8", errors="replace").encode()
        answer = self._api.post(self._path, content, headers)
        if not answer.taken:
            raise self._failure(answer, answer.fields.get("code"))
        if answer.fields.get("status") in _NOT_SENT:
            raise self._failure(answer, answer.fields.get("error_code"))
        given = answer.fields.get("sid")
        return message_id(given, message.destination, self._token.reveal())

    def close(self) -> None:
        """Close the open connections."""
        self._api.close()

    def _failure(self, answer: Answer, own_code: object) -> DeliveryError:
        code = None
        if isinstance(own_code, int) and answer.status < 500:
            code = _CODES.get(own_code)
        if answer.status == 403:
            code = code or FailureCode.AUTH_FAILED
        return self._api.failure(answer, own_code, code)


def _build(values: Values, channel: str, options: CallOptions) -> Channel:
    sid, token, number = values[ACCOUNT_SID], values[AUTH_TOKEN], values[PHONE_NUMBER]
    return TwilioChannel(sid.reveal(), token, number, values[API_BASE], **options)


PROVIDER = Provider(
    name=TwilioChannel.name,
    title="Twilio",
    channels=("sms",),
    build=_build,
    credentials=(ACCOUNT_SID, AUTH_TOKEN, PHONE_NUMBER),
    optional=(API_BASE,),
)
