-- Alerts (R-22), tests and silences (S-04): what was said when by whom, the bytes that were signed, and whom it reached.

CREATE TABLE control.alerts (
    alert_id         uuid PRIMARY KEY,
    unit_id          uuid NOT NULL REFERENCES control.units,  -- that speaks
    purpose          text NOT NULL CHECK (purpose IN ('alert', 'silent_test', 'audible_test', 'silence')),
    status           text NOT NULL CHECK (status IN ('actual', 'exercise', 'test')),
    state            text NOT NULL
                     CHECK (state IN ('proposed', 'awaiting_second', 'in_force', 'cancelled', 'expired', 'refused')),
    version          integer NOT NULL CHECK (version BETWEEN 0 AND 65535),  -- the last one signed; 0: none yet
    event            text NOT NULL,
    headline         text NOT NULL,
    severity         text NOT NULL CHECK (severity IN ('extreme', 'severe', 'moderate', 'minor', 'unknown')),
    origin           text NOT NULL CHECK (origin IN ('console', 'cap', 'rule', 'schedule')),
    template_id      uuid,
    draft            jsonb NOT NULL,              -- services.control.alerting.documents: what holds, whole
    unit_ids         uuid[] NOT NULL,             -- the ground it touches: who sees it
    first_issued_at  timestamptz NOT NULL,
    issued_at        timestamptz NOT NULL,        -- of the present version
    valid_until      timestamptz NOT NULL,
    holds_until      timestamptz NOT NULL,        -- latest end of any version devices were given
    created_by       uuid REFERENCES control.accounts,        -- NULL: the platform itself
    ended_at         timestamptz,
    ended_by         uuid REFERENCES control.accounts,
    resolved_at      timestamptz,                 -- when its audience was last looked up in the registry
    CONSTRAINT alerts_hold_as_long_as_they_are_valid CHECK (holds_until >= valid_until),
    CONSTRAINT alerts_end_at_some_time CHECK (state NOT IN ('cancelled', 'expired', 'refused') OR ended_at IS NOT NULL)
);
CREATE INDEX alerts_by_unit ON control.alerts (unit_id, first_issued_at DESC);
CREATE INDEX alerts_by_ground ON control.alerts USING gin (unit_ids);
CREATE INDEX alerts_by_time ON control.alerts (first_issued_at DESC, alert_id DESC);
CREATE INDEX alerts_that_hold ON control.alerts (holds_until) WHERE state IN ('in_force', 'cancelled');

-- Every version that was ever signed. A cancel is a version; so is a stop, which one unit gives for its own ground.
CREATE TABLE control.alert_versions (
    alert_id       uuid NOT NULL REFERENCES control.alerts ON DELETE CASCADE,
    alert_version  integer NOT NULL CHECK (alert_version BETWEEN 1 AND 65535),
    purpose        text NOT NULL
                   CHECK (purpose IN ('alert', 'cancel', 'silent_test', 'audible_test', 'silence', 'release')),
    draft          jsonb NOT NULL,
    unit_ids       uuid[] NOT NULL,               -- topics it was published to
    issued_at      timestamptz NOT NULL,
    valid_until    timestamptz NOT NULL,
    issued_by      uuid REFERENCES control.accounts,
    approved_by    uuid REFERENCES control.accounts,  -- the second person
    stopped_in     uuid REFERENCES control.units,     -- of a stop: whose ground
    message        bytea NOT NULL,                -- signed, as published
    published_at   timestamptz,                   -- when the broker first took it
    PRIMARY KEY (alert_id, alert_version)
);

-- What stands retained on each topic: the broker's copy is a cache of it.
CREATE TABLE control.alert_topics (
    alert_id       uuid NOT NULL REFERENCES control.alerts ON DELETE CASCADE,
    unit_id        uuid NOT NULL REFERENCES control.units,
    alert_version  integer NOT NULL,
    PRIMARY KEY (alert_id, unit_id),
    FOREIGN KEY (alert_id, alert_version) REFERENCES control.alert_versions (alert_id, alert_version) ON DELETE CASCADE
);

-- Whom it was meant for, and what each device said. One row a device: those that nobody has heard of yet, too.
CREATE TABLE control.alert_reach (
    alert_id         uuid NOT NULL REFERENCES control.alerts ON DELETE CASCADE,
    device_no        integer NOT NULL REFERENCES control.devices,
    unit_id          uuid NOT NULL REFERENCES control.units,  -- the device's, when it was looked up
    is_addressed     boolean NOT NULL DEFAULT true,  -- by the present version
    addressed_since  integer NOT NULL,               -- first version that means it
    told_version     integer,                        -- newest version it has said something about
    told             text,                           -- schemas.events.AlertResult of that word, or 'refused'
    told_detail      text,
    told_at          timestamptz,
    told_by          text CHECK (told_by IN ('device', 'gateway')),
    starts           integer NOT NULL DEFAULT 0,     -- repetitions that began
    first_start_at   timestamptz,                    -- by the device's own time where its clock is believed
    last_start_at    timestamptz,
    last_end_at      timestamptz,
    last_outcome     text,
    start_told_by    text CHECK (start_told_by IN ('device', 'gateway')),  -- the better of the two words
    commanded_at     timestamptz,                    -- when it was told once more by a command of its own
    PRIMARY KEY (alert_id, device_no)
);
CREATE INDEX alert_reach_by_device ON control.alert_reach (device_no);

-- Repetitions on each device, as reported.
CREATE TABLE control.alert_plays (
    alert_id       uuid NOT NULL REFERENCES control.alerts ON DELETE CASCADE,
    device_no      integer NOT NULL REFERENCES control.devices,
    occurrence_at  timestamptz NOT NULL,          -- of the repetition, by the device's schedule
    item           smallint NOT NULL,             -- which content
    started_at     timestamptz,
    ended_at       timestamptz,
    outcome        text,                          -- schemas.events.PlayOutcome, or 'missed'
    reason         text,
    sounded_ms     integer,
    told_by        text NOT NULL CHECK (told_by IN ('device', 'gateway')),
    PRIMARY KEY (alert_id, device_no, occurrence_at, item)
);

-- Alerts stand before everything else in the outbox: a lane of their own claims them by this index.
CREATE INDEX outbox_alerts_due ON control.outbox (dispatch_at) WHERE kind = 'alert';

GRANT SELECT, INSERT, UPDATE, DELETE
   ON control.alerts, control.alert_versions, control.alert_topics, control.alert_reach, control.alert_plays
   TO loa_control;
