//! One server process per data directory.
//!
//! Java takes no lock, so ours keeps two of ours apart, not ours from Java. The lock is the operating system's, on a file
//! of its own: it ends with the process, however that ends, and the file's presence means nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;

use super::error::StorageError;

/// The lock file's name, in `dataDir` and, if it is another, in `dataLogDir`.
const NAME: &str = "zk-server-lite.lock";

/// Holds a data directory for this process until it is dropped.
#[derive(Debug)]
pub struct DataDirLock {
    file: File,
}

impl DataDirLock {
    /// Locks `dir`, which must exist.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when another process (or another server of this one) holds it.
    pub fn acquire(dir: &Path) -> Result<Self, StorageError> {
        let path = dir.join(NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StorageError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StorageError::Locked { file: path }),
            Err(TryLockError::Error(source)) => {
                return Err(StorageError::io("lock", &path)(source));
            }
        }
        // For a human who wonders who holds it.
        let note = format!("{}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(StorageError::io("write", &path))?;
        Ok(Self { file })
    }
}

impl Drop for DataDirLock {
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            // Closing the file ends the lock too.
            tracing::debug!(%error, "cannot unlock the data directory");
        }
    }
}
