//! The types of fields: which values IntelMQ takes as they are, and what it makes of others.
//!
//! A bot tries a value as it is first, then what the type makes of it, and refuses the message if neither will do.

use std::borrow::Cow;

use regex::Regex;

use super::value::{self, Value, dumps, strip};
use super::{address, host, time};
use crate::envelope::json;

/// A type of IntelMQ's `harmonization` module, by its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Accuracy,
    Asn,
    Base64,
    Boolean,
    Taxonomy,
    Classification,
    DateTime,
    Float,
    Fqdn,
    Integer,
    IpAddress,
    IpNetwork,
    Json,
    JsonDict,
    LowercaseString,
    Registry,
    String,
    Tlp,
    UppercaseString,
    Url,
}

impl Type {
    pub(super) fn named(name: &str) -> Option<Type> {
        Some(match name {
            "ASN" => Type::Asn,
            "Accuracy" => Type::Accuracy,
            "Base64" => Type::Base64,
            "Boolean" => Type::Boolean,
            "ClassificationTaxonomy" => Type::Taxonomy,
            "ClassificationType" => Type::Classification,
            "DateTime" => Type::DateTime,
            "FQDN" => Type::Fqdn,
            "Float" => Type::Float,
            "GenericType" | "String" => Type::String,
            "IPAddress" => Type::IpAddress,
            "IPNetwork" => Type::IpNetwork,
            "Integer" => Type::Integer,
            "JSON" => Type::Json,
            "JSONDict" => Type::JsonDict,
            "LowercaseString" => Type::LowercaseString,
            "Registry" => Type::Registry,
            "TLP" => Type::Tlp,
            "URL" => Type::Url,
            "UppercaseString" => Type::UppercaseString,
            _ => return None,
        })
    }

