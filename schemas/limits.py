"""Size limits of version 1, in bytes of payload, and the bounds of the decoder.

The broker's own packet limits (`broker_config/`) lie above these, so an honest device never meets them.
"""

from __future__ import annotations

HEARTBEAT_BYTES = 1_024
READING_BYTES = 4_096
EVENT_BYTES = 4_096
PRESENCE_BYTES = 256
RECEIPT_BYTES = 4_096

PLAN_BYTES = 256 * 1024  # a week of 6 occurrences a day with 5 items each is about 25 KiB
CONFIG_BYTES = 24 * 1024  # room for 64 files for alerts with the longest of paths
KEYS_BYTES = 8 * 1024
COMMAND_BYTES = 8 * 1024
ALERT_BYTES = 64 * 1024
SEGMENT_LIST_BYTES = 16 * 1024  # over HTTPS; 32 segments of a path of usual length are about 6 KiB

UPLINK_BYTES = max(HEARTBEAT_BYTES, READING_BYTES, EVENT_BYTES, PRESENCE_BYTES)
DOWNLINK_BYTES = max(PLAN_BYTES, CONFIG_BYTES, KEYS_BYTES, COMMAND_BYTES, ALERT_BYTES, RECEIPT_BYTES)

MAX_DEPTH = 8  # the deepest message of version 1 nests 5 containers

INT64_MAX = 2**63 - 1
MAX_EMISSIONS = 2_000
MAX_SAMPLES = 32
MAX_RECEIPT_RANGES = 64
MAX_SEGMENTS = 32
SEGMENT_MS = 10_000
SEGMENT_BYTES = 512 * 1024  # ten seconds at 320 kbit/s, and room
