"""Security events for the province's own watch: JSON lines and syslog (S-08, S-11)."""
