"""Random weather over the send phase: providers that fail, slow down, lie and recover; owners who
mend, pause and resume; recipients that never work; one to four senders at once.

Business time goes in steps of ten minutes. So does the wall time of what is stored: it is moved
back by as much, instead of waiting.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.clock import Clock
from alerts.failures import DeliveryError, FailureCode, PhaseFailed
from alerts.phases.send import sender
from alerts.repair import pauses
from tests.support.phases import phase_context
from tests.support.queue_world import add_digest, row_of
from tests.support.world import NOW, add_alert, add_user, query, settings_for

C = FailureCode
STEP = timedelta(minutes=10)
CHANNELS = ("email", "telegram", "sms")
# How a provider may be, and how often one turns so.
WEATHER = {
    "fine": 40, "down": 12, "slow": 6, "asks_to_wait": 8, "busy": 8, "silent": 4, "wrong_key": 6,
    "lies": 6, "flaps": 6, "over_quota": 4,
}  # fmt: skip
NEEDS_THE_OWNER = ("wrong_key", "lies", "over_quota")
DEAD = (C.NETWORK, C.TIMEOUT_CONNECT, C.UNEXPECTED_ANSWER, C.RECIPIENT_INVALID, C.AUTH_FAILED)


@dataclass
class Provider:
    """One channel's provider: its weather, and what it has taken."""

    name: str
    chance: random.Random
    weather: str = "fine"
    calls: int = 0
    taken: Counter[str] = field(default_factory=Counter)  # by message key
    doubted: Counter[str] = field(default_factory=Counter)  # taken, and not said so
    dead: dict[int, FailureCode] = field(default_factory=dict)  # by delivery
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, message: Message) -> str | None:
        with self.lock:
            self.calls += 1
            if self.weather == "slow":
                time.sleep(0.002)
            self._refuse(message)
            self.taken[message.key] += 1
            return None

    def _refuse(self, message: Message) -> None:
        said = "as the weather is"
        code = self.dead.get(row_of(message)) if message.key.startswith("deliveries") else None
        if self.weather == "down" or (self.weather == "flaps" and self.chance.random() < 0.5):
            raise DeliveryError(self.chance.choice((C.NETWORK, C.TIMEOUT_CONNECT)), said)
        if self.weather == "asks_to_wait":
            asked = self.chance.choice((None, 5.0, 120.0, 3600.0))
            raise DeliveryError(C.RATE_LIMITED, said, retry_after=asked)
        if self.weather == "busy":
            raise DeliveryError(C.PROVIDER_UNAVAILABLE, said)
        if self.weather == "wrong_key":
            raise DeliveryError(C.AUTH_FAILED, said)
        if self.weather == "over_quota":
            raise DeliveryError(C.QUOTA_PROVIDER, said)
        if self.weather == "lies":
            self.doubted[message.key] += 1
            raise DeliveryError(C.UNEXPECTED_ANSWER, said, handed_over=True)
        if self.weather == "silent":
            self.doubted[message.key] += 1
            raise DeliveryError(C.OUTCOME_UNKNOWN, said)
        if code is not None:
            raise DeliveryError(code, said)

    def close(self) -> None:
        pass


@dataclass
class Findings:
    """What came of a weather."""

    seed: int
    senders: int
    rows: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    worst_minutes: dict[str, float] = field(default_factory=dict)  # by channel, of fine weather
    most_copies: int = 0
    most_calls_while_closed: int = 0
    lost: list[dict[str, Any]] = field(default_factory=list)
    copies_too_many: list[str] = field(default_factory=list)