    /// For a person: what a value must be.
    fn expected(self) -> &'static str {
        match self {
            Type::Accuracy => "a number from 0 to 100",
            Type::Asn => "the number of an autonomous system, 1 to 4294967295",
            Type::Base64 => "Base64 with its padding",
            Type::Boolean => "true or false",
            Type::Taxonomy => "a taxonomy that IntelMQ knows",
            Type::Classification => "a classification type that IntelMQ knows",
            Type::DateTime => "a time like 2026-11-24T10:00:00+00:00",
            Type::Float => "a number",
            Type::Fqdn => "a host's name",
            Type::Integer => "an integer",
            Type::IpAddress => "an IP address other than 0.0.0.0",
            Type::IpNetwork => "an IP network",
            Type::Json => "JSON",
            Type::JsonDict => "an object with members",
            Type::LowercaseString | Type::String | Type::UppercaseString => "a text",
            Type::Registry => "AFRINIC, APNIC, ARIN, LACNIC or RIPE",
            Type::Tlp => "a TLP label",
            Type::Url => "a URL with a host",
        }
    }

    /// Whether IntelMQ takes the value as it is.
    fn is_valid(self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Type::Float | Type::Accuracy, Value::Float(float)) => self == Type::Float || is_percentage(*float),
            (Type::Accuracy, Value::Int(digits)) => digits.parse().is_ok_and(is_percentage),
            (Type::Float | Type::Integer, Value::Int(_)) => true,
            (Type::Asn, Value::Int(digits)) => digits.parse().is_ok_and(|asn: u32| asn > 0),
            (Type::Boolean | Type::Accuracy, Value::Bool(_)) => true,
            (Type::Accuracy | Type::Asn | Type::Boolean | Type::Float | Type::Integer, _) => false,
            (_, Value::Text(text)) => !text.is_empty() && self.is_valid_text(text),
            _ => false,
        }
    }

    fn is_valid_text(self, text: &str) -> bool {
        match self {
            Type::Base64 => is_base64(text),
            Type::Taxonomy => TAXONOMIES.contains(&text),
            Type::Classification => TYPES.contains(&text),
            Type::DateTime => time::is_time(text),
            Type::Fqdn => host::is_fqdn(text),
            Type::IpAddress => address::is_address(text),
            Type::IpNetwork => address::is_network(text),
            Type::Json => json::complete(text).is_ok(),
            Type::LowercaseString => is_lower(text),
            Type::Registry => REGISTRIES.contains(&text),
            Type::String => true,
            Type::Tlp => ["WHITE", "GREEN", "AMBER", "RED"].contains(&text),
            Type::UppercaseString => is_upper(text),
            Type::Url => host::is_url(text),
            Type::Accuracy | Type::Asn | Type::Boolean | Type::Float | Type::Integer | Type::JsonDict => false,
        }
    }

    /// What IntelMQ makes of the value; whether that is valid is yet to be seen.
    fn sanitise<'v>(self, value: &'v Value<'_>) -> Option<Value<'v>> {
        match self {
            Type::Accuracy | Type::Asn | Type::Boolean | Type::Float | Type::Integer => self.sanitise_number(value),
            Type::Json => match value {
                Value::Text(text) => match json::complete(strip(text)) {
                    Ok(()) => Some(strip(text).into()),
                    Err(error) if error.what == json::TOO_DEEP => None,
                    Err(_) => Some(value.json().into()),
                },
                Value::Nested(text) => Some(dumps(text).ok()?.into()),
                other => Some(other.json().into()),
            },
            Type::IpAddress => match value {
                Value::Bool(bit) => Some(address::address_of(if *bit { "1" } else { "0" })?.into()),
                Value::Int(digits) => Some(address::address_of(digits)?.into()),
                Value::Text(text) => {
                    let text = strip(text);
                    let number = value::int(text).filter(|number| number == text);
                    Some(number.map_or_else(|| address::address_in(text), |n| address::address_of(&n))?.into())
                }
                _ => None,
            },
            Type::String => generic(value).map(Value::Text),
            Type::Fqdn => host::fqdn_in(&generic(value)?).map(Value::from),
            _ => match value {
                Value::Text(text) => self.sanitise_text(text),
                _ => None,
            },
        }
    }

    fn sanitise_text<'v>(self, text: &'v str) -> Option<Value<'v>> {
        match self {
            Type::Taxonomy => Some(taxonomy_of(strip(&text.to_lowercase())).into()),
            Type::Classification => Some(type_of(strip(&text.to_lowercase())).into()),
            Type::DateTime => time::time_in(text).map(Value::from),
            Type::IpNetwork => address::network_in(strip(text)).map(Value::from),
            Type::LowercaseString => Some(strip(&text.to_lowercase()).to_owned().into()),
            Type::Registry => Some(match strip(&text.to_uppercase()) {
                "RIPENCC" | "RIPE-NCC" => "RIPE".into(),
                upper => upper.to_owned().into(),
            }),
            Type::Tlp => tlp_label(text).map(Value::from),
            Type::UppercaseString => Some(strip(&text.to_uppercase()).to_owned().into()),
            Type::Url => host::url_in(text).map(Value::from),
            _ => None,
        }
    }

    fn sanitise_number<'v>(self, value: &Value<'_>) -> Option<Value<'v>> {
        let integer = |value: &Value<'_>| match value {
            Value::Text(text) => value::int(text),
            Value::Bool(bit) => Some(u8::from(*bit).to_string()),
            // As Python: what is behind the point falls away.
            Value::Float(float) => {
                Some(format!("{:.0}", float.trunc())).map(|n| if n == "-0" { "0".into() } else { n })
            }
            Value::Int(digits) => Some(digits.to_string()),
            Value::Nested(_) => None,
        };
        match self {
            Type::Boolean => match value {
                Value::Text(text) => match &*strip(text).to_lowercase() {
                    "true" => Some(Value::Bool(true)),
                    "false" => Some(Value::Bool(false)),
                    _ => None,
                },
                Value::Int(digits) => match &**digits {
                    "0" => Some(Value::Bool(false)),
                    "1" => Some(Value::Bool(true)),
                    _ => None,
                },
                _ => None,
            },
            Type::Float | Type::Accuracy => match value {
                Value::Text(text) => value::float(text).map(Value::Float),
                Value::Bool(bit) => Some(Value::Float(f64::from(u8::from(*bit)))),
                Value::Int(digits) => digits.parse().ok().map(Value::Float),
                Value::Float(float) => Some(Value::Float(*float)),
                Value::Nested(_) => None,
            },
            Type::Asn => match value {
                Value::Text(text) if text.get(..2).is_some_and(|two| two.eq_ignore_ascii_case("as")) => {
                    value::int(&text[2..]).map(|digits| Value::Int(digits.into()))
                }
                other => integer(other).map(|digits| Value::Int(digits.into())),
            },
            _ => integer(value).map(|digits| Value::Int(digits.into())),
        }
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

