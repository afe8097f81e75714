"""Telegram messages: the Bot API's sendMessage."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace
from urllib.parse import quote

from alerts.channels.base import Channel, Message, Moved
from alerts.channels.provider import (
    CallOptions,
    Provider,
    Values,
    origin_variable,
    secret_variable,
)
from alerts.channels.transport.answers import Answer, Fields, Shape, message_id
from alerts.channels.transport.http import HttpApi
from alerts.channels.transport.mail import encodable
from alerts.channels.transport.retry_after import seconds
from alerts.failures import DeliveryError, FailureCode
from alerts.settings.env import Secret

BOT_TOKEN = secret_variable("TELEGRAM_BOT_TOKEN")
API_BASE = origin_variable("TELEGRAM_API_BASE", "https://api.telegram.org")

SHAPE = Shape(
    taken=lambda fields: fields.get("ok") is True and isinstance(fields.get("result"), dict),
    refused=lambda fields: fields.get("ok") is False and _is_number(fields.get("error_code")),
)
# Telegram documents no error codes, only descriptions. The whole text after "Bad Request: " is
# compared, ignoring case. The names with underscores come from Telegram's internal API.
GONE = frozenset(
    {
        "chat not found",
        "chat_id is empty",
        "user not found",
        "peer_id_invalid",
        "user_id_invalid",
        "chat_id_invalid",
        "channel_invalid",
        "input_user_deactivated",
        "group is deactivated",
        "group chat was deactivated",
        "the group chat was deleted",
        # Not a failure if the answer includes the new id.
        "group chat was upgraded to a supergroup chat",
        "group chat was migrated to a supergroup chat",
    }
)
NO_RIGHTS = frozenset(
    {
        "have no rights to send a message",
        "not enough rights to send text messages to the chat",
        "not enough rights to send text messages",
        "need administrator rights in the channel chat",
        "chat_admin_required",
        "chat_write_forbidden",
        "chat_send_plain_forbidden",
        "chat_restricted",
        "chat_forbidden",
        "channel_private",
        "user_banned_in_channel",
        "user_is_blocked",
        "topic_closed",
    }
)


class TelegramChannel:
    """Sends through one bot. Telegram does not support idempotency keys."""

    name = "telegram"

    def __init__(
        self,
        bot_token: Secret,
        base: str,
        *,
        timeout: float = 10.0,
        answer: float = 60.0,
        connections: int = 8,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._token = bot_token
        self._api = HttpApi(
            "Telegram",
            base,
            API_BASE.name,
            SHAPE,
            timeout=timeout,
            answer=answer,
            connections=connections,
            tls=tls,
        )

    def send(self, message: Message) -> str | Moved | None:
        """Send the message to the chat and return its message id within that chat.

        If a group has become a supergroup, the message goes to the supergroup's new id.
        """
        answer = self._post(message, message.destination)
        moved_to = _new_id(answer)
        if moved_to:
            answer = self._post(message, moved_to)
        if not answer.taken:
            raise self._failure(answer)
        result = answer.fields.get("result", {})
        chat = moved_to or message.destination
        given = message_id(result.get("message_id"), chat, self._token.reveal())
        return Moved(given, moved_to) if moved_to else given

    def close(self) -> None:
        """Close the open connections."""
        self._api.close()

    def _post(self, message: Message, chat: str) -> Answer:
        body = {
            "chat_id": encodable(chat),
            "text": encodable(message.text),
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": True},
        }
        path = f"/bot{quote(self._token.reveal(), safe=':')}/sendMessage"
        content = json.dumps(body, ensure_ascii=False).encode()
        answer = self._api.post(path, content, {"Content-Type": "application/json"})
        own_status = answer.fields.get("error_code")
        return answer if answer.taken or not own_status else replace(answer, status=own_status)

    def _failure(self, answer: Answer) -> DeliveryError:
        if answer.status in (401, 404):  # the token is part of the path, so a wrong one is a 404
            detail = f"Telegram {answer.status}: check {BOT_TOKEN.name}"
            return DeliveryError(FailureCode.AUTH_FAILED, detail)
        if answer.status == 403:
            return DeliveryError(FailureCode.RECIPIENT_BLOCKED, "Telegram 403")
        said = str(answer.fields.get("description", "")).lower().removeprefix("bad request: ")
        if answer.status == 400 and said in GONE:
            return DeliveryError(FailureCode.RECIPIENT_INVALID, f"Telegram 400: {said}")
        if answer.status == 400 and said in NO_RIGHTS:
            return DeliveryError(FailureCode.RECIPIENT_BLOCKED, f"Telegram 400: {said}")
        failure = self._api.failure(answer)
        if failure.code is FailureCode.RATE_LIMITED:
            asked = seconds(_parameters(answer).get("retry_after"))
            failure.retry_after = max(asked or 0.0, failure.retry_after or 0.0) or None
        return failure


def _parameters(answer: Answer) -> Fields:
    parameters = answer.fields.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


def _new_id(answer: Answer) -> str | None:
    """Return the group's new id if the answer says that it has moved."""
    moved_to = _parameters(answer).get("migrate_to_chat_id")
    return str(moved_to) if not answer.taken and _is_number(moved_to) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _build(values: Values, channel: str, options: CallOptions) -> Channel:
    return TelegramChannel(values[BOT_TOKEN], values[API_BASE], **options)


PROVIDER = Provider(
    name=TelegramChannel.name,
    title="Telegram",
    channels=("telegram",),
    build=_build,
    credentials=(BOT_TOKEN,),
    optional=(API_BASE,),
)
