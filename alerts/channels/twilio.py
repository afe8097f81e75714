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
from alerts.channels.transport.http import HttpApi, message_id
from alerts.failures import FailureCode
from alerts.settings.env import Secret

ACCOUNT_SID = secret_variable("TWILIO_ACCOUNT_SID")
AUTH_TOKEN = secret_variable("TWILIO_AUTH_TOKEN")
PHONE_NUMBER = text_variable("TWILIO_PHONE_NUMBER")
API_BASE = origin_variable("TWILIO_API_BASE", "https://api.twilio.com")

_CODES = {
    20003: FailureCode.AUTH_FAILED,
    20404: FailureCode.AUTH_FAILED,  # there is no such account
    20429: FailureCode.RATE_LIMITED,
    21211: FailureCode.RECIPIENT_INVALID,
    21614: FailureCode.RECIPIENT_INVALID,  # not a mobile number
    21610: FailureCode.RECIPIENT_BLOCKED,  # answered STOP
    21212: FailureCode.SENDER_REJECTED,  # From is no number
    21606: FailureCode.SENDER_REJECTED,  # From cannot send messages
    21659: FailureCode.SENDER_REJECTED,  # From is no Twilio number
    21660: FailureCode.SENDER_REJECTED,  # From belongs to another account
    63038: FailureCode.QUOTA_PROVIDER,  # the account's daily limit
}


class TwilioChannel:
    """Sends from one number. Twilio knows no idempotency keys for messages."""

    name = "twilio"

    def __init__(
        self,
        account_sid: str,
        auth_token: Secret,
        from_number: str,
        base: str,
        *,
        timeout: float = 10.0,
        connections: int = 8,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._sid = account_sid
        self._token = auth_token
        self._from = from_number
        self._path = f"/2010-04-01/Accounts/{quote(account_sid, safe='')}/Messages.json"
        self._api = HttpApi(
            "Twilio", base, API_BASE.name, timeout=timeout, connections=connections, tls=tls
        )

    def send(self, message: Message) -> str | None:
        """Hand the text to Twilio; the message's SID."""
        form = {"To": message.destination, "From": self._from, "Body": message.text}
        credentials = f"{self._sid}:{self._token.reveal()}".encode()
        headers = {
            "Authorization": f"Basic {b64encode(credentials).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        content = urlencode(form, encoding="utf-8", errors="replace").encode()
        answer = self._api.post(self._path, content, headers)
        fields = answer.json()
        if answer.ok:
            return message_id(fields.get("sid"), message.destination, self._token.reveal())
        own_code = fields.get("code")
        code = None
        if isinstance(own_code, int) and answer.status < 500:
            code = _CODES.get(own_code)
        if answer.status == 403:
            code = code or FailureCode.AUTH_FAILED
        raise self._api.failure(answer, own_code, code)

    def close(self) -> None:
        """Close the kept connections."""
        self._api.close()


def _build(values: Values, channel: str, options: CallOptions) -> Channel:
    sid, token, number = values[ACCOUNT_SID], values[AUTH_TOKEN], values[PHONE_NUMBER]
    return TwilioChannel(sid.reveal(), token, number, values[API_BASE], **options)


PROVIDER = Provider(
    name=TwilioChannel.name,
    channels=("sms",),
    build=_build,
    credentials=(ACCOUNT_SID, AUTH_TOKEN, PHONE_NUMBER),
    optional=(API_BASE,),
)
