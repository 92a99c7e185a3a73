//! The rules of the architecture, checked in the text of `src/`: the module order, each foreign system in its one place,
//! the pure rooms, the size of files and functions, and what must not be left lying about.
//!
//! Rules that hold between modules rot unless something fails. Each rule here is also tried on a sample that breaks it.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// From top to bottom. A room imports from rooms below its row, never from its own row or above.
const ORDER: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["node"],
    &["net", "intelmq", "watch"],
    &["accept"],
    &["store"],
    &["policy", "trust", "link", "invite"],
    &["config", "sample", "harmonization"],
    &["envelope"],
];

/// Foreign crates that have one place: paths that begin so may use them.
const PLACES: &[(&str, &[&str])] = &[
    ("age", &["src/config/key_file"]),
    ("bip39", &["src/invite"]),
    ("chacha20poly1305", &["src/envelope/crypt", "src/link"]),
    ("clap", &["src/cli", "src/main.rs"]),
    ("crc32fast", &["src/store"]),
    ("ed25519_dalek", &["src/envelope"]),
    ("hmac", &["src/policy"]),
    ("hpke", &["src/envelope/crypt"]),
    ("idna", &["src/harmonization"]),
    ("lapin", &["src/intelmq/amqp"]),
    ("mimalloc", &["src/main.rs"]),
    ("libp2p", &["src/net"]),
    ("libp2p_stream", &["src/net"]),
    ("qrcode", &["src/cli"]),
    ("redis", &["src/intelmq/redis"]),
    ("regex", &["src/harmonization"]),
    ("serde_saphyr", &["src/intelmq/botnet.rs"]),
    ("sled", &["src/store"]),
    ("toml", &["src/config"]),
    ("toml_edit", &["src/config"]),
    ("toml_parser", &["src/config/nesting.rs"]),
    ("tracing_journald", &["src/cli"]),
    ("tracing_subscriber", &["src/cli"]),
];

/// Rooms that decide: same arguments, same answer.
const PURE: &[&str] = &["envelope", "harmonization", "policy", "trust", "link", "invite", "sample"];
const IMPURE: &[&str] = &[
    "tokio",
    "libp2p",
    "rand::rng",
    "rand::random",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Uuid::new_v4",
    "uuid::Uuid::new_v4",
];
/// Addresses as values are no network.
const PURE_AFTER_ALL: &[&str] = &["std::net::IpAddr", "std::net::Ipv4Addr", "std::net::Ipv6Addr"];

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;

#[test]
fn the_source_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    read(root, &root.join("src"), &mut files);
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "src/ was not found");
    let complaints = check(&files);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

struct File {
    path: String,
    text: String,
}

