//! One condition on one field, compiled.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{Matcher, Scalar};
use crate::envelope::json::{self, Token};

/// The value of a field that some rule names. What it is as a text, an address or a number is found out once, and only
/// when it is asked for.
#[derive(Debug)]
pub(super) struct Fact<'a> {
    value: &'a str,
    texts: OnceCell<Texts<'a>>,
    network: OnceCell<Option<Span>>,
}

#[derive(Debug)]
enum Texts<'a> {
    None,
    One(Cow<'a, str>),
    Many(Vec<String>),
}

impl<'a> Fact<'a> {
    /// A field's value as the envelope has it: JSON text.
    pub(super) fn new(value: &'a str) -> Fact<'a> {
        Fact { value, texts: OnceCell::new(), network: OnceCell::new() }
    }

    fn texts(&self) -> &Texts<'a> {
        self.texts.get_or_init(|| match self.value.trim_start().as_bytes().first() {
            Some(b'"') => json::string(self.value).map_or(Texts::None, Texts::One),
            Some(b'[') => Texts::Many(elements(self.value)),
            // An object is compared with nothing; null is no value.
            Some(b'{' | b'n') | None => Texts::None,
            Some(_) => Texts::One(Cow::Borrowed(self.value.trim())),
        })
    }

    fn any(&self, mut matches: impl FnMut(&str) -> bool) -> bool {
        match self.texts() {
            Texts::None => false,
            Texts::One(text) => matches(text),
            Texts::Many(texts) => texts.iter().any(|text| matches(text)),
        }
    }

    fn any_network(&self, mut matches: impl FnMut(Span) -> bool) -> bool {
        match self.texts() {
            Texts::None => false,
            Texts::One(text) => self.network.get_or_init(|| Span::read(text)).is_some_and(matches),
            Texts::Many(texts) => texts.iter().filter_map(|text| Span::read(text)).any(&mut matches),
        }
    }

    fn is_null(&self) -> bool {
        self.value.trim() == "null"
    }
}

/// What can be compared in a list: its texts, numbers, `true` and `false`, not what lies deeper.
fn elements(value: &str) -> Vec<String> {
    let mut depth = 0;
    let mut found = Vec::new();
    for token in json::tokens(value) {
        match token {
            Ok(Token::Open(_)) => depth += 1,
            Ok(Token::Close) => depth -= 1,
            Ok(Token::Text(text)) if depth == 1 => found.push(text.into_owned()),
            Ok(Token::Number(number)) if depth == 1 => found.push(number.to_owned()),
            Ok(Token::Word(word @ ("true" | "false"))) if depth == 1 => found.push(word.to_owned()),
            // A text with a lone surrogate is equal to nothing.
            _ => {}
        }
    }
    found
}

/// The addresses of a network, first and last. Addresses of IPv4 that are written as IPv6 are those of IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    six: bool,
    first: u128,
    last: u128,
}

impl Span {
    fn read(text: &str) -> Option<Span> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let address = address.to_canonical();
            return Some(Span { six: address.is_ipv6(), first: number(address), last: number(address) });
        }
        text.parse().ok().map(|network: IpNet| Span::of(&network))
    }

    fn of(network: &IpNet) -> Span {
        const MAPPED: u128 = 0xffff << 32;
        let (first, last) = (number(network.network()), number(network.broadcast()));
        if matches!(network, IpNet::V6(_)) && first >= MAPPED && last <= MAPPED + u128::from(u32::MAX) {
            return Span { six: false, first: first - MAPPED, last: last - MAPPED };
        }
        Span { six: matches!(network, IpNet::V6(_)), first, last }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// Networks, sorted, those that touch put together: whether one contains an address is found by halving.
#[derive(Debug)]
pub(super) struct Networks(Vec<Span>);

impl Networks {
    fn new(networks: &[IpNet]) -> Networks {
        let mut spans: Vec<Span> = networks.iter().map(Span::of).collect();
        spans.sort_unstable();
        let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut() {
                Some(before) if before.six == span.six && span.first <= before.last.saturating_add(1) => {
                    before.last = before.last.max(span.last);
                }
                _ => merged.push(span),
            }
        }
        Networks(merged)
    }

    fn contain(&self, net: Span) -> bool {
        let after = self.0.partition_point(|span| (span.six, span.first) <= (net.six, net.first));
        after.checked_sub(1).is_some_and(|at| self.0[at].six == net.six && net.last <= self.0[at].last)
    }

    fn meet(&self, net: Span) -> bool {
        let after = self.0.partition_point(|span| (span.six, span.first) <= (net.six, net.last));
        after.checked_sub(1).is_some_and(|at| self.0[at].six == net.six && net.first <= self.0[at].last)
    }
}

