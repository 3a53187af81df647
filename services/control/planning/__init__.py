"""Planning: what should sound where and when, and did it. Values in, values out; no clock, no I/O, no randomness.

Front doors: `programme.plan` (what should exist in a window of local days), `changes.changes` (what that means for what
is recorded already), `reconcile.weigh` (what became of one emission), `timeline.sounding` (what a device sounds when
plans overlap), `explanation.explain` (why this, here, now), `impact.compare` (what a change does to what people hear)
and `policies.check` (what a unit has against it). Nothing here fails on data: impossible input becomes a `Problem`.
"""
