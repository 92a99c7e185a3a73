//! From text to a checked [`Config`], and from a mistake to its line.
//!
//! Owns what an operator reads when the file is wrong: file, line, column, the reason, and what to do about it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, Harmonization, Line, Node, check, nesting};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read at all.
    #[error("cannot read the configuration {}: {source}\n  {}", file.display(), unreadable(source))]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file was read, and is wrong.
    #[error("{}", mistakes.in_file(file))]
    Wrong {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        mistakes: Mistakes,
    },
}

/// What to do about a file that cannot be read.
fn unreadable(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "run this as the user that runs the relay, or let this user read the file and search the folders above it"
        }
        _ => "name it with --config FILE, or make one with `intelmq-relay init`",
    }
}

/// What is wrong in a configuration, in the order of the lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

/// One mistake and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Config {
    /// Reads and checks the file. Nothing else is touched; what it names need not exist.
    pub fn read(file: &Path) -> Result<Config, ConfigError> {
        let unreadable = |source| ConfigError::Read { file: file.to_owned(), source };
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        let absolute = std::path::absolute(file).map_err(unreadable)?;
        let folder = absolute.parent().unwrap_or(Path::new("/"));
        Config::parse(&text, folder).map_err(|mistakes| ConfigError::Wrong { file: file.to_owned(), mistakes })
    }

    /// Parses and checks a text, as if it were a file in `folder`: relative paths are meant from there.
    pub fn parse(text: &str, folder: &Path) -> Result<Config, Mistakes> {
        let one = |error: toml::de::Error| Mistakes(vec![Mistake::of_toml(text, &error)]);
        nesting::check(text).map_err(|mistake| Mistakes(vec![mistake]))?;
        let tree = DeTable::parse(text).map_err(one)?;
        let mut config: Config = toml::from_str(text).map_err(one)?;
        config.resolve_paths(folder);
        for (set, rules) in &mut config.rules {
            for (i, rule) in rules.iter_mut().enumerate() {
                rule.line = line_of(text, &tree, &format!("rules.{set}.{i}"));
            }
        }
        let places: Vec<String> = config.take.seals().map(|(_, place, _)| place).collect();
        for (seal, place) in config.take.seals_mut().zip(places) {
            for (i, rule) in seal.rules.iter_mut().enumerate() {
                rule.line = Line(line_of(text, &tree, &format!("{place}.rules.{i}")));
            }
        }

        let mut mistakes: Vec<Mistake> = check::contradictions(&config)
            .into_iter()
            .map(|found| Mistake::at(text, locate(&tree, &found.places).start, found.reason, found.remedy))
            .collect();
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        if mistakes.is_empty() { Ok(config) } else { Err(Mistakes(mistakes)) }
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let doors = self.take.files.iter_mut().flat_map(|door| [Some(&mut door.directory), door.taken.as_mut()]);
        let mut paths: Vec<&mut PathBuf> = doors.flatten().collect();
        let node = &mut self.node;
        match node.key_command.first_mut() {
            // A name without a slash is looked for in PATH.
            Some(program) if program.contains('/') => *program = folder.join(&*program).display().to_string(),
            Some(_) => {}
            None => drop(node.key.get_or_insert_with(|| Node::KEY.into())),
        }
        paths.extend(&mut node.key);
        paths.push(&mut node.data);
        let files = self.give.files.iter_mut();
        let files = files.map(|door| (&mut door.events, Some(&mut door.directory)));
        let redis = self.give.redis.iter_mut().map(|door| &mut door.events);
        let others = redis.chain(self.give.tcp.iter_mut().map(|door| &mut door.events));
        let others = others.chain(self.give.amqp.iter_mut().map(|door| &mut door.events));
        let doors = files.chain(others.map(|events| (events, None)));
        for (events, directory) in doors {
            paths.extend(directory);
            if let Harmonization::File(path) = &mut events.harmonization {
                paths.push(path);
            }
        }
        for path in paths {
            let joined = folder.join(&*path);
            // Fails only without a current directory and with a relative folder: then it stays relative to it.
            *path = std::path::absolute(&joined).unwrap_or(joined);
        }
    }
}

impl Mistake {
    pub(super) fn of_toml(text: &str, error: &toml::de::Error) -> Mistake {
        let reason = error.message().trim_end().replace('\n', ", ");
        let remedy = if reason.starts_with("unknown field") {
            "remove the key, or correct its name or the table that it stands in"
        } else if reason.starts_with("missing field") {
            "add it; examples/relay.toml shows every key"
        } else {
            "correct it; examples/relay.toml shows every key with a value"
        };
        Mistake::at(text, error.span().map_or(0, |span| span.start), reason, remedy.into())
    }

    pub(super) fn at(text: &str, offset: usize, reason: String, remedy: String) -> Mistake {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Mistake {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason,
            remedy,
        }
    }
}

impl Mistakes {
    fn in_file(&self, file: &Path) -> impl fmt::Display {
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|m| format!("{}:{}:{}: {}\n  {}", file.display(), m.line, m.column, m.reason, m.remedy))
            .collect();
        lines.join("\n")
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, m) in self.0.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}line {}, column {}: {}; {}", m.line, m.column, m.reason, m.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Where the first of the places that is written stands; where none is, the innermost table around the first.
fn locate(tree: &Spanned<DeTable<'_>>, places: &str) -> Range<usize> {
    let mut spans = places.split(' ').map(|place| descend(tree, place));
    let first = spans.next().unwrap_or_default();
    if first.1 { first.0 } else { spans.find(|(_, written)| *written).unwrap_or(first).0 }
}

fn line_of(text: &str, tree: &Spanned<DeTable<'_>>, place: &str) -> usize {
    text[..descend(tree, place).0.start].matches('\n').count() + 1
}

/// The span of `place`, and whether it is itself written or only a table around it.
fn descend(tree: &Spanned<DeTable<'_>>, place: &str) -> (Range<usize>, bool) {
    let mut steps = place.split('.');
    let Some(mut here) = steps.next().and_then(|key| tree.get_ref().get(key)) else { return (0..0, false) };
    for step in steps {
        let inner = match here.get_ref() {
            DeValue::Table(table) => table.get(step),
            DeValue::Array(array) => step.parse().ok().and_then(|i: usize| array.get(i)),
            _ => None,
        };
        let Some(inner) = inner else { return (here.span(), false) };
        here = inner;
    }
    (here.span(), true)
}
