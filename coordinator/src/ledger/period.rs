//! Months, days and hours, in UTC, as windows of the ledger.

use std::ops::Range;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::HOUR_S;

use crate::state::ledger::hour::Hour;

/// Windows that one question may be about: a quarter of a year.
pub const WINDOWS_MAX: u64 = 92 * 24;

const HOURS_PER_DAY: u64 = 24;

/// Why a text or a moment is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// It is no month.
    #[error("`{0}` is not a month: write it as 2026-11")]
    Month(String),
    /// It is within an hour.
    #[error("{0} is not a full hour (UTC)")]
    NotAnHour(Timestamp),
    /// Nothing lies between its ends.
    #[error("the end is not after the beginning")]
    Empty,
    /// It is too long.
    #[error("at most {WINDOWS_MAX} hours at once")]
    TooLong,
}

/// The windows of a month such as `2026-11`.
///
/// # Errors
/// [`PeriodError::Month`].
pub fn month(text: &str) -> Result<Range<Hour>, PeriodError> {
    let wrong = || PeriodError::Month(text.chars().take(20).collect());
    let (year, month) = text.split_once('-').ok_or_else(wrong)?;
    let digits =
        |part: &str, count| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(year, 4) || !digits(month, 2) {
        return Err(wrong());
    }
    let (year, month) = (year.parse().map_err(|_| wrong())?, month.parse().map_err(|_| wrong())?);
    let first = Date::new(year, month, 1).map_err(|_| wrong())?;
    let next = first.checked_add(jiff::Span::new().months(1)).map_err(|_| wrong())?;
    let begin = |date: Date| -> Option<Hour> {
        let moment =
            date.to_datetime(jiff::civil::Time::midnight()).to_zoned(TimeZone::UTC).ok()?;
        u64::try_from(moment.timestamp().as_second()).ok().map(Hour::of_s)
    };
    Ok(begin(first).ok_or_else(wrong)?..begin(next).ok_or_else(wrong)?)
}

/// The first window of the month that a moment is in.
pub fn month_of(moment: Timestamp) -> Hour {
    let at = |moment: DateTime| -> Option<Hour> {
        let first = moment.date().first_of_month();
        let first =
            first.to_datetime(jiff::civil::Time::midnight()).to_zoned(TimeZone::UTC).ok()?;
        u64::try_from(first.timestamp().as_second()).ok().map(Hour::of_s)
    };
    let unix_ms = i64::try_from(moment.unix_ms).unwrap_or(i64::MAX);
    let found = jiff::Timestamp::from_millisecond(unix_ms).ok();
    found.and_then(|moment| at(TimeZone::UTC.to_datetime(moment))).unwrap_or_default()
}

/// How the month that begins with a window is called, and the first window behind it.
pub fn name_and_end(begin: Hour) -> (String, Hour) {
    let unix_ms = i64::try_from(begin.begin().unix_ms).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or_default();
    let date = TimeZone::UTC.to_datetime(moment).date();
    let name = format!("{:04}-{:02}", date.year(), date.month());
    let end = month(&name).map_or(begin, |windows| windows.end);
    (name, end)
}

/// The first hour of the day that an hour is in.
pub fn day_of(hour: Hour) -> Hour {
    Hour(hour.0 - hour.0 % HOURS_PER_DAY)
}

/// The window that begins at a moment.
///
/// # Errors
/// [`PeriodError::NotAnHour`].
pub fn hour(moment: Timestamp) -> Result<Hour, PeriodError> {
    let is_full = moment.unix_ms.is_multiple_of(HOUR_S * 1000);
    is_full.then(|| Hour::of(moment)).ok_or(PeriodError::NotAnHour(moment))
}

/// Windows from one on, up to another.
///
/// # Errors
/// [`PeriodError::Empty`], [`PeriodError::TooLong`].
pub fn range(from: Hour, to: Hour) -> Result<Range<Hour>, PeriodError> {
    match to.0.checked_sub(from.0) {
        None | Some(0) => Err(PeriodError::Empty),
        Some(hours) if hours > WINDOWS_MAX => Err(PeriodError::TooLong),
        Some(_) => Ok(from..to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        serde_json::from_str(&format!("\"{text}\"")).unwrap()
    }

    #[test]
    fn months_are_windows() {
        let november = month("2026-11").unwrap();
        assert_eq!(november.start.begin(), at("2026-11-01T00:00:00Z"));
        assert_eq!(november.end.begin(), at("2026-12-01T00:00:00Z"));
        assert_eq!(month("2028-02").unwrap().end.0 - month("2028-02").unwrap().start.0, 29 * 24);
        assert_eq!(month("2026-12").unwrap().end.begin(), at("2027-01-01T00:00:00Z"));
        assert_eq!(month_of(at("2026-11-30T23:59:59.999Z")), november.start);
        assert_eq!(name_and_end(november.start), ("2026-11".to_owned(), november.end));
        for bad in ["", "2026", "2026-13", "2026-00", "26-11", "2026-1", "1969-12", "2026-11-01"] {
            assert_eq!(month(bad), Err(PeriodError::Month(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn windows_begin_at_full_hours() {
        let moment = at("2026-11-26T13:00:00Z");
        assert_eq!(hour(moment).unwrap().begin(), moment);
        assert_eq!(day_of(hour(moment).unwrap()).begin(), at("2026-11-26T00:00:00Z"));
        assert!(hour(at("2026-11-26T13:00:00.001Z")).is_err());
        assert_eq!(range(Hour(5), Hour(5)), Err(PeriodError::Empty));
        assert_eq!(range(Hour(5), Hour(6 + WINDOWS_MAX)), Err(PeriodError::TooLong));
        assert!(range(Hour(5), Hour(5 + WINDOWS_MAX)).is_ok());
    }
}
