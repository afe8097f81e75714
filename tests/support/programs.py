"""Programs that no Python package carries; `.ci/programs` gets them where it can."""

from __future__ import annotations

import os
import shutil

from tests.support import CHECKOUT


def find_program(*names: str) -> str | None:
    """Return the path of the first of these programs that there is.

    Also looks where `.ci/programs` unpacks, and in the folders of root's programs.
    """
    unpacked = CHECKOUT / ".dev" / "apt" / "bin"
    path = os.pathsep.join([os.environ.get("PATH", ""), str(unpacked), "/usr/sbin", "/sbin"])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)