fn read(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push(File { path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
}

// ---- The rules ------------------------------------------------------------------------------------------------------

fn check(files: &[File]) -> Vec<String> {
    let codes: Vec<String> = files.iter().map(|file| code_of(&file.text)).collect();
    let tests = test_files(files, &codes);
    let mut complaints = Vec::new();
    for (file, code) in files.iter().zip(&codes) {
        let path = &*file.path;
        let mut complain = |line: usize, what: String| complaints.push(format!("{path}:{line}: {what}"));
        left_lying_about(&file.text, code, &mut complain);
        if tests.contains(path) {
            continue;
        }
        let code = without_tests(code);
        sizes(&code, &mut complain);
        if path == "src/lib.rs" {
            continue;
        }
        let paths = paths(&code, depth(path));
        module_order(path, &paths, &mut complain);
        foreign_crates(path, &code, &paths, &mut complain);
        purity(path, &paths, &mut complain);
    }
    // Several things of one room in one `use` are one mistake.
    complaints.dedup();
    complaints
}

fn left_lying_about(text: &str, code: &str, complain: &mut impl FnMut(usize, String)) {
    if !text.trim_start().starts_with("//!") {
        complain(1, "a module says first what it owns: begin with //!".into());
    }
    for (i, line) in text.lines().enumerate() {
        for word in ["TODO", "FIXME", "XXX"] {
            if line.contains(word) {
                complain(i + 1, format!("{word}: do it, or write down what is missing where users read it"));
            }
        }
    }
    for (i, line) in code.lines().enumerate() {
        for call in ["dbg!", "todo!", "unimplemented!"] {
            if line.contains(call) {
                complain(i + 1, format!("{call} is for the time of writing"));
            }
        }
    }
}

fn sizes(code: &str, complain: &mut impl FnMut(usize, String)) {
    let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
    if lines > FILE_LINES {
        complain(1, format!("{lines} lines of code: split it at {FILE_LINES} along a seam that has a name"));
    }
    for (line, name, lines) in functions(code) {
        if lines > FUNCTION_LINES {
            complain(line, format!("fn {name} has {lines} lines: split it at {FUNCTION_LINES}"));
        }
    }
}

fn module_order(path: &str, paths: &[(usize, String)], complain: &mut impl FnMut(usize, String)) {
    let row = |room: &str| ORDER.iter().position(|row| row.contains(&room));
    let room = room(path);
    let Some(here) = row(room) else {
        return complain(1, format!("the room {room} has no place in the module order: give it one in tests/tidy.rs"));
    };
    for (line, used) in paths {
        let Some(other) = used.strip_prefix("crate::").map(first) else { continue };
        // What is no room is an item of lib.rs itself.
        if other != room && row(other).is_some_and(|there| there <= here) {
            complain(*line, format!("{room} must not import from {other}: imports go downward only"));
        }
    }
}

fn foreign_crates(path: &str, code: &str, paths: &[(usize, String)], complain: &mut impl FnMut(usize, String)) {
    for (name, places) in PLACES {
        // A module of that name hides the crate.
        let hidden = code.contains(&format!("mod {name};"));
        if hidden || places.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        for (line, _) in paths.iter().filter(|(_, used)| first(used) == *name) {
            complain(*line, format!("{name} belongs into {} only", places.join(", ")));
        }
    }
}

fn purity(path: &str, paths: &[(usize, String)], complain: &mut impl FnMut(usize, String)) {
    if !PURE.contains(&room(path)) {
        return;
    }
    let within = |used: &str, what: &&&str| {
        used.strip_prefix(**what).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    for (line, used) in paths {
        if PURE_AFTER_ALL.iter().any(|what| within(used, &what)) {
            continue;
        }
        if let Some(what) = IMPURE.iter().find(|what| within(used, what)) {
            complain(*line, format!("{} is pure: {what} comes in as an argument, or not at all", room(path)));
        }
    }
}

// ---- Reading Rust as text -------------------------------------------------------------------------------------------

/// `src/net/dial.rs` and `src/net.rs` are of the room `net`.
fn room(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
}

/// How many `super` lead from a file's module to the root of the crate.
fn depth(path: &str) -> usize {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    inner.split('/').filter(|step| *step != "mod").count()
}

fn first(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}

/// The text with comments blanked, and texts and characters filled, line by line where it was.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let (end, fill) = token(&chars, i);
        match fill {
            Some(fill) => code.extend(chars[i..end].iter().map(|c| if *c == '\n' { '\n' } else { fill })),
            None => code.extend(&chars[i..end]),
        }
        i = end;
    }
    code
}

/// Where the token at `i` ends, and with what it is filled.
fn token(chars: &[char], i: usize) -> (usize, Option<char>) {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let find = |from: usize, end: &[char]| {
        (from..chars.len()).find(|&j| chars[j..].starts_with(end)).map_or(chars.len(), |j| j + end.len())
    };
    match (at(i), at(i + 1)) {
        ('/', '/') => (find(i, &['\n']) - usize::from(chars[i..].contains(&'\n')), Some(' ')),
        ('/', '*') => {
            let (mut depth, mut j) = (1, i + 2);
            while depth > 0 && j < chars.len() {
                match (at(j), at(j + 1)) {
                    ('/', '*') => (depth, j) = (depth + 1, j + 2),
                    ('*', '/') => (depth, j) = (depth - 1, j + 2),
                    _ => j += 1,
                }
            }
            (j, Some(' '))
        }
        ('"', _) => {
            let mut j = i + 1;
            while j < chars.len() && at(j) != '"' {
                j += if at(j) == '\\' { 2 } else { 1 };
            }
            ((j + 1).min(chars.len()), Some('_'))
        }
        ('r', '"' | '#') => {
            let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
            // Else it is a raw name, as r#type.
            if at(i + 1 + hashes) != '"' {
                return (i + 1, None);
            }
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            (find(i + 2 + hashes, &end), Some('_'))
        }
        ('\'', '\\') => (find(i + 3, &['\'']), Some('_')),
        // Else it is a lifetime.
        ('\'', _) if at(i + 2) == '\'' => (i + 3, Some('_')),
        (c, _) if is_name(c) => {
            let mut j = i;
            // `br"` and `cr"` are raw texts, whose `r` must begin a token of its own.
            while is_name(at(j)) && !(j > i && at(j) == 'r' && j == i + 1 && matches!(at(j + 1), '"' | '#')) {
                j += 1;
            }
            (j, None)
        }
        _ => (i + 1, None),
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The code without what is compiled for tests only; lines stay where they were.
fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut kept = String::with_capacity(code.len());
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(at);
        kept.push_str(before);
        let end = match item.find(['{', ';']) {
            Some(open) if item[open..].starts_with('{') => closing(item, open) + 1,
            Some(semicolon) => semicolon + 1,
            None => item.len(),
        };
        kept.extend(item[..end].chars().filter(|c| *c == '\n'));
        rest = &item[end..];
    }
    kept + rest
}

/// Files of modules that are declared under `#[cfg(test)]`.
fn test_files(files: &[File], codes: &[String]) -> HashSet<String> {
    let mut found = HashSet::new();
    for (file, code) in files.iter().zip(codes) {
        let folder = match file.path.strip_suffix("/mod.rs").or(file.path.strip_suffix("/lib.rs")) {
            Some(folder) => folder,
            None => file.path.trim_end_matches(".rs"),
        };
        for item in code.split("#[cfg(test)]").skip(1) {
            let item = item.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            let Some((name, _)) = item.strip_prefix("mod ").and_then(|item| item.split_once([';', '{'])) else {
                continue;
            };
            found.insert(format!("{folder}/{}.rs", name.trim()));
            found.insert(format!("{folder}/{}/mod.rs", name.trim()));
        }
    }
    found
}

/// Where the brace at `open` closes.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (i, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + i;
        }
    }
    code.len() - 1
}

