//! Everything a server holds, read through the client protocol, so that two servers can be compared by content.
//!
//! The reader must be allowed to read all of it: connect as `super` ([`SUPER_DIGEST`] in the server's configuration).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use zk_proto::jute::{Encode, Reader};
use zk_proto::session::{
    AclResponse, AuthPacket, Children2Response, GetDataResponse, PathRequest, PathWatchRequest,
};
use zk_proto::{Acl, ErrorCode, OpCode, Stat, Xid};

use crate::raw::RawConnection;

/// The password of the `super` user in tests.
pub const SUPER_PASSWORD: &str = "open-sesame";

/// `DigestAuthenticationProvider.superDigest` for [`SUPER_PASSWORD`].
pub const SUPER_DIGEST: &str = "super:LP2KnUF9suyHm7CDSqpcMKUtKxE=";

/// How long the reader's session may live without a word; long enough for a slow machine.
const SESSION_MS: i32 = 60_000;

/// One node as its clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it holds; null is kept apart from empty.
    pub data: Option<Bytes>,
    /// All of its Stat, times included.
    pub stat: Stat,
    /// Its ACL, unmasked.
    pub acl: Option<Vec<Acl>>,
}

/// A whole tree, by path.
pub type Tree = BTreeMap<String, Node>;

/// Reads the whole tree of the server at `addr`.
///
/// # Errors
/// When the server ends the connection, or refuses a read.
pub fn tree(addr: SocketAddr) -> io::Result<Tree> {
    let (mut connection, _) = RawConnection::session(addr, SESSION_MS)?;
    let auth = AuthPacket {
        auth_type: 0,
        scheme: "digest".into(),
        auth: Bytes::from(format!("super:{SUPER_PASSWORD}")).into(),
    };
    ask(&mut connection, OpCode::AUTH, &auth)?;
    let mut found = Tree::new();
    let mut queue = vec!["/".to_owned()];
    while let Some(path) = queue.pop() {
        let read = PathWatchRequest {
            path: path.as_str().into(),
            watch: false,
        };
        let frame = ask(&mut connection, OpCode::GET_CHILDREN2, &read)?;
        let children = decode::<Children2Response<'_>>(&frame)?
            .children
            .unwrap_or_default();
        for name in children {
            let slash = if path == "/" { "" } else { &path };
            queue.push(format!("{slash}/{}", name.or_empty()));
        }
        let frame = ask(&mut connection, OpCode::GET_DATA, &read)?;
        let GetDataResponse { data, stat } = decode(&frame)?;
        let frame = ask(
            &mut connection,
            OpCode::GET_ACL,
            &PathRequest {
                path: path.as_str().into(),
            },
        )?;
        let AclResponse { acl, .. } = decode(&frame)?;
        found.insert(path, Node { data, stat, acl });
    }
    ask(
        &mut connection,
        OpCode::CLOSE_SESSION,
        &zk_proto::session::Request::Empty,
    )?;
    Ok(found)
}

fn ask(connection: &mut RawConnection, op: OpCode, body: &impl Encode) -> io::Result<Bytes> {
    let (header, rest) = connection.call(Xid(1), op, body)?;
    if header.err == ErrorCode::OK {
        Ok(rest)
    } else {
        Err(io::Error::other(format!(
            "{op:?} is refused: {:?}",
            header.err
        )))
    }
}

fn decode<'a, T: zk_proto::jute::Decode<'a>>(frame: &'a Bytes) -> io::Result<T> {
    T::decode(&mut Reader::new(frame, "reply")).map_err(io::Error::other)
}

/// Where two trees differ, a line each; empty when they are equal.
#[must_use]
pub fn differences(left: &Tree, right: &Tree) -> String {
    let mut text = String::new();
    let paths: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    for path in paths {
        let (ours, theirs) = (left.get(path), right.get(path));
        if ours != theirs {
            let _ = writeln!(text, "{path}:\n  {ours:?}\n  {theirs:?}");
        }
    }
    text
}
