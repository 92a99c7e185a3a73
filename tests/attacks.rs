//! The attacks of docs/security.md and their defences: that the document, `tests/attacks/table.toml` and the source say
//! the same, and, on request, the proof: each defence is taken out of a copy of the source, and its tests must fail.
//!
//! ```sh
//! cargo test --all-features --test attacks -- --ignored --nocapture       # ATTACK='roster|token' for some of them only
//! ```

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

#[path = "attacks/proof.rs"]
mod proof;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    attack: Vec<Attack>,
}

/// A row of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attack {
    name: String,
    file: PathBuf,
    defence: String,
    removed: String,
    /// Binary and path of each.
    tests: Vec<String>,
    #[serde(default)]
    also: Vec<Edit>,
}

/// What is taken out of a file, and what takes its place.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: PathBuf,
    defence: String,
    removed: String,
}

impl Attack {
    fn edits(&self) -> Vec<Edit> {
        let Attack { file, defence, removed, .. } = self;
        let first = Edit { file: file.clone(), defence: defence.clone(), removed: removed.clone() };
        [vec![first], self.also.clone()].concat()
    }

    /// Binary and path of each test.
    fn witnesses(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tests.iter().map(|test| test.split_once(' ').unwrap_or_else(|| panic!("{test}: binary, blank, path")))
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn attacks() -> Vec<Attack> {
    let text = fs::read_to_string(top().join("tests/attacks/table.toml")).unwrap();
    toml::from_str::<Table>(&text).unwrap_or_else(|error| panic!("tests/attacks/table.toml: {error}")).attack
}

/// The text of a test's file.
fn file_of(binary: &str, path: &str) -> String {
    let places: Vec<String> = if binary == "lib" {
        let module = path.rsplit_once("::").unwrap().0;
        let folder = format!("src/{}", module.replace("::", "/"));
        // `a::tests::b` is a file, or in the one of `a`.
        let around = folder.trim_end_matches("/tests").to_owned();
        let both = [folder, around];
        both.iter().flat_map(|place| [format!("{place}.rs"), format!("{place}/mod.rs")]).collect()
    } else {
        let module =
            path.rsplit_once("::").map(|(module, _)| format!("tests/{binary}/{}.rs", module.replace("::", "/")));
        [format!("tests/{binary}.rs"), format!("tests/{binary}/main.rs")].into_iter().chain(module).collect()
    };
    let name = path.rsplit("::").next().unwrap();
    let texts = places.iter().filter_map(|place| fs::read_to_string(top().join(place)).ok());
    let mut with = texts.filter(|text| text.contains(&format!("fn {name}(")));
    with.next().unwrap_or_else(|| panic!("there is no test {binary} {path}"))
}

#[test]
fn every_defence_is_where_the_table_says_and_every_test_exists() {
    let mut names = BTreeSet::new();
    for attack in attacks() {
        assert!(names.insert(attack.name.clone()), "{} stands twice in the table", attack.name);
        assert!(!attack.tests.is_empty(), "{}: no test", attack.name);
        for Edit { file, defence, removed } in attack.edits() {
            let text = fs::read_to_string(top().join(&file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let found = text.matches(&*defence).count();
            assert_eq!(found, 1, "{}: in {} once:\n{defence}", attack.name, file.display());
            assert_ne!(defence, removed, "{}", attack.name);
        }
        for (binary, path) in attack.witnesses() {
            let (text, name) = (file_of(binary, path), path.rsplit("::").next().unwrap());
            let before = &text[..text.find(&format!("fn {name}(")).unwrap()];
            let item = before.rsplit_once("\n\n").map_or(before, |(_, item)| item);
            assert!(item.contains("test"), "{path} is no test");
        }
    }
    assert!(names.len() >= 150, "{}", names.len());
}

/// Attack, defence and tests of each row of the document's tables.
fn rows(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [attack, defence, tests] = cells[..] else { continue };
        if tests == "test" {
            continue;
        }
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let before = rows.insert(attack.to_owned(), (defence.to_owned(), tests));
        assert!(before.is_none(), "{attack} stands twice in the document");
    }
    rows
}

#[test]
fn the_document_has_the_attacks_of_the_table_with_their_tests() {
    let page = fs::read_to_string(top().join("docs/security.md")).unwrap();
    let protocol = fs::read_to_string(top().join("docs/protocol.md")).unwrap();
    let mut rows = rows(&page);
    for attack in attacks() {
        let Some((defence, tests)) = rows.remove(&attack.name) else {
            panic!("docs/security.md does not have the attack: {}", attack.name)
        };
        let named: BTreeSet<String> =
            attack.witnesses().map(|(_, path)| path.rsplit("::").next().unwrap().to_owned()).collect();
        assert_eq!(tests, named, "{}", attack.name);
        assert!(defence.ends_with('.') || defence.ends_with(')'), "{}: {defence}", attack.name);
        for section in defence.split('§').skip(1) {
            let number: String = section.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let heading = format!("# {} ", number.trim_end_matches('.'));
            assert!(protocol.contains(&heading), "{}: docs/protocol.md has no §{number}", attack.name);
        }
    }
    assert!(rows.is_empty(), "attacks of docs/security.md that nothing shows: {:?}", rows.keys());
}

/// Long: builds the relay once for each attack.
#[test]
#[ignore = "takes an hour: run it when a defence or the table has changed"]
fn every_attack_succeeds_without_its_defence() {
    let wanted = std::env::var("ATTACK").unwrap_or_default().to_lowercase();
    let is_wanted = |name: &str| wanted.split('|').any(|words| name.to_lowercase().contains(words));
    let attacks: Vec<Attack> = attacks().into_iter().filter(|attack| is_wanted(&attack.name)).collect();
    assert!(!attacks.is_empty(), "no attack is called {wanted:?}");
    let mut copy = proof::Copy::make(top(), Path::new(env!("CARGO_BIN_EXE_intelmq-relay")));
    let wrong = copy.prove(&attacks);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
