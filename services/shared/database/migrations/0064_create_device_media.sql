-- Which media files devices have said they hold, so that a change can be told to be early enough, or not (R-26). What a
-- device threw away since to make room it does not say: it fetches again what its plan names.

CREATE TABLE control.device_media (
    device_no  integer NOT NULL REFERENCES control.devices,
    sha256     bytea NOT NULL CHECK (length(sha256) = 32),
    stored_at  timestamptz NOT NULL,
    PRIMARY KEY (device_no, sha256)
);
CREATE INDEX device_media_by_file ON control.device_media (sha256);

GRANT SELECT, INSERT, UPDATE, DELETE ON control.device_media TO loa_control;
