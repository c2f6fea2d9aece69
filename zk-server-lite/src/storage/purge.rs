//! Removing snapshots and logs that nothing needs any more (disk formats, section 9; `autopurge.*`).
//!
//! Kept are the newest snapshots and every log that any of them may be replayed from. A log that is being read while it
//! is removed can be read to its end: only its name goes.

use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::error::StorageError;
use super::names;
use super::snapshot_read::looks_whole;

/// ZooKeeper never keeps fewer snapshots.
pub const RETAIN_MIN: usize = 3;

/// Removes all but the `retain` newest snapshots (at least [`RETAIN_MIN`]) and the logs that are older than what these
/// need; returns what was removed. A snapshot that does not look whole is not counted.
///
/// # Errors
/// When a directory cannot be read or a file cannot be removed; some may have been.
pub fn purge(
    disk: &dyn Disk,
    snap_dir: &Path,
    log_dir: &Path,
    retain: usize,
) -> Result<Vec<PathBuf>, StorageError> {
    let list = |dir: &Path| disk.list(dir).map_err(StorageError::io("list", dir));
    let mut snapshots: Vec<_> = list(snap_dir)?
        .into_iter()
        .filter_map(|name| names::parse_snapshot(&name).map(|(zxid, packed)| (zxid, packed, name)))
        .collect();
    snapshots.sort_unstable_by_key(|(zxid, ..)| std::cmp::Reverse(*zxid));
    let mut kept = 0;
    let mut oldest = None;
    for (zxid, packed, name) in &snapshots {
        if looks_whole(disk, &snap_dir.join(name), *packed)? {
            kept += 1;
            oldest = Some(*zxid);
        }
        if kept == retain.max(RETAIN_MIN) {
            break;
        }
    }
    // With fewer snapshots than are to be kept nothing is old.
    let Some(oldest) = oldest.filter(|_| kept == retain.max(RETAIN_MIN)) else {
        return Ok(Vec::new());
    };
    let mut logs: Vec<_> = list(log_dir)?
        .into_iter()
        .filter_map(|name| names::parse_log(&name).map(|first| (first, name)))
        .collect();
    logs.sort_unstable();
    // The newest log that begins at or before the snapshot may go on beyond it.
    let needed = logs
        .iter()
        .rev()
        .find(|(first, _)| *first <= oldest)
        .map(|(first, _)| *first);
    let old_snapshots = snapshots
        .iter()
        .filter(|(zxid, ..)| *zxid < oldest)
        .map(|(.., name)| snap_dir.join(name));
    let old_logs = logs
        .iter()
        .filter(|(first, _)| needed.is_some_and(|needed| *first < needed))
        .map(|(_, name)| log_dir.join(name));
    // Snapshots first, durably: a crash in between leaves logs too many, never a snapshot without its log. And before
    // anything goes, what is kept in its stead must be there to stay: the newest snapshot may just have got its name.
    let mut removed = Vec::new();
    for old in [old_snapshots.collect::<Vec<_>>(), old_logs.collect()] {
        if !old.is_empty() {
            disk.sync_dir(snap_dir)
                .map_err(StorageError::io("force", snap_dir))?;
        }
        for path in old {
            disk.remove(&path)
                .map_err(StorageError::io("remove", &path))?;
            removed.push(path);
        }
    }
    Ok(removed)
}
