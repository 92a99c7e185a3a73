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

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by a program of its own, written from age's specification: salt 0, 1, 2 …, file key 100, 101 …
    const VECTOR: &str = "\
-----BEGIN AGE ENCRYPTED FILE-----\n\
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBBQUVDQXdRRkJnY0lDUW9M\n\
REEwT0R3IDEwCmJLZFZCdlliSDNsbUNFb1h0aDhBcXdNdUhkWmxRZVFlckI2SHBS\n\
QTV0QmMKLS0tIFNka1FuVVhESmhwdFJSaDNZWXF1amVxd3ZITDA0Vi81d1R4Mkxl\n\
dDgwaUkKyMnKy8zNzs/Q0dLT1NXW16nDQxvFXdwBjNnEI7DsqGQmgfrZHK7wHOh0\n\
7snqaJ+Qd3RNnDoU6XD2gYkJ/QB4j5WarhdX9HDHdSN1k4OChGPyos6TWPqLQdUQ\n\
27W9ExwQhA==\n\
-----END AGE ENCRYPTED FILE-----\n";
    /// The same, but it asks for 2^20.
    const COSTLY: &str = "\
-----BEGIN AGE ENCRYPTED FILE-----\n\
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBBQUVDQXdRRkJnY0lDUW9M\n\
REEwT0R3IDIwCmJLZFZCdlliSDNsbUNFb1h0aDhBcXdNdUhkWmxRZVFlckI2SHBS\n\
QTV0QmMKLS0tIEo3UVZPRzNaQzJiZTR0VlIzeTRsOGloRXEvSTVBMkRHZSt3V0hh\n\
NHZMNEUKyMnKy8zNzs/Q0dLT1NXW16nDQxvFXdwBjNnEI7DsqGQmgfrZHK7wHOh0\n\
7snqaJ+Qd3RNnDoU6XD2gYkJ/QB4j5WarhdX9HDHdSN1k4OChGPyos6TWPqLQdUQ\n\
27W9ExwQhA==\n\
-----END AGE ENCRYPTED FILE-----\n";

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text)
    }

    fn open(file: &[u8], text: &str) -> Result<[u8; 32], KeyFileError> {
        decrypt("the key", file, &passphrase(text)).map(|seed| *seed)
    }

    #[test]
    fn what_others_encrypt_is_read() {
        let seed: [u8; 32] = std::array::from_fn(|i| i as u8 * 8 + 7);
        assert_eq!(open(VECTOR.as_bytes(), "correct horse battery staple").unwrap(), seed);
        for text in ["correct horse battery stapl", "correct horse battery staple\n", ""] {
            assert!(matches!(open(VECTOR.as_bytes(), text), Err(KeyFileError::Wrong(_))), "{text:?}");
        }
    }

    #[test]
    fn what_we_encrypt_is_read_with_its_passphrase_only() {
        let seed = [9; 32];
        let (one, two) = [1, 2].map(|_| encrypt(&seed, &passphrase("längere Wörter"), 4).unwrap()).into();
        assert!(one != two && one.starts_with("-----BEGIN AGE") && one.ends_with("-----\n"), "{one}");
        assert_eq!(open(one.as_bytes(), "längere Wörter").unwrap(), seed);
        assert!(matches!(open(one.as_bytes(), "laengere Woerter"), Err(KeyFileError::Wrong(_))));
    }

    #[test]
    fn costly_files_are_refused_before_they_cost() {
        let begun = std::time::Instant::now();
        let error = open(COSTLY.as_bytes(), "correct horse battery staple").unwrap_err();
        assert!(error.to_string().contains("too much work (2^20; at most 2^19"), "{error}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    }

    #[test]
    fn hostile_files_are_refused_by_name() {
        let binary = encrypt(&[9; 32], &passphrase("some words"), 4).unwrap();
        let mut cut = VECTOR.replace("QoL\n", "QoK\n");
        assert!(matches!(open(cut.as_bytes(), "x"), Err(KeyFileError::Damaged(_) | KeyFileError::Wrong(_))));
        cut = VECTOR[..120].to_owned();
        assert!(matches!(open(cut.as_bytes(), "x"), Err(KeyFileError::Damaged(_))));
        for at in 0..binary.len() {
            let mut bytes = binary.clone().into_bytes();
            bytes[at] ^= 4;
            assert!(open(&bytes, "some words").is_err_and(|e| !e.to_string().contains("some words")), "{at}");
        }
        let header = "age-encryption.org/v1\n-> X25519 WSLB2RCYyrWjYQWBhh2QJyq0HTqzGlB9dBnYPq5ZVTY\n";
        let header = format!("{header}MIqo2wrGpGd5zJHXgYVTLZ2oq5UmFgpYbmBu4PsDDbA\n");
        let file = format!("{header}--- MIqo2wrGpGd5zJHXgYVTLZ2oq5UmFgpYbmBu4PsDDbA\n{}", "x".repeat(40));
        let error = open(file.as_bytes(), "x").unwrap_err();
        assert!(matches!(error, KeyFileError::Recipient(_)), "{error}");
        // A thousand recipients are no file of ours, and cost nothing.
        let many = "-> scrypt AAECAwQFBgcICQoLDA0ODw 19\nbKdVBvYbH3lmCEoXth8AqwMuHdZlQeQerB6HpRA5tBc\n".repeat(30);
        let file = format!("age-encryption.org/v1\n{many}--- MIqo2wrGpGd5zJHXgYVTLZ2oq5UmFgpYbmBu4PsDDbA\n");
        assert!(matches!(open(file.as_bytes(), "x"), Err(KeyFileError::Damaged(_) | KeyFileError::Recipient(_))));
    }

    #[test]
    fn other_content_is_no_key() {
        let mut recipient = scrypt::Recipient::new(passphrase("p").0);
        recipient.set_work_factor(2);
        let file = age::encrypt(&recipient, b"age").unwrap();
        assert!(matches!(open(&file, "p"), Err(KeyFileError::Content(_))));
        let file = age::encrypt(&recipient, &[b'a'; 9000]).unwrap();
        assert!(matches!(open(&file, "p"), Err(KeyFileError::Content(_))));
    }
}
