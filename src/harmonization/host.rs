//! Names of hosts and URLs, as Python's `urllib.parse` and `idna` codec take them apart.

use std::borrow::Cow;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::address;

/// What a URL consists of for `urlsplit`, as far as IntelMQ asks.
struct Split<'a> {
    scheme: String,
    netloc: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

/// Single characters that unfold to one of `/?#@:`: `urlsplit` raises an error for a host with one.
const UNFOLDING: &[char] = &[
    '\u{2047}', '\u{2048}', '\u{2049}', '\u{2100}', '\u{2101}', '\u{2105}', '\u{2106}', '\u{2a74}', '\u{fe13}',
    '\u{fe16}', '\u{fe55}', '\u{fe56}', '\u{fe5f}', '\u{fe6b}', '\u{ff03}', '\u{ff0f}', '\u{ff1a}', '\u{ff1f}',
    '\u{ff20}',
];

/// What `urlsplit` takes away first: leading controls and blanks, tabs and line ends everywhere.
fn cleaned(text: &str) -> Cow<'_, str> {
    let text = text.trim_start_matches(|c| c <= ' ');
    let unsafe_ones = ['\t', '\r', '\n'];
    if text.contains(unsafe_ones) { Cow::Owned(text.replace(unsafe_ones, "")) } else { Cow::Borrowed(text) }
}

/// `None` where `urlsplit` raises an error: in IntelMQ, that ends the bot's work on its queue.
fn split(text: &str) -> Option<Split<'_>> {
    let (mut scheme, mut rest) = (String::new(), text);
    if let Some((before, after)) = text.split_once(':') {
        let legal = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        if before.starts_with(|c: char| c.is_ascii_alphabetic()) && before.chars().all(legal) {
            (scheme, rest) = (before.to_ascii_lowercase(), after);
        }
    }
    let mut netloc = "";
    if let Some(after) = rest.strip_prefix("//") {
        (netloc, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
        if !brackets_are_fine(netloc) || netloc.contains(UNFOLDING) {
            return None;
        }
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Some(Split { scheme, netloc, path, query, fragment })
}

/// Brackets hold an IPv6 address, and nothing stands before them or between them and the port. The second part is
/// checked by Pythons newer than those that IntelMQ 3.5 appeared with; such a host stops a bot there.
fn brackets_are_fine(netloc: &str) -> bool {
    if !netloc.contains(['[', ']']) {
        return true;
    }
    let host_and_port = netloc.rsplit_once('@').map_or(netloc, |(_, after)| after);
    let Some((host, port)) = host_and_port.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return false;
    };
    let outer = netloc.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(host, _)| host);
    outer == Some(host) && (port.is_empty() || port.starts_with(':')) && is_bracketed_host(host)
}

fn is_bracketed_host(host: &str) -> bool {
    if let Some(future) = host.strip_prefix('v') {
        let parts = future.split_once('.');
        return parts.is_some_and(|(version, rest)| {
            !version.is_empty() && version.bytes().all(|b| b.is_ascii_hexdigit()) && !rest.is_empty()
        });
    }
    let (host, scope) = host.split_once('%').unwrap_or((host, "-"));
    !scope.is_empty() && !scope.contains('%') && host.parse::<std::net::Ipv6Addr>().is_ok()
}

/// A text that IntelMQ takes for a URL as it is.
pub(super) fn is_url(text: &str) -> bool {
    !text.starts_with([' ', '\t', '\n', '\r', '\x0b', '\x0c'])
        && split(&cleaned(text)).is_some_and(|url| !url.netloc.is_empty())
}

/// What IntelMQ makes of a text that it does not take for one: `hxxp` becomes `http`, a file's host is this one.
pub(super) fn url_in(text: &str) -> Option<String> {
    let text = super::value::strip(text).replace("hxxp://", "http://").replace("hxxps://", "https://");
    let cleaned = cleaned(&text);
    let url = split(&cleaned)?;
    if !url.netloc.is_empty() {
        return Some(text);
    }
    if url.scheme != "file" {
        return None;
    }
    let part = |before: &str, part: &str| if part.is_empty() { String::new() } else { format!("{before}{part}") };
    let path = if url.path.starts_with('/') { url.path.to_owned() } else { part("/", url.path) };
    Some(format!("file://localhost{path}{}{}", part("?", url.query), part("#", url.fragment)))
}