/// A condition, ready to be asked.
#[derive(Debug)]
pub(super) enum Condition {
    Is { texts: Vec<String>, numbers: Vec<f64> },
    Prefix(Vec<String>),
    Suffix(Vec<String>),
    Within(Networks),
    Overlaps(Networks),
    Range(f64, f64),
    Present(bool),
}

impl Condition {
    pub(super) fn new(matcher: &Matcher) -> Condition {
        let sorted = |texts: &[String]| {
            let mut texts = texts.to_vec();
            texts.sort_unstable();
            texts
        };
        match matcher {
            Matcher::Is(scalars) => {
                let (mut texts, mut numbers) = (Vec::new(), Vec::new());
                for scalar in scalars {
                    match scalar {
                        Scalar::Text(text) => texts.push(text.clone()),
                        Scalar::Bool(is) => texts.push(is.to_string()),
                        Scalar::Number(number) => numbers.push(*number),
                    }
                }
                Condition::Is { texts: sorted(&texts), numbers }
            }
            Matcher::Prefix(texts) => Condition::Prefix(texts.clone()),
            Matcher::Suffix(domains) => Condition::Suffix(sorted(domains)),
            Matcher::Cidr(networks) => Condition::Within(Networks::new(networks)),
            Matcher::Overlaps(networks) => Condition::Overlaps(Networks::new(networks)),
            Matcher::Range(low, high) => Condition::Range(*low, *high),
            Matcher::Present(present) => Condition::Present(*present),
        }
    }

    /// Whether it holds for a field; `None`: the field is not there, or hidden.
    pub(super) fn holds(&self, fact: Option<&Fact<'_>>) -> bool {
        let Some(fact) = fact.filter(|fact| !fact.is_null()) else {
            return matches!(self, Condition::Present(false));
        };
        match self {
            Condition::Is { texts, numbers } => fact.any(|text| {
                has(texts, text) || !numbers.is_empty() && as_number(text).is_some_and(|is| numbers.contains(&is))
            }),
            Condition::Prefix(prefixes) => fact.any(|text| prefixes.iter().any(|prefix| text.starts_with(&**prefix))),
            Condition::Suffix(domains) => fact.any(|text| is_under(domains, text)),
            Condition::Within(networks) => fact.any_network(|net| networks.contain(net)),
            Condition::Overlaps(networks) => fact.any_network(|net| networks.meet(net)),
            Condition::Range(low, high) => {
                fact.any(|text| as_number(text).is_some_and(|number| (*low..=*high).contains(&number)))
            }
            Condition::Present(present) => *present,
        }
    }
}

fn has(sorted: &[String], text: &str) -> bool {
    // Comparing a few is faster than halving.
    match sorted.len() {
        0..=8 => sorted.iter().any(|one| one == text),
        _ => sorted.binary_search_by(|one| one.as_str().cmp(text)).is_ok(),
    }
}

/// Whether a host name is one of the domains, or under one.
fn is_under(domains: &[String], name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let name: Cow<'_, str> =
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() };
    let mut rest = &*name;
    loop {
        if has(domains, rest) {
            return true;
        }
        match rest.split_once('.') {
            Some((_, parent)) => rest = parent,
            None => return false,
        }
    }
}

