//! The seven kinds of node a client can create, and how a kind hides in the stored owner.

use std::time::Duration;

use crate::ids::SessionId;

/// How a node is created and when it goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CreateMode {
    /// Stays until deleted.
    #[default]
    Persistent,
    /// Goes with the session that created it.
    Ephemeral,
    /// Persistent, with the parent's counter appended to its name.
    PersistentSequential,
    /// Ephemeral, with the parent's counter appended to its name.
    EphemeralSequential,
    /// Deleted by the server some time after its last child went.
    Container,
    /// Deleted by the server when it has no children and was not set for its time to live.
    PersistentWithTtl,
    /// The same, with the parent's counter appended to its name.
    PersistentSequentialWithTtl,
}

impl CreateMode {
    /// The number on the wire.
    #[must_use]
    pub const fn flags(self) -> i32 {
        match self {
            Self::Persistent => 0,
            Self::Ephemeral => 1,
            Self::PersistentSequential => 2,
            Self::EphemeralSequential => 3,
            Self::Container => 4,
            Self::PersistentWithTtl => 5,
            Self::PersistentSequentialWithTtl => 6,
        }
    }

    /// The mode of a number on the wire, or `None` for one that means nothing.
    #[must_use]
    pub const fn from_flags(flags: i32) -> Option<Self> {
        Some(match flags {
            0 => Self::Persistent,
            1 => Self::Ephemeral,
            2 => Self::PersistentSequential,
            3 => Self::EphemeralSequential,
            4 => Self::Container,
            5 => Self::PersistentWithTtl,
            6 => Self::PersistentSequentialWithTtl,
            _ => return None,
        })
    }

    /// Whether the node goes with its session.
    #[must_use]
    pub const fn is_ephemeral(self) -> bool {
        matches!(self, Self::Ephemeral | Self::EphemeralSequential)
    }

    /// Whether the server appends the parent's counter to the name.
    #[must_use]
    pub const fn is_sequential(self) -> bool {
        matches!(
            self,
            Self::PersistentSequential
                | Self::EphemeralSequential
                | Self::PersistentSequentialWithTtl
        )
    }

    /// Whether the mode needs a time to live.
    #[must_use]
    pub const fn is_ttl(self) -> bool {
        matches!(
            self,
            Self::PersistentWithTtl | Self::PersistentSequentialWithTtl
        )
    }
}

/// The longest time to live, in milliseconds: 40 bits.
pub const MAX_TTL_MS: i64 = (1 << 40) - 1;

/// What a node's stored owner field says about its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EphemeralOwner {
    /// A persistent node.
    None,
    /// An ephemeral node of this session.
    Session(SessionId),
    /// A container.
    Container,
    /// A node with a time to live, in milliseconds.
    Ttl(i64),
}

impl EphemeralOwner {
    const CONTAINER: i64 = i64::MIN;
    const EXTENDED: i64 = 0xff << 56;

    /// Reads a stored owner. Without `extended_types` a TTL owner is a session's, as on a server where they are off.
    #[must_use]
    pub const fn from_stored(owner: i64, extended_types: bool) -> Self {
        match owner {
            0 => Self::None,
            Self::CONTAINER => Self::Container,
            // The top byte marks an extended type; bits 40 to 55 say which, and 0 is the only one there is: TTL.
            _ if extended_types && (owner as u64) >> 40 == 0xff_0000 => {
                Self::Ttl(owner & MAX_TTL_MS)
            }
            _ => Self::Session(SessionId(owner)),
        }
    }

    /// The number to store.
    #[must_use]
    pub const fn to_stored(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Session(SessionId(id)) => id,
            Self::Container => Self::CONTAINER,
            Self::Ttl(ms) => Self::EXTENDED | (ms & MAX_TTL_MS),
        }
    }

    /// What clients see: the session of an ephemeral node, else 0.
    #[must_use]
    pub const fn visible(self) -> i64 {
        match self {
            Self::Session(SessionId(id)) => id,
            Self::None | Self::Container | Self::Ttl(_) => 0,
        }
    }
}

/// A time to live as the wire carries it: whole milliseconds, rounded up, or `None` if it is zero or above 40 bits.
#[must_use]
pub fn ttl_ms(ttl: Duration) -> Option<i64> {
    let ms = i64::try_from(ttl.as_nanos().div_ceil(1_000_000)).ok()?;
    (1..=MAX_TTL_MS).contains(&ms).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_survive_the_round_trip() {
        for owner in [
            EphemeralOwner::None,
            EphemeralOwner::Session(SessionId(0x0100_0014_242a_0000)),
            EphemeralOwner::Container,
            EphemeralOwner::Ttl(3_600_000),
            EphemeralOwner::Ttl(MAX_TTL_MS),
        ] {
            assert_eq!(EphemeralOwner::from_stored(owner.to_stored(), true), owner);
        }
        // disk-formats: one hour is stored as 0xff0000000036ee80.
        assert_eq!(
            EphemeralOwner::Ttl(3_600_000).to_stored() as u64,
            0xff00_0000_0036_ee80
        );
    }

    #[test]
    fn modes_survive_the_round_trip() {
        for flags in -2..9 {
            assert_eq!(
                CreateMode::from_flags(flags)
                    .map(CreateMode::flags)
                    .unwrap_or(flags),
                flags
            );
        }
    }

    #[test]
    fn ttls_are_whole_milliseconds_in_forty_bits() {
        assert_eq!(ttl_ms(Duration::ZERO), None);
        assert_eq!(ttl_ms(Duration::from_nanos(1)), Some(1));
        assert_eq!(
            ttl_ms(Duration::from_millis(MAX_TTL_MS as u64)),
            Some(MAX_TTL_MS)
        );
        assert_eq!(ttl_ms(Duration::from_millis(MAX_TTL_MS as u64 + 1)), None);
    }
}
