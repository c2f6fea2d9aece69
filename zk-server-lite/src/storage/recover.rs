//! From a data directory to a database: the newest whole snapshot, and every transaction after it (disk formats,
//! section 6).
//!
//! What a crash can leave is repaired and warned about; what no crash can leave is refused with file and offset. What was
//! read is made durable before anybody builds on it. The history that comes out has no hole: zxids are checked from the
//! snapshot on, because Java's way of reading on past a torn file would hide one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use zk_proto::Zxid;

use super::Restore;
use super::compression::Compression;
use super::disk::Disk;
use super::error::{Damage, StorageError};
use super::names;
use super::reader::LogReader;
use super::replay::Replay;
use super::snapshot_read::{self, looks_whole};

/// Snapshots tried before giving up, as in Java.
const CANDIDATES: usize = 100;

/// How to recover. The names in quotes are those of `zoo.cfg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoverOptions {
    /// `snapshot.trust.empty`: replay a log without any snapshot, on the operator's word that it is whole. Default false.
    pub trust_empty: bool,
    /// `db.autocreate`: an empty directory is a new database, also without the `initialize` file. Default true.
    pub autocreate: bool,
    /// Whether to cut torn tails, remove leftovers and force what was read. Default true; false leaves the directory as it is.
    pub repair: bool,
}

impl Default for RecoverOptions {
    fn default() -> Self {
        Self {
            trust_empty: false,
            autocreate: true,
            repair: true,
        }
    }
}

/// Where the recovered history came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// From a snapshot, or from a log that was trusted without one.
    Restored,
    /// There was none, and that is intended: write a snapshot at zxid 0 before the first transaction, or Java will refuse
    /// the log.
    New,
    /// There was none, and nobody said that this is intended (`db.autocreate=false`, no `initialize` file): such a server
    /// must not vote as if it knew that nothing ever happened.
    Unproven,
}

/// What recovery found.
#[derive(Debug)]
pub struct Recovered {
    /// The last transaction in the database; 0 for none.
    pub last_zxid: Zxid,
    /// The snapshot used.
    pub snapshot: Option<Zxid>,
    /// Transactions replayed from the log.
    pub replayed: u64,
    /// Where the history came from.
    pub history: History,
    /// What a crash left, and was dropped.
    pub warnings: Vec<Warning>,
}

/// Something that was dropped because a crash explains it. Already logged.
#[derive(Debug)]
#[non_exhaustive]
pub enum Warning {
    /// The last write did not arrive whole.
    TornTail {
        /// The log file.
        file: PathBuf,
        /// Where it now ends.
        offset: u64,
        /// Bytes dropped.
        bytes: u64,
    },
    /// A log file without even a header.
    Headless {
        /// The log file.
        file: PathBuf,
    },
    /// A snapshot that is not whole; an older one was used, and the log up to it is complete.
    DamagedSnapshot {
        /// What is wrong with it.
        error: StorageError,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornTail {
                file,
                offset,
                bytes,
            } => write!(
                f,
                "the last write to {} did not arrive whole: dropped {bytes} bytes at byte {offset}",
                file.display()
            ),
            Self::Headless { file } => {
                write!(
                    f,
                    "{} is empty: a crash came before its first entry",
                    file.display()
                )
            }
            Self::DamagedSnapshot { error } => write!(f, "using an older snapshot: {error}"),
        }
    }
}

/// Fills `restore` from the snapshots of `snap_dir` and the logs of `log_dir` (both `version-2` folders, often the same).
///
/// # Errors
/// When the directory holds damage that no crash explains, or a hole in its history, or cannot be read. `restore` is then
/// filled in part and must not be used.
pub fn recover(
    disk: &dyn Disk,
    snap_dir: &Path,
    log_dir: &Path,
    options: &RecoverOptions,
    restore: &mut (impl Restore + ?Sized),
) -> Result<Recovered, StorageError> {
    if options.repair {
        remove_leftovers(disk, snap_dir)?;
        remove_leftovers(disk, log_dir)?;
    }
    let logs = logs(disk, log_dir)?;
    let (snapshot, damaged) = load_snapshot(disk, snap_dir, restore)?;
    let mut history = History::Restored;
    if snapshot.is_none() {
        restore.reset();
        restore.snapshot_loaded(Zxid(0), None);
        match first_with_entries(disk, &logs)? {
            Some(log) if !options.trust_empty => return Err(StorageError::NoSnapshot { log }),
            Some(_) => {}
            None => history = new_history(disk, snap_dir, log_dir, options)?,
        }
    }
    let base = snapshot.unwrap_or_default();
    // The file with the first transaction above the snapshot is the last one that begins at or before it.
    let above = Zxid(base.0.saturating_add(1));
    let from = logs
        .iter()
        .rposition(|(first, _)| *first <= above)
        .unwrap_or(0);
    let files: Vec<_> = logs[from..].iter().map(|(_, path)| path.clone()).collect();
    let mut replay = Replay {
        disk,
        files: &files,
        options,
        snapshot: base,
        restore,
        last: base,
        count: 0,
        entry_at: 0,
        must_see: damaged.iter().map(|(zxid, _)| *zxid).collect(),
        warnings: Vec::new(),
    };
    replay.run()?;
    // Falling back is safe only if the log leads from the older snapshot to where the damaged one was (section 2).
    if let Some(unseen) = replay.must_see.first() {
        return Err(StorageError::CannotFallBack {
            dir: snap_dir.to_owned(),
            damaged: *unseen,
            used: base,
        });
    }
    if options.repair {
        // A name can be there and not be durable, as a file's bytes can (see `Replay::settle`).
        let both = [snap_dir, log_dir];
        for dir in &both[usize::from(snap_dir == log_dir)..] {
            disk.sync_dir(dir).map_err(StorageError::io("force", dir))?;
        }
    }
    let mut warnings = replay.warnings;
    let (last_zxid, replayed) = (replay.last, replay.count);
    for (_, error) in damaged {
        let warning = Warning::DamagedSnapshot { error };
        tracing::warn!("{warning}");
        warnings.push(warning);
    }
    Ok(Recovered {
        last_zxid,
        snapshot,
        replayed,
        history,
        warnings,
    })
}

