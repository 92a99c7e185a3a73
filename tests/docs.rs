//! What the documentation tells people to type and to write is what the program takes.
#![allow(clippy::unwrap_used)] // Tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use intelmq_relay::config::{Config, Described};

/// README.md and everything in docs/.
fn pages() -> Vec<(PathBuf, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(top.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.chain([top.join("README.md")]).filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The fenced blocks of this language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn every_command_in_the_documentation_is_one() {
    let mut found = 0;
    for (path, page) in pages() {
        let lines = blocks(&page, "sh").into_iter().flat_map(str::lines);
        for line in lines.filter_map(|line| line.strip_prefix("intelmq-relay ")) {
            let line = line.split(['#', '>', '|']).next().unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            let two = ["key", "peer", "policy", "quarantine", "roster"];
            let depth = if two.contains(&words[0]) { 2 } else { 1 };
            let help =
                Command::new(env!("CARGO_BIN_EXE_intelmq-relay")).args(&words[..depth]).arg("--help").output().unwrap();
            assert!(help.status.success(), "{}: {line}", path.display());
            let help = String::from_utf8(help.stdout).unwrap();
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(flag), "{}: {line}: no {flag}", path.display());
            }
            found += 1;
        }
    }
    assert!(found > 10, "only {found} commands found");
}

#[test]
fn every_piece_of_configuration_in_the_documentation_is_valid() {
    let mut found = 0;
    // What is in policy.md is not only read but run, by tests/policy_recipes.rs.
    for (path, page) in pages().into_iter().filter(|(path, _)| !path.ends_with("docs/policy.md")) {
        for block in blocks(&page, "toml") {
            if block.contains("[[member]]") {
                Described::parse(block).unwrap();
                continue;
            }
            let text = format!("[node]\nname = \"cert-at\"\n{block}");
            if let Err(mistakes) = Config::parse(&text, Path::new("/")) {
                panic!("{}: {mistakes:?} in\n{text}", path.display());
            }
            found += 1;
        }
    }
    assert!(found > 0);
}

#[test]
fn links_between_pages_lead_somewhere() {
    for (path, page) in pages() {
        for target in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                assert!(path.parent().unwrap().join(file).exists(), "{}: {target}", path.display());
            }
        }
    }
}
