"""PostgreSQL plumbing: a pool that speaks our errors, a listener, and the migration runner."""
