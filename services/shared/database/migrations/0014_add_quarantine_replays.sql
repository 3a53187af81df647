-- Quarantine as an inbox: what became of inmates that somebody asked to be judged anew. What people decide stands in
-- control (0050); what was stored, and that it was, stands here, written in the transaction that stored it.

-- Stored by a replay, or found stored already: no longer in the inbox. The same bytes coming again do not change that.
ALTER TABLE telemetry.quarantine ADD COLUMN replayed_at timestamptz;

-- One row for every inmate of every request, which is what makes a replay happen once. It outlives the inmate, so that a
-- row stored from a corrected copy can be told from what a device said for as long as the row itself is kept.
CREATE TABLE telemetry.quarantine_replays (
    request_no     bigint NOT NULL,          -- control's number of the decision
    quarantine_id  bigint NOT NULL,
    replayed_at    timestamptz NOT NULL,
    at             timestamptz,              -- key of the row it became, with device_no: heartbeat, reading, event
    journal        bigint,                   -- and for an event its number
    sequence       bigint,
    device_no      integer,
    principal_no   integer,
    is_corrected   boolean NOT NULL,         -- judged was a copy that a person had corrected
    result         text NOT NULL CHECK (result IN ('stored', 'duplicate', 'refused', 'gone')),
    kind           text,                     -- heartbeat, reading, event, presence
    reason         text,
    detail         text,
    CONSTRAINT quarantine_replays_once PRIMARY KEY (request_no, quarantine_id),
    CONSTRAINT quarantine_replays_refusal_has_reason CHECK (result <> 'refused' OR reason IS NOT NULL)
);
CREATE INDEX quarantine_replays_by_inmate ON telemetry.quarantine_replays (quarantine_id, request_no DESC);
CREATE INDEX quarantine_replays_corrected_events ON telemetry.quarantine_replays (device_no, sequence)
 WHERE is_corrected AND result = 'stored' AND sequence IS NOT NULL;

CREATE OR REPLACE VIEW telemetry.quarantine_log AS
SELECT quarantine_id,
       principal,
       device,
       topic,
       reason,
       detail,
       size,
       payload,
       sha256,
       messages,
       first_seen_at,
       last_seen_at,
       is_receipted,
       replayed_at
  FROM telemetry.quarantine;

CREATE VIEW telemetry.quarantine_replay_log AS
SELECT request_no,
       quarantine_id,
       replayed_at,
       result,
       reason,
       detail,
       kind,
       is_corrected,
       device_no,
       principal_no,
       at,
       encode(int8send(journal), 'hex') AS journal_id,
       sequence
  FROM telemetry.quarantine_replays;

GRANT SELECT, INSERT, DELETE ON telemetry.quarantine_replays TO loa_ingest;
GRANT SELECT ON telemetry.quarantine_replay_log TO loa_ingest, loa_control;
