-- A service that is started before the database was migrated says so, instead of failing at its first statement.
GRANT SELECT ON public.loa_migrations TO loa_ingest, loa_control;
