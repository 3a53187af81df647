"""Control, a deployable: the API and console, planning, signing and delivery of plans, and the watch over the fleet."""