class World:
    """One weather from its first message to the last."""

    def __init__(self, conn: Connection, database_url: str, seed: int) -> None:
        self.conn, self.url = conn, database_url
        self.chance = random.Random(seed)
        self.senders = self.chance.randint(1, 4)
        self.providers = {name: Provider(name, random.Random(seed + 1)) for name in CHANNELS}
        self.now = NOW
        self.environ: dict[str, str] = {"ALERTS_SEND_WORKERS": "3", "ALERTS_RECORD_BATCH": "1"}
        self.found = Findings(seed, self.senders)
        self.fine: defaultdict[str, list[datetime]] = defaultdict(list)  # steps of fine weather
        self.paused: set[str] = set()

    def play(self, steps: int) -> Findings:
        for _ in range(steps):
            self._arrivals()
            self._turn()
            self._owner()
            self._step()
        for name in CHANNELS:  # the sun comes out
            self._resume(name)
            self.providers[name].weather = "fine"
        for _ in range(30):
            self._step()
        self._judge()
        return self.found

    # -- what happens ----------------------------------------------------------------------

    def _arrivals(self) -> None:
        alert = add_alert(self.conn, created_at=self.now)
        for name in CHANNELS:
            for _ in range(self.chance.randint(0, 5)):
                user = add_user(
                    self.conn, email=f"u@d{self.chance.randint(1, 9)}.example",
                    telegram=str(self.chance.randint(10**6, 10**9)),
                    phone=f"+316{self.chance.randint(10**7, 10**8 - 1)}",
                )  # fmt: skip
                if name != "sms" and self.chance.random() < 0.15:
                    add_digest(self.conn, user, [alert], name, window_end=self.now)
                    continue
                row = query(
                    self.conn,
                    "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel,"
                    " delivery_kind, status, created_at) VALUES (%s, %s, %s, 'instant', 'queued',"
                    " %s) RETURNING id",
                    user, alert, name, self.now,
                )[0]["id"]  # fmt: skip
                if self.chance.random() < 0.08:
                    self.providers[name].dead[row] = self.chance.choice(DEAD)

    def _turn(self) -> None:
        for provider in self.providers.values():
            if self.chance.random() < 0.25 and provider.weather not in NEEDS_THE_OWNER:
                (provider.weather,) = self.chance.choices(list(WEATHER), list(WEATHER.values()))

    def _owner(self) -> None:
        for name, provider in self.providers.items():
            if provider.weather in NEEDS_THE_OWNER and self.chance.random() < 0.2:
                provider.weather = "fine"  # mended, and sometimes said so
                if self.chance.random() < 0.5:
                    self._resume(name)
            elif self.chance.random() < 0.03:
                pauses.pause(
                    self.conn, name, "weather", now=self.now, token_key_id="cli", scrub=str
                )
                self.paused.add(name)
            elif name in self.paused and self.chance.random() < 0.3:
                self._resume(name)

    def _resume(self, name: str) -> None:
        pauses.resume(self.conn, name, None, now=self.now, token_key_id="cli", scrub=str)
        self.paused.discard(name)

    def _step(self) -> None:
        """All senders at once, then ten minutes."""
        before = self._closed()
        calls = {name: provider.calls for name, provider in self.providers.items()}
        with ThreadPoolExecutor(self.senders) as pool:
            list(pool.map(self._run, range(self.senders)))
        after = self._closed()
        for name in [name for name in before if after.get(name) == before[name]]:
            made = self.providers[name].calls - calls[name]
            most = max(self.found.most_calls_while_closed, made)
            self.found.most_calls_while_closed = most
        for name, provider in self.providers.items():
            if provider.weather in ("fine", "slow") and name not in self.paused:
                self.fine[name].append(self.now)
        self.now += STEP
        for statement in _LATER:
            db.execute(self.conn, statement, (STEP,) * statement.count("%s"))

    def _run(self, _: int) -> None:
        with closing(psycopg2.connect(self.url)) as conn:
            conn.autocommit = True
            context = phase_context(
                conn, self.url, run_id=str(uuid.uuid4()), clock=Clock(self.now),
                channels=self.providers, settings=settings_for(self.url, **self.environ),
            )  # fmt: skip
            with suppress(PhaseFailed):
                sender.run(context)

    def _closed(self) -> dict[str, datetime]:
        """Since when; one that opens and closes again is another closing."""
        text = "SELECT channel, closed_since FROM alerts_channel_state WHERE failures > 0"
        rows = query(self.conn, text)
        return {row["channel"]: row["closed_since"] for row in rows if row["closed_since"]}

    # -- what came of it -------------------------------------------------------------------

    def _judge(self) -> None:
        rows = query(
            self.conn,
            "SELECT 'deliveries' AS source, id, channel, status, failure_code, attempts,"
            " created_at AS since, sent_at FROM user_alert_deliveries"
            " WHERE delivery_kind = 'instant' UNION ALL"
            " SELECT 'digests', id, channel, status, failure_code, attempts, window_end, sent_at"
            " FROM user_alert_digests",
        )
        self.found.rows = len(rows)
        for row in rows:
            provider = self.providers[row["channel"]]
            dead = row["source"] == "deliveries" and row["id"] in provider.dead
            end = row["failure_code"] or row["status"]
            self.found.ends[f"{'dead' if dead else 'living'} {end}"] += 1
            if row["status"] == "sent":
                self._waited(row)
            elif not dead:
                self.found.lost.append(row)
        for provider in self.providers.values():
            for key in provider.taken | provider.doubted:
                copies = provider.taken[key] + provider.doubted[key]
                self.found.most_copies = max(self.found.most_copies, copies)
                if provider.taken[key] > 1 or copies > 2:
                    self.found.copies_too_many.append(key)

    def _waited(self, row: dict[str, Any]) -> None:
        """How much fine weather a message saw before it went."""
        seen = [at for at in self.fine[row["channel"]] if row["since"] <= at < row["sent_at"]]
        minutes = len(seen) * STEP.total_seconds() / 60
        worst = self.found.worst_minutes
        worst[row["channel"]] = max(worst.get(row["channel"], 0.0), minutes)


_LATER = (
    "UPDATE alerts_channel_state SET closed_since = closed_since - %s,"
    " closed_until = closed_until - %s, last_success_at = last_success_at - %s,"
    " last_failure_at = last_failure_at - %s",
    "UPDATE alerts_leases SET until = until - %s",
)
