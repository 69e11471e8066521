//! `reveille reseal`: moves the secrets that are stored on to the first of this process's keys; and the survey that tells
//! whether that is due.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use reveille_shared::model::ScheduleId;
use reveille_shared::model::schedule::Definition;
use reveille_shared::runtime::seal::Sealer;
use reveille_shared::store::{Store, StoreError, StoredPayload};

use crate::config::Settings;
use crate::roles::open_now;
use crate::sealing::sealer;

/// Schedules that are read, and sealed anew, in one statement.
const BATCH: i64 = 100;
/// Passes over schedules that were changed while they were sealed anew.
const PASSES: usize = 5;

/// What became of the stored secrets.
#[derive(Default)]
struct Counts {
    schedules: u64,
    sealed_anew: u64,
    /// Changed by somebody else while they were sealed anew.
    moved: u64,
    unopened: Vec<ScheduleId>,
}

/// Seals everything that is stored under the first key; exit status 1 when something could not be.
///
/// # Errors
/// Without a key, and when the database fails.
pub(crate) async fn reseal(settings: &Settings) -> anyhow::Result<ExitCode> {
    let sealer = sealer(settings, false)?;
    let first = sealer.key_ids().next().context("there is no key to seal with: set --secret-key")?.to_owned();
    let store = open_now(settings).await?;
    let outcome = reseal_in_passes(&sealer, &first, &store).await;
    store.close().await;
    outcome
}

async fn reseal_in_passes(sealer: &Sealer, first: &str, store: &Arc<dyn Store>) -> anyhow::Result<ExitCode> {
    let mut counts = Counts::default();
    let mut sealed_anew = 0;
    for _ in 0..PASSES {
        counts = reseal_all(sealer, store).await?;
        sealed_anew += counts.sealed_anew;
        if counts.moved == 0 {
            break;
        }
    }
    let mut text = format!("{} schedules, {sealed_anew} sealed anew under key {first}\n", counts.schedules);
    if counts.moved > 0 {
        text += &format!("{} were changed meanwhile: run it again\n", counts.moved);
    }
    if !counts.unopened.is_empty() {
        let some: Vec<String> = counts.unopened.iter().take(5).map(ToString::to_string).collect();
        let (count, some) = (counts.unopened.len(), some.join(", "));
        text += &format!(
            "{count} cannot be opened with these keys, among them {some}: add the key, or register them again\n"
        );
    }
    let complete = counts.moved == 0 && counts.unopened.is_empty();
    if complete {
        text += "every stored secret is sealed under this key now; the others are not needed any more\n";
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn reseal_all(sealer: &Sealer, store: &Arc<dyn Store>) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    let mut after = None;
    loop {
        let page = store.schedule_payloads(after, BATCH).await?;
        let Some(last) = page.last() else { return Ok(counts) };
        after = Some(last.id);
        counts.schedules += page.len() as u64;
        let mut batch = Vec::new();
        for stored in page {
            match sealed_anew(sealer, &stored) {
                Ok(Some(anew)) => batch.push(anew),
                Ok(None) => {}
                Err(Unusable) => counts.unopened.push(stored.id),
            }
        }
        let written = if batch.is_empty() { 0 } else { store.schedule_reseal(&batch).await? };
        counts.sealed_anew += written;
        counts.moved += batch.len() as u64 - written;
    }
}

/// A stored definition that this process cannot open.
struct Unusable;

/// The stored definition under the first key; `None` when it is so already.
fn sealed_anew(sealer: &Sealer, stored: &StoredPayload) -> Result<Option<StoredPayload>, Unusable> {
    let mut definition: Definition = serde_json::from_str(&stored.payload).map_err(|_| Unusable)?;
    let sealer = sealer.covering(&definition);
    if sealer.is_current(&definition) {
        return Ok(None);
    }
    sealer.unseal(&mut definition).map_err(|_| Unusable)?;
    // What makes every arming differ from the one before stays as it is.
    let unlike = stored.fingerprint.find(':').map_or("", |colon| &stored.fingerprint[colon..]);
    let fingerprint = sealer.fingerprint(&definition) + unlike;
    sealer.seal(&mut definition).map_err(|_| Unusable)?;
    let payload = serde_json::to_string(&definition).map_err(|_| Unusable)?;
    Ok(Some(StoredPayload { id: stored.id, revision: stored.revision, payload, fingerprint }))
}

/// How many stored definitions this process can and cannot open, and how many of them hold secrets in the clear or
/// under another key than the first.
pub(crate) async fn survey(sealer: &Sealer, store: &Arc<dyn Store>) -> Result<Survey, StoreError> {
    let mut survey = Survey::default();
    let mut after = None;
    loop {
        let page = store.schedule_payloads(after, BATCH).await?;
        let Some(last) = page.last() else { return Ok(survey) };
        after = Some(last.id);
        for stored in &page {
            let Ok(mut definition) = serde_json::from_str::<Definition>(&stored.payload) else { continue };
            survey.behind += u64::from(!sealer.is_current(&definition));
            survey.unopened += u64::from(sealer.unseal(&mut definition).is_err());
        }
    }
}

/// See [`survey`].
#[derive(Clone, Copy, Default)]
pub(crate) struct Survey {
    /// Schedules with a secret in the clear, or sealed under another key than the first.
    pub(crate) behind: u64,
    /// Schedules with a secret that cannot be opened.
    pub(crate) unopened: u64,
}
