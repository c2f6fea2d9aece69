//! Each difference that the differential test steps around, asked for by name on the server that the environment chooses:
//! between 3.8.0 and 3.9, and between Apache ZooKeeper and ours where its answer is a hazard.
//!
//! So a difference cannot hide behind its exception: ours must give the answer of 3.9, or the safer one, and Apache
//! ZooKeeper must still give the answer for which the exception was made.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tests::raw::{RawConnection, Received};
use tests::target::{Kind, Options, Target};
use tests::wait::PATIENCE;
use zk_proto::jute::{Decode as _, Encode, Reader, Ustring};
use zk_proto::session::{
    AddWatchMode, AddWatchRequest, CheckVersionRequest, ConnectRequest, ConnectResponse,
    CreateRequest, CreateTtlRequest, MultiOp, MultiRequest, MultiResponse, MultiResult, Password,
    PathWatchRequest, ReplyHeader, Request, SetDataRequest, WatcherEvent, WatcherType,
    WatcherTypeRequest,
};
use zk_proto::{Acl, ErrorCode, Id, OpCode, Perms, Xid};

/// Long enough for an answer that is coming.
const A_WHILE: Duration = Duration::from_millis(500);

struct Asked {
    target: Target,
    connection: RawConnection,
    session: ConnectResponse,
    last_xid: i32,
}

/// What came back, with the events before it.
struct Answer {
    header: ReplyHeader,
    body: Bytes,
    events: Vec<(ReplyHeader, i32)>,
}

impl Asked {
    fn start() -> Self {
        let target = Target::start(Options::default()).unwrap();
        let (connection, session) = RawConnection::session(target.addr(), 60_000).unwrap();
        Self {
            target,
            connection,
            session,
            last_xid: 0,
        }
    }

    /// Whether the server is older than 3.9.
    fn is_38(&self) -> bool {
        self.target.kind() == Kind::Apache
    }

    fn is_ours(&self) -> bool {
        self.target.kind() == Kind::Embedded
    }

    fn call(&mut self, op: OpCode, body: &impl Encode) -> Answer {
        self.last_xid += 1;
        self.connection
            .request(Xid(self.last_xid), op, body)
            .unwrap();
        let mut events = Vec::new();
        loop {
            let Received::Frame(frame) = self.connection.receive(PATIENCE) else {
                panic!("no answer to {op:?}");
            };
            let mut reader = Reader::new(&frame, "reply");
            let header = ReplyHeader::decode(&mut reader).unwrap();
            if header.xid == Xid::NOTIFICATION {
                events.push((
                    header,
                    WatcherEvent::decode(&mut reader).unwrap().event_type.0,
                ));
            } else {
                assert_eq!(header.xid, Xid(self.last_xid));
                return Answer {
                    header,
                    body: reader.rest(),
                    events,
                };
            }
        }
    }

    fn err(&mut self, op: OpCode, body: &impl Encode) -> ErrorCode {
        self.call(op, body).header.err
    }

    #[track_caller]
    fn create(&mut self, path: &str, acl: Acl) {
        assert_eq!(
            self.err(OpCode::CREATE, &create(path, acl, 0)),
            ErrorCode::OK
        );
    }

    fn set(&mut self, path: &str) -> Answer {
        let body = SetDataRequest {
            path: path.into(),
            data: None,
            version: -1,
        };
        self.call(OpCode::SET_DATA, &body)
    }

    fn multi(&mut self, ops: Vec<MultiOp<'_>>) -> Answer {
        self.call(OpCode::MULTI, &MultiRequest { ops })
    }
}

fn create(path: &str, acl: Acl, flags: i32) -> CreateRequest<'_> {
    CreateRequest {
        path: path.into(),
        data: None,
        acl: Some(vec![acl]),
        flags,
    }
}

fn read(path: &str, watch: bool) -> PathWatchRequest<'_> {
    PathWatchRequest {
        path: path.into(),
        watch,
    }
}

/// Everything but reading.
fn unreadable() -> Acl {
    Acl {
        perms: Perms(Perms::ALL.0 & !Perms::READ.0),
        id: Id::anyone(),
    }
}

