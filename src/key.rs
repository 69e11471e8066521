//! `reveille key`: makes, lists and takes back the keys of the API's callers. On stdout stands what was asked for and
//! nothing else, so that a new key can be piped on; what people want to know beside it goes to stderr.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat};
use reveille_api::auth::key::NewKey;
use reveille_shared::model::UnixMs;
use reveille_shared::store::{ApiKey, Store};

use crate::config::{KeyAction, Settings};
use crate::data;
use crate::roles::open_now;

/// Does what was asked for.
///
/// # Errors
/// When the database cannot be used; when there is no key to take back.
pub(crate) async fn run(settings: &Settings, action: &KeyAction) -> anyhow::Result<ExitCode> {
    let missing = data::missing(&settings.database());
    match (&missing, action) {
        (None, _) => {}
        (Some(path), KeyAction::Create { .. }) => {
            let path = path.display();
            writeln!(
                std::io::stderr(),
                "making a new database at {path}: the key opens nothing else. Where the scheduler runs on another, name \
                 that by --data-dir or --database-url"
            )?;
        }
        (Some(path), KeyAction::List | KeyAction::Revoke { .. }) => {
            anyhow::bail!("there is no database at {}: name it by --data-dir or --database-url", path.display())
        }
    }
    let store = open_now(settings).await?;
    let outcome = act(store.as_ref(), action).await;
    store.close().await;
    outcome
}

async fn act(store: &dyn Store, action: &KeyAction) -> anyhow::Result<ExitCode> {
    let mut stdout = std::io::stdout();
    match action {
        KeyAction::Create { scope, application, name, expires } => {
            let new = NewKey::random().map_err(anyhow::Error::msg)?;
            let now = store.ping().await?;
            let expires_at =
                expires.map(|expires| now.saturating_add(i64::try_from(expires.as_millis()).unwrap_or(i64::MAX)));
            let key = ApiKey {
                id: new.id,
                digest: new.digest,
                scope: *scope,
                application: application.clone(),
                name: name.clone(),
                created_at: now,
                expires_at,
                revoked_at: None,
            };
            let is_first = !store.api_key_exists().await?;
            store.api_key_create(&key).await.context("the key could not be kept")?;
            writeln!(stdout, "{}", new.text)?;
            writeln!(std::io::stderr(), "key {}: {}; it is shown this once", key.id, described(&key))?;
            if is_first {
                let told = "it is the first: where nobody was asked for a key so far, callers without one are refused \
                            from now on, by a running API within 30 seconds";
                writeln!(std::io::stderr(), "{told}")?;
            }
        }
        KeyAction::List => {
            let now = store.ping().await?;
            writeln!(stdout, "ID\tSCOPE\tAPPLICATION\tNAME\tCREATED\tEXPIRES\tSTATE")?;
            for key in store.api_key_list().await? {
                let state = match (key.revoked_at, key.is_valid(now)) {
                    (Some(_), _) => "revoked",
                    (None, true) => "valid",
                    (None, false) => "expired",
                };
                let application = key.application.as_deref().unwrap_or("(all)");
                let expires = key.expires_at.map_or_else(|| "never".to_owned(), date);
                let (scope, created) = (key.scope.as_str(), date(key.created_at));
                writeln!(stdout, "{}\t{scope}\t{application}\t{}\t{created}\t{expires}\t{state}", key.id, key.name)?;
            }
        }
        KeyAction::Revoke { id } => {
            if !store.api_key_revoke(*id).await? {
                anyhow::bail!("there is no key with this id that was not revoked before");
            }
            writeln!(std::io::stderr(), "key {id} is revoked; processes that know it refuse it within 30 seconds")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn described(key: &ApiKey) -> String {
    let whose =
        key.application.as_ref().map_or_else(String::new, |application| format!(" of the application `{application}`"));
    let until = key.expires_at.map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {}", date(at)));
    format!("scope {}{whose}, valid {until}", key.scope.as_str())
}

fn date(at: UnixMs) -> String {
    DateTime::from_timestamp_millis(at).map_or_else(String::new, |at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
}
