//! One change seen by many: every session watches one node's data, another session sets it. The latency is that of the
//! last notification after the set was sent; the rate counts notifications.

use std::net::SocketAddr;
use std::time::Instant;

use super::pipelined::{Meter, Span};
use crate::conn::{Buffer, Found, Hub, Plain};
use crate::failure::{Failure, Outcome, demand};
use crate::sample::Sample;
use crate::wire::{self, Cursor};

pub(super) fn run(
    addr: SocketAddr,
    pid: Option<u32>,
    root: &str,
    watchers: usize,
    span: Span,
) -> Outcome<Sample> {
    let path = format!("{root}/watched");
    let mut plain = Plain::open(addr)?;
    plain.all([wire::create(&path, b"0", wire::PERSISTENT)])?;
    let mut hub = Hub::new()?;
    hub.open(addr, watchers, Buffer::Small)?;
    let setter = watchers;
    hub.open(addr, 1, Buffer::Small)?;

    let watch = wire::get_data(&path, true);
    let set = wire::set_data(&path, b"1");
    let mut meter = Meter::new(pid);
    let start = Instant::now();
    let mut rounds: u64 = 0;
    for xid in 1.. {
        for slot in 0..watchers {
            wire::put_request(hub.out(slot), &watch, xid);
            hub.flush(slot)?;
        }
        let mut registered = vec![false; watchers];
        hub.until(
            "watches to be registered",
            |missing, slot, found, _| {
                let Found::Frame(frame) = found else {
                    return Err(lost());
                };
                let header = Cursor::new(frame).header()?;
                demand!(
                    header.xid == xid && header.err == 0,
                    "odd reply to a watching getData: {header:?}"
                );
                demand!(
                    !std::mem::replace(&mut registered[slot], true),
                    "two replies to one request"
                );
                *missing -= 1;
                Ok(*missing == 0)
            },
            &mut watchers.clone(),
        )?;

        let now = Instant::now();
        let counts = now - start >= span.warm;
        if now - start >= span.warm + span.measure && rounds > 0 {
            break;
        }
        if counts {
            meter.begin(now)?;
        }
        let sent = Instant::now();
        wire::put_request(hub.out(setter), &set, xid);
        hub.flush(setter)?;
        let mut notified = vec![false; watchers];
        let mut last = sent;
        // The setter's reply ends a round too, but is not part of the latency.
        hub.until(
            "notifications",
            |missing, slot, found, _| {
                let Found::Frame(frame) = found else {
                    return Err(lost());
                };
                let mut cursor = Cursor::new(frame);
                let header = cursor.header()?;
                if slot == setter {
                    demand!(
                        header.xid == xid && header.err == 0,
                        "odd reply to setData: {header:?}"
                    );
                } else {
                    demand!(
                        header.xid == wire::XID_NOTIFICATION && header.err == 0,
                        "{header:?} instead of a notification"
                    );
                    let (kind, at) = wire::event(&mut cursor)?;
                    demand!(
                        kind == wire::EVENT_DATA_CHANGED && at == path.as_bytes(),
                        "event {kind} at {}",
                        at.escape_ascii()
                    );
                    demand!(
                        !std::mem::replace(&mut notified[slot], true),
                        "two notifications for one change"
                    );
                    last = Instant::now();
                }
                *missing -= 1;
                Ok(*missing == 0)
            },
            &mut (watchers + 1),
        )?;
        if counts {
            meter.end(Instant::now())?;
            meter.record(u64::try_from((last - sent).as_nanos()).unwrap_or(u64::MAX));
            rounds += 1;
        }
    }
    plain.close()?;
    meter.sample_of(rounds * watchers as u64)
}

fn lost() -> Failure {
    Failure::Deviation("the server closed a watcher's connection".into())
}
