//! A disk in memory that forgets and tears: for tests of what survives a crash.
//!
//! It keeps apart what programs see and what a power cut would leave. [`MemoryDisk::crash`] gives the latter: every change
//! that was not forced is kept, lost, or torn by sector as a seed decides, which real disks do too. Names of new files
//! survive only as far as their directory was forced. It can also fail a force, and be full.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile};

/// The unit that arrives whole or not at all.
const SECTOR: usize = 512;

/// What a crash does to changes that were not forced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// All are lost: the power failed.
    LoseAll,
    /// All are kept: the process was killed.
    KeepAll,
    /// Each is kept, lost, or torn, as this seed decides; names are kept up to some point in time.
    Tear(u64),
}

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    dirs: BTreeSet<PathBuf>,
    /// What programs see.
    names: BTreeMap<PathBuf, usize>,
    /// What a power cut leaves.
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names since their directory was forced, in order.
    name_changes: Vec<NameChange>,
    files: Vec<Content>,
    failing_syncs: Option<u64>,
    capacity: Option<u64>,
    syncs: u64,
    writes: u64,
}

#[derive(Debug, Default, Clone)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetSize(usize),
}

#[derive(Debug, Clone)]
struct NameChange {
    dir: PathBuf,
    remove: Option<PathBuf>,
    add: Option<(PathBuf, usize)>,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk that a crash at this moment would leave. This one goes on unharmed, so that many crashes can be tried.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> Self {
        let state = self.lock();
        let mut random = fastrand::Rng::with_seed(match crash {
            Crash::Tear(seed) => seed,
            Crash::LoseAll | Crash::KeepAll => 0,
        });
        let mut names = state.durable_names.clone();
        let kept = match crash {
            Crash::LoseAll => 0,
            Crash::KeepAll => state.name_changes.len(),
            Crash::Tear(_) => random.usize(0..=state.name_changes.len()),
        };
        for change in &state.name_changes[..kept] {
            change.apply(&mut names);
        }
        let files = state
            .files
            .iter()
            .map(|file| {
                let mut bytes = file.durable.clone();
                for change in &file.changes {
                    match crash {
                        Crash::LoseAll => {}
                        Crash::KeepAll => change.apply(&mut bytes, |_| true),
                        Crash::Tear(_) => match random.u8(0..3) {
                            0 => {}
                            1 => change.apply(&mut bytes, |_| true),
                            _ => change.apply(&mut bytes, |_| random.bool()),
                        },
                    }
                }
                Content {
                    seen: bytes.clone(),
                    durable: bytes,
                    changes: Vec::new(),
                }
            })
            .collect();
        Self {
            state: Arc::new(Mutex::new(State {
                dirs: state.dirs.clone(),
                durable_names: names.clone(),
                names,
                files,
                ..State::default()
            })),
        }
    }

    /// Lets the next `count` forces of files succeed, and fails the one after it. What the failed one covered is lost for
    /// good, though a later force succeeds: that is what Linux does.
    pub fn fail_sync_after(&self, count: u64) {
        self.lock().failing_syncs = Some(count);
    }

    /// Limits the bytes of all files together; writes beyond fail, having written what fits.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Forces of files so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Writes to files so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// A file's bytes as programs see them.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        let id = state.names.get(path)?;
        Some(state.files[*id].seen.clone())
    }

    /// Puts a file there, durably, with its directory.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock();
        if let Some(dir) = path.parent() {
            state.dirs.insert(dir.to_owned());
        }
        let id = state.files.len();
        state.files.push(Content {
            seen: bytes.to_vec(),
            durable: bytes.to_vec(),
            changes: Vec::new(),
        });
        state.names.insert(path.to_owned(), id);
        state.durable_names.insert(path.to_owned(), id);
    }

    /// A panic of a test while holding it leaves nothing half done that another test could see.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Change {
    /// Applies the change as far as its sectors arrive.
    fn apply(&self, bytes: &mut Vec<u8>, mut arrives: impl FnMut(usize) -> bool) {
        match self {
            Self::SetSize(size) => {
                if arrives(0) {
                    bytes.resize(*size, 0);
                }
            }
            Self::Write {
                offset,
                bytes: written,
            } => {
                let end = offset + written.len();
                let mut from = *offset;
                while from < end {
                    let to = end.min((from / SECTOR + 1) * SECTOR);
                    if arrives(from / SECTOR) {
                        if bytes.len() < to {
                            bytes.resize(to, 0);
                        }
                        bytes[from..to].copy_from_slice(&written[from - offset..to - offset]);
                    }
                    from = to;
                }
            }
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(path) = &self.remove {
            names.remove(path);
        }
        if let Some((path, id)) = &self.add {
            names.insert(path.clone(), *id);
        }
    }
}

