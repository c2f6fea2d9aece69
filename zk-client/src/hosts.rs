//! The connect string: hosts with ports, and the chroot behind them. Pure text; it must not know a resolver.

use std::fmt;

use zk_proto::{PathError, ZPath, ZPathBuf};

/// ZooKeeper's port for clients.
pub const DEFAULT_PORT: u16 = 2181;

/// One server of the ensemble, by name or address. The name is resolved anew for every attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Name or address; an IPv6 address without its brackets.
    pub name: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// Why a connect string cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostsError {
    /// There is no host in it.
    Empty,
    /// This entry has no name.
    NoName(String),
    /// This entry has a port that is none.
    BadPort(String),
    /// This entry opens a bracket and does not close it, or has something else than a port behind it.
    BadAddress(String),
    /// The chroot is malformed.
    BadChroot(PathError),
}

impl fmt::Display for HostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the connect string names no host"),
            Self::NoName(entry) => write!(f, "{entry:?} in the connect string names no host"),
            Self::BadPort(entry) => {
                write!(
                    f,
                    "{entry:?} in the connect string has no port from 1 to 65535"
                )
            }
            Self::BadAddress(entry) => {
                write!(f, "{entry:?} in the connect string is no [address]:port")
            }
            Self::BadChroot(error) => write!(f, "the connect string's chroot: {error}"),
        }
    }
}

impl std::error::Error for HostsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::BadChroot(error) => Some(error),
            _ => None,
        }
    }
}

/// A connect string, read: `host[:port][,host[:port]...][/chroot]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// At least one.
    pub(crate) list: Vec<Host>,
    /// `/` for none.
    pub(crate) chroot: ZPathBuf,
}

impl Hosts {
    pub(crate) fn parse(text: &str) -> Result<Self, HostsError> {
        let (hosts, chroot) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, "/"),
        };
        let chroot = ZPath::new(chroot).map_err(HostsError::BadChroot)?;
        let list = hosts
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(host)
            .collect::<Result<Vec<_>, _>>()?;
        if list.is_empty() {
            return Err(HostsError::Empty);
        }
        Ok(Self {
            list,
            chroot: ZPathBuf::from(chroot),
        })
    }
}

fn host(entry: &str) -> Result<Host, HostsError> {
    let (name, port) = if let Some(rest) = entry.strip_prefix('[') {
        let (name, rest) = rest
            .split_once(']')
            .ok_or_else(|| HostsError::BadAddress(entry.to_owned()))?;
        match rest {
            "" => (name, None),
            _ => match rest.strip_prefix(':') {
                Some(port) => (name, Some(port)),
                None => return Err(HostsError::BadAddress(entry.to_owned())),
            },
        }
    } else {
        match entry.split_once(':') {
            // More than one colon without brackets: an IPv6 address without a port.
            Some((_, rest)) if rest.contains(':') => (entry, None),
            Some((name, port)) => (name, Some(port)),
            None => (entry, None),
        }
    };
    if name.is_empty() {
        return Err(HostsError::NoName(entry.to_owned()));
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(HostsError::BadPort(entry.to_owned())),
            Ok(port) => port,
        },
    };
    Ok(Host {
        name: name.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> (Vec<String>, String) {
        let hosts = Hosts::parse(text).unwrap();
        (
            hosts.list.iter().map(Host::to_string).collect(),
            hosts.chroot.as_str().to_owned(),
        )
    }

    #[test]
    fn hosts_ports_and_chroot() {
        for (text, hosts, chroot) in [
            ("a", vec!["a:2181"], "/"),
            ("a:1,b , c:65535/", vec!["a:1", "b:2181", "c:65535"], "/"),
            ("10.0.0.1:7/app/x", vec!["10.0.0.1:7"], "/app/x"),
            (
                "[::1]:5,[fe80::1],::2",
                vec!["[::1]:5", "[fe80::1]:2181", "[::2]:2181"],
                "/",
            ),
        ] {
            let hosts: Vec<_> = hosts.into_iter().map(str::to_owned).collect();
            assert_eq!(shown(text), (hosts, chroot.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "", "/app", ",", ":5", "a:0", "a:x", "a:65536", "[::1", "[::1]5", "a/b/", "a//b",
        ] {
            assert!(Hosts::parse(text).is_err(), "{text}");
        }
    }
}
