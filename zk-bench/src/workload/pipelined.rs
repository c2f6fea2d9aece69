//! Drives pipelined requests: C connections with W requests in flight on each, for a time. Knows no operation.
//!
//! One thread, one poll. Every reply is answered with a new request at once; requests of one readiness event leave in one
//! write. Time is read once per readiness event, so a latency is exact to the length of one event's work.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::conn::{Buffer, Found, Hub, PATIENCE};
use crate::failure::{Failure, Outcome, demand};
use crate::procfs;
use crate::sample::{Latency, Sample};
use crate::wire::Cursor;

/// The requests of one connection and what their replies must be.
pub(super) trait Lane {
    /// Appends the next request with this xid.
    fn put(&mut self, xid: i32, out: &mut Vec<u8>);

    /// Checks the reply to the oldest unanswered request, behind its header with error code 0.
    fn check(&mut self, body: Cursor<'_>) -> Outcome<()>;
}

/// What the server is asked to do, for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Runs, but does not count.
    pub(crate) warm: Duration,
    /// Counts.
    pub(crate) measure: Duration,
}

/// Xids and send times of one connection's unanswered requests.
struct InFlight {
    next_xid: i32,
    due_xid: i32,
    /// Send time in nanoseconds and number of requests sent then, oldest first.
    sent: VecDeque<(u64, u32)>,
    /// Last zxid of a reply: it never falls on one connection.
    zxid: i64,
}

/// Runs the lanes, one connection each, with `window` requests in flight on each.
pub(super) fn drive<L: Lane>(
    addr: SocketAddr,
    pid: Option<u32>,
    mut lanes: Vec<L>,
    window: usize,
    span: Span,
) -> Outcome<Sample> {
    let mut hub = Hub::new()?;
    hub.open(addr, lanes.len(), Buffer::Large)?;
    let start = Instant::now();
    let mut flights: Vec<InFlight> = Vec::new();
    for (slot, lane) in lanes.iter_mut().enumerate() {
        let mut flight = InFlight {
            next_xid: 1,
            due_xid: 1,
            sent: VecDeque::new(),
            zxid: 0,
        };
        for _ in 0..window {
            lane.put(flight.next_xid, hub.out(slot));
            flight.next_xid += 1;
        }
        flight.sent.push_back((
            nanos(start.elapsed()),
            u32::try_from(window).expect("windows are small"),
        ));
        flights.push(flight);
        hub.flush(slot)?;
    }

    let mut meter = Meter::new(pid);
    let mut stopping = false;
    let mut progress = Instant::now();
    loop {
        let now = Instant::now();
        let elapsed = now - start;
        if !meter.running && elapsed >= span.warm {
            meter.begin(now)?;
        }
        if !stopping && elapsed >= span.warm + span.measure {
            meter.end(now)?;
            stopping = true;
        }
        let counting = meter.running && !stopping;
        let mut stamp = None;
        let any = hub.round(Duration::from_millis(200), |slot, found, out| {
            let Found::Frame(frame) = found else {
                return Err(Failure::Deviation(
                    "the server closed a connection under load".into(),
                ));
            };
            let stamp = *stamp.get_or_insert_with(|| nanos(start.elapsed()));
            let flight = &mut flights[slot];
            let mut cursor = Cursor::new(frame);
            let header = cursor.header()?;
            demand!(
                header.xid == flight.due_xid,
                "xid {} where {} is due",
                header.xid,
                flight.due_xid
            );
            demand!(
                header.err == 0,
                "an operation that should succeed failed with {}",
                header.err
            );
            demand!(
                header.zxid >= flight.zxid,
                "zxid {} after {}",
                header.zxid,
                flight.zxid
            );
            flight.zxid = header.zxid;
            flight.due_xid += 1;
            lanes[slot].check(cursor)?;
            let oldest = flight
                .sent
                .front_mut()
                .expect("a reply that was due has its send time");
            if counting {
                meter.record(stamp.saturating_sub(oldest.0));
            }
            oldest.1 -= 1;
            if oldest.1 == 0 {
                flight.sent.pop_front();
            }
            if !stopping {
                lanes[slot].put(flight.next_xid, out);
                flight.next_xid += 1;
                match flight.sent.back_mut() {
                    Some(newest) if newest.0 == stamp => newest.1 += 1,
                    _ => flight.sent.push_back((stamp, 1)),
                }
            }
            Ok(())
        })?;
        if any {
            progress = Instant::now();
        } else if progress.elapsed() > PATIENCE {
            return Err(Failure::TimedOut("no reply for a minute".into()));
        }
        if stopping
            && flights
                .iter()
                .all(|flight| flight.due_xid == flight.next_xid)
        {
            return meter.sample();
        }
    }
}

