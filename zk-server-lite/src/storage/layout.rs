//! The directories of a server: made if need be, checked for files that belong elsewhere, locked.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{self, Disk};
use super::error::StorageError;
use super::lock::DataDirLock;
use super::names::{self, VERSION_DIR};

/// A server's data directories, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    snap_dir: PathBuf,
    log_dir: PathBuf,
    data_dir: PathBuf,
    _locks: Vec<DataDirLock>,
}

impl DataDir {
    /// Opens `dataDir` and `dataLogDir` (the same when `None`) on the operating system's file system: makes their
    /// `version-2` folders, locks them, and refuses files in the wrong place.
    ///
    /// # Errors
    /// When a folder cannot be made; when another server has one locked; when a log lies with the snapshots or the reverse
    /// while the two differ (ZOOKEEPER-2967); when `dataDir` itself holds logs or snapshots, so it is probably somebody's
    /// `version-2`.
    pub fn open(
        disk: &dyn Disk,
        data_dir: &Path,
        data_log_dir: Option<&Path>,
    ) -> Result<Self, StorageError> {
        let data_log_dir = data_log_dir.unwrap_or(data_dir);
        let snap_dir = data_dir.join(VERSION_DIR);
        let log_dir = data_log_dir.join(VERSION_DIR);
        for dir in [&snap_dir, &log_dir] {
            disk.create_dir(dir)
                .map_err(StorageError::io("create", dir))?;
        }
        let mut locks = vec![DataDirLock::acquire(data_dir)?];
        if !is_same(data_dir, data_log_dir)? {
            locks.push(DataDirLock::acquire(data_log_dir)?);
        }
        check_places(disk, data_dir, data_log_dir, locks.len() == 1)?;
        Ok(Self {
            snap_dir,
            log_dir,
            data_dir: data_dir.to_owned(),
            _locks: locks,
        })
    }

    /// The folder of snapshots, epoch files and the session secret.
    #[must_use]
    pub fn snap_dir(&self) -> &Path {
        &self.snap_dir
    }

    /// The folder of logs.
    #[must_use]
    pub fn log_dir(&self) -> &Path {
        &self.log_dir
    }

    /// Refuses a directory whose `myid` names another server.
    ///
    /// # Errors
    /// When it does, or cannot be read. A missing file says nothing.
    pub fn check_server_id(&self, disk: &dyn Disk, id: u8) -> Result<(), StorageError> {
        let file = self.data_dir.join("myid");
        let bytes = match disk::read_small(disk, &file, 64) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(StorageError::io("read", &file))?,
        };
        let found = String::from_utf8_lossy(&bytes).trim().to_owned();
        if found.parse() == Ok(id) {
            return Ok(());
        }
        Err(StorageError::ForeignServer {
            file,
            expected: id,
            found,
        })
    }
}

fn is_same(one: &Path, other: &Path) -> Result<bool, StorageError> {
    let canonical = |path: &Path| path.canonicalize().map_err(StorageError::io("find", path));
    Ok(one == other || canonical(one)? == canonical(other)?)
}

/// Java's rule, with its prefixes: `log.` among snapshots, `snapshot.` among logs.
fn check_places(
    disk: &dyn Disk,
    data_dir: &Path,
    data_log_dir: &Path,
    same: bool,
) -> Result<(), StorageError> {
    let refuse = |dir: &Path, wrong: fn(&str) -> bool| -> Result<(), StorageError> {
        let listed = disk.list(dir).map_err(StorageError::io("list", dir))?;
        match listed.into_iter().find(|name| wrong(name)) {
            None => Ok(()),
            Some(name) => Err(StorageError::Misplaced {
                file: dir.join(name),
            }),
        }
    };
    let is_log = |name: &str| names::parse_log(name).is_some();
    let is_snapshot = |name: &str| names::parse_snapshot(name).is_some();
    let is_either =
        |name: &str| names::parse_log(name).is_some() || names::parse_snapshot(name).is_some();
    refuse(data_dir, is_either)?;
    if !same {
        refuse(data_log_dir, is_either)?;
        refuse(&data_dir.join(VERSION_DIR), is_log)?;
        refuse(&data_log_dir.join(VERSION_DIR), is_snapshot)?;
    }
    Ok(())
}
