"""A broker, an HTTP server and the platform's side of the wire for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.broker import Broker
from tests.integration.firmware.centre import Centre, a_centre
from tests.support.broker import broker, pki

__all__ = ["broker", "pki"]


@pytest.fixture
def centre(broker: Broker, tmp_path: Path) -> Iterator[Centre]:
    with a_centre(broker, tmp_path) as running:
        yield running