fn as_number(text: &str) -> Option<f64> {
    // Else "inf" and "nan" would be numbers.
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-').then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(matcher: &Matcher, value: Option<&str>) -> bool {
        Condition::new(matcher).holds(value.map(Fact::new).as_ref())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn nets(nets: &[&str]) -> Vec<IpNet> {
        nets.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn every_condition_has_what_it_matches_and_what_not() {
        let is = |scalars: &[Scalar]| Matcher::Is(scalars.to_vec());
        let text = |text: &str| Scalar::Text(text.into());
        let within = Matcher::Cidr(nets(&["192.0.2.0/24", "198.51.100.0/25", "198.51.100.128/25", "2001:db8::/32"]));
        let overlaps = Matcher::Overlaps(nets(&["192.0.2.128/25", "2001:db8::/32"]));
        let everywhere = Matcher::Cidr(nets(&["::/0"]));
        for (matcher, value, expected) in [
            (is(&[text("phishing")]), "\"phishing\"", true),
            (is(&[text("phishing")]), "\"Phishing\"", false),
            (is(&[text("a"), text("b")]), "\"b\"", true),
            (is(&[text("ü")]), "\"\\u00fc\"", true),
            (is(&[text("80")]), "80", true),
            (is(&[Scalar::Number(80.0)]), "80", true),
            (is(&[Scalar::Number(80.0)]), "\"80\"", true),
            (is(&[Scalar::Number(80.0)]), "80.0", true),
            (is(&[Scalar::Number(80.0)]), "800", false),
            (is(&[Scalar::Bool(true)]), "true", true),
            (is(&[text("b")]), "[\"a\", \"b\"]", true),
            (is(&[text("c")]), "[\"a\", \"b\"]", false),
            (is(&[text("a")]), "[NaN, \"\\ud800\", 1e999, \"a\"]", true),
            (is(&[text("a")]), "[[\"a\"], {\"a\": \"a\"}]", false),
            (is(&[text("a")]), "{\"a\": 1}", false),
            (Matcher::Prefix(texts(&["http://"])), "\"http://x\"", true),
            (Matcher::Prefix(texts(&["http://"])), "\"https://x\"", false),
            (Matcher::Suffix(texts(&["ee"])), "\"a.ee\"", true),
            (Matcher::Suffix(texts(&["ee"])), "\"ee\"", true),
            (Matcher::Suffix(texts(&["ee"])), "\"A.EE.\"", true),
            (Matcher::Suffix(texts(&["ee"])), "\"coffee\"", false),
            (Matcher::Suffix(texts(&["gov.example", "ee"])), "\"x.gov.example\"", true),
            (Matcher::Suffix(texts(&["gov.example", "ee"])), "\"example\"", false),
            (within.clone(), "\"192.0.2.255\"", true),
            (within.clone(), "\"192.0.3.0\"", false),
            (within.clone(), "\"192.0.2.0/25\"", true),
            (within.clone(), "\"192.0.2.0/23\"", false),
            // Two that touch are one.
            (within.clone(), "\"198.51.100.0/24\"", true),
            (within.clone(), "\"2001:db8:1::1\"", true),
            (within.clone(), "\"2001:db9::\"", false),
            (within.clone(), "\"::ffff:192.0.2.1\"", true),
            (within.clone(), "\"::ffff:192.0.2.0/120\"", true),
            (within.clone(), "\"no address\"", false),
            (within, "[\"10.0.0.1\", \"192.0.2.1\"]", true),
            (everywhere.clone(), "\"2001:db8::1\"", true),
            (everywhere, "\"192.0.2.1\"", false),
            (overlaps.clone(), "\"192.0.2.0/24\"", true),
            (overlaps.clone(), "\"192.0.2.0/25\"", false),
            (overlaps.clone(), "\"0.0.0.0/0\"", true),
            (overlaps, "\"192.0.2.200\"", true),
            (Matcher::Range(1.0, 1023.0), "1023", true),
            (Matcher::Range(1.0, 1023.0), "1023.5", false),
            (Matcher::Range(1.0, 1023.0), "\"22\"", true),
            (Matcher::Range(-1e300, 1e300), "\"nan\"", false),
            (Matcher::Range(-1e300, 1e300), "NaN", false),
            (Matcher::Present(true), "\"\"", true),
            (Matcher::Present(true), "null", false),
            (Matcher::Present(false), "null", true),
        ] {
            assert_eq!(holds(&matcher, Some(value)), expected, "{matcher:?} {value}");
        }
        assert!(holds(&Matcher::Present(false), None));
        assert!(!holds(&Matcher::Present(true), None));
        assert!(!holds(&Matcher::Prefix(texts(&["a"])), None));
    }

    proptest! {
        #[test]
        fn networks_are_those_of_ipnet(
            list in proptest::collection::vec((any::<[u8; 4]>(), 0u8..=32), 1..12),
            net in (any::<[u8; 4]>(), 8u8..=32),
        ) {
            // Few different addresses, so that some of them meet.
            let net_of = |(mut octets, length): ([u8; 4], u8)| {
                octets[0] %= 4;
                IpNet::new(octets.into(), length).unwrap().trunc()
            };
            let list: Vec<IpNet> = list.into_iter().map(net_of).collect();
            let net = net_of(net);
            let value = format!("\"{net}\"");
            // Aggregated, as two halves are one whole.
            let merged = IpNet::aggregate(&list);
            prop_assert_eq!(
                holds(&Matcher::Cidr(list.clone()), Some(&value)),
                merged.iter().any(|one| one.contains(&net)) || addresses_within(&merged, &net)
            );
            prop_assert_eq!(
                holds(&Matcher::Overlaps(list.clone()), Some(&value)),
                list.iter().any(|one| one.contains(&net) || net.contains(one))
            );
        }
    }

    /// Networks that touch and are no network together cover what lies across them too: only then can it be.
    fn addresses_within(merged: &[IpNet], net: &IpNet) -> bool {
        let mut next = number(net.network());
        let last = number(net.broadcast());
        while next <= last {
            let at: IpAddr = std::net::Ipv4Addr::from(next as u32).into();
            let Some(one) = merged.iter().find(|one| one.contains(&at)) else { return false };
            next = number(one.broadcast()) + 1;
        }
        true
    }
}