impl State {
    fn change_names(&mut self, dir: &Path, remove: Option<PathBuf>, add: Option<(PathBuf, usize)>) {
        let change = NameChange {
            dir: dir.parent().unwrap_or(dir).to_owned(),
            remove,
            add,
        };
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for MemoryDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(state
            .names
            .keys()
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.lock().dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn create(&self, path: &Path, _private: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        // A file that is emptied keeps its place; it is forced like any other change.
        let id = match state.find(path) {
            Ok(id) => {
                state.files[id].seen.clear();
                state.files[id].changes.push(Change::SetSize(0));
                id
            }
            Err(_) => {
                let id = state.files.len();
                state.files.push(Content::default());
                state.change_names(path, None, Some((path.to_owned(), id)));
                id
            }
        };
        Ok(self.handle(id))
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.lock().find(path)?;
        Ok(self.handle(id))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let id = state.find(from)?;
        state.change_names(from, Some(from.to_owned()), Some((to.to_owned(), id)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.find(path)?;
        state.change_names(path, Some(path.to_owned()), None);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let (now, later) = std::mem::take(&mut state.name_changes)
            .into_iter()
            .partition(|change| change.dir == dir);
        let now: Vec<NameChange> = now;
        for change in now {
            change.apply(&mut state.durable_names);
        }
        state.name_changes = later;
        Ok(())
    }
}

impl MemoryDisk {
    fn handle(&self, id: usize) -> Arc<dyn DiskFile> {
        Arc::new(MemoryFile {
            disk: self.clone(),
            id,
        })
    }
}

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    id: usize,
}

impl DiskFile for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.id].seen.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        let bytes = &state.files[self.id].seen;
        let from = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
        let count = buf.len().min(bytes.len() - from);
        buf[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.writes += 1;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let used: u64 = state.files.iter().map(|file| file.seen.len() as u64).sum();
        let grows = (offset + bytes.len()).saturating_sub(state.files[self.id].seen.len()) as u64;
        let excess = state
            .capacity
            .map_or(0, |capacity| (used + grows).saturating_sub(capacity))
            // What has its place already needs no room.
            .min(grows);
        let fits = bytes.len()
            - usize::try_from(excess).map_or(bytes.len(), |excess| excess.min(bytes.len()));
        let change = Change::Write {
            offset,
            bytes: bytes[..fits].to_vec(),
        };
        let file = &mut state.files[self.id];
        change.apply(&mut file.seen, |_| true);
        file.changes.push(change);
        if excess > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let change = Change::SetSize(usize::try_from(size).map_err(io::Error::other)?);
        let file = &mut state.files[self.id];
        change.apply(&mut file.seen, |_| true);
        file.changes.push(change);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.syncs += 1;
        let fails = match &mut state.failing_syncs {
            Some(0) => {
                state.failing_syncs = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        let file = &mut state.files[self.id];
        let changes = std::mem::take(&mut file.changes);
        if fails {
            return Err(io::Error::other("the device failed"));
        }
        for change in changes {
            change.apply(&mut file.durable, |_| true);
        }
        Ok(())
    }
}
