//! The key: a node's seed, in a file that its owner alone can read, or printed by a command of the operator's.
//!
//! Whoever has the seed is the node. So it is never overwritten, never shown, and refused where others could read it.
//! It may be encrypted with a passphrase; what the public key is can be told without. In the clear it is 64 hexadecimal
//! digits and a newline.

mod command;
mod encrypted;
mod passphrase;
mod succession;
mod text;

pub use command::KeyCommandError;
pub use passphrase::{Passphrase, PassphraseError};
pub use succession::{
    former_key_files, former_secrets, has_next_key, make_next_key_file, next_key_file, succeed_key_file,
};

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::replace::{replace, sync_folder_of};
use crate::envelope::{Key, Secret};

/// Why there is no key. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is none.
    #[error("there is no key file {}\n  restore it from your backup, or correct node.key; `intelmq-relay init` makes a new one, which is a new node for all peers", .0.display())]
    Missing(PathBuf),
    /// There is one: a key is never overwritten.
    #[error("there is a key file {} already, and it stays as it is", .0.display())]
    Exists(PathBuf),
    /// Others may read it.
    #[error("others than its owner may use the key file {file} (mode {mode:04o})\n  run: chmod 600 {file}", file = file.display())]
    Mode {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error(
        "{0} is no key: it should be 64 hexadecimal digits, or an age file with a passphrase, below comments\n  restore it from your backup; a new key is a new node for all peers"
    )]
    Content(String),
    /// The key is another one than the comment says.
    #[error(
        "{place} holds the key {found}, but its comment says {said}\n  somebody changed it: restore it from your backup; if you know the key to be yours, correct the comment"
    )]
    Mismatch {
        /// Where.
        place: String,
        /// The key that is there,
        found: Key,
        /// and what the comment says.
        said: Key,
    },
    /// The passphrase is another one.
    #[error("this is not the passphrase of {0}\n  try again; there is no way around it but a backup")]
    Wrong(String),
    /// It is no whole age file.
    #[error("{0} is damaged, or encrypted in a way that is not known here\n  restore it from your backup")]
    Damaged(String),
    /// It is encrypted to somebody's key.
    #[error(
        "{0} is encrypted to a key, not with a passphrase\n  let the tool that has that key print it: node.key_command"
    )]
    Recipient(String),
    /// Opening it would cost too much.
    #[error(
        "{place} asks for too much work (2^{required}; at most 2^{} is done)\n  encrypt it again with `intelmq-relay key encrypt`, after you decrypted it with the tool that encrypted it",
        encrypted::MOST_WORK
    )]
    Work {
        /// Where.
        place: String,
        /// The power of two.
        required: u8,
    },
    /// It cannot be encrypted.
    #[error("cannot encrypt the key: {0}\n  the file was left as it was")]
    Encrypt(String),
    /// It is encrypted as it is.
    #[error("the key file {} is encrypted already\n  for another passphrase: intelmq-relay key decrypt, then key encrypt", .0.display())]
    Encrypted(PathBuf),
    /// It is not encrypted as it is.
    #[error("the key file {} is not encrypted\n  there is nothing to do", .0.display())]
    Plain(PathBuf),
    /// The command gives none.
    #[error(transparent)]
    Command(#[from] KeyCommandError),
    /// The system refuses.
    #[error("cannot use the key file {}: {source}\n  it belongs to the user that runs the relay, with mode 0600", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Where the key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource<'a> {
    /// In this file.
    File(&'a Path),
    /// Printed by this program with these arguments.
    Command(&'a [String]),
}

impl fmt::Display for KeySource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::File(path) => write!(f, "key file {}", path.display()),
            // Not its arguments: one might be a secret.
            KeySource::Command(command) => write!(f, "key command {}", command.first().map_or("", String::as_str)),
        }
    }
}

/// A key as it is stored: its secret may need a passphrase.
pub struct StoredKey {
    place: String,
    /// What the comment says that the public key is.
    said: Option<Key>,
    content: Content,
}

