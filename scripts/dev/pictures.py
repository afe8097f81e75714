"""Take the README's pictures of the operator's page, from the sample data. See --help."""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path
from threading import Thread
from typing import Any

# The script can be run by path from any folder, so import from the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from playwright.sync_api import sync_playwright
from werkzeug.serving import make_server

from alerts.settings.config import Settings
from app import create_app
from scripts.dev import run
from scripts.dev.place import DevDbError
from tests.support.browser import HEIGHT, LOOPBACK, WIDTH, chromium_options
from tests.support.ops import session_of

DESCRIPTION = """\
Opens the operator's page in Chromium, as a phone shows it, over the database of scripts/run (which
must have run before; its web app need not be running) on the sample's bad day, and writes
docs/ops-dark.webp and docs/ops-light.webp.
"""
DOCS = run.CHECKOUT / "docs"
QUALITY = 0.82
# The browser itself turns its picture into a small one.
TO_WEBP = """
async ([png, quality]) => {
  const picture = new Image();
  picture.src = `data:image/png;base64,${png}`;
  await picture.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return canvas.toDataURL("image/webp", quality).split(",")[1];
}
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/dev/pictures.py", description=DESCRIPTION)
    parser.parse_args(arguments)
    try:
        environment = run._environment(run._database_url(), 5000)
        run._script(environment, "sample/bad_day.py")
    except (run.RunError, DevDbError) as error:
        run.say(f"scripts/dev/pictures.py: {error}")
        return 1
    app = create_app(Settings.from_env(environment))
    token = environment["INTERNAL_RUNNER_TOKEN"]
    server = make_server(LOOPBACK, 0, app, threaded=True)
    Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium_options())
        for scheme in ("dark", "light"):
            context = browser.new_context(
                viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1.5,
                color_scheme=scheme, is_mobile=True, has_touch=True, locale="en-GB",
            )  # fmt: skip
            context.add_cookies([session_of(app, token)])
            _take(context.new_page(), f"http://{LOOPBACK}:{server.server_port}/ops", scheme)
        browser.close()
    server.shutdown()
    return 0


def _take(page: Any, address: str, scheme: str) -> None:
    page.goto(address)
    page.wait_for_selector("#verdict")
    png = base64.b64encode(page.screenshot()).decode()
    page.goto("about:blank")
    path = DOCS / f"ops-{scheme}.webp"
    path.write_bytes(base64.b64decode(page.evaluate(TO_WEBP, [png, QUALITY])))
    run.say(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
