"""Rows in COPY's binary format, as PostgreSQL reads them."""

import struct
from datetime import UTC, datetime, timedelta
from typing import Any

from services.ingest.rows import SENSOR_COLUMNS, SENSOR_TYPES, Row


def cells(row: bytes) -> list[bytes | None]:
    """Take a row of COPY's binary format apart."""
    (count,) = struct.unpack_from(">h", row)
    at, found = 2, []
    for _ in range(count):
        (size,) = struct.unpack_from(">i", row, at)
        at += 4
        found.append(None if size < 0 else row[at : at + size])
        at += max(size, 0)
    assert at == len(row)
    return found


def values(row: bytes) -> Row:
    """Return what PostgreSQL makes of a row of SENSOR_COLUMNS."""
    read: list[Any] = []
    for column, cell in zip(SENSOR_COLUMNS, cells(row), strict=True):
        match SENSOR_TYPES[column]:
            case _ if cell is None:
                read.append(None)
            case "timestamptz":
                epoch = datetime(2000, 1, 1, tzinfo=UTC)
                read.append(epoch + timedelta(microseconds=struct.unpack(">q", cell)[0]))
            case "text":
                read.append(cell.decode())
            case "smallint":
                read.append(struct.unpack(">h", cell)[0])
            case "integer":
                read.append(struct.unpack(">i", cell)[0])
            case "bigint":
                read.append(struct.unpack(">q", cell)[0])
    return tuple(read)
