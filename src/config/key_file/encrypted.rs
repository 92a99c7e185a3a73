//! A seed under a passphrase, as an age file that other tools read. The work that a file may ask for is bounded.

use std::io::Write;
use std::iter;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::{DecryptError, Decryptor, Encryptor, scrypt};
use zeroize::Zeroizing;

use super::{KeyFileError, Passphrase, text};

/// scrypt's N as a power of two: 256 MiB and about a second, age's usual one.
pub(super) const WORK: u8 = 18;
/// A file that asks for more is refused: 512 MiB and two seconds are what it may cost.
pub(super) const MOST_WORK: u8 = 19;

/// Encrypts and armours.
pub(super) fn encrypt(seed: &[u8; 32], passphrase: &Passphrase, work: u8) -> Result<String, KeyFileError> {
    let mut recipient = scrypt::Recipient::new(passphrase.0.clone());
    recipient.set_work_factor(work);
    let failed = |error: &dyn std::fmt::Display| KeyFileError::Encrypt(error.to_string());
    let encryptor =
        Encryptor::with_recipients(iter::once(&recipient as &dyn age::Recipient)).map_err(|e| failed(&e))?;
    let written = (|| {
        let armour = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
        let mut writer = encryptor.wrap_output(armour)?;
        writer.write_all(&text::plain(seed)[..])?;
        writer.finish()?.finish()
    })();
    String::from_utf8(written.map_err(|e: std::io::Error| failed(&e))?).map_err(|e| failed(&e))
}

/// Reads what [`encrypt`] or another tool wrote: a key file's 64 digits.
pub(super) fn decrypt(place: &str, file: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let place = || place.to_owned();
    let decryptor = Decryptor::new(ArmoredReader::new(file)).map_err(|_| KeyFileError::Damaged(place()))?;
    if !decryptor.is_scrypt() {
        return Err(KeyFileError::Recipient(place()));
    }
    let mut identity = scrypt::Identity::new(passphrase.0.clone());
    identity.set_max_work_factor(MOST_WORK);
    let reader = decryptor.decrypt(iter::once(&identity as &dyn age::Identity)).map_err(|error| match error {
        DecryptError::ExcessiveWork { required, .. } => KeyFileError::Work { place: place(), required },
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed | DecryptError::NoMatchingKeys => {
            KeyFileError::Wrong(place())
        }
        _ => KeyFileError::Damaged(place()),
    })?;
    let digits = text::read_all(reader).map_err(|_| KeyFileError::Damaged(place()))?;
    digits.and_then(|digits| text::seed(&digits)).ok_or_else(|| KeyFileError::Content(place()))
}
