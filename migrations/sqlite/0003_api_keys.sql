-- Keys that callers of the API prove themselves with. The secret itself is nowhere: only its SHA-256.
CREATE TABLE api_keys (
    id          blob    PRIMARY KEY,
    digest      blob    NOT NULL,
    scope       text    NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    application text,            -- null: every application
    name        text    NOT NULL,
    created_at  integer NOT NULL,
    expires_at  integer,          -- null: never
    revoked_at  integer
);
