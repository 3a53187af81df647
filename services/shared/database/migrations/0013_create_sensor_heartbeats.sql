-- Sensors are nine devices in ten, and say the least. Their heartbeats get a narrow table of their own, with a key, a
-- width and a retention of their own; clusters, boards and gateways stay in `heartbeats`. Columns mean what they mean
-- there. Rows of sensors stored before this table was made stay where they are until they are old: every reader takes
-- both.
CREATE TABLE telemetry.sensor_heartbeats (
    at                 timestamptz NOT NULL,
    received_at        timestamptz NOT NULL,
    device_at          timestamptz,
    plan_serial        bigint,
    config_serial      bigint,
    device_no          integer NOT NULL,
    principal_no       integer,
    uptime_s           integer NOT NULL,
    storage_free_mib   integer,
    storage_total_mib  integer,
    journal_pending    integer,
    clock_state        smallint NOT NULL,
    time_source        smallint NOT NULL,
    network_type       smallint,
    signal_dbm         smallint,
    power_source       smallint,
    battery_percent    smallint,
    firmware           text NOT NULL,
    network_operator   text,
    last_error         text
);

-- One row per sensor and hour, kept for years; so only what cannot be had from the rest. How many minutes it was heard
-- and how long it was silent are in `minutes`.
CREATE TABLE telemetry.sensor_heartbeats_hourly (
    hour                 timestamptz NOT NULL,
    minutes              bigint NOT NULL,    -- bit n: heard in minute n
    device_no            integer NOT NULL,
    heartbeats           integer NOT NULL,
    first_s              smallint NOT NULL,  -- seconds of the hour, whole
    last_s               smallint NOT NULL,
    signal_min_dbm       smallint,
    battery_min_percent  smallint,
    -- The hour first: a roll-up then writes at the end of the index. Few hours make a partition, so a reader of one device
    -- steps from hour to hour.
    CONSTRAINT sensor_heartbeats_hourly_once PRIMARY KEY (hour, device_no)
);

-- Hours of sensors below this are rolled up; one row. Not in `roll_up_watermark`: the two jobs would wait for one another.
CREATE TABLE telemetry.sensor_roll_up_watermark (
    is_single  boolean PRIMARY KEY DEFAULT true CHECK (is_single),
    until      timestamptz NOT NULL
);

-- Sensors that were heard of an hour after it was over. By device, because nine tenths of all rows of an hour are theirs,
-- and one that is late must not have them all read again. Without a key, as `late_hours`.
CREATE TABLE telemetry.late_sensor_hours (
    hour       timestamptz NOT NULL,
    device_no  integer NOT NULL
);

-- Whether nothing of a time is known by raw rows alone: only then may they go. Whoever asks before dropping keeps writers
-- out first, since a row and its entry above are committed together.
CREATE FUNCTION telemetry.sensors_rolled_up(from_at timestamptz, until_at timestamptz) RETURNS boolean
    LANGUAGE sql
    SET search_path = pg_catalog
AS $$
    SELECT EXISTS (SELECT FROM telemetry.sensor_roll_up_watermark WHERE until >= until_at)
       AND NOT EXISTS (SELECT FROM telemetry.late_sensor_hours WHERE hour >= from_at AND hour < until_at)
$$;
REVOKE EXECUTE ON FUNCTION telemetry.sensors_rolled_up(timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION telemetry.sensors_rolled_up(timestamptz, timestamptz) TO loa_ingest;

GRANT SELECT, INSERT ON telemetry.sensor_heartbeats TO loa_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE
   ON telemetry.sensor_heartbeats_hourly, telemetry.sensor_roll_up_watermark, telemetry.late_sensor_hours
   TO loa_ingest;
