"""The server side of Loa.

`ingest` and `control` are deployables and know nothing of each other. `shared` is not a service: it is the closed list
of run-time plumbing both of them use. `local` puts everything on one machine for a demonstration and for development.
"""
