-- What devices said. One writer: role loa_ingest.
--
-- Times. `at` is the time to use: the device's own where its clock may be believed, the time of receipt otherwise;
-- `time_source` says which. `device_at` is what the device claimed and stands only where it is not `at` (it would repeat
-- eight bytes in almost every row). `received_at` is when ingest took the message from the broker.
--
-- Who said it. `device_no` is the device it is about; `principal_no` is the gateway that spoke for it, NULL where the
-- device spoke for itself.
--
-- Numbers stand for the enumerations of the wire contract (0011 has their names). Columns are ordered by width, so that
-- no row carries padding.

-- Heartbeats of all four kinds in one table: what a kind does not have is NULL and costs one bit.
CREATE TABLE telemetry.heartbeats (
    at                     timestamptz NOT NULL,
    received_at            timestamptz NOT NULL,
    device_at              timestamptz,
    plan_serial            bigint,
    config_serial          bigint,
    playing_since          timestamptz,      -- cluster: playing; board: showing
    playing_occurrence_at  timestamptz,
    playing_id             uuid,
    device_no              integer NOT NULL,
    principal_no           integer,
    uptime_s               integer NOT NULL,
    storage_free_mib       integer,
    storage_total_mib      integer,
    journal_pending        integer,
    devices_assigned       integer,
    devices_heard          integer,
    kind                   smallint NOT NULL,
    clock_state            smallint NOT NULL,
    time_source            smallint NOT NULL,
    network_type           smallint,
    signal_dbm             smallint,
    power_source           smallint,
    battery_percent        smallint,
    volume_percent         smallint,
    temperature_tenths_c   smallint,
    amplifier_power_w      smallint,
    playing_source         smallint,
    playing_item           smallint,
    brightness_percent     smallint,
    screen_on              boolean,
    firmware               text NOT NULL,
    network_operator       text,
    last_error             text,
    faulty_channels        smallint[],
    -- Also what removes a redelivered heartbeat. One index serves both, and "one device's last day".
    CONSTRAINT heartbeats_once_per_instant PRIMARY KEY (device_no, at)
);

CREATE TABLE telemetry.readings (
    at            timestamptz NOT NULL,
    received_at   timestamptz NOT NULL,
    device_at     timestamptz,
    value         double precision NOT NULL,
    device_no     integer NOT NULL,
    principal_no  integer,
    quality       smallint NOT NULL,
    clock_state   smallint NOT NULL,
    time_source   smallint NOT NULL,
    quantity      text NOT NULL,
    unit          text NOT NULL,
    CONSTRAINT readings_once_per_instant PRIMARY KEY (device_no, quantity, at)
);

-- Events are told apart by the ledger below, not by a key of this table: their time may have been replaced by that of
-- receipt. They are laid down by time of receipt, so that one that arrives a month late still has a place to go.
CREATE SEQUENCE telemetry.event_numbers AS bigint;

CREATE TABLE telemetry.events (
    event_no      bigint NOT NULL DEFAULT nextval('telemetry.event_numbers'),
    -- The transaction that stored it. Numbers are drawn before commit, so a reader that went by number alone would step
    -- over a row of a transaction that commits late; by (tx, event_no) below the oldest running one it cannot.
    tx            xid8 NOT NULL DEFAULT pg_current_xact_id(),
    journal       bigint NOT NULL,           -- the journal's 64 bits, big-endian
    sequence      bigint NOT NULL,
    at            timestamptz NOT NULL,
    device_at     timestamptz,
    received_at   timestamptz NOT NULL,
    device_no     integer NOT NULL,
    principal_no  integer,
    clock_state   smallint NOT NULL,
    time_source   smallint NOT NULL,
    kind          text NOT NULL,
    principal     text NOT NULL,
    body          jsonb NOT NULL
);

-- The receipt ledger: which sequence numbers of a journal have been received, as ranges. It removes duplicates and is
-- what receipts are written from, whichever replica writes them. A row is locked while its numbers change.
CREATE TABLE telemetry.journals (
    device_no      integer NOT NULL,
    principal_no   integer NOT NULL,         -- the device's own number where it speaks for itself
    journal        bigint NOT NULL,
    received       int8multirange NOT NULL DEFAULT '{}',
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    CONSTRAINT journals_once PRIMARY KEY (device_no, principal_no, journal)
) WITH (fillfactor = 70);

