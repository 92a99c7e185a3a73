//! The files of a key that is about to follow another, and of those that were before: `node.key.next`, `node.key.1` …
//!
//! Whatever is interrupted, there is at every moment a whole key file, and no secret is lost.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use super::super::replace::sync_folder_of;
use super::{KeyFileError, KeySource, Passphrase, StoredKey, locked, make_key_file};
use crate::envelope::{Key, Secret};

/// Keys of the past that are looked at.
const MOST: usize = 64;
/// Those of them, the newest, that are opened where a passphrase must do it, which takes a second each: as many as others
/// may still encrypt to, since no more notices are held of one origin.
const OPENED: usize = 8;

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{end}"));
    name.into()
}

/// Where the key that is to follow lies until it does.
pub fn next_key_file(path: &Path) -> PathBuf {
    beside(path, "next")
}

/// The files of the keys that were before, the oldest first, with their numbers: the oldest ones may have been removed.
fn former(path: &Path) -> impl DoubleEndedIterator<Item = (usize, PathBuf)> {
    (1..=MOST).map(|n| (n, beside(path, &n.to_string()))).filter(|(_, file)| file.exists())
}

/// The files of the keys that were before, the oldest first.
pub fn former_key_files(path: &Path) -> Vec<PathBuf> {
    former(path).map(|(_, file)| file).collect()
}

/// The secrets of the keys that were before, the newest first, as far as this passphrase opens them; and why not the
/// others.
pub fn former_secrets(path: &Path, passphrase: Option<&Passphrase>) -> (Vec<Secret>, Vec<KeyFileError>) {
    let (mut secrets, mut failed, mut encrypted) = (Vec::new(), Vec::new(), 0);
    for file in former_key_files(path).iter().rev() {
        let open = || passphrase.map(Passphrase::again).ok_or(KeyFileError::Wrong(file.display().to_string()));
        let stored = StoredKey::read(KeySource::File(file));
        encrypted += usize::from(stored.as_ref().is_ok_and(StoredKey::is_encrypted));
        if encrypted > OPENED {
            break;
        }
        match stored.and_then(|stored| stored.open(open)) {
            Ok(secret) => secrets.push(secret),
            Err(error) => failed.push(error),
        }
    }
    (secrets, failed)
}

/// Writes the key file of the key that is to follow, owned as the one of now is. Never overwrites.
pub fn make_next_key_file(path: &Path, seed: &[u8; 32], passphrase: Option<&Passphrase>) -> Result<(), KeyFileError> {
    let (path, _lock) = locked(path)?;
    let next = next_key_file(&path);
    make_key_file(&next, seed, passphrase)?;
    let owned = fs::metadata(&path).and_then(|now| {
        let new = fs::metadata(&next)?;
        if (now.uid(), now.gid()) == (new.uid(), new.gid()) {
            return Ok(());
        }
        chown(&next, Some(now.uid()), Some(now.gid()))
    });
    owned.map_err(|source| {
        // Ours, and in the way of the next try.
        let _ = fs::remove_file(&next);
        KeyFileError::Io { file: next.clone(), source }
    })
}

/// Puts the next key into the place of the one of now, which is kept beside it; where. Done again, it changes nothing.
pub fn succeed_key_file(path: &Path, new: &Key) -> Result<PathBuf, KeyFileError> {
    let (path, _lock) = locked(path)?;
    let failed = |file: &Path| {
        let file = file.to_owned();
        move |source| KeyFileError::Io { file, source }
    };
    let next = next_key_file(&path);
    let public = |file: &Path| StoredKey::read(KeySource::File(file)).map(|stored| stored.key());
    if public(&path)? == Some(*new) {
        return Ok(former_key_files(&path).pop().unwrap_or(path));
    }
    let found = public(&next)?;
    if found != Some(*new) {
        let content = || KeyFileError::Content(format!("the key file {}", next.display()));
        return Err(found.map_or_else(content, |found| KeyFileError::Mismatch {
            place: format!("the key file {}", next.display()),
            found,
            said: *new,
        }));
    }
    let same = |file: &PathBuf| match (fs::metadata(file), fs::metadata(&path)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    };
    let last = former(&path).next_back();
    // After a crash just here, it is kept already.
    let kept = match &last {
        Some((_, file)) if same(file) => file.clone(),
        last => {
            let free = beside(&path, &last.as_ref().map_or(1, |(number, _)| number + 1).to_string());
            fs::hard_link(&path, &free).map_err(failed(&free))?;
            free
        }
    };
    sync_folder_of(&path).map_err(failed(&path))?;
    fs::rename(&next, &path).and_then(|()| sync_folder_of(&path)).map_err(failed(&path))?;
    Ok(kept)
}

/// Whether there is a file with a key that is to follow.
pub fn has_next_key(path: &Path) -> io::Result<bool> {
    fs::exists(next_key_file(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key(n: u8) -> Key {
        Secret::from_seed(&[n; 32]).key()
    }

    fn of(file: &Path) -> Key {
        StoredKey::read(KeySource::File(file)).unwrap().key().unwrap()
    }

    #[test]
    fn the_next_key_takes_the_place_and_the_old_one_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        make_key_file(&path, &[1; 32], None).unwrap();
        assert!(!has_next_key(&path).unwrap());
        assert!(matches!(succeed_key_file(&path, &key(2)), Err(KeyFileError::Missing(_))));
        make_next_key_file(&path, &[2; 32], None).unwrap();
        assert!(matches!(make_next_key_file(&path, &[3; 32], None), Err(KeyFileError::Exists(_))));
        assert_eq!(fs::metadata(next_key_file(&path)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(succeed_key_file(&path, &key(3)), Err(KeyFileError::Mismatch { .. })));
        assert_eq!(of(&path), key(1));
        assert_eq!(succeed_key_file(&path, &key(2)).unwrap(), folder.path().join("node.key.1"));
        for _ in 0..2 {
            assert_eq!((of(&path), of(&folder.path().join("node.key.1"))), (key(2), key(1)));
            assert!(!has_next_key(&path).unwrap());
            // Done again.
            assert_eq!(succeed_key_file(&path, &key(2)).unwrap(), folder.path().join("node.key.1"));
        }
        make_next_key_file(&path, &[3; 32], None).unwrap();
        // Interrupted between the two steps.
        fs::hard_link(&path, folder.path().join("node.key.2")).unwrap();
        assert_eq!(succeed_key_file(&path, &key(3)).unwrap(), folder.path().join("node.key.2"));
        assert_eq!(former_key_files(&path).iter().map(|file| of(file)).collect::<Vec<_>>(), [key(1), key(2)]);
    }

    #[test]
    fn the_oldest_keys_may_be_removed_and_those_that_are_there_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        make_key_file(&path, &[1; 32], None).unwrap();
        for n in 2..=6 {
            make_next_key_file(&path, &[n; 32], None).unwrap();
            succeed_key_file(&path, &key(n)).unwrap();
        }
        let opened = || former_secrets(&path, None).0.iter().map(Secret::key).collect::<Vec<_>>();
        assert_eq!(opened(), [5, 4, 3, 2, 1].map(key));
        fs::remove_file(folder.path().join("node.key.1")).unwrap();
        fs::remove_file(folder.path().join("node.key.3")).unwrap();
        assert_eq!(opened(), [5, 4, 2].map(key));
        // The newest stays the one with the highest number.
        make_next_key_file(&path, &[7; 32], None).unwrap();
        assert_eq!(succeed_key_file(&path, &key(7)).unwrap(), folder.path().join("node.key.6"));
        assert_eq!(opened(), [6, 5, 4, 2].map(key));
    }
}
