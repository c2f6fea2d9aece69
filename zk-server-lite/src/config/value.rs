//! Values of `zoo.cfg` as types. What Java would trim is trimmed; what is malformed is refused with its line.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::Whitelist;
use super::complaint::ConfigError;
use super::properties::Property;

/// A property whose value is being read.
pub(super) struct Value<'a>(&'a Property);

impl<'a> Value<'a> {
    pub(super) fn new(property: &'a Property) -> Self {
        Self(property)
    }

    pub(super) fn refuse(&self, expected: &'static str) -> ConfigError {
        let Property { line, key, value } = self.0;
        ConfigError::Value {
            line: *line,
            key: key.clone(),
            value: value.clone(),
            expected,
        }
    }

    /// Java trims numbers.
    pub(super) fn number<T: FromStr>(&self, expected: &'static str) -> Result<T, ConfigError> {
        self.0
            .value
            .trim()
            .parse()
            .map_err(|_| self.refuse(expected))
    }

    pub(super) fn count<T: FromStr>(&self) -> Result<T, ConfigError> {
        self.number("a number, not negative")
    }

    /// Where Java takes any integer, and less than nothing for nothing.
    pub(super) fn or_zero<T: TryFrom<i32> + Default>(
        &self,
        expected: &'static str,
    ) -> Result<T, ConfigError> {
        let number: i32 = self.number(expected)?;
        Ok(T::try_from(number).unwrap_or_default())
    }

    /// `-1` stands for the default.
    pub(super) fn timeout(&self) -> Result<Option<i32>, ConfigError> {
        let ms: i32 = self.number("milliseconds, or -1")?;
        match ms {
            -1 => Ok(None),
            1.. => Ok(Some(ms)),
            _ => Err(self.refuse("milliseconds, or -1")),
        }
    }

    pub(super) fn millis(&self) -> Result<Duration, ConfigError> {
        self.number("milliseconds").map(Duration::from_millis)
    }

    pub(super) fn truth(&self) -> Result<bool, ConfigError> {
        match self.0.value.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" => Ok(true),
            "false" | "no" => Ok(false),
            _ => Err(self.refuse("true or false")),
        }
    }

    pub(super) fn path(&self) -> Result<PathBuf, ConfigError> {
        match self.0.value.trim() {
            "" => Err(self.refuse("a directory")),
            path => Ok(PathBuf::from(path)),
        }
    }
}

/// −1 and less switch a size off.
pub(super) fn kibibytes(value: &Value<'_>) -> Result<u64, ConfigError> {
    let size: i64 = value.number("kibibytes")?;
    match u64::try_from(size).unwrap_or(0) {
        size if size.checked_mul(1024).is_some() => Ok(size),
        _ => Err(value.refuse("kibibytes")),
    }
}

/// Words, separated by commas; `*` stands for all.
pub(super) fn whitelist(value: &str) -> Whitelist {
    let words: Vec<_> = value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    if words.iter().any(|word| word == "*") {
        Whitelist::All
    } else {
        Whitelist::Only(words)
    }
}

/// A name or an address, in brackets or not.
pub(super) fn resolve(value: &Value<'_>) -> Result<IpAddr, ConfigError> {
    let host = value
        .0
        .value
        .trim()
        .trim_start_matches('[')
        .trim_end_matches(']');
    (host, 0)
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .map(|address| address.ip())
        .ok_or_else(|| value.refuse("an address of this machine, or a name that resolves to one"))
}
