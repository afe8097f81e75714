"""Telegram messages: the Bot API's sendMessage."""

from __future__ import annotations

import json
import ssl
from urllib.parse import quote

from alerts.channels.base import Channel, Message
from alerts.channels.provider import (
    CallOptions,
    Provider,
    Values,
    origin_variable,
    secret_variable,
)
from alerts.channels.transport.http import Answer, HttpApi, message_id
from alerts.channels.transport.mail import encodable
from alerts.channels.transport.retry_after import seconds
from alerts.failures import DeliveryError, FailureCode
from alerts.settings.env import Secret

BOT_TOKEN = secret_variable("TELEGRAM_BOT_TOKEN")
API_BASE = origin_variable("TELEGRAM_API_BASE", "https://api.telegram.org")

# Telegram documents no codes of its own, only these descriptions; compared as a whole.
_GONE = {
    "Bad Request: chat not found": "chat not found",
    "Bad Request: user not found": "user not found",
    "Bad Request: PEER_ID_INVALID": "chat not found",
    "Bad Request: chat_id is empty": "chat id is empty",
    "Bad Request: group chat was upgraded to a supergroup chat": "group has a new id",
}


class TelegramChannel:
    """Sends through one bot. Telegram knows no idempotency keys."""

    name = "telegram"

    def __init__(
        self,
        bot_token: Secret,
        base: str,
        *,
        timeout: float = 10.0,
        connections: int = 8,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._token = bot_token
        self._api = HttpApi(
            "Telegram", base, API_BASE.name, timeout=timeout, connections=connections, tls=tls
        )

    def send(self, message: Message) -> str | None:
        """Hand the message to the bot's chat; its message id within that chat."""
        body = {
            "chat_id": encodable(message.destination),
            "text": encodable(message.text),
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": True},
        }
        path = f"/bot{quote(self._token.reveal(), safe=':')}/sendMessage"
        content = json.dumps(body, ensure_ascii=False).encode()
        answer = self._api.post(path, content, {"Content-Type": "application/json"})
        fields = answer.json()
        if answer.ok:
            result = fields.get("result")
            given = result.get("message_id") if isinstance(result, dict) else None
            return message_id(given, message.destination, self._token.reveal())
        raise self._failure(answer, fields)

    def close(self) -> None:
        """Close the kept connections."""
        self._api.close()

    def _failure(self, answer: Answer, fields: dict[str, object]) -> DeliveryError:
        if answer.status in (401, 404):  # an unknown token is an unknown path
            detail = f"Telegram {answer.status}: check {BOT_TOKEN.name}"
            return DeliveryError(FailureCode.AUTH_FAILED, detail)
        if answer.status == 403:
            return DeliveryError(FailureCode.RECIPIENT_BLOCKED, "Telegram 403")
        gone = _GONE.get(str(fields.get("description")))
        if answer.status == 400 and gone:
            return DeliveryError(FailureCode.RECIPIENT_INVALID, f"Telegram 400: {gone}")
        failure = self._api.failure(answer)
        parameters = fields.get("parameters")
        if answer.status == 429 and isinstance(parameters, dict):
            failure.retry_after = seconds(parameters.get("retry_after")) or failure.retry_after
        return failure


def _build(values: Values, channel: str, options: CallOptions) -> Channel:
    return TelegramChannel(values[BOT_TOKEN], values[API_BASE], **options)


PROVIDER = Provider(
    name=TelegramChannel.name,
    channels=("telegram",),
    build=_build,
    credentials=(BOT_TOKEN,),
    optional=(API_BASE,),
)
