"""Rules on readings: they raise alarms and propose alerts to people."""
