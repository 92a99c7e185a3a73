//! Peers added to and removed from the text of a configuration.
//!
//! Everything else stays as the operator wrote it, byte for byte: the places are taken from the parser, the edit is
//! one of lines. Only a text that is a good configuration afterwards replaces the file, and all at once.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::replace::replace;
use super::{Config, ConfigError, Mistakes, Share};
use crate::envelope::{EncryptionKey, Key, Name};

/// Why the file stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file is wrong as it is, or cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is one.
    #[error(
        "there is a peer {0} already\n  to change it, remove it first with `intelmq-relay peer remove {0}`, or edit the file"
    )]
    Exists(Name),
    /// There is none.
    #[error("there is no peer {0}\n  `intelmq-relay peer list` shows those there are")]
    Unknown(Name),
    /// Written in a way that lines cannot be added to.
    #[error("the peers are written as an inline array\n  edit the file by hand, or write each peer as [[peer]]")]
    Inline,
    /// With the change, the file would be wrong.
    #[error("the file was left as it was, for with this change it would be wrong:{}", .0.0.iter().map(|m| format!("\n  {}; {}", m.reason, m.remedy)).collect::<String>())]
    Refused(Mistakes),
    /// The system refuses.
    #[error("cannot write {}: {source}\n  the user that runs this command must be allowed to write there", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A peer as it stands in the file.
pub fn peer_block(
    name: &Name,
    key: &Key,
    addresses: &[String],
    give: &Share,
    encryption: Option<&EncryptionKey>,
) -> String {
    let mut block = format!("[[peer]]\nname = \"{name}\"\nkey = \"{key}\"\n");
    if let Some(encryption) = encryption {
        let _ = writeln!(block, "encryption = \"{encryption}\"");
    }
    if !addresses.is_empty() {
        let addresses: toml::Value = addresses.iter().cloned().map(toml::Value::String).collect::<Vec<_>>().into();
        let _ = writeln!(block, "addresses = {addresses}");
    }
    let _ = writeln!(block, "give = {}", give.toml());
    block
}

/// The text with one more peer, after the last one.
pub fn add_peer(
    text: &str,
    name: &Name,
    key: &Key,
    addresses: &[String],
    give: &Share,
    encryption: Option<&EncryptionKey>,
) -> Result<String, EditError> {
    add(text, name, &peer_block(name, key, addresses, give, encryption))
}

/// The same for a peer that has joined by an invitation: in test mode, with the words to compare above it.
pub fn add_joined_peer(
    text: &str,
    name: &Name,
    key: &Key,
    addresses: &[String],
    give: &Share,
    encryption: &EncryptionKey,
    words: &str,
) -> Result<String, EditError> {
    let comment = format!(
        "# Joined by invitation. The words that its operator must have too: {words}\n\
         # When you have compared them, both of you: test = false, and `intelmq-relay reload`.\n"
    );
    let block = peer_block(name, key, addresses, give, Some(encryption));
    add(text, name, &format!("{comment}{block}test = true\n"))
}

fn add(text: &str, name: &Name, block: &str) -> Result<String, EditError> {
    let peers = places(text)?;
    if peers.iter().any(|peer| peer.name == name.as_str()) {
        return Err(EditError::Exists(name.clone()));
    }
    let at = peers.iter().map(|peer| peer.lines.end).max().unwrap_or(text.len());
    let (before, after) = text.split_at(at);
    let newline = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let above = if before.trim_end_matches([' ', '\t']).is_empty() || ends_blank(before) { "" } else { "\n" };
    let below = if after.is_empty() || starts_blank(after) { "" } else { "\n" };
    Ok(format!("{before}{newline}{above}{block}{below}{after}"))
}

/// The text without this peer: its lines and the comments that touch them.
pub fn remove_peer(text: &str, name: &Name) -> Result<String, EditError> {
    let peers = places(text)?;
    let peer = peers.into_iter().find(|peer| peer.name == name.as_str());
    let Range { start, end } = peer.ok_or_else(|| EditError::Unknown(name.clone()))?.lines;
    let (before, mut after) = (&text[..start], &text[end..]);
    if before.is_empty() || ends_blank(before) {
        // Else the blank lines above and below would come together.
        while starts_blank(after) && !after.is_empty() {
            after = &after[line_end(after, 0)..];
        }
    }
    let before = if after.is_empty() { before.trim_end_matches([' ', '\t', '\r', '\n']) } else { before };
    let newline = if after.is_empty() && !before.is_empty() { "\n" } else { "" };
    Ok(format!("{before}{newline}{after}"))
}

