"""The HTTP side of control: REST under `/api/v1`, media for devices, health and metrics. No SQL here, no decisions."""
