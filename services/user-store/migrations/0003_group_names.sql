-- The folded name of a group, so that a group in a group is found by it. Written by every run for every group it reads.
ALTER TABLE user_groups ADD COLUMN dn_key TEXT NOT NULL DEFAULT '';
