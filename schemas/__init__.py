"""The wire contract between devices and the platform.

Everything a hardware vendor needs and nothing else: identifiers, topics, messages, the codec, signatures and the
arbitration order. No I/O, no clock, no import of ours. Version 1 is named in every topic (`loa/v1/…`) and in key 0 of
every message.

Compatibility promise: within a major version fields are only added. A receiver ignores a field whose key it does not
know when the key is below 128 and refuses the message when it is 128 or above (a *critical* field). A message with
another major version is never guessed at.

This package exports nothing: each name has one address (`schemas.plans.Plan`).
"""
