"""The audit as a chain of hashes: sealed, its head signed and sent away, and verified."""