/// What a format says of one field.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) kind: Type,
    /// Most characters of `str(value)`.
    pub(super) length: Option<usize>,
    pub(super) patterns: Vec<Regex>,
}

impl Rule {
    /// `None`: the value will do as it is. Else what IntelMQ would make of it, as JSON.
    pub(super) fn fit(&self, json: &str) -> Result<Option<String>, String> {
        let value = Value::read(json)?;
        if self.kind.is_valid(&value) && self.limits(&value).is_ok() {
            return self.harmless(&value).map(|()| None);
        }
        let refused = || format!("{} is expected, this is {}", self.kind.expected(), value.kind());
        let fixed = self.kind.sanitise(&value).filter(|fixed| self.kind.is_valid(fixed)).ok_or_else(refused)?;
        self.limits(&fixed)?;
        self.harmless(&fixed)?;
        Ok(Some(fixed.json()))
    }

    pub(super) fn has_limits(&self) -> bool {
        self.length.is_some() || !self.patterns.is_empty()
    }

    pub(super) fn limits(&self, value: &Value<'_>) -> Result<(), String> {
        if !self.has_limits() {
            return Ok(());
        }
        let text = value.text();
        if let Some(most) = self.length {
            // As many bytes are at most as many characters.
            let length = if text.len() <= most { 0 } else { text.chars().count() };
            if length > most {
                return Err(format!("{length} characters are too long: at most {most} are permitted"));
            }
        }
        if self.patterns.iter().any(|pattern| !pattern.is_match(&text)) {
            return Err("it does not match the pattern of the local format".into());
        }
        Ok(())
    }

    /// Valid for IntelMQ, and yet nothing that a bot should be given: PostgreSQL refuses the event, the bot tries it again
    /// and again and dumps it, with everything else waiting meanwhile.
    fn harmless(&self, value: &Value<'_>) -> Result<(), String> {
        match value {
            Value::Text(text) if text.contains('\0') => Err("a NUL stands in it, which PostgreSQL refuses".into()),
            Value::Text(text) if self.kind == Type::Json => Ok(value::check(text)?),
            Value::Int(digits) if digits.parse::<i64>().is_err() => {
                Err("an integer beyond 64 bits, which databases refuse".into())
            }
            _ => Ok(()),
        }
    }
}

/// A plain value as a text, if it is anything at all. Python's notation of lists and objects is not made: nobody could
/// read it back.
fn generic<'v>(value: &'v Value<'_>) -> Option<Cow<'v, str>> {
    match value {
        Value::Text(text) => Some(strip(text).into()),
        Value::Float(0.0) | Value::Bool(false) | Value::Nested(_) => None,
        Value::Int(digits) if digits == "0" => None,
        other => Some(other.text()),
    }
}

fn is_percentage(number: f64) -> bool {
    (0.0..=100.0).contains(&number)
}

fn is_lower(text: &str) -> bool {
    if text.is_ascii() { !text.bytes().any(|b| b.is_ascii_uppercase()) } else { text.to_lowercase() == text }
}