/// A text that IntelMQ takes for the name of a host as it is: lower case, in ASCII, no address, no URL. Everything else
/// that is ASCII may stand in a label.
pub(super) fn is_fqdn(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.' || b == b'_';
    if !labels_are_fine(text) || !text.is_ascii() {
        return false;
    }
    // Names as they are; digits and dots alone may be an address.
    if text.bytes().all(is_plain) {
        return !address::is_address(text);
    }
    if text.contains(':') || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return false;
    }
    let cleaned = cleaned(text);
    split(&cleaned).is_some_and(|url| {
        url.netloc.is_empty() && !url.path.contains('/') && url.query.is_empty() && url.fragment.is_empty()
    })
}

fn labels_are_fine(text: &str) -> bool {
    text.split('.').all(|label| (1..64).contains(&label.len()))
}

/// What IntelMQ makes of a text that it does not take for a name: no dots at the ends, IDNA, lower case.
pub(super) fn fqdn_in(text: &str) -> Option<String> {
    let text = super::value::strip(text).trim_matches('.');
    if text.is_ascii() {
        return labels_are_fine(text).then(|| text.to_ascii_lowercase());
    }
    let labels: Option<Vec<_>> = text.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']).map(encode).collect();
    let name = labels?.join(".").to_ascii_lowercase();
    labels_are_fine(&name).then_some(name)
}

/// One label by IDNA as of 2003, which Python's codec implements: `ß` and `ς` are folded and joiners fall away, while
/// the newer IDNA keeps them. A label must become what the local bots would make of it.
fn encode(label: &str) -> Option<Cow<'_, str>> {
    if label.is_ascii() {
        return Some(Cow::Borrowed(label));
    }
    let folded: String = label.chars().filter(|c| !matches!(c, '\u{200c}' | '\u{200d}')).collect();
    let folded = folded.replace(['ß', 'ẞ'], "ss").replace('ς', "σ");
    let ascii = Uts46::new().to_ascii(folded.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore);
    ascii.ok().map(|ascii| Cow::Owned(ascii.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for text in ["http://example.com/x?y#z", "hxxp://example.com", "//host", "x://[2001:db8::1]:80/", "a:\t//b"] {
            assert!(is_url(text), "{text}");
        }
        for text in [
            "http://[::1",
            "http://::1]",
            "http://[::1]a/",
            "http://a[::1]/",
            "http://[192.0.2.1]/",
            "http://[::1%]/",
            "http://a\u{2100}b/",
            "example.com",
            "http:///x",
            " http://a",
            "1http://a",
            "",
        ] {
            assert!(!is_url(text), "{text}");
        }
        for (text, url) in [
            (" http://a ", Some("http://a")),
            ("file:///etc/x?#", Some("file://localhost/etc/x")),
            ("file:x", Some("file://localhost/x")),
            ("FILE:?a#b", Some("file://localhost?a#b")),
            ("example.com", None),
        ] {
            assert_eq!(url_in(text).as_deref(), url, "{text}");
        }
    }

    #[test]
    fn names() {
        let long = format!("{}.example", "a".repeat(63));
        for text in ["example.com", "localhost", "a b.c", "xn--nxasmq6b", "_x.y", "0.0.0.0", "a?", "//", &long] {
            assert!(is_fqdn(text), "{text}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for text in ["Example.com", "a..b", ".a", "a.", "192.0.2.1", "a:80", "a/b", "a?b", "a#b", "//a", "ä", "", &long]
        {
            assert!(!is_fqdn(text), "{text}");
        }
        for (text, name) in [
            (" Example.COM. ", Some("example.com")),
            ("Bücher.example", Some("xn--bcher-kva.example")),
            ("straße\u{3002}DE", Some("strasse.de")),
            ("ä..b", None),
            ("..", None),
        ] {
            assert_eq!(fqdn_in(text).as_deref(), name, "{text}");
        }
    }
}
