//! One server to test against; the environment chooses which. Knows how to start, restart and end it, and no test.
//!
//! `ZK_TEST_SERVER` is `embedded` (the default), `apache` (Apache ZooKeeper 3.8.0, from Debian's package) or `apache-3.9`
//! (jars named by `ZK_39_CLASSPATH`). A server that was asked for and cannot be had fails the test: nothing falls back to
//! another one.

use std::collections::BTreeMap;

/// Names the variable that chooses the server.
pub const SERVER: &str = "ZK_TEST_SERVER";

/// The settings of a test server, as keys of `zoo.cfg`, the same for every kind.
#[derive(Debug, Clone)]
pub struct Options {
    settings: BTreeMap<String, String>,
}

impl Default for Options {
    /// Short ticks, any session timeout from two of them to ten minutes, no limit on connections, small log files,
    /// TTL nodes enabled, no container sweep within a test.
    fn default() -> Self {
        let mut options = Self {
            settings: BTreeMap::new(),
        };
        for (key, value) in [
            ("tickTime", "200"),
            ("minSessionTimeout", "400"),
            ("maxSessionTimeout", "600000"),
            ("maxClientCnxns", "0"),
            ("preAllocSize", "64"),
            ("extendedTypesEnabled", "true"),
            ("4lw.commands.whitelist", "*"),
            ("znode.container.checkIntervalMs", "3600000"),
        ] {
            options.put(key, value);
        }
        options
    }
}

impl Options {
    /// Sets one key.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.put(key, value);
        self
    }

    fn put(&mut self, key: &str, value: impl ToString) {
        self.settings.insert(key.to_owned(), value.to_string());
    }

    /// All keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}
