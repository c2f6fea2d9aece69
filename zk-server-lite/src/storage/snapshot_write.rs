//! Writing a snapshot: under a name that means nothing, forced, then renamed (disk formats, section 5).
//!
//! The writer adds header, seals and digest around bytes it is given: sessions, ACL map, nodes, in that order, each as
//! [`zk_proto::txn`] encodes it, and the path `/` that ends the tree. It does not know the tree. The ACL map stands before
//! the nodes, so whoever serialises a changing tree must know all lists beforehand, or refer only to those that were there
//! when it began.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use simd_adler32::Adler32;
use zk_proto::Zxid;
use zk_proto::jute::{Encode, put_count, put_long, put_ustring};
use zk_proto::txn::{AclEntry, FileHeader, SessionEntry, SnapshotDigest};

use super::compression::{Compression, Pack};
use super::disk::{Disk, DiskFile};
use super::error::StorageError;
use super::names;

/// Writes one snapshot. Dropped before [`finish`](Self::finish), it leaves no file.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    name: String,
    file: Arc<dyn DiskFile>,
    pack: Option<Pack>,
    seal: Adler32,
    bytes: u64,
    finished: bool,
}

impl SnapshotWriter {
    /// Begins the snapshot `snapshot.<zxid>` in `dir` (a `version-2` folder). `zxid` is the last transaction applied
    /// *before* anything was serialised. Only one snapshot of a directory may be written at a time.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        zxid: Zxid,
        compression: Compression,
    ) -> Result<Self, StorageError> {
        let path = dir.join(names::UNBORN_SNAPSHOT);
        let file = disk
            .create(&path, false)
            .map_err(StorageError::io("create", &path))?;
        let mut writer = Self {
            disk,
            dir: dir.to_owned(),
            name: names::snapshot(zxid, compression),
            pack: Some(Pack::new(Arc::clone(&file), compression)),
            file,
            seal: Adler32::new(),
            bytes: 0,
            finished: false,
        };
        let mut header = BytesMut::new();
        FileHeader::SNAPSHOT.encode(&mut header);
        writer.write(&header)?;
        Ok(writer)
    }

    /// Writes the session table and the ACL map: what stands before the nodes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_maps(
        &mut self,
        sessions: &[SessionEntry],
        acls: &[AclEntry],
    ) -> Result<(), StorageError> {
        let mut out = BytesMut::new();
        encode_maps(sessions, acls, &mut out);
        self.write(&out)
    }

    /// Writes encoded bytes: the maps if [`write_maps`](Self::write_maps) was not used, then nodes, parents first,
    /// and the path `/` that ends the tree.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.seal.write(bytes);
        self.bytes += bytes.len() as u64;
        let path = self.dir.join(names::UNBORN_SNAPSHOT);
        if let Some(pack) = &mut self.pack {
            pack.write_all(bytes)
                .map_err(StorageError::io("write", &path))?;
        }
        Ok(())
    }

    /// Bytes written so far, before packing.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.bytes
    }

    /// Ends, forces and names the snapshot; returns its path. `digest` is the tree's when the last node was written, with
    /// the last transaction applied by then; without one the file ends after its first seal, as in old releases.
    ///
    /// # Errors
    /// When it cannot be made durable. There is then no snapshot, and the ones before it still count.
    pub fn finish(mut self, digest: Option<SnapshotDigest>) -> Result<PathBuf, StorageError> {
        self.seal()?;
        if let Some(digest) = digest {
            let mut out = BytesMut::new();
            digest.encode(&mut out);
            self.write(&out)?;
            self.seal()?;
        }
        let unborn = self.dir.join(names::UNBORN_SNAPSHOT);
        if let Some(pack) = self.pack.take() {
            pack.finish().map_err(StorageError::io("write", &unborn))?;
        }
        self.file
            .sync()
            .map_err(StorageError::io("force", &unborn))?;
        let path = self.dir.join(&self.name);
        self.disk
            .rename(&unborn, &path)
            .map_err(StorageError::io("rename", &unborn))?;
        self.finished = true;
        self.disk
            .sync_dir(&self.dir)
            .map_err(StorageError::io("force", &self.dir))?;
        Ok(path)
    }

    /// Writes the checksum of all bytes before it, and the mark behind each checksum.
    fn seal(&mut self) -> Result<(), StorageError> {
        let mut out = BytesMut::new();
        put_long(&mut out, i64::from(self.seal.finish()));
        put_ustring(&mut out, Some("/"));
        self.write(&out)
    }
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter")
            .field("dir", &self.dir)
            .field("name", &self.name)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        let path = self.dir.join(names::UNBORN_SNAPSHOT);
        if !self.finished
            && let Err(error) = self.disk.remove(&path)
        {
            // The next start removes it.
            tracing::debug!(path = %path.display(), %error, "cannot remove an unfinished snapshot");
        }
    }
}

/// Encodes what stands before the nodes: the session table, then the ACL map.
pub fn encode_maps(sessions: &[SessionEntry], acls: &[AclEntry], out: &mut BytesMut) {
    put_count(out, sessions.len());
    for session in sessions {
        session.encode(out);
    }
    put_count(out, acls.len());
    for acl in acls {
        acl.encode(out);
    }
}
