"""Run-time plumbing used by both deployables; it contains no word of the domain.

Closed list: the clock, settings groups, lifecycle, observability, a health server, and the database plumbing. What is
used by one deployable only lives there, and what speaks of broadcasts or devices never comes here.
"""
