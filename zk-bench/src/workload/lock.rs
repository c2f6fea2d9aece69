//! The lock recipe by raw operations: an ephemeral sequential node, the children, a watch on the predecessor.
//!
//! A holder releases at once and queues again, so every release hands over to a contender that already waits. The latency
//! is that hand-over: from the delete sent to the successor's child list that shows it first. Grants must come in the
//! order of the sequence numbers, and never two at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::pipelined::{Meter, Span};
use crate::conn::{Buffer, Found, Hub, PATIENCE};
use crate::failure::{Failure, Outcome, demand};
use crate::sample::Sample;
use crate::wire::{self, Cursor};

/// What a contender waits for.
enum Step {
    Create,
    Children,
    /// The reply to exists on the predecessor.
    Exists,
    /// The predecessor's deletion.
    Event,
    /// The event came before the reply to exists, which still has to come.
    ExistsAfterEvent,
    Delete,
}

struct Contender {
    step: Step,
    xid: i32,
    /// The node's name below the lock.
    name: String,
    predecessor: String,
}

impl Contender {
    fn ask(&mut self, step: Step, request: &[u8], out: &mut Vec<u8>) {
        self.step = step;
        self.xid += 1;
        wire::put_request(out, request, self.xid);
    }
}

/// What all contenders share.
struct Course {
    parent: String,
    create: Vec<u8>,
    children: Vec<u8>,
    /// Sequence number of the last grant: they only rise.
    granted: Option<u64>,
    /// When the last holder sent its delete; the next grant ends the hand-over.
    released: Option<Instant>,
    meter: Meter,
    grants: u64,
}

pub(super) fn run(
    addr: SocketAddr,
    pid: Option<u32>,
    root: &str,
    contenders: usize,
    span: Span,
) -> Outcome<Sample> {
    let parent = format!("{root}/lock");
    let mut plain = crate::conn::Plain::open(addr)?;
    plain.all([wire::create(&parent, b"", wire::PERSISTENT)])?;
    plain.close()?;
    let mut course = Course {
        create: wire::create(&format!("{parent}/lock-"), b"", wire::EPHEMERAL_SEQUENTIAL),
        children: wire::get_children(&parent),
        parent,
        granted: None,
        released: None,
        meter: Meter::new(pid),
        grants: 0,
    };
    let mut hub = Hub::new()?;
    hub.open(addr, contenders, Buffer::Small)?;
    let mut all = Vec::new();
    for slot in 0..contenders {
        let mut contender = Contender {
            step: Step::Create,
            xid: 0,
            name: String::new(),
            predecessor: String::new(),
        };
        contender.ask(Step::Create, &course.create, hub.out(slot));
        hub.flush(slot)?;
        all.push(contender);
    }
    let start = Instant::now();
    let mut progress = start;
    loop {
        let now = Instant::now();
        if !course.meter.running && now - start >= span.warm {
            course.meter.begin(now)?;
        }
        if now - start >= span.warm + span.measure {
            course.meter.end(now)?;
            return course.meter.sample_of(course.grants);
        }
        let any = hub.round(Duration::from_millis(200), |slot, found, out| {
            let Found::Frame(frame) = found else {
                return Err(Failure::Deviation(
                    "the server closed a contender's connection".into(),
                ));
            };
            course.advance(&mut all[slot], frame, out)
        })?;
        if any {
            progress = now;
        } else if progress.elapsed() > PATIENCE {
            return Err(Failure::TimedOut(
                "the lock was not handed over for a minute".into(),
            ));
        }
    }
}

