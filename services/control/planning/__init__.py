"""Planning: what should sound where and when, and did it. Values in, values out; no clock, no I/O, no randomness.

Front doors: `programme.plan` (what should exist in a window of local days), `changes.changes` (what that means for what
is recorded already) and `reconcile.weigh` (what became of one emission). Nothing here fails on data: impossible input
becomes a `Problem`.
"""
