-- A certificate of another enrolment authority, or one that has run out, comes on no list of ours: its session ends all the
-- same, and nothing is said of the broker's list.
ALTER TABLE control.device_certificates
    DROP CONSTRAINT device_certificates_stages,
    ADD CONSTRAINT device_certificates_stages CHECK (
        revoked_at IS NOT NULL OR (in_force_at IS NULL AND thrown_out_at IS NULL));
