-- That a device has nothing of an alert any more does not take the place of what it said before: a silence that was released
-- had held all the same. And who neither sounds nor shows is none of those an alert can reach.
ALTER TABLE control.alert_reach ADD COLUMN ended_version integer;  -- with which it said last that it has nothing of it any more
UPDATE control.alert_reach r
   SET ended_version = r.told_version, told_detail = NULL,
       told = CASE WHEN a.purpose = 'silence' AND r.given_version IS NOT NULL THEN 'silenced' END,
       told_version = CASE WHEN a.purpose = 'silence' THEN r.given_version END
  FROM control.alerts a
 WHERE a.alert_id = r.alert_id
   AND r.told IN ('cancelled', 'released');
DELETE FROM control.alert_reach r
 USING control.devices d
 WHERE d.device_no = r.device_no
   AND d.kind NOT IN ('cluster', 'board');
