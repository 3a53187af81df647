-- Who takes the uplinks, and what is wrong with how they are taken.

-- Every replica of ingest and its latest sign of life, by the database's clock. A row stays until its replica has left
-- for good: the broker goes on dealing a share of what comes to the session of one that is merely gone.
CREATE TABLE telemetry.replicas (
    replica          text PRIMARY KEY,
    started_at       timestamptz NOT NULL,   -- also tells one process of this name from another
    seen_at          timestamptz NOT NULL,
    stopped_at       timestamptz,            -- ended in good order, and may come back
    leave_asked_at   timestamptz,            -- somebody wants it to leave
    left_at          timestamptz,            -- has taken what was its own and ended its session
    drained          bigint,                 -- messages it took while leaving
    -- What it last saw of the broker's count of dropped messages, so that what is dropped in its absence is news to it.
    broker_began_at  timestamptz,
    broker_dropped   bigint,
    CONSTRAINT replicas_broker_seen_whole CHECK ((broker_began_at IS NULL) = (broker_dropped IS NULL))
) WITH (fillfactor = 50);

-- Devices whose certificate is used by more than one, as far as what they say proves it.
CREATE TABLE telemetry.shared_certificates (
    device_no      integer PRIMARY KEY,
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    proof          text NOT NULL,            -- of the last time: boots, journals, clashes
    detail         text NOT NULL
);

CREATE VIEW telemetry.replica_states AS
SELECT replica,
       started_at,
       seen_at,
       stopped_at,
       leave_asked_at,
       left_at,
       drained,
       now() - seen_at AS silent_for
  FROM telemetry.replicas;

CREATE VIEW telemetry.shared_certificate_log AS
SELECT device_no, first_seen_at, last_seen_at, proof, detail
  FROM telemetry.shared_certificates;

GRANT SELECT, INSERT, UPDATE, DELETE ON telemetry.replicas, telemetry.shared_certificates TO loa_ingest;
GRANT SELECT ON telemetry.replica_states, telemetry.shared_certificate_log TO loa_ingest, loa_control;
