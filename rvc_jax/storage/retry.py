"""How long to wait before another try of what has failed."""

from __future__ import annotations

RETRY_SECONDS = (10.0, 30.0, 60.0, 120.0, 240.0)
"""Seconds to wait after the first failure, the second, and so on.

A full disk is usually noticed and freed within minutes, and a network comes back.
"""
