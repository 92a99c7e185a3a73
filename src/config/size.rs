//! Sizes in the file: a number of bytes, or a text with a unit as `"20 GiB"`.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Error, Visitor};

/// For `#[serde(deserialize_with)]` on every key that ends in `_bytes`.
pub(super) fn bytes<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Size(PhantomData))
}

struct Size<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for Size<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes, or a text with a unit as \"64 MiB\"")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<T, E> {
        T::try_from(bytes).map_err(|_| E::custom(format_args!("{bytes} bytes are more than this machine can address")))
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<T, E> {
        let bytes = u64::try_from(bytes).map_err(|_| E::custom(format_args!("a size cannot be negative ({bytes})")))?;
        self.visit_u64(bytes)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let bytes = parse(text).ok_or_else(|| {
            E::custom(format_args!(
                "{text:?} is no size: write a whole number and B, KiB, MiB, GiB or TiB, as \"64 MiB\""
            ))
        })?;
        self.visit_u64(bytes)
    }
}

fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_with_a_unit() {
        assert_eq!(parse("20 GiB"), Some(20 << 30));
        assert_eq!(parse("64KiB"), Some(64 << 10));
        assert_eq!(parse("17"), Some(17));
        assert_eq!(parse("17 B"), Some(17));
        for wrong in ["", "GiB", "1.5 GiB", "-1 KiB", "20 GB", "20 gib", " 20 GiB", "99999999999 TiB"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
