-- What devices have said of alerts in words that they signed, kept beside everything that was said: nothing unsigned changes
-- it, so whoever speaks in a device's place can add to the one and not to the other.
ALTER TABLE control.alert_reach
    ADD COLUMN signed_told           text,         -- of the newest version it said so of
    ADD COLUMN signed_told_version   integer,
    ADD COLUMN signed_given_version  integer,      -- newest version it said it has
    ADD COLUMN signed_given_at       timestamptz,  -- by its own clock; NULL: the first version
    ADD COLUMN signed_start_at       timestamptz;  -- first start of signed_given_version
ALTER TABLE control.alert_plays
    ADD COLUMN signed_started_at timestamptz;
