-- The unit that a problem is about was text in `detail`, where a group or a code of a session looked the same.

ALTER TABLE control.planning_problems
    ADD COLUMN unit_id uuid REFERENCES control.units;

UPDATE control.planning_problems p
   SET unit_id = u.unit_id, detail = ''
  FROM control.units u
 WHERE u.unit_id::text = p.detail;
