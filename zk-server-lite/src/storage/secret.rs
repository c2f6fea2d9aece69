//! The secret that session passwords are derived from.
//!
//! Java derives them from a constant in its source, so anybody can take over a session whose id he knows. Ours is 32
//! random bytes in a file that only the owner may read, made at the first start and kept: a session must survive a
//! restart. Its name means nothing to Java.

use std::fmt;
use std::path::Path;

use super::disk::{self, Disk};
use super::error::StorageError;

const NAME: &str = "session-secret";
const TEMPORARY: &str = "session-secret.new";

/// 32 unguessable bytes. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret([u8; 32]);

impl SessionSecret {
    /// A fresh secret, kept nowhere: for a server without a directory.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(bytes))
    }

    /// Reads the secret of `dir` (a `version-2` folder, locked by the caller), or makes one.
    ///
    /// # Errors
    /// When the file cannot be read or made, or holds something else.
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, StorageError> {
        let path = dir.join(NAME);
        match disk::read_small(disk, &path, 33) {
            Ok(bytes) => bytes
                .try_into()
                .map(Self)
                .map_err(|_| StorageError::Malformed {
                    file: path,
                    expected: "a secret of 32 bytes",
                }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let secret =
                    Self::random().map_err(StorageError::io("draw a secret for", &path))?;
                disk::replace_small(disk, &path, &dir.join(TEMPORARY), &secret.0, true)
                    .map_err(StorageError::io("write", &path))?;
                Ok(secret)
            }
            Err(error) => Err(StorageError::io("read", &path)(error)),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}
