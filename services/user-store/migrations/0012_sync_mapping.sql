-- What was read of each entry when everything was read last (S-30); empty = not known, so everything is read.
ALTER TABLE sync_sources ADD COLUMN mapping_digest TEXT NOT NULL DEFAULT '';
ALTER TABLE sync_runs ADD COLUMN mapping_digest TEXT NOT NULL DEFAULT '';
