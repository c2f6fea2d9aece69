//! What a create can be told beside path and data: kind, time to live, access list; and what of it makes no request.
//!
//! Pure values with one check, shared by `create` and `multi`. Which opcode carries which kind is decided here, so that a
//! TTL opcode with another kind's flags (which can stop an Apache server for good) cannot be written down. It must not know
//! a client.

use std::time::Duration;

use bytes::Bytes;
use zk_proto::create_mode::ttl_ms;
use zk_proto::jute::Ustring;
use zk_proto::session::{CreateRequest, CreateTtlRequest, MultiOp};
use zk_proto::{Acl, CreateMode, OpCode};

/// Kind, time to live and access list of a node to be made. Made from a [`CreateMode`], widened by methods:
///
/// ```
/// use std::time::Duration;
/// use zk_client::{Acl, CreateMode, CreateOptions};
///
/// let plain = CreateOptions::from(CreateMode::Ephemeral);
/// let mine = CreateOptions::from(CreateMode::PersistentWithTtl)
///     .ttl(Duration::from_secs(3600))
///     .acl(vec![Acl::creator_all()]);
/// # let _ = (plain, mine);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    mode: CreateMode,
    ttl: Option<Duration>,
    acl: Vec<Acl>,
}

impl From<CreateMode> for CreateOptions {
    fn from(mode: CreateMode) -> Self {
        Self {
            mode,
            ttl: None,
            acl: vec![Acl::open_unsafe()],
        }
    }
}

impl Default for CreateOptions {
    /// A persistent node open to everyone, as Curator's default.
    fn default() -> Self {
        Self::from(CreateMode::Persistent)
    }
}

/// Why a create was refused before it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateOptionsError {
    /// A TTL was given for a kind that has none.
    #[error("a time to live needs one of the TTL modes")]
    TtlWithoutTtlMode,
    /// A TTL mode without a TTL.
    #[error("a TTL mode needs a time to live")]
    TtlMissing,
    /// The TTL is not in 1 ms ..= 2^40 - 1 ms (about 34.8 years).
    #[error("a time to live must be between 1 ms and 2^40 - 1 ms")]
    TtlOutOfRange,
    /// The access list is empty: nobody could ever use the node, and every server refuses it.
    #[error("the access list is empty")]
    AclEmpty,
}

impl CreateOptions {
    /// The kind of the node.
    pub fn mode(&self) -> CreateMode {
        self.mode
    }

    pub(crate) fn set_mode(&mut self, mode: CreateMode) {
        self.mode = mode;
    }

    /// How long a node of a TTL mode may stay unchanged and childless before the server removes it. Whole milliseconds;
    /// a rest is rounded up.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The access list instead of "anyone may do anything".
    #[must_use]
    pub fn acl(mut self, acl: Vec<Acl>) -> Self {
        self.acl = acl;
        self
    }

    pub(crate) fn check(&self) -> Result<Checked<'_>, CreateOptionsError> {
        if self.acl.is_empty() {
            return Err(CreateOptionsError::AclEmpty);
        }
        let ttl_ms = match (self.mode.is_ttl(), self.ttl) {
            (false, None) => None,
            (false, Some(_)) => return Err(CreateOptionsError::TtlWithoutTtlMode),
            (true, None) => return Err(CreateOptionsError::TtlMissing),
            (true, Some(ttl)) => Some(ttl_ms(ttl).ok_or(CreateOptionsError::TtlOutOfRange)?),
        };
        Ok(Checked {
            options: self,
            ttl_ms,
        })
    }
}

/// Options that passed the check: the only thing that can be encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked<'a> {
    options: &'a CreateOptions,
    ttl_ms: Option<i64>,
}

impl Checked<'_> {
    /// `create2` for what has no opcode of its own: it answers with the Stat.
    pub(crate) fn opcode(&self) -> OpCode {
        self.request(Ustring::null(), Bytes::new()).op()
    }

    /// The request that goes with [`opcode`](Self::opcode), also as an operation of a multi.
    pub(crate) fn request<'p>(&self, path: Ustring<'p>, data: Bytes) -> MultiOp<'p> {
        let (data, acl, flags) = (
            Some(data),
            Some(self.options.acl.clone()),
            self.options.mode.flags(),
        );
        match (self.ttl_ms, self.options.mode) {
            (Some(ttl), _) => MultiOp::CreateTtl(CreateTtlRequest {
                path,
                data,
                acl,
                flags,
                ttl,
            }),
            (None, CreateMode::Container) => MultiOp::CreateContainer(CreateRequest {
                path,
                data,
                acl,
                flags,
            }),
            (None, _) => MultiOp::Create2(CreateRequest {
                path,
                data,
                acl,
                flags,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use zk_proto::create_mode::MAX_TTL_MS;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn opcode(options: &CreateOptions) -> Result<OpCode, CreateOptionsError> {
        options.check().map(|checked| checked.opcode())
    }

    #[test]
    fn each_kind_has_its_opcode() {
        use CreateMode::*;
        for mode in [
            Persistent,
            Ephemeral,
            PersistentSequential,
            EphemeralSequential,
        ] {
            assert_eq!(opcode(&mode.into()), Ok(OpCode::CREATE2));
        }
        assert_eq!(opcode(&Container.into()), Ok(OpCode::CREATE_CONTAINER));
        for mode in [PersistentWithTtl, PersistentSequentialWithTtl] {
            assert_eq!(
                opcode(&CreateOptions::from(mode).ttl(MS)),
                Ok(OpCode::CREATE_TTL)
            );
        }
    }

    #[test]
    fn a_ttl_opcode_with_other_flags_cannot_be_written() {
        let container = CreateOptions::from(CreateMode::Container).ttl(MS);
        assert_eq!(
            opcode(&container),
            Err(CreateOptionsError::TtlWithoutTtlMode)
        );
        let ttl = CreateOptions::from(CreateMode::PersistentWithTtl);
        assert_eq!(opcode(&ttl), Err(CreateOptionsError::TtlMissing));
    }

    #[test]
    fn the_ttl_has_limits() {
        let with = |ttl| opcode(&CreateOptions::from(CreateMode::PersistentWithTtl).ttl(ttl));
        assert_eq!(with(Duration::ZERO), Err(CreateOptionsError::TtlOutOfRange));
        assert_eq!(
            with(Duration::from_nanos(1)),
            Ok(OpCode::CREATE_TTL),
            "rounded up to 1 ms"
        );
        assert_eq!(with(MS * ((1u64 << 31) as u32)), Ok(OpCode::CREATE_TTL));
        assert_eq!(
            with(Duration::from_millis(MAX_TTL_MS as u64)),
            Ok(OpCode::CREATE_TTL)
        );
        assert_eq!(
            with(Duration::from_millis(MAX_TTL_MS as u64 + 1)),
            Err(CreateOptionsError::TtlOutOfRange)
        );
        assert_eq!(with(Duration::MAX), Err(CreateOptionsError::TtlOutOfRange));
    }

    #[test]
    fn an_empty_access_list_is_refused_here() {
        assert_eq!(
            opcode(&CreateOptions::default().acl(vec![])),
            Err(CreateOptionsError::AclEmpty)
        );
    }
}
