-- What one person did without a second one's word, small as each was: what he asks for next is counted together with it.

CREATE TABLE control.operations_done (
    account_id  uuid NOT NULL REFERENCES control.accounts,
    danger      text NOT NULL CHECK (danger IN ('alerts', 'silences', 'live', 'volume', 'keys')),
    done_at     timestamptz NOT NULL,
    devices     bigint[] NOT NULL  -- control.devices.device_no of those it touched
);
CREATE INDEX operations_done_by_account ON control.operations_done (account_id, danger, done_at);

ALTER TABLE control.operation_requests
    -- that the same person had touched before, within the policy's period, and that counted along
    ADD COLUMN devices_before integer NOT NULL DEFAULT 0;

GRANT SELECT, INSERT, DELETE ON control.operations_done TO loa_control;
