-- What people decide about quarantined uplinks: corrected copies, replays, discards. The uplinks themselves are
-- telemetry's and never change; ingest alone stores what a replay lets in.

-- A copy somebody corrected. The original stays beside it; the newest copy is the one that counts.
CREATE TABLE control.quarantine_corrections (
    correction_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    quarantine_id  bigint NOT NULL,
    topic          text NOT NULL,
    payload        bytea NOT NULL,
    corrected_at   timestamptz NOT NULL,
    corrected_by   uuid NOT NULL REFERENCES control.accounts,
    why            text NOT NULL
);
CREATE INDEX quarantine_corrections_by_inmate ON control.quarantine_corrections (quarantine_id, correction_id DESC);

-- One decision about one inmate or many. Decision 7 is request 7 for ingest.
CREATE TABLE control.quarantine_decisions (
    decision_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decision     text NOT NULL CHECK (decision IN ('replay', 'discard')),
    decided_at   timestamptz NOT NULL,
    decided_by   uuid NOT NULL REFERENCES control.accounts,
    why          text NOT NULL,
    inmates      integer NOT NULL
);

-- The decision that stands for an inmate: the newest. `reason` is what it stood in quarantine for then.
CREATE TABLE control.quarantine_decided (
    quarantine_id  bigint PRIMARY KEY,
    decision_id    bigint NOT NULL REFERENCES control.quarantine_decisions,
    correction_id  bigint REFERENCES control.quarantine_corrections,  -- the copy to be judged; NULL: what was received
    reason         text NOT NULL
);
CREATE INDEX quarantine_decided_by_decision ON control.quarantine_decided (decision_id);

-- What ingest is asked to judge anew. It remembers itself which of it is done.
CREATE VIEW control.quarantine_requests AS
SELECT d.decision_id AS request_no,
       s.quarantine_id,
       c.topic,
       c.payload
  FROM control.quarantine_decided s
  JOIN control.quarantine_decisions d USING (decision_id)
  LEFT JOIN control.quarantine_corrections c USING (correction_id)
 WHERE d.decision = 'replay';

GRANT SELECT, INSERT, UPDATE, DELETE
   ON control.quarantine_corrections, control.quarantine_decisions, control.quarantine_decided TO loa_control;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA control TO loa_control;
GRANT SELECT ON control.quarantine_requests TO loa_ingest;
