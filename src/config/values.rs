//! How single values are read, and how they are shown without their secrets.

use std::time::Duration;

use reveille_shared::model::access::Scope;
use reveille_shared::model::redis_url::password_range;
use reveille_shared::model::zone::Zone;
use reveille_shared::model::zone::rules::Rules;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// A URL without its passwords, for logs.
pub(crate) fn redacted(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else {
        // Several hosts with ports of their own.
        return match password_range(url) {
            Some(range) => format!("{}***{}", &url[..range.start], &url[range.end..]),
            None if url.contains("://") => url.to_owned(),
            None => "(not a URL)".to_owned(),
        };
    };
    if parsed.cannot_be_a_base() {
        return url.to_owned(); // `sqlite:PATH` has no place for one
    }
    if parsed.password().is_some() {
        // Fails for URLs without a host only; those have no password.
        let _ = parsed.set_password(Some("***"));
    }
    let masked: Vec<(String, String)> = parsed.query_pairs().map(|(key, value)| mask(&key, &value)).collect();
    if !masked.is_empty() {
        parsed.query_pairs_mut().clear().extend_pairs(masked);
    }
    parsed.to_string()
}

fn mask(key: &str, value: &str) -> (String, String) {
    let is_secret = key.contains("password") || key.contains("secret") || key.contains("token");
    (key.to_owned(), if is_secret { "***".to_owned() } else { value.to_owned() })
}

/// `500ms`, `5s`, `2m`, `3h`, `3d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a duration is a whole number with its unit: 500ms, 5s, 2m, 3h, 3d".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a duration begins with a whole number: 500ms, 5s, 2m".to_owned())?;
    let ms = number.checked_mul(unit_ms).filter(|ms| (1..=LONGEST_MS).contains(ms));
    ms.map(Duration::from_millis).ok_or_else(|| "a duration is longer than nothing and at most 36500d".to_owned())
}

const LONGEST_MS: u64 = 36_500 * 86_400_000;

pub(super) fn namespace(text: &str) -> Result<String, String> {
    let usable = |char: char| char.is_ascii_alphanumeric() || "-_.:".contains(char);
    if text.is_empty() || !text.chars().all(usable) {
        return Err("letters, digits and -_.: only".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn check_token(text: &str) -> Result<(), String> {
    if text.len() < 16 || !text.chars().all(|char| char.is_ascii_graphic()) {
        return Err("a token has at least 16 visible ASCII characters".to_owned());
    }
    Ok(())
}

pub(super) fn scope(text: &str) -> Result<Scope, String> {
    Scope::from_word(text).ok_or_else(|| "a scope is read, write or admin".to_owned())
}

/// Credentials belong into a header: in a URL they would be logged by whoever stands between.
pub(super) fn is_otlp_endpoint(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain
}

/// `name=value` pairs; what is not one is left out.
pub(crate) fn otlp_headers(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    let is_token = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    let is_header = |(name, value): &(String, String)| {
        let is_sendable = |char: char| char == ' ' || char.is_ascii_graphic();
        !name.is_empty() && name.chars().all(is_token) && value.chars().all(is_sendable)
    };
    pairs.filter(is_header).collect()
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a number from 0 to 1".to_owned())
}

pub(super) fn timezone(text: &str) -> Result<String, String> {
    let zone = Zone::parse(text, &Rules::bundled());
    Ok(zone.map_err(|_| "not a name of the IANA time zone database".to_owned())?.name().to_owned())
}

/// A word that is no level would be the name of a module, and nothing else would be logged.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    let level =
        |directive: &str| directive.rsplit_once('=').map_or(directive, |(_module, level)| level).trim().to_owned();
    let unknown = text.split(',').map(level).find(|level| level.parse::<LevelFilter>().is_err());
    if let Some(unknown) = unknown {
        return Err(format!(
            "`{unknown}` is no level; there are error, warn, info, debug, trace and off, for all or by module: \
             info,reveille_worker=debug"
        ));
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}
