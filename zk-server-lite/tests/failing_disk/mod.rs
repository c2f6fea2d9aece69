//! A disk in memory that fails or stands still when asked to, by kind of file and of call.
//!
//! What it holds, and what a power cut leaves of it, is [`MemoryDisk`]'s business.

#![allow(dead_code, reason = "each test program uses a part")]

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use zk_server_lite::storage::memory::{Crash, MemoryDisk};
use zk_server_lite::storage::{Disk, DiskFile};

use crate::raw::PATIENCE;

/// What a file is for, by its name when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Log,
    Snapshot,
    /// The session secret.
    Secret,
}

impl Role {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        if name.starts_with("log.") || name.starts_with("next-log.") {
            Some(Self::Log)
        } else if name.starts_with("snapshot.") || name.starts_with("next-snapshot.") {
            Some(Self::Snapshot)
        } else if name.contains("secret") {
            Some(Self::Secret)
        } else {
            None
        }
    }
}

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Create,
    /// Half of the bytes arrive.
    Write,
    /// What it covers is lost for good, though the next one succeeds: as on Linux.
    Force,
    Rename,
    Remove,
}

#[derive(Debug)]
struct Rule {
    role: Role,
    call: Call,
    error: io::ErrorKind,
    /// How many calls fail; then the disk works again.
    times: usize,
}

#[derive(Debug, Default)]
struct Rules {
    failing: Vec<Rule>,
    held: Option<(Role, Call)>,
    /// Calls of that kind that still pass.
    passing: usize,
    /// Calls that stand still now.
    waiting: usize,
    failed: usize,
}

#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<Rules>,
    changed: Condvar,
}

/// See the [module page](self). Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailingDisk {
    pub(crate) memory: MemoryDisk,
    shared: Arc<Shared>,
}

impl FailingDisk {
    /// The next so many calls of this kind fail.
    pub(crate) fn fail(&self, role: Role, call: Call, error: io::ErrorKind, times: usize) {
        self.shared.rules().failing.push(Rule {
            role,
            call,
            error,
            times,
        });
    }

    /// The disk works again.
    pub(crate) fn heal(&self) {
        self.shared.rules().failing.clear();
    }

    /// Calls of this kind stand still until [`release`](Self::release).
    pub(crate) fn hold(&self, role: Role, call: Call) {
        self.hold_after(0, role, call);
    }

    /// As [`hold`](Self::hold), after so many have passed.
    pub(crate) fn hold_after(&self, passing: usize, role: Role, call: Call) {
        let mut rules = self.shared.rules();
        rules.held = Some((role, call));
        rules.passing = passing;
    }

    pub(crate) fn release(&self) {
        self.shared.rules().held = None;
        self.shared.changed.notify_all();
    }

    /// Waits until a call stands still.
    pub(crate) fn wait_until_held(&self) {
        let rules = self.shared.rules();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(rules, PATIENCE, |rules| rules.waiting == 0)
            .unwrap();
        assert!(!waited.1.timed_out(), "nothing reached the disk");
    }

    /// How many calls failed.
    pub(crate) fn failures(&self) -> usize {
        self.shared.rules().failed
    }

    /// What a crash leaves, on a disk that works.
    pub(crate) fn crash(&self, crash: Crash) -> Self {
        Self {
            memory: self.memory.crash(crash),
            shared: Arc::default(),
        }
    }

    fn wrap(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FailingFile {
            disk: self.clone(),
            role: Role::of(path),
            file,
        })
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap()
    }

    /// Stands still if it is to; then says whether to fail.
    fn check(&self, role: Option<Role>, call: Call) -> io::Result<()> {
        let Some(role) = role else { return Ok(()) };
        let mut rules = self.rules();
        if rules.held == Some((role, call)) && rules.passing > 0 {
            rules.passing -= 1;
        } else if rules.held == Some((role, call)) {
            rules.waiting += 1;
            self.changed.notify_all();
            // Not for ever: a test that failed meanwhile has to end too.
            rules = self
                .changed
                .wait_timeout_while(rules, PATIENCE, |rules| rules.held == Some((role, call)))
                .unwrap()
                .0;
            rules.waiting -= 1;
        }
        let rule = rules
            .failing
            .iter_mut()
            .find(|rule| (rule.role, rule.call) == (role, call) && rule.times > 0);
        let Some(rule) = rule else { return Ok(()) };
        rule.times -= 1;
        let error = rule.error;
        rules.failed += 1;
        Err(error.into())
    }
}

impl Disk for FailingDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.memory.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.memory.create_dir(dir)
    }

    fn create(&self, path: &Path, private: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.shared.check(Role::of(path), Call::Create)?;
        Ok(self.wrap(path, self.memory.create(path, private)?))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, self.memory.open(path, write)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.check(Role::of(from), Call::Rename)?;
        self.memory.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.check(Role::of(path), Call::Remove)?;
        self.memory.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.memory.sync_dir(dir)
    }
}

#[derive(Debug)]
struct FailingFile {
    disk: FailingDisk,
    role: Option<Role>,
    file: Arc<dyn DiskFile>,
}

impl DiskFile for FailingFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.disk.shared.check(self.role, Call::Write) {
            self.file.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        self.file.write_at(bytes, offset)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }

    fn sync(&self) -> io::Result<()> {
        if let Err(error) = self.disk.shared.check(self.role, Call::Force) {
            self.disk.memory.fail_sync_after(0);
            // Drops what it covered.
            let _ = self.file.sync();
            return Err(error);
        }
        self.file.sync()
    }
}