/// Damaged snapshots that were passed over, newest first.
type PassedOver = Vec<(Zxid, StorageError)>;

/// Loads the newest whole snapshot.
fn load_snapshot(
    disk: &dyn Disk,
    dir: &Path,
    restore: &mut (impl Restore + ?Sized),
) -> Result<(Option<Zxid>, PassedOver), StorageError> {
    let mut candidates: Vec<(Zxid, Compression, PathBuf)> = disk
        .list(dir)
        .map_err(StorageError::io("list", dir))?
        .into_iter()
        .filter_map(|name| {
            names::parse_snapshot(&name).map(|(zxid, packed)| (zxid, packed, dir.join(name)))
        })
        .collect();
    candidates.sort_unstable_by_key(|(zxid, ..)| std::cmp::Reverse(*zxid));
    let count = candidates.len();
    let mut damaged = PassedOver::new();
    for (zxid, packed, path) in candidates.into_iter().take(CANDIDATES) {
        restore.reset();
        let loaded = if looks_whole(disk, &path, packed)? {
            snapshot_read::read(disk, &path, zxid, packed, restore)
        } else {
            Err(StorageError::damaged(&path, 0, Damage::TooShort))
        };
        match loaded {
            Ok(()) => {
                // The same snapshot under two extensions is one.
                damaged.retain(|(other, _)| *other != zxid);
                return Ok((Some(zxid), damaged));
            }
            Err(error @ StorageError::Damaged { .. }) => damaged.push((zxid, error)),
            Err(error) => return Err(error),
        }
    }
    if damaged.is_empty() {
        return Ok((None, damaged));
    }
    Err(StorageError::NoValidSnapshot {
        dir: dir.to_owned(),
        count,
        source: Box::new(damaged.remove(0).1),
    })
}

/// The log files, oldest first.
fn logs(disk: &dyn Disk, dir: &Path) -> Result<Vec<(Zxid, PathBuf)>, StorageError> {
    let mut logs: Vec<_> = disk
        .list(dir)
        .map_err(StorageError::io("list", dir))?
        .into_iter()
        .filter_map(|name| names::parse_log(&name).map(|first| (first, dir.join(name))))
        .collect();
    logs.sort_unstable();
    Ok(logs)
}

fn first_with_entries(
    disk: &dyn Disk,
    logs: &[(Zxid, PathBuf)],
) -> Result<Option<PathBuf>, StorageError> {
    for (_, path) in logs {
        if LogReader::open(disk, path)?.next_entry()?.is_some() {
            return Ok(Some(path.clone()));
        }
    }
    Ok(None)
}

/// Whether an empty directory is meant to be one (section 8.3). The marker counts once.
fn new_history(
    disk: &dyn Disk,
    snap_dir: &Path,
    log_dir: &Path,
    options: &RecoverOptions,
) -> Result<History, StorageError> {
    let mut marked = false;
    for dir in [snap_dir, log_dir] {
        let marker = dir.parent().unwrap_or(dir).join("initialize");
        match disk.open(&marker, false) {
            Ok(_) => {
                marked = true;
                if options.repair {
                    disk.remove(&marker)
                        .map_err(StorageError::io("remove", &marker))?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StorageError::io("open", &marker)(error)),
        }
    }
    Ok(if marked || options.autocreate {
        History::New
    } else {
        History::Unproven
    })
}

/// Removes unfinished files of ours.
fn remove_leftovers(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    let listed = disk.list(dir).map_err(StorageError::io("list", dir))?;
    for name in listed
        .iter()
        .filter(|name| names::LEFTOVERS.contains(&name.as_str()))
    {
        let path = dir.join(name);
        disk.remove(&path)
            .map_err(StorageError::io("remove", &path))?;
    }
    Ok(())
}
