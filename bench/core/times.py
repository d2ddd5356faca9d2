"""Dates as they are stored and shown, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """Returns the time to the second, ISO 8601: ``"2026-01-31T12:00:00Z"``."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def today() -> str:
    """Returns the date, ISO 8601: ``"2026-01-31"``."""
    return f"{datetime.now(UTC):%Y-%m-%d}"
