"""Shared test helpers: real databases, providers and programs, and their test data."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
