-- Tests of alerts: when units want them, what became of each time they were due, and what each device made of them.

-- What a unit says for its ground; NULL says nothing, and the word of the nearest unit above holds.
CREATE TABLE control.alert_timetables (
    unit_id     uuid PRIMARY KEY REFERENCES control.units,
    silent      jsonb,                            -- services.control.alerting.timetable.SilentTimes
    audible     jsonb,                            -- services.control.alerting.timetable.AudibleTimes
    version     integer NOT NULL DEFAULT 0,
    changed_at  timestamptz NOT NULL,
    changed_by  uuid REFERENCES control.accounts
);

-- One row for each time a test was due: what makes it run once, whoever of several replicas comes first.
CREATE TABLE control.alert_test_runs (
    unit_id     uuid NOT NULL REFERENCES control.units,  -- whose timetable it was
    purpose     text NOT NULL CHECK (purpose IN ('silent_test', 'audible_test')),
    due_at      timestamptz NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('issued', 'missed', 'not_allowed', 'refused')),
    detail      text,
    alert_id    uuid REFERENCES control.alerts ON DELETE CASCADE,
    noted_at    timestamptz NOT NULL,
    PRIMARY KEY (unit_id, purpose, due_at)
);
CREATE INDEX alert_test_runs_by_alert ON control.alert_test_runs (alert_id);

-- What a test came to on each device that was meant and could have answered, weighed when the test was over.
CREATE TABLE control.alert_test_results (
    alert_id    uuid NOT NULL REFERENCES control.alerts ON DELETE CASCADE,
    device_no   integer NOT NULL REFERENCES control.devices,
    unit_id     uuid NOT NULL REFERENCES control.units,  -- the device's, at the test
    purpose     text NOT NULL CHECK (purpose IN ('silent_test', 'audible_test')),
    tested_at   timestamptz NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('passed', 'failed', 'by_gateway', 'excused')),
    reason      text NOT NULL,                    -- services.control.alerting.reach.REASONS
    detail      text,
    PRIMARY KEY (alert_id, device_no)
);
CREATE INDEX alert_test_results_by_device ON control.alert_test_results (device_no, tested_at DESC);
CREATE INDEX alert_test_results_that_failed ON control.alert_test_results (tested_at) WHERE outcome = 'failed';

ALTER TABLE control.alerts ADD COLUMN weighed_at timestamptz;  -- of a test: when its results were put on record
CREATE INDEX alerts_to_weigh ON control.alerts (valid_until)
 WHERE purpose IN ('silent_test', 'audible_test') AND weighed_at IS NULL;

GRANT SELECT, INSERT, UPDATE, DELETE
   ON control.alert_timetables, control.alert_test_runs, control.alert_test_results
   TO loa_control;