/// Replaces the file by the edited text, if that is a good configuration; returns what it now says.
///
/// Atomic, and one edit at a time: a lock on the folder keeps other edits waiting. Mode and owner stay.
pub fn edit_file(path: &Path, edit: impl FnOnce(&str) -> Result<String, EditError>) -> Result<Config, EditError> {
    // A good file is where an edit begins: else its old mistakes would look as if they came from the change.
    Config::read(path)?;
    let failed = |source| EditError::Io { file: path.to_owned(), source };
    // A link stays a link: the file that it names is replaced.
    let path = fs::canonicalize(path).map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let lock = File::open(folder).map_err(failed)?;
    lock.lock().map_err(failed)?;

    let text = fs::read_to_string(&path).map_err(failed)?;
    let edited = edit(&text)?;
    let config = Config::parse(&edited, folder).map_err(EditError::Refused)?;
    replace(&path, edited.as_bytes()).map_err(failed)?;
    Ok(config)
}

struct Place {
    name: String,
    /// Whole lines, from the comment above the header to the comment under the last key.
    lines: Range<usize>,
}

/// Where the peers stand. The text has been parsed before.
fn places(text: &str) -> Result<Vec<Place>, EditError> {
    let tree = DeTable::parse(text).map_err(|_| EditError::Inline)?;
    let Some(peers) = tree.get_ref().get("peer") else { return Ok(Vec::new()) };
    let DeValue::Array(peers) = peers.get_ref() else { return Err(EditError::Inline) };
    let mut found = Vec::new();
    for peer in peers.iter() {
        let DeValue::Table(table) = peer.get_ref() else { return Err(EditError::Inline) };
        let header = peer.span().start;
        if !text[header..].starts_with("[[") {
            return Err(EditError::Inline);
        }
        let name = table.get("name").and_then(|name| name.get_ref().as_str()).unwrap_or_default().to_owned();
        let last = table.values().map(end).max().unwrap_or(header);
        found.push(Place { name, lines: with_comments(text, header, last) });
    }
    Ok(found)
}

/// Where a value ends. A table of its own has its header's place; what is in it stands below.
fn end(value: &Spanned<DeValue<'_>>) -> usize {
    let inner = match value.get_ref() {
        DeValue::Table(table) => table.values().map(end).max(),
        _ => None,
    };
    inner.unwrap_or(0).max(value.span().end)
}

fn with_comments(text: &str, header: usize, last: usize) -> Range<usize> {
    let mut start = line_start(text, header);
    while start > 0 && is_comment(&text[line_start(text, start - 1)..start]) {
        start = line_start(text, start - 1);
    }
    let end = line_end(text, last);
    let mut under = end;
    while under < text.len() && is_comment(&text[under..line_end(text, under)]) {
        under = line_end(text, under);
    }
    // Comments that touch the next header are that one's.
    let end = if starts_blank(&text[under..]) { under } else { end };
    start..end
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1)
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// Whether the first line is blank, or there is none.
fn starts_blank(text: &str) -> bool {
    text[..line_end(text, 0)].trim().is_empty()
}

