//! Who held a lock and when, and whether that was right.
//!
//! Pure: a list of events, in the order in which they were seen by one process, and a judgement on it. It must not know a
//! client; it would judge the locks of any other library as well.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// What happened to a contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is in the queue.
    Queued,
    /// It stopped waiting.
    Cancelled,
    /// It holds the lock.
    Granted {
        /// The fencing token of the grant.
        token: u64,
    },
    /// It is about to let go.
    Released,
    /// Its session is about to be ended at the server. From here on others may hold.
    Ended,
    /// It was told that it lost the lock.
    Told,
    /// It wrote to the resource, and was let or was refused.
    Wrote {
        /// The token that it showed.
        token: u64,
        /// Whether the resource took it.
        accepted: bool,
    },
}

/// The events of one run, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<(&'static str, Event)>,
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two held at once.
    TwoHolders {
        /// Who held.
        holder: &'static str,
        /// Who was let in.
        intruder: &'static str,
    },
    /// Somebody was let in before one who had queued earlier.
    OutOfTurn {
        /// Who was let in.
        granted: &'static str,
        /// Whose turn it was.
        expected: Option<&'static str>,
    },
    /// A token did not grow.
    TokenNotGreater {
        /// Whose.
        granted: &'static str,
        /// The token before.
        before: u64,
        /// The token.
        token: u64,
    },
    /// The resource took the write of one who had been overtaken.
    StaleWrite {
        /// Who wrote.
        writer: &'static str,
        /// With which token.
        token: u64,
    },
    /// A holder whose session ended was never told.
    NotTold {
        /// Who.
        holder: &'static str,
    },
    /// Somebody waits, or holds, to the end.
    Unfinished {
        /// Who.
        contender: &'static str,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoHolders { holder, intruder } => {
                write!(f, "{intruder} was let in while {holder} held")
            }
            Self::OutOfTurn { granted, expected } => match expected {
                Some(expected) => write!(f, "{granted} was let in, but it was {expected}'s turn"),
                None => write!(f, "{granted} was let in, but had not queued"),
            },
            Self::TokenNotGreater {
                granted,
                before,
                token,
            } => write!(f, "{granted}'s token {token} is not greater than {before}"),
            Self::StaleWrite { writer, token } => {
                write!(
                    f,
                    "a write of {writer} with the old token {token} was taken"
                )
            }
            Self::NotTold { holder } => {
                write!(f, "{holder}'s session ended, and it was never told")
            }
            Self::Unfinished { contender } => write!(f, "{contender} never came to an end"),
        }
    }
}

impl History {
    /// Adds an event.
    pub fn push(&mut self, who: &'static str, event: Event) {
        self.events.push((who, event));
    }

    /// How many times the lock was granted.
    pub fn grants(&self) -> usize {
        let granted = |event: &Event| matches!(event, Event::Granted { .. });
        self.events
            .iter()
            .filter(|(_, event)| granted(event))
            .count()
    }

