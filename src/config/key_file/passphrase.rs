//! A passphrase, and the file that a service reads it from.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret, SecretString};

use super::{private, text};

/// What opens an encrypted key file. No `Debug`; zeroised when dropped.
pub struct Passphrase(pub(super) SecretString);

/// Why a file gives no passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Others may read it.
    #[error("others than its owner may use the passphrase file {} (mode {mode:04o})\n  run: chmod 600 {}", file.display(), file.display())]
    Mode {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error("the passphrase file {} holds no passphrase\n  it should be one line of text, and nothing else", .0.display())]
    Content(PathBuf),
    /// The system refuses.
    #[error("cannot read the passphrase file {}: {source}\n  --passphrase-file, or else $RELAY_PASSPHRASE_FILE, names it; the user that runs the relay must be able to read it", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Passphrase {
    /// Fewer characters than this can be tried out.
    pub const LEAST: usize = 8;

    /// What somebody typed.
    pub fn new(text: &str) -> Passphrase {
        // Of exactly its length, so that it is not moved any more and no copy is left behind.
        Passphrase(text.to_owned().into())
    }

    /// The same once more: a node's next key has the passphrase of the one of now.
    pub fn again(&self) -> Passphrase {
        Passphrase(self.0.clone())
    }

    /// The one line of a file that nobody else can read.
    pub fn read(file: &Path) -> Result<Passphrase, PassphraseError> {
        let failed = |source| PassphraseError::Io { file: file.to_owned(), source };
        let open = File::open(file).map_err(failed)?;
        let metadata = open.metadata().map_err(failed)?;
        if !private(metadata.mode(), metadata.uid(), metadata.gid()) {
            return Err(PassphraseError::Mode { file: file.to_owned(), mode: metadata.mode() & 0o777 });
        }
        let content = || PassphraseError::Content(file.to_owned());
        let bytes = text::read_all(open).map_err(failed)?.ok_or_else(content)?;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = std::str::from_utf8(line).map_err(|_| content())?;
        if line.is_empty() || line.contains(['\n', '\r', '\0']) {
            return Err(content());
        }
        Ok(Passphrase::new(line))
    }

    /// Whether it is too short for a new key file.
    pub fn is_short(&self) -> bool {
        self.0.expose_secret().chars().count() < Passphrase::LEAST
    }

    /// Whether both are the same: what was typed twice.
    pub fn is(&self, other: &Passphrase) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}
