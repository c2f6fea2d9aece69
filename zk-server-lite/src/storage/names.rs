//! File names in a data directory: which are ours, which are Java's, which mean nothing.
//!
//! Java takes every `log.<hex>` for a log and every `snapshot.<hex>[.anything]` for a snapshot. So unfinished files of
//! ours start with another word; they are leftovers of a crash when found at start, and are removed.

use zk_proto::Zxid;

use super::compression::Compression;

/// The folder of each data directory that holds the files; the number is the format's.
pub const VERSION_DIR: &str = "version-2";
/// A segment that is being zero-filled, or waits to become a log.
pub(crate) const SPARE_LOG: &str = "next-log.spare";
/// A log that has no first entry yet.
pub(crate) const UNBORN_LOG: &str = "next-log.new";
/// A snapshot being written.
pub(crate) const UNBORN_SNAPSHOT: &str = "next-snapshot.new";
/// Unfinished files that a crash may leave.
pub(crate) const LEFTOVERS: [&str; 3] = [SPARE_LOG, UNBORN_LOG, UNBORN_SNAPSHOT];

/// The name of the log that begins with `first`.
pub(crate) fn log(first: Zxid) -> String {
    format!("log.{:x}", first.0)
}

/// The name of the snapshot begun at `zxid`.
pub(crate) fn snapshot(zxid: Zxid, compression: Compression) -> String {
    format!("snapshot.{:x}{}", zxid.0, compression.extension())
}

/// The first transaction of the log of this name, if it is a log's name.
pub(crate) fn parse_log(name: &str) -> Option<Zxid> {
    let mut parts = name.split('.');
    (parts.next() == Some("log"))
        .then(|| parts.next().and_then(parse_hex))
        .flatten()
        .filter(|_| parts.next().is_none())
}

/// The zxid and compression of the snapshot of this name, if it is a snapshot's name.
///
/// `snapshot.5.tmp` is none: it is what Java writes while a leader sends its state, and it may be unfinished.
pub(crate) fn parse_snapshot(name: &str) -> Option<(Zxid, Compression)> {
    let mut parts = name.split('.');
    if parts.next() != Some("snapshot") {
        return None;
    }
    let zxid = parts.next().and_then(parse_hex)?;
    let compression = Compression::from_extension(parts.next())?;
    parts.next().is_none().then_some((zxid, compression))
}

/// Java's parser takes upper case and leading zeros too.
fn parse_hex(text: &str) -> Option<Zxid> {
    (!text.starts_with('+'))
        .then(|| i64::from_str_radix(text, 16).ok())
        .flatten()
        .filter(|zxid| *zxid >= 0)
        .map(Zxid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_written() {
        assert_eq!(log(Zxid(0x1a)), "log.1a");
        assert_eq!(parse_log("log.1a"), Some(Zxid(0x1a)));
        assert_eq!(
            parse_snapshot("snapshot.13.gz"),
            Some((Zxid(0x13), Compression::Gzip))
        );
        for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
            let name = snapshot(Zxid(0x3_0000_0005), compression);
            assert_eq!(
                parse_snapshot(&name),
                Some((Zxid(0x3_0000_0005), compression))
            );
        }
    }

    #[test]
    fn other_files_mean_nothing() {
        for name in [
            "log",
            "log.",
            "log.xyz",
            "log.1.fixed",
            "log.-1",
            "log.+1",
            "logs.1",
            "acceptedEpoch",
        ] {
            assert_eq!(parse_log(name), None, "{name}");
        }
        for name in [
            "snapshot",
            "snapshot.",
            "snapshot.5.tmp",
            "snapshot.5.gz.tmp",
            "snap.5",
        ] {
            assert_eq!(parse_snapshot(name), None, "{name}");
        }
        // Java's rule: what starts with `log.` or `snapshot.` is looked at.
        for name in LEFTOVERS {
            assert!(
                !name.starts_with("log.") && !name.starts_with("snapshot."),
                "{name}"
            );
        }
    }
}
