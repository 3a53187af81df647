-- What else may need a second person: tests aloud, what is live, the volume of an area, claim codes.

ALTER TABLE control.operation_requests DROP CONSTRAINT operation_requests_kind_check;
ALTER TABLE control.operation_requests ADD CONSTRAINT operation_requests_kind_check
CHECK (kind IN ('alert_issue', 'alert_update', 'cap', 'audible_test', 'silence', 'silence_release', 'live', 'live_change',
                'relay_change', 'volume', 'claims'));
