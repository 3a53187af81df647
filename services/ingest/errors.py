"""What can go wrong in ingest besides the database being away."""


class IngestError(Exception):
    """Base of ingest's own errors."""


class DataRefused(IngestError):
    """The database refuses what a message says (a character or number it cannot hold): poison, not an outage."""


class StoredAlready(IngestError):
    """A row that was taken to be new is in its table; the batch goes in by the way that looks first."""


class PartitionMissing(IngestError):
    """No partition covers the instant of a row; it has to be made, and then the batch goes in."""


class SessionRefused(IngestError):
    """The broker answered and said no: to the connection or to a subscription."""


class ProtocolViolated(IngestError):
    """What the broker sent is not MQTT 5, or not in its place."""