enum Content {
    Plain(Secret),
    Encrypted(Vec<u8>),
}

impl StoredKey {
    /// Reads the file, or runs the command.
    pub fn read(source: KeySource<'_>) -> Result<StoredKey, KeyFileError> {
        match source {
            KeySource::File(path) => {
                let text = read_file(path)?.ok_or_else(|| KeyFileError::Content(format!("the {source}")))?;
                StoredKey::of_text(format!("the {source}"), &text)
            }
            KeySource::Command(command) => {
                let text = command::run(command, command::PATIENCE)?;
                StoredKey::of_text(format!("what the {source} prints"), &text)
            }
        }
    }

    /// Takes the text of a key file; `place` is where it was, for errors.
    pub fn of_text(place: String, text: &[u8]) -> Result<StoredKey, KeyFileError> {
        let Some(text) = text::read(text) else { return Err(KeyFileError::Content(place)) };
        let content = match text.body {
            text::Body::Seed(seed) => {
                let secret = Secret::from_seed(&seed);
                compare(&place, text.public, &secret)?;
                Content::Plain(secret)
            }
            text::Body::Age(file) => Content::Encrypted(file.to_vec()),
        };
        Ok(StoredKey { place, said: text.public, content })
    }

    /// The public key, as far as it can be told without a passphrase. Of an encrypted key it is what the file says, and
    /// compared when the secret is read.
    pub fn key(&self) -> Option<Key> {
        match &self.content {
            Content::Plain(secret) => Some(secret.key()),
            Content::Encrypted(_) => self.said,
        }
    }

    /// Whether it needs a passphrase.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.content, Content::Encrypted(_))
    }

    /// The secret; asks for the passphrase only if there is one.
    pub fn open<E: From<KeyFileError>>(self, passphrase: impl FnOnce() -> Result<Passphrase, E>) -> Result<Secret, E> {
        let StoredKey { place, said, content } = self;
        let file = match content {
            Content::Plain(secret) => return Ok(secret),
            Content::Encrypted(file) => file,
        };
        let secret = Secret::from_seed(&*encrypted::decrypt(&place, &file, &passphrase()?)?);
        compare(&place, said, &secret)?;
        Ok(secret)
    }
}

fn compare(place: &str, said: Option<Key>, secret: &Secret) -> Result<(), KeyFileError> {
    let found = secret.key();
    match said {
        Some(said) if said != found => Err(KeyFileError::Mismatch { place: place.to_owned(), found, said }),
        _ => Ok(()),
    }
}

/// Writes a new key file with this seed, mode 0600, synced. The folder exists. Never overwrites.
pub fn make_key_file(path: &Path, seed: &[u8; 32], passphrase: Option<&Passphrase>) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { file: path.to_owned(), source };
    let encrypted = passphrase.map(|passphrase| encrypted_text(seed, passphrase, encrypted::WORK)).transpose()?;
    let plain = text::plain(seed);
    let text = encrypted.as_ref().map_or(&plain[..], String::as_bytes);
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => failed(error),
    })?;
    let written = file.write_all(text).and_then(|()| file.sync_all()).and_then(|()| sync_folder_of(path));
    written.map_err(|error| {
        // Ours, and of no use to anybody: a half-written key must not stand in the way of the next try.
        let _ = fs::remove_file(path);
        failed(error)
    })
}

