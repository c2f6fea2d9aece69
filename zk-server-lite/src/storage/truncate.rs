//! Cutting the log behind a transaction: what a follower does when its leader does not know the rest (disk formats,
//! section 2, "Truncate").

use std::path::Path;

use zk_proto::Zxid;
use zk_proto::txn::FileHeader;

use super::disk::Disk;
use super::error::StorageError;
use super::names;
use super::reader::LogReader;

/// Removes every transaction after `zxid` from the log of `log_dir`; returns the last one left. No [`TxnLog`](super::TxnLog)
/// of the directory may be open. Snapshots are not touched: whoever truncates must not restart from a later one.
///
/// # Errors
/// When nothing at or before `zxid` is in the log, a file cannot be changed, or an entry before the cut is damaged.
pub fn truncate(disk: &dyn Disk, log_dir: &Path, zxid: Zxid) -> Result<Zxid, StorageError> {
    let mut logs: Vec<_> = disk
        .list(log_dir)
        .map_err(StorageError::io("list", log_dir))?
        .into_iter()
        .filter_map(|name| names::parse_log(&name).map(|first| (first, name)))
        .collect();
    logs.sort_unstable();
    let nothing = || StorageError::NothingToKeep {
        dir: log_dir.to_owned(),
        zxid,
    };
    let cut = logs
        .iter()
        .rposition(|(first, _)| *first <= zxid)
        .ok_or_else(nothing)?;
    let path = log_dir.join(&logs[cut].1);
    let mut reader = LogReader::open(disk, &path)?;
    let mut last = None;
    let mut size = FileHeader::LENGTH as u64;
    while let Some(entry) = reader.next_entry()? {
        size = entry.offset;
        if entry.zxid > zxid {
            break;
        }
        last = Some(entry.zxid);
        size = entry.offset + (entry.payload.len() + super::entry::OVERHEAD) as u64;
    }
    let last = last.ok_or_else(nothing)?;
    // The newest files first: a crash in between leaves a history without a hole.
    for (_, name) in logs[cut + 1..].iter().rev() {
        let path = log_dir.join(name);
        disk.remove(&path)
            .map_err(StorageError::io("remove", &path))?;
        disk.sync_dir(log_dir)
            .map_err(StorageError::io("force", log_dir))?;
    }
    let file = disk
        .open(&path, true)
        .map_err(StorageError::io("open", &path))?;
    file.set_size(size)
        .and_then(|()| file.sync())
        .map_err(StorageError::io("cut", &path))?;
    Ok(last)
}
