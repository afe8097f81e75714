"""``python -m alerts COMMAND``: ask about the engine and act on it, without the web app."""

import sys

from alerts.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
