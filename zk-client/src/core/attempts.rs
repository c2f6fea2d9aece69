//! What became of the last attempt to connect to each host: for the error of whoever waited in vain. Words only.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// Why an attempt, or a connection, came to nothing.
pub(crate) type Why = Cow<'static, str>;

#[derive(Debug)]
pub(crate) struct Attempts {
    /// As in the connect string.
    hosts: Vec<String>,
    last: Vec<Option<Why>>,
}

impl Attempts {
    pub(crate) fn new(hosts: Vec<String>) -> Self {
        let last = vec![None; hosts.len()];
        Self { hosts, last }
    }

    pub(crate) fn begun(&mut self, host: usize) {
        self.note(host, "no answer yet".into());
    }

    pub(crate) fn failed(&mut self, host: usize, why: Why) {
        self.note(host, why);
    }

    fn note(&mut self, host: usize, why: Why) {
        if let Some(last) = self.last.get_mut(host) {
            *last = Some(why);
        }
    }

    /// A server was reached: what was before does not matter any more.
    pub(crate) fn succeeded(&mut self) {
        self.last.fill(None);
    }

    /// All of it in one line, for somebody who waited that long.
    pub(crate) fn words(&self, waited_ms: u64) -> Arc<str> {
        let mut words = format!("no server within {:?}", Duration::from_millis(waited_ms));
        for (index, (host, last)) in self.hosts.iter().zip(&self.last).enumerate() {
            let mark = if index == 0 { ": " } else { "; " };
            let last = last.as_deref().unwrap_or("not tried");
            // Writing to a string does not fail.
            let _ = write!(words, "{mark}{host}: {last}");
        }
        words.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_of_each_host_is_told() {
        let mut attempts =
            Attempts::new(vec!["a:1".to_owned(), "b:2".to_owned(), "c:3".to_owned()]);
        attempts.begun(0);
        attempts.failed(0, "refused".into());
        attempts.begun(2);
        assert_eq!(
            &*attempts.words(1_500),
            "no server within 1.5s: a:1: refused; b:2: not tried; c:3: no answer yet"
        );
        attempts.succeeded();
        attempts.failed(9, "no such host".into());
        assert_eq!(
            &*attempts.words(15_000),
            "no server within 15s: a:1: not tried; b:2: not tried; c:3: not tried"
        );
    }
}
