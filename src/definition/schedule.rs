//! When a saga is started by the clock: an interval, or the calendar of a time zone. Moments are worked out
//! from the schedule alone, so that everybody who looks finds the same ones.

use std::collections::BTreeSet;
use std::fmt;

use jiff::ToSpan;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use crate::expression::{Template, TextTemplate};
use crate::time::{Span, Timestamp};

/// A leap day may be eight years away (1896 to 1904, 2096 to 2104).
const DAYS_MAX: u32 = 366 * 8 + 3;
/// The shortest interval.
pub const EVERY_MIN: Span = Span::from_secs(1);

/// One entry of `on` with `every` or `cron`.
#[derive(Debug)]
pub struct Schedule {
    pub rhythm: Rhythm,
    pub catch_up: CatchUp,
    /// Reads `$event`; absent means the moment.
    pub key: Option<TextTemplate>,
    /// Reads `$event`; absent means `{ time }`.
    pub input: Option<Template>,
}

/// What happens about moments that were missed while no process was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    None,
    /// The last one.
    One,
    All,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Rhythm {
    /// At every multiple of the span since 1970-01-01T00:00:00Z.
    Every(Span),
    Cron(Cron),
}

impl Rhythm {
    /// Returns the first moment after another; none if there is no such day within eight years.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(span) => Some(Timestamp((after.0 / span.0 + 1) * span.0)),
            Self::Cron(cron) => cron.days(after, 1).find_map(|day| day.into_iter().find(|moment| *moment > after)),
        }
    }

    /// Returns the last moment before another.
    #[must_use]
    pub fn last_before(&self, before: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(span) => Some(Timestamp(before.0.checked_sub(1)? / span.0 * span.0)),
            Self::Cron(cron) => {
                cron.days(before, -1).find_map(|day| day.into_iter().rev().find(|moment| *moment < before))
            }
        }
    }
}

impl fmt::Display for Rhythm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(span) => write!(f, "every {span}"),
            Self::Cron(cron) => write!(f, "cron {} ({})", cron.text, cron.zone.iana_name().unwrap_or("UTC")),
        }
    }
}

/// Minute, hour, day of the month, month, day of the week, in a time zone.
///
/// A time of day that the zone leaves out (its clocks go forward) is taken as much later as they are moved; one that
/// comes twice (they go back) is taken the first time.
#[derive(Debug, Clone, PartialEq)]
pub struct Cron {
    text: String,
    minutes: BTreeSet<i8>,
    hours: BTreeSet<i8>,
    days: BTreeSet<i8>,
    months: BTreeSet<i8>,
    /// 0 is Sunday.
    weekdays: BTreeSet<i8>,
    /// One of the two days is `*`: the other decides alone. Else either will do, as in cron.
    both_days: bool,
    zone: TimeZone,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Cron {
    /// Reads five fields: numbers, names of months and days, `*`, lists, ranges and steps.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!(
                "a calendar has five fields (minute, hour, day of the month, month, day of the week), not {}",
                fields.len()
            ));
        };
        let mut weekdays_read = field(weekdays, "day of the week", 0, 7, &WEEKDAYS, 0)?;
        if weekdays_read.remove(&7) {
            weekdays_read.insert(0);
        }
        let cron = Self {
            text: fields.join(" "),
            minutes: field(minutes, "minute", 0, 59, &[], 0)?,
            hours: field(hours, "hour", 0, 23, &[], 0)?,
            days: field(days, "day of the month", 1, 31, &[], 0)?,
            months: field(months, "month", 1, 12, &MONTHS, 1)?,
            weekdays: weekdays_read,
            both_days: days.starts_with('*') || weekdays.starts_with('*'),
            zone,
        };
        let now = Timestamp(1_700_000_000_000);
        if cron.days(now, 1).all(|day| day.is_empty()) {
            return Err("there is no such day".to_owned());
        }
        Ok(cron)
    }

    fn has_day(&self, date: Date) -> bool {
        let day = self.days.contains(&date.day());
        let weekday = self.weekdays.contains(&date.weekday().to_sunday_zero_offset());
        self.months.contains(&date.month()) && if self.both_days { day && weekday } else { day || weekday }
    }

    /// Goes through days from one moment on, forward or backward; gives the moments of each in order.
    fn days(&self, from: Timestamp, step: i64) -> impl Iterator<Item = Vec<Timestamp>> + '_ {
        let millis = i64::try_from(from.0).unwrap_or(i64::MAX);
        let first = jiff::Timestamp::from_millisecond(millis).map(|at| at.to_zoned(self.zone.clone()).date()).ok();
        // A moment that the clocks move over midnight belongs to the day before.
        let first = first.and_then(|date| date.checked_sub(step.days()).ok());
        let dates = std::iter::successors(first, move |date| date.checked_add(step.days()).ok());
        dates.take(DAYS_MAX as usize).map(|date| if self.has_day(date) { self.moments(date) } else { Vec::new() })
    }

    fn moments(&self, date: Date) -> Vec<Timestamp> {
        let times = self.hours.iter().flat_map(|hour| self.minutes.iter().map(move |minute| (*hour, *minute)));
        let moment = |(hour, minute)| {
            let time = Time::new(hour, minute, 0, 0).ok()?;
            let at = self.zone.to_ambiguous_zoned(date.to_datetime(time)).compatible().ok()?;
            u64::try_from(at.timestamp().as_millisecond()).ok().map(Timestamp)
        };
        let moments: BTreeSet<Timestamp> = times.filter_map(moment).collect();
        moments.into_iter().collect()
    }
}

