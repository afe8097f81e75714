"""What tests share: real databases, providers and programs, and the worlds they run in."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
