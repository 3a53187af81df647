"""Ingest: takes every uplink from the broker, judges it, stores it, and only then acknowledges it.

The path of a message: `mqtt` (frames) → `intake` (judged by `admission`, gathered by `batching`) → `writer` (one
transaction per batch, in `store`) → acknowledged to the broker → `receipt_sender` (the platform's word to the device).
It knows nothing of broadcasts and runs without control; all it reads of control are views of the device registry.
"""