fn field(text: &str, what: &str, min: i8, max: i8, names: &[&str], first: i8) -> Result<BTreeSet<i8>, String> {
    let wrong = |part: &str| format!("`{part}` is no {what}: it is from {min} to {max}");
    let number = |word: &str| {
        let named = names.iter().position(|name| word.eq_ignore_ascii_case(name));
        let value = match named {
            Some(at) => i8::try_from(at).ok().map(|at| at + first),
            None if word.bytes().all(|byte| byte.is_ascii_digit()) => word.parse().ok(),
            None => None,
        };
        value.filter(|value| (min..=max).contains(value)).ok_or_else(|| wrong(word))
    };
    let mut found = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<i8>().ok().filter(|step| *step > 0 && *step <= max);
                (range, step.ok_or_else(|| format!("the step in `{part}` of the {what} is from 1 to {max}"))?)
            }
            None => (part, 1),
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (min, max),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            (one, None) if part.contains('/') => (number(one)?, max),
            (one, None) => (number(one)?, number(one)?),
        };
        if from > to {
            return Err(format!("the range `{range}` of the {what} runs backwards"));
        }
        found.extend((from..=to).step_by(usize::from(step.unsigned_abs())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond().unsigned_abs())
    }

    fn cron(text: &str, zone: &str) -> Rhythm {
        Rhythm::Cron(Cron::parse(text, TimeZone::get(zone).unwrap()).unwrap())
    }

    #[test]
    fn moments_of_calendars() {
        let rows = [
            ("0 3 * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z"),
            ("0 3 * * *", "UTC", "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"),
            ("0 3 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z"),
            ("0 3 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"),
            ("*/15 9-17 * * mon-fri", "UTC", "2026-11-27T17:45:00Z", "2026-11-30T09:00:00Z"),
            ("30 6 1,15 * *", "UTC", "2026-11-16T00:00:00Z", "2026-12-01T06:30:00Z"),
            // Either of two days, as in cron: the 13th, or a Friday.
            ("0 0 13 * fri", "UTC", "2026-11-10T00:00:00Z", "2026-11-13T00:00:00Z"),
            ("0 0 13 * fri", "UTC", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"),
            ("0 12 * * 7", "UTC", "2026-11-26T00:00:00Z", "2026-11-29T12:00:00Z"),
            ("0 0 29 2 *", "UTC", "2097-01-01T00:00:00Z", "2104-02-29T00:00:00Z"),
            // The hour from 2 to 3 is left out on 2026-03-29 in Berlin: an hour later.
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"),
            // And comes twice on 2026-10-25: the first time only.
            ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ];
        for (text, zone, after, next) in rows {
            let rhythm = cron(text, zone);
            assert_eq!(rhythm.next_after(at(after)), Some(at(next)), "{text} {zone} after {after}");
            // And back: from just behind it the last one is itself.
            assert_eq!(rhythm.last_before(Timestamp(at(next).0 + 1)), Some(at(next)), "{text} {zone} before {next}");
        }
    }

    #[test]
    fn every_moment_is_met_once_in_both_directions() {
        for rhythm in [cron("*/7 */5 * * *", "America/New_York"), Rhythm::Every(Span::from_secs(420))] {
            let (mut now, end) = (at("2026-03-07T00:00:00Z"), at("2026-03-10T00:00:00Z"));
            let mut forward = Vec::new();
            while let Some(next) = rhythm.next_after(now).filter(|next| *next < end) {
                assert!(next > now);
                forward.push(next);
                now = next;
            }
            let (mut now, mut backward) = (end, Vec::new());
            while let Some(last) = rhythm.last_before(now).filter(|last| *last > at("2026-03-07T00:00:00Z")) {
                backward.push(last);
                now = last;
            }
            backward.reverse();
            assert!(forward.len() > 100 && forward == backward, "{rhythm}");
        }
    }

    #[test]
    fn what_is_no_calendar() {
        let rows = [
            ("0 3 * *", "five fields"),
            ("60 3 * * *", "`60` is no minute: it is from 0 to 59"),
            ("0 24 * * *", "`24` is no hour"),
            ("0 0 0 * *", "`0` is no day of the month"),
            ("0 0 * 13 *", "`13` is no month"),
            ("0 0 * * 8", "`8` is no day of the week"),
            ("0 0 * * mom", "`mom` is no day of the week"),
            ("0 5-1 * * *", "runs backwards"),
            ("*/0 * * * *", "the step"),
            ("0 0 30 2 *", "there is no such day"),
            ("@daily", "five fields"),
            ("-1 * * * *", "is no minute"),
        ];
        for (text, part) in rows {
            let error = Cron::parse(text, TimeZone::UTC).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
