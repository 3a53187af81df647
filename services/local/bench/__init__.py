"""Benches: what this machine really does, measured so that the figures cannot flatter us.

Each runs every part as a real process with its real settings, keeps a ledger of what it sent, and compares in the same
run with what others would do. `population`, `traffic`, `packets`, `ledger`, `statistics` and, of the benches that break things,
`chaos_packets`, `chaos_ledger` and `chaos_schedule` compute; the rest runs.
"""