/// Encrypts a key file in its place. The same key afterwards; until all is written, the file as it was.
pub fn encrypt_key_file<E: From<KeyFileError>>(
    path: &Path,
    passphrase: impl FnOnce() -> Result<Passphrase, E>,
) -> Result<Key, E> {
    let failed = |source| KeyFileError::Io { file: path.to_owned(), source };
    let (path, _lock) = locked(path)?;
    let stored = StoredKey::read(KeySource::File(&path))?;
    if stored.is_encrypted() {
        return Err(KeyFileError::Encrypted(path).into());
    }
    let secret = stored.open(|| Err(KeyFileError::Encrypted(path.clone())))?;
    let passphrase = passphrase()?;
    let text = encrypted_text(secret.expose_seed(), &passphrase, encrypted::WORK)?;
    // What cannot be opened again must not take the place of what can.
    let again = StoredKey::of_text(path.display().to_string(), text.as_bytes())?.open(|| Ok::<_, E>(passphrase))?;
    if again.expose_seed() != secret.expose_seed() {
        return Err(KeyFileError::Encrypt("it would not be the same key".into()).into());
    }
    replace(&path, text.as_bytes()).map_err(failed)?;
    Ok(secret.key())
}

/// Takes the passphrase off a key file, in its place.
pub fn decrypt_key_file<E: From<KeyFileError>>(
    path: &Path,
    passphrase: impl FnOnce() -> Result<Passphrase, E>,
) -> Result<Key, E> {
    let failed = |source| KeyFileError::Io { file: path.to_owned(), source };
    let (path, _lock) = locked(path)?;
    let stored = StoredKey::read(KeySource::File(&path))?;
    if !stored.is_encrypted() {
        return Err(KeyFileError::Plain(path).into());
    }
    let secret = stored.open(passphrase)?;
    replace(&path, &text::plain(secret.expose_seed())[..]).map_err(failed)?;
    Ok(secret.key())
}

/// The file that a link leads to, and a lock on its folder: one change at a time.
fn locked(path: &Path) -> Result<(PathBuf, File), KeyFileError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => KeyFileError::Io { file: path.to_owned(), source: error },
    };
    let path = fs::canonicalize(path).map_err(failed)?;
    let lock = File::open(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    lock.lock().map_err(failed)?;
    Ok((path, lock))
}

fn encrypted_text(seed: &[u8; 32], passphrase: &Passphrase, work: u8) -> Result<String, KeyFileError> {
    let armoured = encrypted::encrypt(seed, passphrase, work)?;
    Ok(text::encrypted(&Secret::from_seed(seed).key(), &armoured))
}

/// What is in the file; `None`: too much.
fn read_file(path: &Path) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, KeyFileError> {
    let failed = |source| KeyFileError::Io { file: path.to_owned(), source };
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => failed(error),
    })?;
    let metadata = file.metadata().map_err(failed)?;
    if !private(metadata.mode(), metadata.uid(), metadata.gid()) {
        return Err(KeyFileError::Mode { file: path.to_owned(), mode: metadata.mode() & 0o777 });
    }
    text::read_all(file).map_err(failed)
}

