//! Hashes that let two values be compared without either being kept.

use std::fmt;

/// Which function made a [`Hash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    HmacSha256,
    Sha256,
}

/// A hash as it stands in the log: `hmac-sha256:<64 hex>`, with `-raw` behind the algorithm where
/// it covers bytes as received instead of their canonical form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash {
    pub algorithm: Algorithm,
    pub raw: bool,
    pub digest: [u8; 32],
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.algorithm {
            Algorithm::HmacSha256 => "hmac-sha256",
            Algorithm::Sha256 => "sha256",
        })?;
        if self.raw {
            f.write_str("-raw")?;
        }
        f.write_str(":")?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key of all hashes of one installation.
#[derive(Clone)]
pub enum HashKey {
    /// 32 bytes from the operating system, kept in the state folder or shared by a fleet.
    Keyed([u8; 32]),
    /// `args_hash = "sha256"`: comparable across machines, and open to guessing of short values.
    Unkeyed,
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey([REDACTED])")
    }
}

/// Hash of a decoded text: what the model saw.
pub fn text_hash(key: &HashKey, text: &[u8]) -> Hash {
    digest(key, text, false)
}

/// Hash of `result` as received.
pub fn result_hash(key: &HashKey, result: &[u8]) -> Hash {
    digest(key, result, true)
}

fn digest(key: &HashKey, bytes: &[u8], raw: bool) -> Hash {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::{Digest, Sha256};
    match key {
        HashKey::Keyed(key) => {
            // HMAC fills a short key up with zeros to the block of its hash.
            let mut block = [0; 64];
            block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
            let mut mac = Hmac::<Sha256>::new(&block.into());
            mac.update(bytes);
            Hash { algorithm: Algorithm::HmacSha256, raw, digest: mac.finalize().into_bytes().into() }
        }
        HashKey::Unkeyed => Hash { algorithm: Algorithm::Sha256, raw, digest: Sha256::digest(bytes).into() },
    }
}