#[test]
fn create2_in_a_multi() {
    let mut asked = Asked::start();
    let answer = asked.multi(vec![MultiOp::Create2(create("/a", Acl::open_unsafe(), 0))]);
    let response = MultiResponse::decode(&mut Reader::new(&answer.body, "MultiResponse")).unwrap();
    match &response.results[..] {
        [MultiResult::Create(path)] if asked.is_38() => assert_eq!(path.as_str(), Some("/a")),
        [MultiResult::Create2(path, stat)] if !asked.is_38() => {
            assert_eq!(
                (path.as_str(), stat.czxid),
                (Some("/a"), answer.header.zxid)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_flags_in_a_multi() {
    let mut asked = Asked::start();
    let answer = asked.multi(vec![MultiOp::Create(create("/a", Acl::open_unsafe(), 7))]);
    if asked.target.kind() == Kind::Apache39 {
        assert_eq!(answer.header.err, ErrorCode::MARSHALLING_ERROR);
    } else {
        let response =
            MultiResponse::decode(&mut Reader::new(&answer.body, "MultiResponse")).unwrap();
        assert_eq!(
            response.results,
            [MultiResult::Error(ErrorCode::BAD_ARGUMENTS)]
        );
    }
}

#[test]
fn exists_of_an_unreadable_node() {
    let mut asked = Asked::start();
    asked.create("/a", unreadable());
    let expected = if asked.is_38() {
        ErrorCode::OK
    } else {
        ErrorCode::NO_AUTH
    };
    assert_eq!(asked.err(OpCode::EXISTS, &read("/a", false)), expected);
}

#[test]
fn events_of_an_unreadable_node() {
    let mut asked = Asked::start();
    asked.create("/a", unreadable());
    let body = AddWatchRequest {
        path: "/a".into(),
        mode: AddWatchMode::PERSISTENT_RECURSIVE,
    };
    assert_eq!(asked.err(OpCode::ADD_WATCH, &body), ErrorCode::OK);
    // The sources of 3.8.0 send it; Debian's 3.8.0 carries the filter of 3.8.4.
    assert_eq!(asked.set("/a").events.len(), 0);
}

#[test]
fn the_zxid_of_a_notification() {
    let mut asked = Asked::start();
    asked.create("/a", Acl::open_unsafe());
    assert_eq!(
        asked.err(OpCode::GET_DATA, &read("/a", true)),
        ErrorCode::OK
    );
    let answer = asked.set("/a");
    let expected = if asked.is_38() {
        -1
    } else {
        answer.header.zxid.0
    };
    assert_eq!(answer.events[0].0.zxid.0, expected);
}

#[test]
fn a_persistent_and_a_one_shot_watch_on_one_path() {
    let mut asked = Asked::start();
    asked.create("/a", Acl::open_unsafe());
    let body = AddWatchRequest {
        path: "/a".into(),
        mode: AddWatchMode::PERSISTENT,
    };
    assert_eq!(asked.err(OpCode::ADD_WATCH, &body), ErrorCode::OK);
    assert_eq!(
        asked.err(OpCode::GET_DATA, &read("/a", true)),
        ErrorCode::OK
    );
    assert_eq!(asked.set("/a").events.len(), 1);
    assert_eq!(asked.set("/a").events.len(), usize::from(!asked.is_38()));
}

#[test]
fn watcher_types_of_persistent_watches() {
    let mut asked = Asked::start();
    for (mode, code) in [
        (AddWatchMode::PERSISTENT, 4),
        (AddWatchMode::PERSISTENT_RECURSIVE, 5),
    ] {
        let body = AddWatchRequest {
            path: "/a".into(),
            mode,
        };
        assert_eq!(asked.err(OpCode::ADD_WATCH, &body), ErrorCode::OK);
        let body = WatcherTypeRequest {
            path: "/a".into(),
            watcher_type: WatcherType(code),
        };
        let expected = if asked.is_38() {
            ErrorCode::MARSHALLING_ERROR
        } else {
            ErrorCode::OK
        };
        assert_eq!(asked.err(OpCode::CHECK_WATCHES, &body), expected);
        assert_eq!(asked.err(OpCode::REMOVE_WATCHES, &body), expected);
    }
}

#[test]
fn removing_a_data_watch_where_there_is_a_persistent_one() {
    let mut asked = Asked::start();
    let body = AddWatchRequest {
        path: "/a".into(),
        mode: AddWatchMode::PERSISTENT,
    };
    assert_eq!(asked.err(OpCode::ADD_WATCH, &body), ErrorCode::OK);
    let body = WatcherTypeRequest {
        path: "/a".into(),
        watcher_type: WatcherType(2),
    };
    let expected = if asked.is_38() {
        ErrorCode::OK
    } else {
        ErrorCode::NO_WATCHER
    };
    assert_eq!(asked.err(OpCode::REMOVE_WATCHES, &body), expected);
}

#[test]
fn checking_for_the_watch_of_another_connection() {
    let mut asked = Asked::start();
    asked.create("/a", Acl::open_unsafe());
    let (mut other, _) = RawConnection::session(asked.target.addr(), 60_000).unwrap();
    let (header, _) = other
        .call(Xid(1), OpCode::GET_DATA, &read("/a", true))
        .unwrap();
    assert_eq!(header.err, ErrorCode::OK);
    let body = WatcherTypeRequest {
        path: "/a".into(),
        watcher_type: WatcherType::ANY,
    };
    let expected = if asked.is_38() {
        ErrorCode::OK
    } else {
        ErrorCode::NO_WATCHER
    };
    assert_eq!(asked.err(OpCode::CHECK_WATCHES, &body), expected);
    assert_eq!(
        asked.err(OpCode::REMOVE_WATCHES, &body),
        ErrorCode::NO_WATCHER
    );
}

/// No difference for create, which makes a container there on all; 3.8.0 has the reverse for createContainer as well.
#[test]
fn container_flags_in_a_multi() {
    let mut asked = Asked::start();
    let answer = asked.multi(vec![
        MultiOp::Create(create("/a", Acl::open_unsafe(), 4)),
        MultiOp::CreateContainer(create("/b", Acl::open_unsafe(), 0)),
    ]);
    let response = MultiResponse::decode(&mut Reader::new(&answer.body, "MultiResponse")).unwrap();
    match &response.results[..] {
        [MultiResult::Create2(..), MultiResult::Create(_)] if asked.is_38() => {}
        [MultiResult::Create2(..), MultiResult::Create2(..)] if !asked.is_38() => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_check_outside_a_multi() {
    let mut asked = Asked::start();
    let body = CheckVersionRequest {
        path: "/".into(),
        version: -1,
    };
    asked
        .connection
        .request(Xid(1), OpCode::CHECK, &body)
        .unwrap();
    if asked.is_38() {
        assert_eq!(asked.connection.receive(A_WHILE), Received::Silence);
        return;
    }
    let Received::Frame(frame) = asked.connection.receive(PATIENCE) else {
        panic!("no answer")
    };
    let header = ReplyHeader::decode(&mut Reader::new(&frame, "reply")).unwrap();
    assert_eq!(header.err, ErrorCode::UNIMPLEMENTED);
    assert_eq!(asked.connection.receive(PATIENCE), Received::Closed);
}

#[test]
fn a_persistent_watch_on_no_path() {
    let mut asked = Asked::start();
    let body = AddWatchRequest {
        path: Ustring::null(),
        mode: AddWatchMode::PERSISTENT,
    };
    let err = asked.err(OpCode::ADD_WATCH, &body);
    match asked.target.kind() {
        // The sources of 3.8.0 refuse it; Debian's 3.8.0 stores null, as 3.9 does.
        Kind::Apache | Kind::Apache39 => assert_eq!(err, ErrorCode::OK),
        Kind::Embedded => {
            assert!(
                [ErrorCode::MARSHALLING_ERROR, ErrorCode::BAD_ARGUMENTS].contains(&err),
                "{err:?}"
            );
        }
    }
}

#[test]
fn the_zxid_of_a_write_that_cannot_be_read() {
    let mut asked = Asked::start();
    let before = asked
        .call(
            OpCode::SYNC,
            &Request::Unknown(Bytes::from_static(b"\0\0\0\x01/")),
        )
        .header
        .zxid;
    let answer = asked.call(
        OpCode::DELETE,
        &Request::Unknown(Bytes::from_static(b"\0\0\0\x09/")),
    );
    assert_eq!(answer.header.err, ErrorCode::MARSHALLING_ERROR);
    let spent = answer.header.zxid.0 - before.0;
    assert_eq!(spent, i64::from(asked.is_38()));
}

// From here on: hazards of Apache ZooKeeper. It is asked only where that ends nobody but the asking connection.

#[test]
fn delete_container_from_a_client() {
    let mut asked = Asked::start();
    asked.create("/a", Acl::open_unsafe());
    if asked.target.kind() == Kind::Apache39 {
        return;
    }
    let mut body = BytesMut::new();
    zk_proto::jute::put_ustring(&mut body, Some("/a"));
    let request = Request::Unknown(body.freeze());
    asked
        .connection
        .request(Xid(2), OpCode::DELETE_CONTAINER, &request)
        .unwrap();
    let Received::Frame(frame) = asked.connection.receive(PATIENCE) else {
        panic!("no answer")
    };
    let err = ReplyHeader::decode(&mut Reader::new(&frame, "reply"))
        .unwrap()
        .err;
    assert!(
        [ErrorCode::BAD_ARGUMENTS, ErrorCode::UNIMPLEMENTED].contains(&err),
        "{err:?}"
    );
    let (mut other, _) = RawConnection::session(asked.target.addr(), 60_000).unwrap();
    let (header, _) = other
        .call(Xid(1), OpCode::EXISTS, &read("/a", false))
        .unwrap();
    assert_eq!(
        header.err,
        ErrorCode::OK,
        "a client deleted a node past its ACL"
    );
}

#[test]
fn the_poison_transaction() {
    let mut asked = Asked::start();
    if !asked.is_ours() {
        return;
    }
    for flags in 0..5 {
        for ttl in [-1, i64::MIN] {
            let request = CreateTtlRequest {
                path: "/a".into(),
                data: None,
                acl: Some(vec![Acl::open_unsafe()]),
                flags,
                ttl,
            };
            assert_eq!(
                asked.err(OpCode::CREATE_TTL, &request),
                ErrorCode::BAD_ARGUMENTS
            );
            let answer = asked.multi(vec![MultiOp::CreateTtl(request)]);
            let response =
                MultiResponse::decode(&mut Reader::new(&answer.body, "MultiResponse")).unwrap();
            assert_eq!(
                response.results,
                [MultiResult::Error(ErrorCode::BAD_ARGUMENTS)]
            );
        }
    }
    // It is still there, also after a restart.
    asked.target.kill().unwrap();
    asked.target.start_again().unwrap();
    let (mut other, _) = RawConnection::session(asked.target.addr(), 60_000).unwrap();
    let (header, _) = other
        .call(Xid(1), OpCode::EXISTS, &read("/a", false))
        .unwrap();
    assert_eq!(header.err, ErrorCode::NO_NODE);
}

#[test]
fn create_session_from_a_client() {
    let mut asked = Asked::start();
    if !asked.is_ours() {
        return;
    }
    asked
        .connection
        .request(
            Xid(1),
            OpCode::CREATE_SESSION,
            &Request::Unknown(Bytes::from_static(&[0, 0, 0x75, 0x30])),
        )
        .unwrap();
    let Received::Frame(frame) = asked.connection.receive(PATIENCE) else {
        panic!("no answer")
    };
    let header = ReplyHeader::decode(&mut Reader::new(&frame, "reply")).unwrap();
    assert_eq!(header.err, ErrorCode::UNIMPLEMENTED);
    assert_eq!(asked.connection.receive(PATIENCE), Received::Closed);
}

#[test]
fn attaching_with_a_wrong_password() {
    let mut asked = Asked::start();
    let request = ConnectRequest {
        timeout: 60_000,
        session_id: asked.session.session_id,
        passwd: Password(Some(Bytes::from_static(&[1; 16]))),
        read_only: Some(false),
        ..ConnectRequest::default()
    };
    let response = RawConnection::open(asked.target.addr())
        .unwrap()
        .connect(&request)
        .unwrap()
        .unwrap();
    assert!(response.timeout <= 0 && response.session_id.0 == 0);
    let ping = asked
        .connection
        .call(Xid::PING, OpCode::PING, &Request::Empty);
    assert_eq!(
        ping.is_ok(),
        asked.is_ours(),
        "the rightful connection: {ping:?}"
    );
}

#[test]
fn session_passwords() {
    let asked = Asked::start();
    let passwd = asked.session.passwd.as_bytes();
    assert_eq!(passwd.len(), Password::LENGTH);
    let guessed = java_password(asked.session.session_id.0);
    assert_eq!(passwd != guessed, asked.is_ours());
}

/// The password that Java derives from a session id, and anyone else can.
fn java_password(id: i64) -> [u8; 16] {
    const MASK: u64 = (1 << 48) - 1;
    let mut state = (id.cast_unsigned() ^ 0xB341_5C00 ^ 0x5_DEEC_E66D) & MASK;
    let mut bytes = [0; 16];
    for word in bytes.chunks_exact_mut(4) {
        state = (state.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB)) & MASK;
        let bits = u32::try_from(state >> 16).unwrap();
        word.copy_from_slice(&bits.to_le_bytes());
    }
    bytes
}