-- Latest state per device, coalesced per batch. Only the key is indexed, so that updates stay within their page.
CREATE TABLE telemetry.device_states (
    device_no              integer PRIMARY KEY,
    principal              text NOT NULL,
    is_through_gateway     boolean NOT NULL,
    last_heard_kind        smallint NOT NULL, -- 0 heartbeat, 1 reading, 2 event, 3 presence
    last_heard_at          timestamptz NOT NULL,
    -- Presence: NULL until the first report; devices behind a gateway have none.
    connection_no          bigint,
    online                 boolean,
    presence_at            timestamptz,
    presence_received_at   timestamptz,
    -- The latest heartbeat: NULL until the first.
    heartbeat_at           timestamptz,
    heartbeat_received_at  timestamptz,
    heartbeat_device_at    timestamptz,
    plan_serial            bigint,
    config_serial          bigint,
    playing_since          timestamptz,
    playing_occurrence_at  timestamptz,
    playing_id             uuid,
    uptime_s               integer,
    storage_free_mib       integer,
    storage_total_mib      integer,
    journal_pending        integer,
    devices_assigned       integer,
    devices_heard          integer,
    kind                   smallint,
    clock_state            smallint,
    time_source            smallint,
    network_type           smallint,
    signal_dbm             smallint,
    power_source           smallint,
    battery_percent        smallint,
    volume_percent         smallint,
    temperature_tenths_c   smallint,
    amplifier_power_w      smallint,
    playing_source         smallint,
    playing_item           smallint,
    brightness_percent     smallint,
    screen_on              boolean,
    firmware               text,
    network_operator       text,
    last_error             text,
    faulty_channels        smallint[]
) WITH (fillfactor = 50);

-- Uplinks that could not be admitted, with their bytes and the reason. The same bytes of one principal are one row.
CREATE TABLE telemetry.quarantine (
    quarantine_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    messages       bigint NOT NULL,          -- how often they came
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    size           integer NOT NULL,         -- of the whole payload; `payload` holds its first 8 KiB
    is_receipted   boolean NOT NULL,         -- an event whose number counts as received
    principal      text NOT NULL,
    device         text,
    topic          text NOT NULL,            -- of the last one
    reason         text NOT NULL,
    detail         text NOT NULL,
    sha256         bytea NOT NULL,
    payload        bytea NOT NULL,
    CONSTRAINT quarantine_once_per_payload UNIQUE (principal, sha256)
);
CREATE INDEX quarantine_by_last_seen ON telemetry.quarantine (last_seen_at);

-- What was judged against a device, by day: it grows also where the quota keeps the bytes out. `kept` counts rows made.
CREATE TABLE telemetry.quarantine_counters (
    day        date NOT NULL,                -- UTC
    principal  text NOT NULL,
    reason     text NOT NULL,
    messages   bigint NOT NULL,
    bytes      bigint NOT NULL,
    kept       bigint NOT NULL,
    CONSTRAINT quarantine_counters_once PRIMARY KEY (day, principal, reason)
);

-- What every replica has stored since the beginning. A row each, so that replicas do not wait for one another.
CREATE TABLE telemetry.replica_totals (
    replica        text PRIMARY KEY,
    heartbeats     bigint NOT NULL,
    readings       bigint NOT NULL,
    events         bigint NOT NULL,
    quarantined    bigint NOT NULL,
    duplicates     bigint NOT NULL,
    clock_refused  bigint NOT NULL
) WITH (fillfactor = 50);

-- Roll-ups, one row per device and hour, kept for years.
CREATE TABLE telemetry.heartbeats_hourly (
    hour                      timestamptz NOT NULL,
    first_at                  timestamptz NOT NULL,
    last_at                   timestamptz NOT NULL,
    device_no                 integer NOT NULL,
    heartbeats                integer NOT NULL,
    longest_gap_s             integer NOT NULL, -- longest silence within the hour, its edges included
    minutes_heard             smallint NOT NULL,
    minutes_playing           smallint NOT NULL,
    temperature_min_tenths_c  smallint,
    temperature_max_tenths_c  smallint,
    signal_min_dbm            smallint,
    battery_min_percent       smallint,
    CONSTRAINT heartbeats_hourly_once PRIMARY KEY (device_no, hour)
);

CREATE TABLE telemetry.readings_hourly (
    hour       timestamptz NOT NULL,
    mean       double precision NOT NULL,
    minimum    double precision NOT NULL,
    maximum    double precision NOT NULL,
    device_no  integer NOT NULL,
    samples    integer NOT NULL,
    quantity   text NOT NULL,
    unit       text NOT NULL,
    CONSTRAINT readings_hourly_once PRIMARY KEY (device_no, quantity, hour)
);

-- Hours below this are rolled up; one row.
CREATE TABLE telemetry.roll_up_watermark (
    is_single  boolean PRIMARY KEY DEFAULT true CHECK (is_single),
    until      timestamptz NOT NULL
);

-- Hours that received rows after they were over and have to be rolled up again. Appended to without a key: a key would
-- make batches wait for one another and for the job that works the list off.
CREATE TABLE telemetry.late_hours (
    hour  timestamptz NOT NULL
);

GRANT SELECT, INSERT ON telemetry.heartbeats, telemetry.readings, telemetry.events TO loa_ingest;
GRANT USAGE ON SEQUENCE telemetry.event_numbers TO loa_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE
   ON telemetry.journals, telemetry.device_states, telemetry.quarantine, telemetry.quarantine_counters,
      telemetry.replica_totals, telemetry.heartbeats_hourly, telemetry.readings_hourly, telemetry.roll_up_watermark,
      telemetry.late_hours
   TO loa_ingest;
