//! The schema that is checked in is the one that is served.

use std::path::Path;

/// `UPDATE_GRAPHQL_SCHEMA=1 cargo test -p reveille-api schema` writes it.
#[test]
#[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
fn the_schema_in_the_repository_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql");
    let served = reveille_api::graphql_sdl();
    if std::env::var_os("UPDATE_GRAPHQL_SCHEMA").is_some() {
        std::fs::write(&path, &served).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == served,
        "api/schema.graphql is not the schema: UPDATE_GRAPHQL_SCHEMA=1 cargo test -p reveille-api schema"
    );
}
