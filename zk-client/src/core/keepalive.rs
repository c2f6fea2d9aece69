//! The session's clock: when to ping, when a connection is dead, when the session cannot be trusted any more. All from
//! section 15.2 of the protocol notes, in integer milliseconds, from one timeout: the negotiated one, before that the
//! requested one. Knows no connection.

use super::event::Time;

/// Java's margin before half of the read timeout, and the longest silence it keeps in any case.
const PING_MARGIN_MS: u64 = 1_000;
const LONGEST_SILENCE_MS: u64 = 10_000;
/// Ours, where Java has no bound: while Apache ZooKeeper 3.8.0 starts, it may accept a connection and neither answer nor
/// close it, though it serves those that come later. With one host and a long timeout the client would wait for nothing
/// while the server is long up.
const LONGEST_CONNECT_MS: u64 = 10_000;

#[derive(Debug)]
pub(crate) struct Keepalive {
    timeout_ms: u64,
    last_heard: Time,
    last_sent: Time,
}

impl Keepalive {
    pub(crate) fn new(timeout_ms: u64) -> Self {
        Self {
            timeout_ms: timeout_ms.max(1),
            last_heard: Time::default(),
            last_sent: Time::default(),
        }
    }

    pub(crate) fn set_timeout(&mut self, timeout_ms: u64) {
        self.timeout_ms = timeout_ms.max(1);
    }

    pub(crate) fn heard(&mut self, now: Time) {
        self.last_heard = now;
    }

    pub(crate) fn sent(&mut self, now: Time) {
        self.last_sent = now;
    }

    /// How long one server may take to accept and to shake hands.
    pub(crate) fn connect_ms(&self, hosts: usize) -> u64 {
        let share = self.timeout_ms / u64::try_from(hosts).unwrap_or(u64::MAX).max(1);
        share.clamp(1, LONGEST_CONNECT_MS)
    }

    fn read_ms(&self) -> u64 {
        (self.timeout_ms * 2 / 3).max(1)
    }

    /// Nothing heard until then: the connection is dead.
    pub(crate) fn read_deadline(&self) -> Time {
        self.last_heard.plus(self.read_ms())
    }

    /// Nothing sent until then: ping.
    pub(crate) fn ping_at(&self) -> Time {
        let half = self.read_ms() / 2;
        let idle = if half > PING_MARGIN_MS {
            (half - PING_MARGIN_MS).max(PING_MARGIN_MS + 1)
        } else {
            half.max(1)
        };
        self.last_sent
            .plus(idle.min(half).min(LONGEST_SILENCE_MS + 1))
    }

    /// Nothing heard until then: whatever a server says later, the session cannot be trusted.
    pub(crate) fn expiry(&self) -> Time {
        self.last_heard
            .plus(self.timeout_ms.saturating_add(self.timeout_ms / 3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_of_the_protocol_notes() {
        let mut keepalive = Keepalive::new(10_000);
        keepalive.heard(Time(100));
        keepalive.sent(Time(200));
        assert_eq!(keepalive.connect_ms(3), 3_333);
        assert_eq!(Keepalive::new(60_000).connect_ms(1), LONGEST_CONNECT_MS);
        assert_eq!(keepalive.read_deadline(), Time(6_766));
        assert_eq!(keepalive.ping_at(), Time(200 + 2_333));
        assert_eq!(keepalive.expiry(), Time(100 + 13_333));
    }

    #[test]
    fn fs_c7_a_negotiated_timeout_counts_everywhere() {
        let mut keepalive = Keepalive::new(10_000);
        keepalive.set_timeout(3_000);
        assert_eq!(keepalive.read_deadline(), Time(2_000));
        assert_eq!(keepalive.ping_at(), Time(1_000));
        assert_eq!(keepalive.expiry(), Time(4_000));
        // Whatever the timeout, a ping fits before the connection counts as dead.
        for timeout in [
            1, 2, 10, 1_000, 2_999, 3_001, 4_500, 7_000, 40_000, 1_000_000,
        ] {
            keepalive.set_timeout(timeout);
            assert!(
                keepalive.ping_at() <= keepalive.read_deadline(),
                "{timeout}"
            );
        }
    }
}
