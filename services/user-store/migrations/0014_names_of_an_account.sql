-- Which names are of one account: without the domain before it and behind it. The same expressions as in `users.rs`.
CREATE INDEX names_by_account ON names ((substr(
    substr(name_key, length(rtrim(name_key, replace(name_key, '\', ''))) + 1),
    1,
    length(substr(name_key, length(rtrim(name_key, replace(name_key, '\', ''))) + 1))
    - length(ltrim(
        substr(name_key, length(rtrim(name_key, replace(name_key, '\', ''))) + 1),
        replace(substr(name_key, length(rtrim(name_key, replace(name_key, '\', ''))) + 1), '@', '')
    ))
)));
CREATE INDEX users_by_account ON users ((substr(
    substr(username_key, length(rtrim(username_key, replace(username_key, '\', ''))) + 1),
    1,
    length(substr(username_key, length(rtrim(username_key, replace(username_key, '\', ''))) + 1))
    - length(ltrim(
        substr(username_key, length(rtrim(username_key, replace(username_key, '\', ''))) + 1),
        replace(substr(username_key, length(rtrim(username_key, replace(username_key, '\', ''))) + 1), '@', '')
    ))
)));