/// Line, name and number of lines of code of every function with a body.
fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let name: String = code[at + 3..].chars().take_while(|c| is_name(*c)).collect();
        let whole_word = !code[..at].ends_with(is_name);
        let Some(open) = code[at..].find(['{', ';']).map(|open| at + open) else { continue };
        if name.is_empty() || !whole_word || code[open..].starts_with(';') {
            continue;
        }
        let body = &code[at..=closing(code, open)];
        found.push((line_of(code, at), name, body.lines().filter(|line| !line.trim().is_empty()).count()));
    }
    found
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Every path that the code uses, with its line: `use` trees spread out, and paths in place. A `super` that leads to the
/// root of the crate is `crate`.
fn paths(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some((at, end)) = next_use(code, from) {
        in_place(&code[from..at], line_of(code, from), &mut found);
        let mut spread_out = Vec::new();
        spread(&code[at + 4..end], "", &mut spread_out);
        found.extend(spread_out.into_iter().map(|path| (line_of(code, at), path)));
        from = end;
    }
    in_place(&code[from..], line_of(code, from), &mut found);
    let up = "super::".repeat(depth);
    for (_, path) in &mut found {
        if let Some(rest) = path.strip_prefix(&up).filter(|rest| !rest.starts_with("super")) {
            *path = format!("crate::{rest}");
        }
    }
    found
}

/// Where the next `use …` begins and where its `;` stands.
fn next_use(code: &str, from: usize) -> Option<(usize, usize)> {
    let at = code[from..].match_indices("use ").map(|(at, _)| from + at).find(|at| !code[..*at].ends_with(is_name))?;
    Some((at, code[at..].find(';').map_or(code.len(), |end| at + end)))
}

