"""Delivery: from a committed decision to the broker. At least once; devices ignore what they have.

A message is decided in the transaction that writes it to the outbox; the dispatcher publishes and then marks. Killed
between the two it publishes twice, never loses. The broker's retained messages are a cache, which the republisher
compares with what devices say they hold.
"""
