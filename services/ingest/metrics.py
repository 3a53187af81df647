"""Every metric of ingest, declared once. Counted per batch, so that a message costs nothing here."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.ingest.brokerlog import RefusalKind

# Seconds; from a batch that was due at once to a database that hangs.
_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# Seconds from a device's clock to commit: a live message to a journal that comes a month late.
_LAGS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3_600, 86_400, 604_800, 2_678_400)
_SIZES = (1, 10, 50, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)

# Why an event is neither stored nor receipted; it comes again.
DEFERRED = ("too_many_journals", "too_many_gaps", "quarantine_full")

# Reasons of quarantine of which a single message is news (LoaUplinkSignatureWrong).
FORGED = ("bad_signature", "unknown_key")


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"ingest_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"ingest_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"ingest_{name}", text, labels, buckets=buckets, registry=self.registry)

        self.received = counter("messages_received", "Messages taken from the broker")
        self.redelivered = counter("messages_redelivered", "Messages the broker sent again (DUP)")
        self.admitted = counter("messages_admitted", "Messages admitted and committed", "kind")
        self.quarantined = counter("messages_quarantined", "Messages not admitted, by reason", "reason")
        for reason in FORGED:
            self.quarantined.labels(reason=reason)  # counted from 0, so that the first one shows as an increase
        self.quarantine_rows = counter("quarantine_rows", "Messages kept in quarantine with their bytes")
        self.replays = counter(
            "quarantine_replays", "Quarantined messages judged anew, by what became of them", "result"
        )
        self.clock_refused = counter("clocks_refused", "Messages stored under receipt time: their clock is absurd")
        self.stored = counter("rows_stored", "Rows committed", "table")
        self.express = counter("messages_express", "Messages stored by the express way, of a form known by heart")
        self.express_refused = counter(
            "express_batches_refused", "Batches whose express rows the database refused: a bug"
        )
        self.direct_copies_repeated = counter(
            "direct_copies_repeated", "Batches tried again because one of their rows was stored already"
        )
        self.duplicates = counter("duplicates", "Rows and events that were stored already")
        self.events_deferred = counter("events_deferred", "Events not taken and not receipted", "reason")
        self.acknowledged = counter("messages_acknowledged", "Messages acknowledged to the broker after commit")
        self.receipts = counter("receipts_sent", "Receipts published")
        self.retained_cleared = counter("retained_cleared", "Retained uplinks cleared at the broker")
        self.batches = histogram("batch_messages", "Messages in a committed batch", _SIZES)
        self.commit_seconds = histogram("commit_seconds", "From taking a batch up to its commit", _DURATIONS)
        self.lag_seconds = histogram(
            "device_lag_seconds", "From the device's own time to commit; first and last message of each batch", _LAGS
        )
        self.in_hand = gauge("messages_in_hand", "Messages taken and not yet committed", "lane")
        self.in_hand_bytes = gauge("bytes_in_hand", "Their payloads", "lane")
        self.paused = gauge(
            "reading_paused", "1 while nothing is read from the broker because too much is in hand", "lane"
        )
        self.database_errors = counter("database_errors", "Failed attempts to write a batch, by kind", "kind")
        self.database_up = gauge("database_up", "1 while every writer of a lane can write batches", "lane")
        self.broker_connected = gauge(
            "broker_connected", "1 while the broker has accepted us and our subscriptions", "lane"
        )
        self.connections = counter("broker_connections", "Connections accepted by the broker", "lane")
        self.registered = gauge("registry_devices", "Devices in the registry held in memory")
        self.registry_loads = counter("registry_loads", "Times the registry was loaded: full, or changes only", "kind")
        self.registry_load_seconds = histogram("registry_load_seconds", "How long that took", _DURATIONS, "kind")
        self.roll_ups = counter("hours_rolled_up", "Hours rolled up")
        self.maintenance_errors = counter("maintenance_errors", "Failed rounds of maintenance")
        self.broker_refusals = counter("broker_refusals", "Refusals found in the broker's log, by kind", "kind")
        self.storage_mode = gauge("storage_mode", "1 for the storage mode in use", "mode")
        self.broker_dropped = counter(
            "broker_messages_dropped", "Messages the broker dropped because a client's queue was full, read from $SYS"
        )
        self.broker_waiting = gauge(
            "broker_messages_waiting", "Messages held by the broker and not retained: what waits, mostly for ingest"
        )
        self.broker_stored_bytes = gauge("broker_stored_bytes", "Payloads held by the broker, retained ones included")
        self.broker_clients = gauge("broker_clients", "Clients the broker knows, connected or away", "state")
        self.broker_heap_bytes = gauge("broker_heap_bytes", "Memory the broker has taken")
        self.broker_watched = gauge("broker_watched", "1 while the broker's own numbers ($SYS) arrive")
        self.replicas_stranded = gauge(
            "replicas_stranded", "1 for a replica that is gone and has not left: its share piles up unread", "replica"
        )
        # Which ones stands in the database (telemetry.shared_certificate_log): as many labels as devices would be too many.
        self.certificates_shared = gauge(
            "certificates_shared", "Devices whose certificate more than one device has used within the last hour"
        )
        self.lively_devices = gauge(
            "devices_reconnecting", "Devices that connect again and again, looked into for a certificate used twice"
        )
        # There from the start where the values are known: a first count cannot be told from one that was always there.
        for reason in DEFERRED:
            self.events_deferred.labels(reason=reason)
        for kind in RefusalKind:
            self.broker_refusals.labels(kind=kind.value)
