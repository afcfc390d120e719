-- Where the searches of a directory started at its last run: the settings may leave that to its servers (FD-05).
ALTER TABLE sync_sources ADD COLUMN base TEXT NOT NULL DEFAULT '';

-- The last run that was added to this one, and what its end had done: whoever lost the answer asks for it again.
ALTER TABLE sync_runs ADD COLUMN folded          TEXT   NOT NULL DEFAULT '';
ALTER TABLE sync_runs ADD COLUMN folded_disabled BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sync_runs ADD COLUMN folded_removed  BIGINT NOT NULL DEFAULT 0;
