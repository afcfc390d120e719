-- Names of an account (R-62). The indexes of 0014 are over an expression that SQLite takes longer over than over the row itself, and each
-- name a synchronisation writes goes through it. Here `ann@...` is found by what it begins with, and only names that have a domain before
-- them need the expression, which is few or none. The same conditions as in `users.rs`.
DROP INDEX IF EXISTS names_by_account;
DROP INDEX IF EXISTS users_by_account;
CREATE INDEX IF NOT EXISTS names_behind_domain ON names ((substr(
    substr(name_key, length(rtrim(name_key, replace(name_key, '\', ''))) + 1),
    1,
    length(substr(name_key, length(rtrim(name_key, replace(name_key, '\', ''))) + 1))
    - length(ltrim(
        substr(name_key, length(rtrim(name_key, replace(name_key, '\', ''))) + 1),
        replace(substr(name_key, length(rtrim(name_key, replace(name_key, '\', ''))) + 1), '@', '')
    ))
))) WHERE name_key LIKE '%\%';
CREATE INDEX IF NOT EXISTS users_behind_domain ON users ((substr(
    substr(username_key, length(rtrim(username_key, replace(username_key, '\', ''))) + 1),
    1,
    length(substr(username_key, length(rtrim(username_key, replace(username_key, '\', ''))) + 1))
    - length(ltrim(
        substr(username_key, length(rtrim(username_key, replace(username_key, '\', ''))) + 1),
        replace(substr(username_key, length(rtrim(username_key, replace(username_key, '\', ''))) + 1), '@', '')
    ))
))) WHERE username_key LIKE '%\%';
