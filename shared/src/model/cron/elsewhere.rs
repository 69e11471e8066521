//! What other schedulers write and this one does not take: each is refused with the way out.

use super::CronError;
use crate::model::text::quoted;

/// # Errors
/// When the text is none of the five or six fields but what another system has in their place.
pub(super) fn refuse(text: &str) -> Result<(), CronError> {
    let lower = text.to_ascii_lowercase();
    let way_out = if let Some(span) = lower.strip_prefix("@every") {
        recurrence(span)
    } else if let Some(span) = lower.strip_prefix("rate(") {
        recurrence(span.trim_end_matches(')'))
    } else if lower.starts_with("cron(") {
        "leave out `cron(` and `)` and the year at the end; days of the week begin with Sunday as 0 here, not as 1"
            .to_owned()
    } else if lower.starts_with("tz=") || lower.starts_with("cron_tz=") {
        "the time zone belongs into `timezone`, not before the fields".to_owned()
    } else {
        return Ok(());
    };
    Err(CronError(format!("{} is no cron expression: {way_out}", quoted(text))))
}

/// The type that fires again after a span of time, and the span in its seconds where it can be read.
fn recurrence(span: &str) -> String {
    let way_out = "take the type `delay-recur`, whose schedule is a number of seconds";
    seconds(span.trim()).map_or_else(|| way_out.to_owned(), |seconds| format!("{way_out}: {seconds}"))
}

/// `90s`, `1h30m`, `5 minutes`.
fn seconds(span: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = span;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (count, unit) = (rest.get(..digits)?, rest.get(digits..)?.trim_start());
        let letters = unit.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(unit.len());
        let scale = match unit.get(..letters)? {
            "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3_600,
            "d" | "day" | "days" => 86_400,
            _ => return None,
        };
        total = total.checked_add(count.parse::<u64>().ok()?.checked_mul(scale)?)?;
        rest = unit.get(letters..)?.trim_start();
    }
    (total > 0).then_some(total)
}

/// What stands for a sixth field that is a year.
pub(super) fn year(text: &str) -> String {
    format!(
        "{} looks like a year, which is not supported: six fields begin with seconds, `date` fires in one year",
        quoted(text)
    )
}

/// What a sign means elsewhere, in an item that has it.
pub(super) fn sign(item: &str) -> Option<String> {
    let upper = item.to_ascii_uppercase();
    let shown = quoted(item);
    if upper == "H" || upper.starts_with("H/") || upper.starts_with("H(") {
        return Some(format!("{shown} is Jenkins' choice of a number: write one yourself"));
    }
    if item.contains('?') {
        return Some(format!("`?` in {shown} stands alone, in one of the two day fields"));
    }
    if item.contains('#') {
        return Some(format!("`#` in {shown} is for days of the week, such as FRI#2"));
    }
    let has = |sign: char| {
        let mut letters = upper.chars().filter(char::is_ascii_alphabetic);
        letters.next() == Some(sign) && letters.all(|letter| letter == 'W')
    };
    if has('L') || has('W') {
        return Some(format!(
            "{shown} is not understood; days of the month may be L, L-3, 15W and LW, days of the week 5L and 5#2"
        ));
    }
    None
}
