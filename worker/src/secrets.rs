//! The secrets that documents and named connections refer to, and those that requests are signed with: files of a
//! directory, else variables of the environment.
//!
//! ```text
//!   <dir>/<application>/<name>             for that application's documents alone
//!   <dir>/.connections/<name>              for named connections alone
//!   <dir>/<name>                           for all of them, else REVEILLE_REF_<NAME>
//!   <dir>/<application>/webhook-signing    signs that application's requests, else REVEILLE_SIGN_<APPLICATION>;
//!                                          no document can refer to it
//! ```
//! Files are read anew each time: whoever mounts them rotates them in place. A name has no separator and no dot in
//! front, so no reference leads out of these folders. No value stands in an error or a log line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use reveille_shared::model::run::{Outcome, OutcomeCode};
use reveille_shared::model::secret::{Reference, WEBHOOK_SIGNING, is_reference_name};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::signing::SigningKeys;

/// No application is called that: its name would begin with a dot.
const CONNECTIONS: &str = ".connections";
const MAX_BYTES: u64 = 64 * 1024;

/// Where the secrets are.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Directory of the files.
    pub dir: Option<PathBuf>,
    /// Secrets for everybody, by name in upper case and with `_` for what is no letter and no digit.
    pub variables: BTreeMap<String, String>,
    /// What requests are signed with, by application, spelled in the same way.
    pub signing: BTreeMap<String, String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Who refers to a secret.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Referrer<'a> {
    /// A document of this application.
    Application(&'a str),
    /// A connection of the server's configuration.
    Connection,
}

/// A name as part of a variable's: upper case, `_` for what is no letter and no digit.
pub(crate) fn variable_name(name: &str) -> String {
    let spelled = |char: char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' };
    name.chars().map(spelled).collect()
}

impl Secrets {
    /// A value with its reference, if it is one, replaced by what it stands for at this moment.
    ///
    /// # Errors
    /// An outcome that names the reference. Another try may succeed: secrets are brought and changed while workers run.
    pub(crate) async fn filled_in(&self, referrer: Referrer<'_>, value: &str) -> Result<String, Outcome> {
        let Some(Reference { before, name }) = Reference::read(value) else { return Ok(value.to_owned()) };
        let failure = |what: &str| Outcome::new(OutcomeCode::Connect, format!("the secret `{name}` {what}"));
        match self.find(referrer, name).await {
            Ok(Some(secret)) if secret.chars().any(|char| char.is_control() && char != '\t') => {
                Err(failure("holds a line break or a control character"))
            }
            Ok(Some(secret)) => Ok(format!("{before}{secret}")),
            Ok(None) => Err(failure("is not known to this worker")),
            Err(error) => Err(failure(&format!("cannot be read by this worker: {error}"))),
        }
    }

    /// What an application's requests are signed with; nothing where it has no keys.
    ///
    /// # Errors
    /// An outcome, when there are keys that cannot be used: the target would take an unsigned request for a forged one.
    pub(crate) async fn signing_keys(&self, application: &str) -> Result<SigningKeys, Outcome> {
        let failure = |what: &str| Outcome::new(OutcomeCode::Connect, format!("the application's signing keys {what}"));
        let file = self.dir.as_ref().filter(|_| is_reference_name(application));
        let found = match file {
            Some(dir) => read(&dir.join(application).join(WEBHOOK_SIGNING)).await,
            None => Ok(None),
        };
        let found = found.map_err(|error| failure(&format!("cannot be read by this worker: {error}")))?;
        match found.as_ref().or_else(|| self.signing.get(&variable_name(application))) {
            Some(text) => {
                SigningKeys::read(text).ok_or_else(|| failure("are not one or two of the form whsec_<base64>"))
            }
            None => Ok(SigningKeys::default()),
        }
    }

    async fn find(&self, referrer: Referrer<'_>, name: &str) -> Result<Option<String>, ErrorKind> {
        if let Some(dir) = &self.dir {
            let own = match referrer {
                Referrer::Application(application) => is_reference_name(application).then(|| dir.join(application)),
                Referrer::Connection => Some(dir.join(CONNECTIONS)),
            };
            for folder in own.iter().chain([dir]) {
                if let Some(secret) = read(&folder.join(name)).await? {
                    return Ok(Some(secret));
                }
            }
        }
        Ok(self.variables.get(&variable_name(name)).cloned())
    }
}

/// What a file holds, without the line break at its end; `None` where there is no file.
async fn read(path: &Path) -> Result<Option<String>, ErrorKind> {
    let file = match File::open(path).await {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error.kind()),
    };
    if file.metadata().await.map_err(|error| error.kind())?.is_dir() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).await.map_err(|error| error.kind())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ErrorKind::FileTooLarge);
    }
    let mut text = String::from_utf8(bytes).map_err(|_| ErrorKind::InvalidData)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> (tempfile::TempDir, Secrets) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("secrets");
        let files = [
            ("../outside", "outside"),
            ("token", "shared\n"),
            ("chef/token", "of chef\r\n"),
            ("chef/two\u{2e}lines", "a\nb\n"),
            (".connections/kafka", "of connections"),
            ("empty", ""),
        ];
        for (name, content) in files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        std::fs::write(dir.join("huge"), vec![b'x'; 70_000]).unwrap();
        std::fs::write(dir.join("binary"), [0xff]).unwrap();
        let variables = [("FROM_THE_ENV_1".to_owned(), "variable".to_owned())].into();
        (folder, Secrets { dir: Some(dir), variables, signing: BTreeMap::new() })
    }

    #[tokio::test]
    async fn the_nearest_secret_is_taken_and_none_from_elsewhere() {
        let (_folder, secrets) = secrets();
        let chef = Referrer::Application("chef");
        let cases = [
            (chef, "plain text", Ok("plain text")),
            (chef, "secret://token", Ok("of chef")),
            (chef, "Bearer secret://token", Ok("Bearer of chef")),
            (Referrer::Application("baker"), "secret://token", Ok("shared")),
            (Referrer::Application(""), "secret://token", Ok("shared")),
            (Referrer::Application(".."), "secret://outside", Err("is not known")),
            (Referrer::Application("."), "secret://token", Ok("shared")),
            (Referrer::Application("../secrets/chef"), "secret://token", Ok("shared")),
            (Referrer::Application(".connections"), "secret://kafka", Err("is not known")),
            (Referrer::Connection, "secret://kafka", Ok("of connections")),
            (Referrer::Connection, "secret://token", Ok("shared")),
            (chef, "secret://kafka", Err("is not known")),
            (chef, "secret://from.the-env_1", Ok("variable")),
            (chef, "secret://empty", Ok("")),
            (chef, "secret://chef", Err("is not known")),
            (chef, "secret://none", Err("the secret `none` is not known")),
            (chef, "secret://two.lines", Err("holds a line break")),
            (chef, "secret://huge", Err("cannot be read")),
            (chef, "secret://binary", Err("cannot be read")),
            (chef, "secret://../outside", Ok("secret://../outside")), // no reference at all
        ];
        for (referrer, value, expected) in cases {
            let found = secrets.filled_in(referrer, value).await;
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{referrer:?} {value}"),
                (Err(outcome), Err(part)) => {
                    assert_eq!(outcome.code, OutcomeCode::Connect);
                    assert!(outcome.detail.contains(part), "{value}: {}", outcome.detail);
                }
                (found, _) => panic!("{referrer:?} {value}: {found:?}"),
            }
        }
    }
}
