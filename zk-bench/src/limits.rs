//! The limits of the moment: what loopback, disk and memory give right now, without any server.
//!
//! Every comparison quotes them beside its figures, since the machine and its neighbours change from minute to minute.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::failure::{Outcome, Tried};
use crate::sample::{histogram, us};

/// Bytes of one forced write and of one copied block.
const PAGE: usize = 4096;
const BLOCK: usize = 64 << 20;
/// Bytes of a ping.
const PING: usize = 100;

/// One measurement of all limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Loopback round trip of 100 bytes between two threads, median, microseconds.
    pub(crate) round_trip_us: f64,
    /// 4 KiB written and forced in a region that was zero-filled before, median, microseconds.
    pub(crate) sync_zeroed_us: f64,
    /// The same at the end of a growing file.
    pub(crate) sync_growing_us: f64,
    /// Copying 64 MiB blocks, GiB/s.
    pub(crate) memcpy_gib: f64,
}

impl Limits {
    /// Measures each for about `time`; files go to `dir`.
    pub(crate) fn measure(dir: &Path, time: Duration) -> Outcome<Self> {
        fs::create_dir_all(dir).tried(|| format!("create {}", dir.display()))?;
        Ok(Self {
            round_trip_us: round_trip(time)?,
            sync_zeroed_us: sync(&dir.join("zeroed"), true, time)?,
            sync_growing_us: sync(&dir.join("growing"), false, time)?,
            memcpy_gib: memcpy(time),
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "round_trip_us": self.round_trip_us,
            "sync_zeroed_us": self.sync_zeroed_us,
            "sync_growing_us": self.sync_growing_us,
            "memcpy_gib_per_s": self.memcpy_gib,
        })
    }
}

fn record(histogram: &mut Histogram<u64>, since: Instant) {
    histogram.saturating_record(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
}

fn round_trip(time: Duration) -> Outcome<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).tried(|| "listen".into())?;
    let addr = listener
        .local_addr()
        .tried(|| "name the own address".into())?;
    let mut near = TcpStream::connect(addr).tried(|| "connect".into())?;
    let (mut far, _) = listener.accept().tried(|| "accept".into())?;
    near.set_nodelay(true)
        .and_then(|()| far.set_nodelay(true))
        .tried(|| "set TCP_NODELAY".into())?;
    let echo = std::thread::spawn(move || {
        let mut bytes = [0; PING];
        // Ends when the near side closes.
        while far.read_exact(&mut bytes).is_ok() && far.write_all(&bytes).is_ok() {}
    });
    let mut histogram = histogram();
    let mut bytes = [7; PING];
    let start = Instant::now();
    while start.elapsed() < time {
        let sent = Instant::now();
        near.write_all(&bytes)
            .and_then(|()| near.read_exact(&mut bytes))
            .tried(|| "ping over loopback".into())?;
        record(&mut histogram, sent);
    }
    drop(near);
    echo.join().expect("the echo thread cannot panic");
    Ok(us(histogram.value_at_quantile(0.5)))
}

fn sync(path: &Path, zeroed: bool, time: Duration) -> Outcome<f64> {
    let file = File::create(path).tried(|| format!("create {}", path.display()))?;
    let failed = || format!("write and force {}", path.display());
    let region = 16 << 20;
    if zeroed {
        let zeroes = vec![0; 1 << 20];
        for at in (0..region).step_by(zeroes.len()) {
            file.write_all_at(&zeroes, at).tried(failed)?;
        }
        file.sync_all().tried(failed)?;
    }
    let mut histogram = histogram();
    let mut at = 0;
    let start = Instant::now();
    while start.elapsed() < time {
        let begun = Instant::now();
        file.write_all_at(&[b'x'; PAGE], at).tried(failed)?;
        file.sync_data().tried(failed)?;
        record(&mut histogram, begun);
        at += PAGE as u64;
        if zeroed && at >= region {
            // Written before, so its blocks are in place all the same.
            at = 0;
        }
    }
    drop(file);
    fs::remove_file(path).tried(|| format!("remove {}", path.display()))?;
    Ok(us(histogram.value_at_quantile(0.5)))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a second are far below 2^52"
)]
fn memcpy(time: Duration) -> f64 {
    let from = vec![1_u8; BLOCK];
    let mut to = vec![0_u8; BLOCK];
    let mut copied = 0_usize;
    let start = Instant::now();
    while start.elapsed() < time {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        copied += BLOCK;
    }
    copied as f64 / start.elapsed().as_secs_f64() / f64::from(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits::measure(dir.path(), Duration::from_millis(20)).unwrap();
        assert!(
            limits.round_trip_us > 0.0
                && limits.sync_zeroed_us > 0.0
                && limits.sync_growing_us > 0.0
        );
        assert!(limits.memcpy_gib > 0.0);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "files are removed"
        );
    }
}