/// `a::{b, c::d as e}` is `a::b` and `a::c::d`.
fn spread(tree: &str, prefix: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim().trim_start_matches("::");
        found.push(format!("{prefix}{path}"));
        return;
    };
    let prefix = format!("{prefix}{}", tree[..open].trim().trim_start_matches("::"));
    let inner = &tree[open + 1..closing(tree, open)];
    let (mut level, mut start) = (0, 0);
    for (i, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => level += 1,
            '}' => level -= 1,
            ',' if level == 0 => {
                if !inner[start..i].trim().is_empty() {
                    spread(&inner[start..i], &prefix, found);
                }
                start = i + 1;
            }
            _ => {}
        }
    }
}

/// Paths with at least one `::`.
fn in_place(code: &str, first_line: usize, found: &mut Vec<(usize, String)>) {
    let legal = |c: char| is_name(c) || c == ':';
    for (i, line) in code.lines().enumerate() {
        for word in line.split(|c| !legal(c)).filter(|word| word.contains("::")) {
            // `name: a::b` with a space is two words already; `name:a::b` is not written here.
            let path = word.trim_matches(':');
            if path.contains("::") || word.ends_with("::") {
                found.push((first_line + i, path.to_owned()));
            }
        }
    }
}

// ---- Each rule on what breaks it ------------------------------------------------------------------------------------

/// The complaints about one file, which need not say what it owns.
fn complaints(path: &str, text: &str) -> Vec<String> {
    check(&[File { path: path.into(), text: format!("//! Sample.\n{text}") }])
}

#[track_caller]
fn assert_complains(path: &str, text: &str, part: &str) {
    let complaints = complaints(path, text);
    assert!(complaints.len() == 1 && complaints[0].contains(part), "{path}: {text}\n{complaints:?}");
}

#[track_caller]
fn assert_content(path: &str, text: &str) {
    assert_eq!(complaints(path, text), [""; 0], "{path}: {text}");
}

#[test]
fn imports_go_downward_only() {
    for (path, text) in [
        ("src/store/mod.rs", "use crate::accept::Gate;"),
        ("src/store/log.rs", "use crate::{\n    config, // data\n    net::{Net, Peer},\n};"),
        ("src/link/mod.rs", "use crate::policy;"),
        ("src/net/mod.rs", "fn f() { crate::intelmq::take() }"),
        ("src/envelope/name.rs", "use super::super::config::Config;"),
        ("src/envelope/mod.rs", "fn f(_: super::config::Config) {}"),
        ("src/config.rs", "pub use crate::cli as c;"),
    ] {
        assert_complains(path, text, "imports go downward only");
    }
    assert_complains("src/hub/mod.rs", "", "no place in the module order");
    assert_content(
        "src/store/mod.rs",
        "use crate::{config::Config, envelope::Name, link, policy};\nuse super::store::X;",
    );
    assert_content(
        "src/store/mod.rs",
        "// use crate::net;\nconst S: &str = \"crate::net::x\";\nuse crate::store::log;",
    );
    assert_content("src/store/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::net::Net;\n}\nuse crate::config;");
    assert_content("src/store/log.rs", "use super::config::X;");
}

#[test]
fn foreign_systems_have_one_place() {
    for (path, text) in [
        ("src/node/mod.rs", "use sled::Db;"),
        ("src/store/mod.rs", "fn f(_: libp2p::PeerId) {}"),
        ("src/intelmq/files.rs", "use ::redis;"),
        ("src/intelmq/mod.rs", "fn f() -> redis::RedisResult<()> { g() }"),
        ("src/accept.rs", "use {ed25519_dalek::Signature, std::io};"),
        ("src/cli/check.rs", "fn f(_: toml::Value) {}"),
    ] {
        assert_complains(path, text, "only");
    }
    assert_content("src/store/mod.rs", "use sled::{Batch, Db};");
    assert_content("src/intelmq/redis/take.rs", "use redis::aio::MultiplexedConnection;");
    assert_content("src/intelmq/mod.rs", "mod redis;\npub use redis::TakeRedis;");
    assert_content("src/node/mod.rs", "use crate::intelmq::redis::TakeRedis;\nfn f() { unsled::x() }");
}