/// Whether the last whole line is blank.
fn ends_blank(text: &str) -> bool {
    text.strip_suffix('\n').is_some_and(|text| text[line_start(text, text.len())..].trim().is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::envelope::Secret;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn key(seed: u8) -> Key {
        Secret::from_seed(&[seed; 32]).key()
    }

    fn with(text: &str) -> String {
        text.replace("KEY1", &key(1).to_string())
            .replace("KEY2", &key(2).to_string())
            .replace("KEY3", &key(3).to_string())
    }

    const FILE: &str = r#"# Our relay.
[node]
name = "us"   # short

# ---- peers ----

# Our neighbour.
[[peer]]
name = "cert-a"
key = "KEY1"
addresses = [
  "/dns/a.example/tcp/4747", # the new one
]
# give = "community"

# Never at night.
[[peer]]
key = "KEY2"
name = "cert-b"

# ---- doors ----
[[give.files]]
name = "out"
directory = "out"
"#;

    #[test]
    fn added_after_the_last_and_removed_again() {
        let file = with(FILE);
        let addresses = ["/ip4/192.0.2.3/tcp/4747".to_string()];
        let more = add_peer(&file, &name("cert-c"), &key(3), &addresses, &Share::Community, None).unwrap();
        let block = with(
            "\n[[peer]]\nname = \"cert-c\"\nkey = \"KEY3\"\naddresses = [\"/ip4/192.0.2.3/tcp/4747\"]\ngive = \"community\"\n",
        );
        assert_eq!(more, file.replace("\n# ---- doors", &format!("{block}\n# ---- doors")));
        let config = Config::parse(&more, Path::new("/etc")).unwrap();
        assert_eq!((config.peers.len(), &config.peers[2].give), (3, &Share::Community));
        assert_eq!(remove_peer(&more, &name("cert-c")).unwrap(), file);
    }

    #[test]
    fn removed_with_its_own_comments_only() {
        let file = with(FILE);
        let without_a = remove_peer(&file, &name("cert-a")).unwrap();
        let (above, below) = (file.find("# Our neighbour").unwrap(), file.find("# Never at night").unwrap());
        assert_eq!(without_a, format!("{}{}", &file[..above], &file[below..]));
        let without_b = remove_peer(&file, &name("cert-b")).unwrap();
        let (above, below) = (file.find("# Never at night").unwrap(), file.find("# ---- doors").unwrap());
        assert_eq!(without_b, format!("{}{}", &file[..above], &file[below..]));
    }

    #[test]
    fn the_first_one_and_the_last_one() {
        let bare = "[node]\nname = \"us\"";
        let one = add_peer(bare, &name("cert-a"), &key(1), &[], &Share::None, None).unwrap();
        assert_eq!(
            one,
            with("[node]\nname = \"us\"\n\n[[peer]]\nname = \"cert-a\"\nkey = \"KEY1\"\ngive = \"none\"\n")
        );
        assert_eq!(remove_peer(&one, &name("cert-a")).unwrap(), format!("{bare}\n"));
        assert_eq!(
            add_peer("", &name("cert-a"), &key(1), &[], &Share::None, None).unwrap().lines().next(),
            Some("[[peer]]")
        );
    }

    #[test]
    fn comments_that_touch_the_next_header_stay() {
        let file = with("[[peer]]\nname = \"a\"\nkey = \"KEY1\"\n# the next\n[[peer]]\nname = \"b\"\nkey = \"KEY2\"\n");
        let left = remove_peer(&file, &name("a")).unwrap();
        assert_eq!(left, with("# the next\n[[peer]]\nname = \"b\"\nkey = \"KEY2\"\n"));
    }

    #[test]
    fn limits_go_with_their_peer() {
        let limited = |n: u8, name: &str| {
            format!("[[peer]]\nname = \"{name}\"\nkey = \"KEY{n}\"\n\n[peer.rate]\nevents_per_second = 5\n# At most.\n")
        };
        let file = with(&format!("[node]\nname = \"us\"\n\n{}\n{}", limited(1, "a"), limited(2, "b")));
        let left = remove_peer(&file, &name("a")).unwrap();
        assert_eq!(left, with(&format!("[node]\nname = \"us\"\n\n{}", limited(2, "b"))));
        let more = add_peer(&file, &name("c"), &key(3), &[], &Share::None, None).unwrap();
        let config = Config::parse(&more, Path::new("/etc")).unwrap();
        let limits: Vec<_> = config.peers.iter().map(|peer| peer.rate.events_per_second).collect();
        assert_eq!(limits, [Some(5), Some(5), None]);
    }

    #[test]
    fn windows_lines_stay() {
        let file = with(FILE).replace('\n', "\r\n");
        let more = add_peer(&file, &name("cert-c"), &key(3), &[], &Share::None, None).unwrap();
        assert!(Config::parse(&more, Path::new("/etc")).is_ok());
        let left = remove_peer(&more, &name("cert-c")).unwrap();
        assert!(left.lines().eq(file.lines()), "{left:?}");
    }

    #[test]
    fn refused() {
        let file = with(FILE);
        assert!(matches!(
            add_peer(&file, &name("cert-a"), &key(3), &[], &Share::None, None),
            Err(EditError::Exists(_))
        ));
        assert!(matches!(remove_peer(&file, &name("cert-x")), Err(EditError::Unknown(_))));
        let inline = with("peer = [{ name = \"cert-a\", key = \"KEY1\" }]\n[node]\nname = \"us\"\n");
        assert!(matches!(remove_peer(&inline, &name("cert-a")), Err(EditError::Inline)));
        assert!(matches!(add_peer(&inline, &name("cert-b"), &key(2), &[], &Share::None, None), Err(EditError::Inline)));
    }

    #[test]
    fn a_file_is_replaced_only_by_a_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("relay.toml"), folder.path().join("link.toml"));
        fs::write(&path, with(FILE)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();

        let config =
            edit_file(&link, |text| add_peer(text, &name("cert-c"), &key(3), &[], &Share::None, None)).unwrap();
        assert_eq!(config.peers.len(), 3);
        assert_eq!(Config::read(&path).unwrap(), config);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);

        let before = fs::read(&path).unwrap();
        let error =
            edit_file(&path, |text| add_peer(text, &name("cert-d"), &key(3), &[], &Share::None, None)).unwrap_err();
        assert!(error.to_string().contains("have the same key"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn edits_at_the_same_time_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        fs::write(&path, "[node]\nname = \"us\"\n").unwrap();
        std::thread::scope(|scope| {
            for seed in 1..=8 {
                let path = &path;
                scope.spawn(move || {
                    let peer = name(&format!("cert-{seed}"));
                    edit_file(path, |text| add_peer(text, &peer, &key(seed), &[], &Share::None, None)).unwrap();
                });
            }
        });
        assert_eq!(Config::read(&path).unwrap().peers.len(), 8);
    }
}
