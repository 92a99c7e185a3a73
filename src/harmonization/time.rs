//! Times, as IntelMQ writes them: in UTC, with `+00:00`.
//!
//! IntelMQ mends others with a parser that guesses: it reads times in prose, fills in today's date, and takes
//! `2026-13-01` for January. Only ISO 8601 and what differs from it by a blank is mended here. An event whose time would
//! be a guess is set aside, so that a person decides.

use jiff::SignedDuration;
use jiff::civil::DateTime;

/// A time that IntelMQ takes as it is: `2026-11-24T10:00:00+00:00`, with up to six decimals; a digit less is no mistake.
pub(super) fn is_time(text: &str) -> bool {
    let mut rest = Rest(text);
    let parsed = (|| {
        let year = rest.digits(4, 4)?;
        rest.one_of("-")?;
        let month = rest.digits(1, 2)?;
        rest.one_of("-")?;
        // Python's `%d` takes a blank for the first digit of a day.
        let blank = rest.one_of(" ").is_some();
        let day = rest.digits(1, if blank { 1 } else { 2 })?;
        rest.one_of("Tt")?;
        let hour = rest.digits(1, 2)?;
        rest.one_of(":")?;
        let minute = rest.digits(1, 2)?;
        rest.one_of(":")?;
        let second = rest.digits(1, 2)?;
        if rest.one_of(".").is_some() {
            rest.digits(1, 6)?;
        }
        (rest.0 == "+00:00").then_some(())?;
        civil(year, month, day, [hour, minute, second], 0)
    })();
    parsed.is_some()
}

/// The time in UTC that a text of another form means.
pub(super) fn time_in(text: &str) -> Option<String> {
    let mut rest = Rest(super::value::strip(text));
    let year = rest.digits(4, 4)?;
    rest.one_of("-")?;
    let month = rest.digits(1, 2)?;
    rest.one_of("-")?;
    let day = rest.digits(1, 2)?;
    let (mut clock, mut micros) = ([0; 3], 0);
    if rest.one_of("Tt").is_some() || rest.blanks() && rest.0.starts_with(|c: char| c.is_ascii_digit()) {
        clock[0] = rest.digits(1, 2)?;
        rest.one_of(":")?;
        clock[1] = rest.digits(1, 2)?;
        if rest.one_of(":").is_some() {
            clock[2] = rest.digits(1, 2)?;
            if rest.one_of(".,").is_some() {
                micros = rest.fraction()?;
            }
        }
    }
    let local = civil(year, month, day, clock, micros)?;
    rest.blanks();
    let utc = local.checked_sub(SignedDuration::from_secs(rest.offset()?)).ok()?;
    (1..=9999).contains(&utc.year()).then(|| written(utc))
}

fn civil(year: u32, month: u32, day: u32, [hour, minute, second]: [u32; 3], micros: u32) -> Option<DateTime> {
    let small = |number: u32| i8::try_from(number).ok();
    let year = i16::try_from(year).ok().filter(|year| *year > 0)?;
    // Leap seconds are none for Python.
    let nanos = i32::try_from(micros).ok()? * 1000;
    DateTime::new(year, small(month)?, small(day)?, small(hour)?, small(minute)?, small(second)?, nanos).ok()
}

fn written(utc: DateTime) -> String {
    let (date, time) = (utc.date(), utc.time());
    let micros = match time.subsec_nanosecond() / 1000 {
        0 => String::new(),
        micros => format!(".{micros:06}"),
    };
    let [hour, minute, second] = [time.hour(), time.minute(), time.second()];
    format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}{micros}+00:00", date.year(), date.month(), date.day())
}

struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn digits(&mut self, least: usize, most: usize) -> Option<u32> {
        let length = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        (length >= least).then(|| digits.parse().ok()).flatten()
    }

    fn one_of(&mut self, chars: &str) -> Option<char> {
        let first = self.0.chars().next().filter(|c| chars.contains(*c))?;
        self.0 = &self.0[first.len_utf8()..];
        Some(first)
    }

    fn blanks(&mut self) -> bool {
        let rest = self.0.trim_start_matches(' ');
        let any = rest.len() < self.0.len();
        self.0 = rest;
        any
    }

    /// Decimals of a second as microseconds; further ones are cut off.
    fn fraction(&mut self) -> Option<u32> {
        let length = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        let digits = digits.get(..6).unwrap_or(digits);
        let scale = 10_u32.pow(6_u32.checked_sub(digits.len() as u32)?);
        digits.parse::<u32>().ok().map(|digits| digits * scale)
    }

    /// Seconds east of UTC, where nothing else is left. No offset is UTC.
    fn offset(&mut self) -> Option<i64> {
        if ["", "Z", "z", "UTC", "GMT"].contains(&self.0) {
            return Some(0);
        }
        let sign = if self.one_of("+-")? == '-' { -1 } else { 1 };
        let hours = self.digits(2, 2)?;
        let minutes = match self.one_of(":") {
            None if self.0.is_empty() => 0,
            _ => self.digits(2, 2)?,
        };
        let fine = self.0.is_empty() && hours < 24 && minutes < 60;
        fine.then_some(sign * i64::from(hours * 3600 + minutes * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_intelmq() {
        for text in [
            "2026-11-24T10:00:00+00:00",
            "2026-11-24T10:00:00.1+00:00",
            "2026-1-2T3:4:5.123456+00:00",
            "2026-11- 4t10:00:00+00:00",
            "2024-02-29T23:59:59+00:00",
        ] {
            assert!(is_time(text), "{text}");
        }
        for text in [
            "2026-11-24T10:00:00Z",
            "2026-11-24T10:00:00+01:00",
            "2026-11-24T10:00:60+00:00",
            "2026-02-29T10:00:00+00:00",
            "0000-01-01T00:00:00+00:00",
            "2026-11-24T10:00:00.1234567+00:00",
            "2026-11-24T10:00:00+00:00 ",
            "2026-11-24",
        ] {
            assert!(!is_time(text), "{text}");
        }
    }

    #[test]
    fn other_times_become_utc() {
        for (text, utc) in [
            ("2026-11-24T10:00:00Z", Some("2026-11-24T10:00:00+00:00")),
            (" 2026-11-24 10:00 +01:30", Some("2026-11-24T08:30:00+00:00")),
            ("2026-1-1T00:00:00,5+01", Some("2025-12-31T23:00:00.500000+00:00")),
            ("2026-11-24T10:00:00.1234567-0130", Some("2026-11-24T11:30:00.123456+00:00")),
            ("2026-11-24", Some("2026-11-24T00:00:00+00:00")),
            ("2026-11-24Z", Some("2026-11-24T00:00:00+00:00")),
            ("2026-11-24T10:00:00 UTC", Some("2026-11-24T10:00:00+00:00")),
            ("0001-01-01T00:00:00+01:00", None),
            ("9999-12-31T23:59:59-01:00", None),
            ("2026-13-01", None),
            ("2026-11-24T10:00:00+25:00", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(time_in(text).as_deref(), utc, "{text}");
        }
    }
}
