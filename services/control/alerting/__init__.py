"""Alerts: emergencies, tests and silences, from a person's word to what devices report of it (R-22, S-04)."""
