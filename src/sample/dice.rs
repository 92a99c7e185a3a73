//! Chance from a seed, and the values that are made of it: addresses, names, times.

use std::fmt::{self, Display};
use std::net::{Ipv4Addr, Ipv6Addr};

/// SplitMix64: three lines, fast, and no library whose next version gives other numbers.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    /// The dice of one event.
    pub(super) fn new(seed: u64, serial: u64) -> Dice {
        let mut dice = Dice(seed);
        Dice(dice.next() ^ serial.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `all`, which is not empty.
    pub(super) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// Any address that could be a host's; one of twelve is IPv6, in the documentation's prefix.
    pub(super) fn address(&mut self) -> Address {
        let bits = self.next();
        if self.below(12) == 0 {
            let low = u128::from(self.next());
            return Address::V6(Ipv6Addr::from((0x2001_0db8_u128 << 96) | (u128::from(bits >> 44) << 64) | low));
        }
        let [_, b, c, d] = (bits as u32).to_be_bytes();
        Address::V4(Ipv4Addr::new(self.pick(&[77, 80, 83, 84, 91, 178, 188, 193, 194, 195, 212, 213]), b, c, d | 1))
    }

    /// Hexadecimal digits in lower case, as of a hash of so many bits.
    pub(super) fn hex(&mut self, digits: usize) -> Hex {
        Hex { words: [self.next(), self.next(), self.next(), self.next()], digits: digits.min(64) }
    }

    pub(super) fn host(&mut self) -> String {
        const WORDS: &[&str] = &[
            "mail", "www", "static", "node", "shop", "cloud", "vpn", "gw", "secure", "login", "update", "cdn", "dsl",
            "customer", "host", "files", "portal", "api", "dev", "kunden",
        ];
        const ZONES: &[&str] =
            &["example.com", "example.net", "example.org", "isp.example", "bank.example", "uni.test"];
        let (a, b, n, zone) = (self.pick(WORDS), self.pick(WORDS), self.below(100_000), self.pick(ZONES));
        match self.below(3) {
            0 => format!("{a}.{b}{n}.{zone}"),
            1 => format!("{a}-{n}.{zone}"),
            _ => format!("{b}{n}.{zone}"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Address {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Address {
    /// The network around it that is announced.
    pub(super) fn network(self) -> String {
        match self {
            Address::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                format!("{a}.{b}.{}.0/22", c & 0xfc)
            }
            Address::V6(ip) => format!("{}/48", Ipv6Addr::from(u128::from(ip) >> 80 << 80)),
        }
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::V4(ip) => ip.fmt(f),
            Address::V6(ip) => ip.fmt(f),
        }
    }
}

pub(super) struct Hex {
    words: [u64; 4],
    digits: usize,
}

impl Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.digits;
        for word in self.words {
            let here = left.min(16);
            if here > 0 {
                write!(f, "{:0here$x}", word >> (64 - 4 * here))?;
            }
            left -= here;
        }
        Ok(())
    }
}

/// Seconds since 1970, shown as IntelMQ writes times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub(super) u64);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, of_day) = (civil(self.0 / 86_400), self.0 % 86_400);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}+00:00", date.0, date.1, date.2)
    }
}

/// Year, month and day of a number of days since 1970, for this age (1970 to 2099).
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from March of 1968, a leap day is the last day of a period of four years.
    let days = days + 671;
    let (period, rest) = (days / 1461, days % 1461);
    let year = (rest / 365).min(3);
    let of_year = rest - year * 365;
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (1968 + 4 * period + year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for day in 0..47_000 {
            let seconds = day * 86_400 + 3_723;
            let expected = crate::envelope::rfc3339(seconds * 1000).replace(".000Z", "+00:00");
            assert_eq!(Time(seconds).to_string(), expected);
        }
    }

    #[test]
    fn hashes_have_their_length() {
        let mut dice = Dice::new(1, 1);
        for digits in [1, 16, 17, 32, 40, 64] {
            assert_eq!(dice.hex(digits).to_string().len(), digits);
        }
    }
}
