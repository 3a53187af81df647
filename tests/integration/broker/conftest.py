"""Every test here has a real broker of its own."""

from tests.support.broker import broker, pki

__all__ = ["broker", "pki"]