/// Whether nobody but its owner can use a file. systemd gives credentials to a service as files of root's with an
/// access list, whose mask looks like a right of root's group: that one has all rights anyway.
fn private(mode: u32, uid: u32, gid: u32) -> bool {
    mode & 0o077 == 0 || (uid == 0 && gid == 0 && mode & 0o777 == 0o440)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Without a passphrase.
    fn read(path: &Path) -> Result<Secret, KeyFileError> {
        StoredKey::read(KeySource::File(path))?.open(|| panic!("asked for a passphrase"))
    }

    #[test]
    fn written_and_read_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let seed: [u8; 32] = std::array::from_fn(|i| i as u8 * 8 + 7);
        make_key_file(&path, &seed, None).unwrap();
        assert_eq!(read(&path).unwrap().expose_seed(), &seed);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("070f171f") && text.len() == 65, "{text}");

        assert!(matches!(make_key_file(&path, &[0; 32], None), Err(KeyFileError::Exists(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn refused_where_others_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        make_key_file(&path, &[1; 32], None).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path).err().expect("refused");
            assert!(matches!(error, KeyFileError::Mode { mode: found, .. } if found == mode));
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read(&path).is_ok());
    }

    #[test]
    fn refused_with_other_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        assert!(matches!(read(&path), Err(KeyFileError::Missing(_))));
        let digits = "ab".repeat(32);
        for text in
            ["", "ab\n", &digits[1..], &format!("{digits}\n\n"), &format!("{digits}a"), &digits.replace('a', "g")]
        {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(read(&path), Err(KeyFileError::Content(_))), "{text:?}");
        }
        fs::write(&path, &digits).unwrap();
        assert!(read(&path).is_ok());
    }

    const SEED: [u8; 32] = [5; 32];

    fn sealed() -> String {
        encrypted_text(&SEED, &Passphrase::new("some words"), 4).unwrap()
    }

    fn open(text: &str) -> Result<Key, KeyFileError> {
        let stored = StoredKey::of_text("it".into(), text.as_bytes())?;
        stored.open(|| Ok(Passphrase::new("some words"))).map(|secret| secret.key())
    }

    #[test]
    fn the_public_key_needs_no_passphrase_and_is_compared_with_the_secret() {
        let (text, key) = (sealed(), Secret::from_seed(&SEED).key());
        let stored = StoredKey::of_text("it".into(), text.as_bytes()).unwrap();
        assert!(stored.is_encrypted() && stored.key() == Some(key));
        assert_eq!(open(&text).unwrap(), key);
        // As other tools write it, it says nothing, and is read.
        let bare = &text[text.find("-----BEGIN").unwrap()..];
        assert_eq!(StoredKey::of_text("it".into(), bare.as_bytes()).unwrap().key(), None);
        assert_eq!(open(bare).unwrap(), key);

        let other = Secret::from_seed(&[6; 32]).key().to_string();
        let changed = text.replace(&key.to_string(), &other);
        let error = open(&changed).unwrap_err();
        assert!(matches!(error, KeyFileError::Mismatch { found, .. } if found == key), "{error}");
        let plain = format!("# public key: {other}\n{}\n", "05".repeat(32));
        assert!(matches!(open(&plain), Err(KeyFileError::Mismatch { .. })));
        assert_eq!(open(&format!("# mine\n# public key: {key}\n{}\n", "05".repeat(32))).unwrap(), key);
        for comment in ["# public key: \n", "# public key: 12D3\n", &format!("# public key: {key}\n").repeat(2)] {
            assert!(matches!(open(&format!("{comment}{bare}")), Err(KeyFileError::Content(_))), "{comment}");
        }
        assert!(matches!(open("# no end"), Err(KeyFileError::Content(_))));
    }

    #[test]
    fn converted_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        make_key_file(&path, &SEED, None).unwrap();
        let before = fs::read(&path).unwrap();
        let passphrase = || Ok::<_, KeyFileError>(Passphrase::new("some words"));
        let key = encrypt_key_file(&path, passphrase).unwrap();
        assert_eq!(key, Secret::from_seed(&SEED).key());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# The key") && !text.contains("0505"), "{text}");
        assert!(matches!(encrypt_key_file(&path, passphrase), Err(KeyFileError::Encrypted(_))));
        let wrong = || Ok::<_, KeyFileError>(Passphrase::new("other words"));
        assert!(matches!(decrypt_key_file(&path, wrong), Err(KeyFileError::Wrong(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);

        // A link stays a link.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(decrypt_key_file(&link, passphrase).unwrap(), key);
        assert!(link.is_symlink());
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(matches!(decrypt_key_file(&path, passphrase), Err(KeyFileError::Plain(_))));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn private_is_what_nobody_else_can_use() {
        for (mode, uid, gid, expected) in [
            (0o100600, 7, 7, true),
            (0o100400, 7, 7, true),
            (0o100440, 7, 7, false),
            // As systemd gives credentials.
            (0o100440, 0, 0, true),
            (0o100440, 0, 7, false),
            (0o100640, 0, 0, false),
            (0o100444, 0, 0, false),
        ] {
            assert_eq!(private(mode, uid, gid), expected, "{mode:o} {uid} {gid}");
        }
    }
}
