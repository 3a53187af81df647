"""Loa on one machine: embedded database, broker, certificates, the demonstration, and the verbs of `./loa`.

Nothing here is deployed. It may know every other package; no other package knows it.
"""
