-- What searches, housekeeping and the removal of a user look for.

-- An event beside the last word of its attempt: somebody was let in before it could be told (V-40).
CREATE INDEX audit_beside ON audit (transaction_id) WHERE NOT final AND transaction_id <> '';

CREATE INDEX audit_by_kind ON audit (kind, sequence);
CREATE INDEX audit_by_client ON audit (client, sequence);
CREATE INDEX outbox_by_user ON outbox (user_id);
CREATE INDEX code_spends_by_user ON code_spends (user_id);
CREATE INDEX secret_proofs_by_user ON secret_proofs (user_id);
CREATE INDEX approval_users_by_user ON approval_users (user_id);
CREATE INDEX prompts_by_begin ON prompts (begun_ms);
CREATE INDEX messages_by_time ON messages (at_ms);
