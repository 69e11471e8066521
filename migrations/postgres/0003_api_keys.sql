-- Keys that callers of the API prove themselves with. The secret itself is nowhere: only its SHA-256.
CREATE TABLE api_keys (
    id          uuid   PRIMARY KEY,
    digest      bytea  NOT NULL,
    scope       text   NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    application text,            -- null: every application
    name        text   NOT NULL,
    created_at  bigint NOT NULL,
    expires_at  bigint,          -- null: never
    revoked_at  bigint
);