fn nanos(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts operations, latencies and CPU between two moments. Shared by all workloads.
pub(super) struct Meter {
    pid: Option<u32>,
    histogram: Histogram<u64>,
    /// Equal latencies in a row are recorded at once.
    run: (u64, u64),
    pub(super) running: bool,
    begun: Option<(Instant, Option<Duration>, Duration)>,
    elapsed: Duration,
    server_cpu: Option<Duration>,
    generator_cpu: Duration,
}

impl Meter {
    pub(super) fn new(pid: Option<u32>) -> Self {
        Self {
            pid,
            histogram: crate::sample::histogram(),
            run: (0, 0),
            running: false,
            begun: None,
            elapsed: Duration::ZERO,
            server_cpu: None,
            generator_cpu: Duration::ZERO,
        }
    }

    pub(super) fn begin(&mut self, now: Instant) -> Outcome<()> {
        self.running = true;
        self.begun = Some((
            now,
            self.pid.map(procfs::cpu_of).transpose()?,
            procfs::cpu_of_this_thread()?,
        ));
        Ok(())
    }

    /// Adds the time since [`Self::begin`]; may be repeated for workloads that have pauses.
    pub(super) fn end(&mut self, now: Instant) -> Outcome<()> {
        let (begun, server, generator) = self.begun.take().expect("end follows begin");
        self.elapsed += now - begun;
        if let (Some(pid), Some(before)) = (self.pid, server) {
            let spent = procfs::cpu_of(pid)?.saturating_sub(before);
            self.server_cpu = Some(self.server_cpu.unwrap_or_default() + spent);
        }
        self.generator_cpu += procfs::cpu_of_this_thread()?.saturating_sub(generator);
        self.running = false;
        Ok(())
    }

    pub(super) fn record(&mut self, nanos: u64) {
        if self.run.0 != nanos {
            self.drain();
            self.run.0 = nanos;
        }
        self.run.1 += 1;
    }

    fn drain(&mut self) {
        // A latency beyond the histogram's range would be one of hours: the patience ends the run before.
        self.histogram.saturating_record_n(self.run.0, self.run.1);
        self.run.1 = 0;
    }

    /// One operation per recorded latency.
    pub(super) fn sample(self) -> Outcome<Sample> {
        let ops = self.histogram.len() + self.run.1;
        self.sample_of(ops)
    }

    /// `ops` operations, whatever was recorded.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a few seconds are far below 2^52"
    )]
    pub(super) fn sample_of(mut self, ops: u64) -> Outcome<Sample> {
        self.drain();
        if ops == 0 || self.elapsed.is_zero() {
            return Err(Failure::TimedOut(
                "not one operation ended while it was measured".into(),
            ));
        }
        let seconds = self.elapsed.as_secs_f64();
        Ok(Sample {
            rate: ops as f64 / seconds,
            latency: Latency::of(&self.histogram),
            cpu_us: self
                .server_cpu
                .filter(|cpu| !cpu.is_zero())
                .map(|cpu| cpu.as_secs_f64() * 1e6 / ops as f64),
            generator_cores: self.generator_cpu.as_secs_f64() / seconds,
        })
    }
}
