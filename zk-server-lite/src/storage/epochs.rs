//! `acceptedEpoch` and `currentEpoch`: which leaders this server followed (disk formats, section 7).
//!
//! They live with the snapshots, as decimal text without a newline. A standalone server writes none. Each write is one
//! step: a crash leaves the old value or the new.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zk_proto::Zxid;

use super::disk::{self, Disk};
use super::error::StorageError;

const ACCEPTED: &str = "acceptedEpoch";
const CURRENT: &str = "currentEpoch";

/// The epoch files of a server.
#[derive(Debug)]
pub struct Epochs {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    accepted: u32,
    current: u32,
}

impl Epochs {
    /// Reads the files of `dir` (the `version-2` folder with the snapshots) and checks them against the last transaction
    /// that was recovered. A missing file is made from that transaction's epoch.
    ///
    /// # Errors
    /// When a file cannot be read or made or holds no number; when the history has an epoch above the current one, or the
    /// current epoch is above the accepted one.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, last: Zxid) -> Result<Self, StorageError> {
        let mut epochs = Self {
            disk,
            dir: dir.to_owned(),
            accepted: 0,
            current: 0,
        };
        let of_history = last.epoch();
        epochs.current = match epochs.read(CURRENT)? {
            Some(epoch) => epoch,
            None => epochs.write(CURRENT, of_history)?,
        };
        if of_history > epochs.current {
            // A crash after a new leader's snapshot was taken, before its epoch was renamed into place.
            match epochs.read(&temporary(CURRENT))? {
                Some(epoch) if epoch >= of_history => {
                    epochs.current = epochs.write(CURRENT, epoch)?
                }
                _ => {
                    return Err(epochs.order(
                        (CURRENT, epochs.current),
                        ("the epoch of the log", of_history),
                    ));
                }
            }
        }
        epochs.accepted = match epochs.read(ACCEPTED)? {
            Some(epoch) => epoch,
            None => epochs.write(ACCEPTED, of_history)?,
        };
        if epochs.accepted < epochs.current {
            return Err(epochs.order((ACCEPTED, epochs.accepted), (CURRENT, epochs.current)));
        }
        Ok(epochs)
    }

    /// The last epoch this server promised to follow.
    #[must_use]
    pub fn accepted(&self) -> u32 {
        self.accepted
    }

    /// The last epoch whose history this server took over.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.current
    }

    /// Makes a promise durable.
    ///
    /// # Errors
    /// When it is not durable; the promise must then not be given.
    pub fn set_accepted(&mut self, epoch: u32) -> Result<(), StorageError> {
        self.accepted = self.write(ACCEPTED, epoch)?;
        Ok(())
    }

    /// Makes a new current epoch durable.
    ///
    /// # Errors
    /// When it is not durable; it must then not be acknowledged.
    pub fn set_current(&mut self, epoch: u32) -> Result<(), StorageError> {
        self.current = self.write(CURRENT, epoch)?;
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Option<u32>, StorageError> {
        let path = self.dir.join(name);
        match disk::read_small(&*self.disk, &path, 64) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("read", &path)(error)),
            Ok(bytes) => std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.lines().next())
                .and_then(|line| line.trim().parse().ok())
                .map(Some)
                .ok_or(StorageError::Malformed {
                    file: path,
                    expected: "an epoch in decimal",
                }),
        }
    }

    fn write(&self, name: &'static str, epoch: u32) -> Result<u32, StorageError> {
        let path = self.dir.join(name);
        let content = epoch.to_string();
        disk::replace_small(
            &*self.disk,
            &path,
            &self.dir.join(temporary(name)),
            content.as_bytes(),
            false,
        )
        .map_err(StorageError::io("write", &path))?;
        Ok(epoch)
    }

    fn order(&self, smaller: (&'static str, u32), larger: (&'static str, u32)) -> StorageError {
        StorageError::EpochOrder {
            dir: self.dir.clone(),
            smaller_name: smaller.0,
            smaller: smaller.1,
            larger_name: larger.0,
            larger: larger.1,
        }
    }
}

fn temporary(name: &str) -> String {
    format!("{name}.tmp")
}
