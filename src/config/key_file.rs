//! The key file: 64 hexadecimal digits of a node's seed and a newline, readable by its owner alone.
//!
//! Whoever has the seed is the node. So it is never overwritten, never shown, and refused where others could read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::envelope::Secret;

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
    #[error("{} is no key file: it should hold 64 hexadecimal digits\n  restore it from your backup; a new key is a new node for all peers", .0.display())]
    Content(PathBuf),
    /// The system refuses.
    #[error("cannot use the key file {}: {source}\n  it belongs to the user that runs the relay, with mode 0600", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

const DIGITS: usize = 64;

/// Reads the node's secret.
pub fn read_key_file(path: &Path) -> Result<Secret, KeyFileError> {
    let failed = |source| KeyFileError::Io { file: path.to_owned(), source };
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => failed(error),
    })?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode { file: path.to_owned(), mode });
    }
    // One byte more than there may be, so that a longer file is noticed and no other file is read far.
    let mut text = Zeroizing::new(Vec::with_capacity(DIGITS + 2));
    file.take(DIGITS as u64 + 2).read_to_end(&mut text).map_err(failed)?;
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
    let seed = decode(digits).ok_or_else(|| KeyFileError::Content(path.to_owned()))?;
    Ok(Secret::from_seed(&seed))
}

/// Writes a new key file with this seed, mode 0600, synced. The folder exists. Never overwrites.
pub fn make_key_file(path: &Path, seed: &[u8; 32]) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { file: path.to_owned(), source };
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => failed(error),
    })?;
    let written = file.write_all(&encode(seed)[..]).and_then(|()| file.sync_all()).and_then(|()| sync_folder_of(path));
    written.map_err(|error| {
        // Ours, and of no use to anybody: a half-written key must not stand in the way of the next try.
        let _ = fs::remove_file(path);
        failed(error)
    })
}

/// Makes the creation or renaming of `path` durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn encode(seed: &[u8; 32]) -> Zeroizing<[u8; DIGITS + 1]> {
    let mut text = Zeroizing::new([b'\n'; DIGITS + 1]);
    for (pair, byte) in text.chunks_exact_mut(2).zip(seed) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    text
}

fn decode(digits: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if digits.len() != DIGITS {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut seed = Zeroizing::new([0; 32]);
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let seed: [u8; 32] = std::array::from_fn(|i| i as u8 * 8 + 7);
        make_key_file(&path, &seed).unwrap();
        assert_eq!(read_key_file(&path).unwrap().expose_seed(), &seed);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("070f171f") && text.len() == 65, "{text}");

        assert!(matches!(make_key_file(&path, &[0; 32]), Err(KeyFileError::Exists(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn refused_where_others_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        make_key_file(&path, &[1; 32]).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_key_file(&path).err().expect("refused");
            assert!(matches!(error, KeyFileError::Mode { mode: found, .. } if found == mode));
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read_key_file(&path).is_ok());
    }

    #[test]
    fn refused_with_other_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        assert!(matches!(read_key_file(&path), Err(KeyFileError::Missing(_))));
        let digits = "ab".repeat(32);
        for text in
            ["", "ab\n", &digits[1..], &format!("{digits}\n\n"), &format!("{digits}a"), &digits.replace('a', "g")]
        {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(read_key_file(&path), Err(KeyFileError::Content(_))), "{text:?}");
        }
        fs::write(&path, &digits).unwrap();
        assert!(read_key_file(&path).is_ok());
    }
}