fn is_upper(text: &str) -> bool {
    if text.is_ascii() { !text.bytes().any(|b| b.is_ascii_lowercase()) } else { text.to_uppercase() == text }
}

/// Whether Python's decoder reads it: that one skips what is not of the alphabet, and stops behind the padding.
fn is_base64(text: &str) -> bool {
    // As it is nearly always written. All of it is looked at, also behind what is none: the processor does many at once.
    let inner = text.trim_end_matches('=');
    let is_digit = |b: u8| b.is_ascii_alphanumeric() | (b == b'+') | (b == b'/');
    if text.len().is_multiple_of(4)
        && text.len() - inner.len() <= 2
        && inner.bytes().fold(true, |all, b| all & is_digit(b))
    {
        return true;
    }
    let (mut digits, mut pads) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => {
                digits += 1;
                pads = 0;
            }
            b'=' if digits % 4 >= 2 => {
                pads += 1;
                if digits % 4 + pads >= 4 {
                    return true;
                }
            }
            _ => {}
        }
    }
    digits % 4 == 0
}

/// A label without its prefix, in upper case, with the older name where one changed.
pub(super) fn tlp_label(text: &str) -> Option<String> {
    let upper = text.to_uppercase();
    let label = strip(&upper);
    let label = label.strip_prefix("TLP").map_or(label, |label| label.strip_prefix(':').unwrap_or(label));
    let label = label.trim_start_matches(value::is_white);
    (!label.is_empty()).then(|| if label == "YELLOW" { "AMBER".into() } else { label.to_owned() })
}

const REGISTRIES: [&str; 5] = ["AFRINIC", "APNIC", "ARIN", "LACNIC", "RIPE"];

const TAXONOMIES: [&str; 11] = [
    "abusive-content",
    "availability",
    "fraud",
    "information-content-security",
    "information-gathering",
    "intrusion-attempts",
    "intrusions",
    "malicious-code",
    "other",
    "test",
    "vulnerable",
];

fn taxonomy_of(lower: &str) -> String {
    match lower {
        "abusive content" | "information gathering" | "intrusion attempts" | "malicious code" => {
            lower.replace(' ', "-")
        }
        _ => lower.to_owned(),
    }
}

const TYPES: [&str; 44] = [
    "application-compromise",
    "blacklist",
    "brute-force",
    "burglary",
    "c2-server",
    "copyright",
    "data-leak",
    "data-loss",
    "ddos",
    "ddos-amplifier",
    "dga-domain",
    "dos",
    "exploit",
    "harmful-speech",
    "ids-alert",
    "infected-system",
    "information-disclosure",
    "malware",
    "malware-configuration",
    "malware-distribution",
    "masquerade",
    "misconfiguration",
    "other",
    "outage",
    "phishing",
    "potentially-unwanted-accessible",
    "privileged-account-compromise",
    "proxy",
    "sabotage",
    "scanner",
    "sniffing",
    "social-engineering",
    "spam",
    "system-compromise",
    "test",
    "tor",
    "unauthorised-information-access",
    "unauthorised-information-modification",
    "unauthorized-use-of-resources",
    "undetermined",
    "unprivileged-account-compromise",
    "violence",
    "vulnerable-system",
    "weak-crypto",
];

/// Names that classification types had before.
fn type_of(lower: &str) -> String {
    let now = match lower {
        "botnet drone" | "infected system" | "ransomware" => "infected-system",
        "c&c" | "c2server" => "c2-server",
        "vulnerable client" | "vulnerable service" => "vulnerable-system",
        "ids alert" => "ids-alert",
        "malware configuration" => "malware-configuration",
        "leak" => "data-leak",
        "unknown" => "undetermined",
        "dga domain" => "dga-domain",
        "unauthorized-login" | "unauthorized-command" | "compromised" | "backdoor" => "system-compromise",
        "defacement" => "unauthorised-information-modification",
        "dropzone" => "other",
        same => same,
    };
    now.to_owned()
}
