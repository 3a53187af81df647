-- A rule is let pass for the unit whose policy it is, not for every unit that was asked: the two lists go side by side.
-- What was let pass before was so for all of both.

UPDATE control.policy_exceptions x
   SET (rules, unit_ids) = (SELECT coalesce(array_agg(rule ORDER BY rule, unit_id), '{}'),
                                   coalesce(array_agg(unit_id ORDER BY rule, unit_id), '{}')
                              FROM unnest(x.rules) AS rule
                             CROSS JOIN unnest(x.unit_ids) AS unit_id);

ALTER TABLE control.policy_exceptions
    ADD CONSTRAINT policy_exceptions_pair_rules_and_units CHECK (cardinality(rules) = cardinality(unit_ids));

COMMENT ON COLUMN control.policy_exceptions.rules IS 'the rules it breaks, by name, each with the unit in its place in unit_ids';
COMMENT ON COLUMN control.policy_exceptions.unit_ids IS 'whose policies those are';