impl Course {
    fn advance(
        &mut self,
        contender: &mut Contender,
        frame: &[u8],
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        let mut body = Cursor::new(frame);
        let header = body.header()?;
        if header.xid == wire::XID_NOTIFICATION {
            let (kind, path) = wire::event(&mut body)?;
            demand!(
                kind == wire::EVENT_DELETED
                    && path == format!("{}/{}", self.parent, contender.predecessor).as_bytes(),
                "event {kind} at {} while waiting for {}",
                path.escape_ascii(),
                contender.predecessor
            );
            match contender.step {
                Step::Event => contender.ask(Step::Children, &self.children, out),
                Step::Exists => contender.step = Step::ExistsAfterEvent,
                _ => {
                    return Err(Failure::Deviation(
                        "a deletion was notified that nobody watches".into(),
                    ));
                }
            }
            return Ok(());
        }
        demand!(
            header.xid == contender.xid,
            "xid {} where {} is due",
            header.xid,
            contender.xid
        );
        match contender.step {
            Step::Create => {
                demand!(header.err == 0, "a create failed with {}", header.err);
                let path = String::from_utf8_lossy(body.buffer()?).into_owned();
                body.end()?;
                let name = path
                    .strip_prefix(&self.parent)
                    .and_then(|rest| rest.strip_prefix('/'));
                contender.name = name
                    .ok_or_else(|| Failure::Deviation(format!("created {path}")))?
                    .to_owned();
                contender.ask(Step::Children, &self.children, out);
            }
            Step::Children => {
                demand!(header.err == 0, "getChildren failed with {}", header.err);
                match predecessor(&mut body, &contender.name)? {
                    None => {
                        self.grant(&contender.name)?;
                        let delete = wire::delete(&format!("{}/{}", self.parent, contender.name));
                        self.released = Some(Instant::now());
                        contender.ask(Step::Delete, &delete, out);
                    }
                    Some(before) => {
                        contender.predecessor = before;
                        let exists = wire::exists(
                            &format!("{}/{}", self.parent, contender.predecessor),
                            true,
                        );
                        contender.ask(Step::Exists, &exists, out);
                    }
                }
            }
            Step::Exists if header.err == wire::NO_NODE => {
                contender.ask(Step::Children, &self.children, out)
            }
            Step::Exists => {
                demand!(header.err == 0, "exists failed with {}", header.err);
                contender.step = Step::Event;
            }
            Step::Delete => {
                demand!(header.err == 0, "a release failed with {}", header.err);
                contender.ask(Step::Create, &self.create, out);
            }
            Step::Event | Step::ExistsAfterEvent => {
                // An event that a reply reflects comes before the reply: the node was there when exists was answered.
                return Err(Failure::Deviation(
                    "a reply to exists after the event that ended its watch".into(),
                ));
            }
        }
        Ok(())
    }

    fn grant(&mut self, name: &str) -> Outcome<()> {
        let number = sequence(name)?;
        demand!(
            self.granted.is_none_or(|last| number > last),
            "lock {number} was granted after {:?}",
            self.granted
        );
        self.granted = Some(number);
        if self.meter.running {
            self.grants += 1;
            if let Some(released) = self.released {
                self.meter
                    .record(u64::try_from(released.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
        }
        Ok(())
    }
}

/// The number at the end of a sequential name.
fn sequence(name: &str) -> Outcome<u64> {
    let digits = name.len().checked_sub(10).and_then(|at| name.get(at..));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Failure::Deviation(format!("{name} has no sequence number")))
}

/// The child right before `own`, `None` when `own` is first. The list has no order.
fn predecessor(body: &mut Cursor<'_>, own: &str) -> Outcome<Option<String>> {
    let mine = sequence(own)?;
    let mut before: Option<(u64, String)> = None;
    let mut found = false;
    for _ in 0..body.int()? {
        let name = String::from_utf8_lossy(body.buffer()?).into_owned();
        let number = sequence(&name)?;
        found |= number == mine;
        if number < mine && before.as_ref().is_none_or(|(best, _)| number > *best) {
            before = Some((number, name));
        }
    }
    body.end()?;
    demand!(
        found,
        "the own node {own} is missing from the list of children"
    );
    Ok(before.map(|(_, name)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn children(names: &[&str]) -> Vec<u8> {
        let mut body = Vec::new();
        wire::put_int(&mut body, i32::try_from(names.len()).unwrap());
        for name in names {
            wire::put_buffer(&mut body, name.as_bytes());
        }
        body
    }

    #[test]
    fn the_predecessor_is_the_next_lower_number() {
        let body = children(&["lock-0000000007", "lock-0000000003", "lock-0000000005"]);
        let before = predecessor(&mut Cursor::new(&body), "lock-0000000007").unwrap();
        assert_eq!(before.as_deref(), Some("lock-0000000005"));
        assert_eq!(
            predecessor(&mut Cursor::new(&body), "lock-0000000003").unwrap(),
            None
        );
        assert!(
            predecessor(&mut Cursor::new(&body), "lock-0000000009").is_err(),
            "not in the list"
        );
    }

    #[test]
    fn a_grant_out_of_order_fails_the_run() {
        let mut course = Course {
            parent: "/l".into(),
            create: Vec::new(),
            children: Vec::new(),
            granted: None,
            released: None,
            meter: Meter::new(None),
            grants: 0,
        };
        course.grant("lock-0000000002").unwrap();
        assert!(course.grant("lock-0000000001").is_err());
    }
}
