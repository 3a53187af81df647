-- Whether the version that holds reached a device: since when it is meant by it, and which version it was given last.
ALTER TABLE control.alert_reach
  DROP COLUMN addressed_since,
  ADD COLUMN addressed_at   timestamptz,             -- NULL: it has said something and was never meant
  ADD COLUMN given_version  integer,                 -- newest version it said it has; an end is none
  ADD COLUMN given_at       timestamptz;             -- by its own clock; NULL: the first version, which nothing came before
COMMENT ON COLUMN control.alert_reach.first_start_at IS 'of given_version; so are last_outcome and start_told_by';
UPDATE control.alert_reach r
   SET addressed_at = a.issued_at, given_version = CASE WHEN r.told NOT IN ('cancelled', 'released') THEN r.told_version END,
       given_at = CASE WHEN r.told_version > 1 AND r.told NOT IN ('cancelled', 'released') THEN r.told_at END
  FROM control.alerts a
 WHERE a.alert_id = r.alert_id;
-- When the first version began says nothing of a later one.
UPDATE control.alert_reach
   SET first_start_at = NULL, last_outcome = NULL, start_told_by = NULL
 WHERE given_version > 1
   AND first_start_at < given_at;