    /// Everything that is wrong: mutual exclusion, order, tokens, and that those who lost the lock learned of it.
    ///
    /// A holder whose session is ended counts as out from that moment: that it goes on until it is told is what tokens are
    /// for, and they are judged by what the resource took.
    pub fn judge(&self) -> Vec<Violation> {
        let mut wrong = Vec::new();
        let mut queue: VecDeque<&'static str> = VecDeque::new();
        let mut holder: Option<&'static str> = None;
        let mut untold: BTreeMap<&'static str, ()> = BTreeMap::new();
        let mut highest = None;
        for &(who, event) in &self.events {
            match event {
                Event::Queued => queue.push_back(who),
                Event::Cancelled => queue.retain(|waiting| *waiting != who),
                Event::Granted { token } => {
                    if let Some(holder) = holder {
                        wrong.push(Violation::TwoHolders {
                            holder,
                            intruder: who,
                        });
                    }
                    if queue.front() == Some(&who) {
                        queue.pop_front();
                    } else {
                        let expected = queue.front().copied();
                        wrong.push(Violation::OutOfTurn {
                            granted: who,
                            expected,
                        });
                        queue.retain(|waiting| *waiting != who);
                    }
                    match highest {
                        Some(before) if before >= token => {
                            wrong.push(Violation::TokenNotGreater {
                                granted: who,
                                before,
                                token,
                            });
                        }
                        _ => highest = Some(token),
                    }
                    holder = Some(who);
                }
                Event::Released => holder = holder.filter(|holder| *holder != who),
                Event::Ended => {
                    if holder == Some(who) {
                        untold.insert(who, ());
                        holder = None;
                    }
                }
                Event::Told => {
                    untold.remove(who);
                }
                Event::Wrote { token, accepted } => {
                    if accepted && highest.is_some_and(|highest| token < highest) {
                        wrong.push(Violation::StaleWrite { writer: who, token });
                    }
                }
            }
        }
        wrong.extend(
            untold
                .into_keys()
                .map(|holder| Violation::NotTold { holder }),
        );
        let unfinished = queue.into_iter().chain(holder);
        wrong.extend(unfinished.map(|contender| Violation::Unfinished { contender }));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::Event::{Cancelled, Ended, Queued, Released, Told};
    use super::*;

    fn granted(token: u64) -> Event {
        Event::Granted { token }
    }

    fn judge(events: &[(&'static str, Event)]) -> Vec<Violation> {
        let events = events.to_vec();
        History { events }.judge()
    }

    #[test]
    fn turns_taken_in_order_are_right() {
        let history = [
            ("a", Queued),
            ("a", granted(1)),
            ("b", Queued),
            ("c", Queued),
            ("d", Queued),
            ("c", Cancelled),
            ("a", Released),
            ("b", granted(2)),
            ("b", Ended),
            ("d", granted(3)),
            (
                "b",
                Event::Wrote {
                    token: 2,
                    accepted: false,
                },
            ),
            ("b", Told),
            ("d", Released),
        ];
        assert_eq!(judge(&history), []);
        let events = history.to_vec();
        assert_eq!(History { events }.grants(), 3);
    }

    #[test]
    fn every_wrong_is_seen() {
        let two = [
            ("a", Queued),
            ("b", Queued),
            ("a", granted(1)),
            ("b", granted(2)),
            ("b", Released),
        ];
        assert_eq!(
            judge(&two),
            [Violation::TwoHolders {
                holder: "a",
                intruder: "b"
            }]
        );
        let turn = [
            ("a", Queued),
            ("b", Queued),
            ("b", granted(1)),
            ("b", Released),
            ("a", granted(2)),
            ("a", Released),
        ];
        assert_eq!(
            judge(&turn),
            [Violation::OutOfTurn {
                granted: "b",
                expected: Some("a")
            }]
        );
        let token = [
            ("a", Queued),
            ("a", granted(2)),
            ("a", Released),
            ("b", Queued),
            ("b", granted(2)),
            ("b", Released),
        ];
        assert_eq!(
            judge(&token),
            [Violation::TokenNotGreater {
                granted: "b",
                before: 2,
                token: 2
            }]
        );
        let stale = Event::Wrote {
            token: 1,
            accepted: true,
        };
        let told = [
            ("a", Queued),
            ("a", granted(1)),
            ("a", Ended),
            ("b", Queued),
            ("b", granted(2)),
            ("a", stale),
        ];
        assert_eq!(
            judge(&told),
            [
                Violation::StaleWrite {
                    writer: "a",
                    token: 1
                },
                Violation::NotTold { holder: "a" },
                Violation::Unfinished { contender: "b" },
            ]
        );
    }

    #[test]
    fn violations_are_told_in_words() {
        let violation = Violation::TwoHolders {
            holder: "a",
            intruder: "b",
        };
        assert_eq!(violation.to_string(), "b was let in while a held");
    }
}
