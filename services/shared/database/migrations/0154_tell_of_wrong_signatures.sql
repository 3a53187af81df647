-- How far a sink has been told of uplinks whose signature was wrong: by when they first came into quarantine.
ALTER TABLE control.security_positions ADD COLUMN signatures_at timestamptz NOT NULL DEFAULT now();
