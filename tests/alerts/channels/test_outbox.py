"""Messages as files."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from alerts.channels.outbox import OutboxChannel
from alerts.failures import FailureClass
from tests.support.adapters import FROM, failure_of, message_for

FORMS = {"email": ".eml", "telegram": ".html", "sms": ".txt"}
PROVIDERS = {"email": "smtp", "telegram": "telegram", "sms": "twilio"}
needs_a_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@pytest.mark.parametrize("channel", FORMS)
def test_message_becomes_a_private_file(channel: str, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "on demand"
    outbox = OutboxChannel(folder, channel, FROM)
    assert outbox.send(message_for(PROVIDERS[channel])) == "outbox-d-17"
    [file] = folder.iterdir()
    assert file.name == f"{channel}-d-17{FORMS[channel]}"
    assert file.stat().st_mode & 0o777 == 0o600


def test_email_file_opens_in_a_mail_program(tmp_path: Path) -> None:
    OutboxChannel(tmp_path, "email", FROM).send(message_for())
    message = message_from_bytes((tmp_path / "email-d-17.eml").read_bytes(), policy=default)
    assert message["Subject"] == "Gas – halted"
    assert message["From"] == FROM


def test_other_files_show_recipient_and_text(tmp_path: Path) -> None:
    OutboxChannel(tmp_path, "sms", FROM).send(message_for("twilio"))
    OutboxChannel(tmp_path, "telegram", FROM).send(message_for("telegram", text="<b>Gas</b>\n–"))
    sms = (tmp_path / "sms-d-17.txt").read_text(encoding="utf-8")
    assert sms == "To: +31612345678\n\nGas – flows halted\n"
    page = (tmp_path / "telegram-d-17.html").read_text(encoding="utf-8")
    assert "To: 4711" in page
    assert "<b>Gas</b>\n–" in page


def test_sending_again_replaces_the_file(tmp_path: Path) -> None:
    outbox = OutboxChannel(tmp_path, "sms", FROM)
    for text in ("first", "second"):
        outbox.send(message_for("twilio", text=text))
    [file] = tmp_path.iterdir()
    assert "second" in file.read_text(encoding="utf-8")


def test_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    outbox = OutboxChannel(folder, "sms", FROM)
    outbox.send(message_for("twilio"))
    (folder / "sms-d-17.txt").unlink()
    folder.rmdir()
    assert outbox.send(message_for("twilio"))


def test_folder_that_is_a_file_holds_the_channel_and_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    folder.write_text("in the way")
    failure = failure_of(OutboxChannel(folder, "sms", FROM), message_for("twilio"))
    assert failure.failure_class is FailureClass.OPERATOR
    assert str(folder) in failure.detail
    assert "ALERTS_OUTBOX_DIR" in failure.detail


@needs_a_user
def test_folder_without_permission_holds_the_channel(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    failure = failure_of(OutboxChannel(tmp_path, "sms", FROM), message_for("twilio"))
    assert failure.failure_class is FailureClass.OPERATOR
    assert "Permission denied" in failure.detail


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_holds_the_channel_and_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def open_full(path: str, flags: int, mode: int = 0o777) -> int:
        real_descriptor = real(path, flags, mode)
        os.close(real_descriptor)
        return real("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", open_full)
    failure = failure_of(OutboxChannel(tmp_path, "sms", FROM), message_for("twilio"))
    assert failure.code == "quota_provider"
    assert list(tmp_path.iterdir()) == []


def test_eight_threads_write_whole_files(tmp_path: Path) -> None:
    outbox = OutboxChannel(tmp_path, "email", FROM)
    together = threading.Barrier(8)

    def send(worker: int) -> None:
        together.wait(5)
        for number in range(50):
            outbox.send(message_for(key=f"d-{worker}-{number}"))
            outbox.send(message_for(key="d-shared"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    files = list(tmp_path.iterdir())
    assert len(files) == 401
    assert all(file.read_bytes().endswith(b"--=_energyriskiq--\r\n") for file in files)
