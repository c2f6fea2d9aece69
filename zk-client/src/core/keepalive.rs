//! The session's clock: when to ping, when a connection is dead, until when the session is known to live, and when it is
//! given up. In integer milliseconds, from one timeout: the negotiated one, before that the requested one. Knows no
//! connection.
//!
//! | moment | counted from | why |
//! |---|---|---|
//! | connection dead: 2/3 of the timeout | what was heard last | ZooKeeper's own rule (section 15.2 of the protocol notes) |
//! | session in doubt: the timeout, if not dead before | when the newest request that is answered was **sent** | the server's clock began anew when that came in, which is not before it was sent; an answer may have been long on its way |
//! | session given up: 4/3 of the timeout | what was heard last | ZooKeeper's own rule again; later than doubt on purpose, for requests that no answer came back of keep a session as well |

use std::collections::VecDeque;

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
    /// When the newest request that is answered was sent.
    proven: Time,
    /// When the pings that are not answered yet were sent, the oldest first.
    pings: VecDeque<Time>,
}

impl Keepalive {
    pub(crate) fn new(timeout_ms: u64) -> Self {
        Self {
            timeout_ms: timeout_ms.max(1),
            last_heard: Time::default(),
            last_sent: Time::default(),
            proven: Time::default(),
            pings: VecDeque::new(),
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

    /// A ping is sent; or a connect request, which is one as far as this goes.
    pub(crate) fn pinged(&mut self, now: Time) {
        self.sent(now);
        self.pings.push_back(now);
    }

    /// The oldest ping is answered. False if none was sent, which proves nothing.
    pub(crate) fn ponged(&mut self) -> bool {
        let ping = self.pings.pop_front();
        if let Some(at) = ping {
            self.proved(at);
        }
        ping.is_some()
    }

    /// What was sent then is answered.
    pub(crate) fn proved(&mut self, at: Time) {
        self.proven = self.proven.max(at);
    }

    /// Pings that were sent and not answered.
    pub(crate) fn unanswered_pings(&self) -> usize {
        self.pings.len()
    }

    /// Nothing that was sent on the connection will be answered.
    pub(crate) fn connection_lost(&mut self) {
        self.pings.clear();
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

    /// Until then no server can have ended the session, and its connection does not count as dead.
    pub(crate) fn doubt(&self) -> Time {
        self.proven.plus(self.timeout_ms).min(self.read_deadline())
    }

    /// Nothing heard until then: the session is given up, whatever a server says later.
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
        keepalive.proved(Time(100));
        assert_eq!(keepalive.connect_ms(3), 3_333);
        assert_eq!(Keepalive::new(60_000).connect_ms(1), LONGEST_CONNECT_MS);
        assert_eq!(keepalive.read_deadline(), Time(6_766));
        assert_eq!(keepalive.ping_at(), Time(200 + 2_333));
        assert_eq!(keepalive.doubt(), Time(6_766));
        assert_eq!(keepalive.expiry(), Time(100 + 13_333));
    }

    #[test]
    fn fs_k3_doubt_counts_from_what_was_sent() {
        let mut keepalive = Keepalive::new(10_000);
        keepalive.pinged(Time(1_000));
        keepalive.pinged(Time(4_000));
        keepalive.heard(Time(9_000));
        assert!(keepalive.ponged());
        assert_eq!(keepalive.doubt(), Time(11_000));
        // An older request's answer, behind a newer one's, takes nothing back.
        assert!(keepalive.ponged());
        keepalive.proved(Time(2_000));
        assert_eq!(keepalive.doubt(), Time(14_000));
        // Answers to nothing, and what came of a connection that is gone.
        assert!(!keepalive.ponged());
        keepalive.pinged(Time(9_500));
        keepalive.connection_lost();
        assert!(!keepalive.ponged());
        assert_eq!(keepalive.doubt(), Time(14_000));
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
