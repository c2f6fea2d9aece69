//! Sessions opened and closed, a fixed number at any time: connect, be confirmed, closeSession, see the reply, and again.
//! The latency is that of opening; the rate counts whole sessions.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::pipelined::{Meter, Span};
use crate::conn::{Buffer, Found, Hub, PATIENCE};
use crate::failure::{Failure, Outcome, demand};
use crate::sample::Sample;
use crate::wire;

enum Step {
    Connecting(Instant),
    Closing,
}

pub(super) fn run(addr: SocketAddr, pid: Option<u32>, slots: usize, span: Span) -> Outcome<Sample> {
    let mut hub = Hub::new()?;
    let mut steps = Vec::new();
    for _ in 0..slots {
        steps.push(Some(Step::Connecting(Instant::now())));
        hub.connect(addr, Buffer::Small)?;
    }
    let close = wire::close_session();
    let mut meter = Meter::new(pid);
    let mut sessions = 0;
    let start = Instant::now();
    let mut progress = start;
    let mut finished = Vec::new();
    loop {
        let now = Instant::now();
        if !meter.running && now - start >= span.warm {
            meter.begin(now)?;
        }
        if now - start >= span.warm + span.measure {
            meter.end(now)?;
            return meter.sample_of(sessions);
        }
        finished.clear();
        hub.round(Duration::from_millis(200), |slot, found, out| {
            match (found, steps[slot].take()) {
                (Found::Frame(frame), Some(Step::Connecting(since))) => {
                    wire::connected(frame)?;
                    if meter.running {
                        meter.record(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
                    }
                    wire::put_request(out, &close, 1);
                    steps[slot] = Some(Step::Closing);
                }
                (Found::Frame(frame), Some(Step::Closing)) => {
                    let header = wire::Cursor::new(frame).header()?;
                    demand!(
                        header.xid == 1 && header.err == 0 && frame.len() == 16,
                        "odd reply to closeSession: {header:?}"
                    );
                    sessions += u64::from(meter.running);
                    finished.push(slot);
                }
                (Found::Frame(_), None) => {
                    return Err(Failure::Deviation(
                        "a frame after the reply to closeSession".into(),
                    ));
                }
                // The server closes after its reply; before it, a session was lost.
                (Found::Closed, None) => {}
                (Found::Closed, Some(_)) => {
                    return Err(Failure::Deviation(
                        "a connection was closed before closeSession was answered".into(),
                    ));
                }
            }
            Ok(())
        })?;
        for slot in finished.drain(..) {
            progress = now;
            hub.close(slot);
            steps[slot] = Some(Step::Connecting(Instant::now()));
            hub.reconnect(slot, addr, Buffer::Small)?;
        }
        if progress.elapsed() > PATIENCE {
            return Err(Failure::TimedOut("no session ended for a minute".into()));
        }
    }
}
