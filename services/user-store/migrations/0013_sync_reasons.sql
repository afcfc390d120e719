-- Why users of a run wait for approval, in a sentence; '' = nobody does.
ALTER TABLE sync_runs ADD COLUMN parked_why TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN why TEXT NOT NULL DEFAULT '';

-- By what a list was made: by another set of items, or of another source, it is not approved (S-40). '' = it is not known.
ALTER TABLE approvals ADD COLUMN items_digest  TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN source_digest TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN identity      TEXT NOT NULL DEFAULT '';

-- What a preview would make of the state of those it met ('' = nothing), and whom it would exempt, by their username.
ALTER TABLE sync_seen ADD COLUMN state  TEXT NOT NULL DEFAULT '';
ALTER TABLE sync_seen ADD COLUMN exempt TEXT NOT NULL DEFAULT '';