#[test]
fn pure_rooms_are_pure() {
    for (path, text) in [
        ("src/link/mod.rs", "use tokio::sync::mpsc;"),
        ("src/policy/mod.rs", "use std::{fmt, fs::File};"),
        ("src/policy.rs", "use std::net::TcpStream;"),
        ("src/envelope/seal.rs", "fn f() { let now = std::time::SystemTime::now(); }"),
        ("src/link/mod.rs", "fn f() { let now = Instant::now(); }"),
        ("src/link/mod.rs", "fn f() { rand::rng().next_u64(); }"),
        ("src/envelope/mod.rs", "fn f() -> Uuid { Uuid::new_v4() }"),
    ] {
        assert_complains(path, text, "is pure");
    }
    assert_content("src/policy.rs", "use std::net::{IpAddr, Ipv4Addr};\nuse std::time::{Duration, Instant};");
    assert_content("src/link/mod.rs", "#[cfg(test)]\nfn f() { Instant::now(); }");
    assert_content("src/node/mod.rs", "fn f() { Instant::now(); tokio::spawn(g()); std::fs::read(p) }");
}

#[test]
fn files_and_functions_have_a_size() {
    let lines = |n: usize| "    call();\n".repeat(n);
    assert_complains("src/node/a.rs", &format!("fn long() {{\n{}}}", lines(69)), "fn long has 71 lines");
    assert_content("src/node/a.rs", &format!("fn long() {{\n{}\n// more\n\n}}", lines(68)));
    let half = format!("fn f() {{\n{}}}\n", lines(65));
    assert_complains("src/node/a.rs", &half.repeat(6), "402 lines of code");
    assert_content("src/node/a.rs", &format!("{}#[cfg(test)]\nmod tests {{\n{half}\n}}", half.repeat(5)));
    let comments = "// why\n\n/* and\nhow */\n".repeat(200);
    assert_content("src/node/a.rs", &format!("{comments}{half}"));
}

#[test]
fn nothing_is_left_lying_about() {
    let bare = |text: &str| check(&[File { path: "src/node/mod.rs".into(), text: text.into() }]);
    assert!(bare("use std::fmt;\n//! Late.")[0].contains("begin with //!"));
    for text in
        ["// TODO: later", "/* FIXME */", "fn f() { dbg!(1); }", "fn f() { todo!() }", "fn f() { unimplemented!() }"]
    {
        assert_eq!(complaints("src/node/mod.rs", text).len(), 1, "{text}");
    }
    assert_content("src/node/mod.rs", "fn f() -> &'static str { \"todo! dbg!\" }");
}

#[test]
fn files_of_tests_are_known() {
    let file = |path: &str, text: &str| File { path: path.into(), text: format!("//! Sample.\n{text}") };
    let long = format!("use crate::net;\nfn f() {{\n{}}}", "    g();\n".repeat(80));
    let declared = [file("src/store/mod.rs", "#[cfg(test)]\nmod tests;"), file("src/store/tests.rs", &long)];
    assert_eq!(check(&declared), [""; 0]);
    let not = [file("src/store/mod.rs", "mod tests;"), file("src/store/tests.rs", &long)];
    assert_eq!(check(&not).len(), 2);
}

#[test]
fn code_is_told_from_text() {
    let code =
        code_of("a('\"', '\\'', 'x', b\"\\\"//\", r#\"\"//\"#, br\"/*\") // b\n/* c /* d */ e */ f::<'a>(r#type)");
    assert_eq!(code.lines().count(), 2);
    assert!(code.starts_with("a(___, ____, ___, b") && code.ends_with(" f::<'a>(r#type)"), "{code}");
    assert!(!code.contains("//") && !code.contains('d') && !code.contains('c'), "{code}");
}
