//! Sessions that each own some ephemerals, all closed at once. The latency is from the first closeSession sent until the
//! last is answered, checked by the parent's empty child list; the rate counts sessions.

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
    sessions: usize,
    each: usize,
    span: Span,
) -> Outcome<Sample> {
    let parent = format!("{root}/ephemerals");
    let mut plain = Plain::open(addr)?;
    plain.all([wire::create(&parent, b"", wire::PERSISTENT)])?;
    let close = wire::close_session();
    let close_xid = i32::try_from(each).expect("few nodes") + 1;
    let mut meter = Meter::new(pid);
    let start = Instant::now();
    let mut rounds: u64 = 0;
    while rounds == 0 || start.elapsed() < span.warm + span.measure {
        let mut hub = Hub::new()?;
        hub.open(addr, sessions, Buffer::Small)?;
        for slot in 0..sessions {
            for (node, xid) in (1..close_xid).enumerate() {
                let create =
                    wire::create(&format!("{parent}/{slot}-{node}"), b"e", wire::EPHEMERAL);
                wire::put_request(hub.out(slot), &create, xid);
            }
            hub.flush(slot)?;
        }
        hub.until(
            "ephemerals to be created",
            |missing, _, found, _| {
                let Found::Frame(frame) = found else {
                    return Err(lost());
                };
                let header = Cursor::new(frame).header()?;
                demand!(
                    header.err == 0,
                    "an ephemeral was refused with {}",
                    header.err
                );
                *missing -= 1;
                Ok(*missing == 0)
            },
            &mut (sessions * each),
        )?;
        let before = plain.children(&parent)?.len();
        demand!(
            before == sessions * each,
            "{before} ephemerals where {} were created",
            sessions * each
        );

        let sent = Instant::now();
        let counts = start.elapsed() >= span.warm;
        if counts {
            meter.begin(sent)?;
        }
        for slot in 0..sessions {
            wire::put_request(hub.out(slot), &close, close_xid);
            hub.flush(slot)?;
        }
        let mut answered = vec![false; sessions];
        hub.until(
            "sessions to be closed",
            |missing, slot, found, _| {
                match found {
                    Found::Frame(frame) => {
                        let header = Cursor::new(frame).header()?;
                        demand!(
                            header.xid == close_xid && header.err == 0,
                            "odd reply to closeSession: {header:?}"
                        );
                        demand!(
                            !std::mem::replace(&mut answered[slot], true),
                            "two replies to one closeSession"
                        );
                        *missing -= 1;
                    }
                    Found::Closed if answered[slot] => {}
                    Found::Closed => return Err(lost()),
                }
                Ok(*missing == 0)
            },
            &mut sessions.clone(),
        )?;
        let gone = sent.elapsed();
        if counts {
            meter.end(Instant::now())?;
            meter.record(u64::try_from(gone.as_nanos()).unwrap_or(u64::MAX));
            rounds += 1;
        }
        let left = plain.children(&parent)?.len();
        demand!(left == 0, "{left} ephemerals outlived their sessions");
    }
    plain.close()?;
    meter.sample_of(rounds * sessions as u64)
}

fn lost() -> Failure {
    Failure::Deviation("the server closed a connection before it answered".into())
}
