//! One data directory, opened in turn by our server and by Apache ZooKeeper 3.8.0: what one wrote the other serves.
//!
//! Content is compared through the client protocol: every node's data, ACL and whole Stat, times included. A session that
//! was open when the server stopped is still there (its ephemeral node proves it). What is not asked for: attaching to
//! that session on the other server. Our session passwords are keyed with a secret of the directory, Java's are not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::SocketAddr;

use bytes::Bytes;
use tests::dump::{self, SUPER_DIGEST};
use tests::gate;
use tests::raw::RawConnection;
use tests::target::{Kind, Options, Target};
use zk_proto::jute::Encode;
use zk_proto::session::{
    AuthPacket, CreateRequest, CreateTtlRequest, DeleteRequest, MultiOp, MultiRequest, Request,
    SetAclRequest, SetDataRequest,
};
use zk_proto::{Acl, ErrorCode, Id, OpCode, Perms, Xid};

fn options() -> Options {
    Options::default()
        .set("DigestAuthenticationProvider.superDigest", SUPER_DIGEST)
        // No session ends while the servers change places.
        .set("minSessionTimeout", 600_000)
}

fn call(connection: &mut RawConnection, op: OpCode, body: &impl Encode) -> ErrorCode {
    connection.call(Xid(1), op, body).unwrap().0.err
}

fn create<'a>(path: &'a str, data: &'static [u8], acl: Vec<Acl>, flags: i32) -> CreateRequest<'a> {
    CreateRequest {
        path: path.into(),
        data: Some(Bytes::from_static(data)),
        acl: Some(acl),
        flags,
    }
}

/// Leaves every kind of node and of transaction below `/<name>`, and an open session with an ephemeral node.
fn write_all_kinds(addr: SocketAddr, name: &str) -> RawConnection {
    let (mut connection, _) = RawConnection::session(addr, 600_000).unwrap();
    let open = || vec![Acl::open_unsafe()];
    let at = |rest: &str| format!("/{name}{rest}");
    let mut ok = |op: OpCode, body: &dyn Fn() -> Request<'static>| {
        let err = call(&mut connection, op, &body());
        assert_eq!(err, ErrorCode::OK, "{op:?}");
    };
    let owned = |request: CreateRequest<'_>| CreateRequest {
        path: request.path.into_owned(),
        data: request.data,
        acl: request.acl,
        flags: request.flags,
    };
    let new = |op: OpCode, rest: &str, data: &'static [u8], acl: Vec<Acl>, flags: i32| {
        let request = owned(create(&at(rest), data, acl, flags));
        (op, Request::Create(request))
    };
    let mut steps: Vec<(OpCode, Request<'static>)> = vec![
        (
            OpCode::AUTH,
            Request::Auth(AuthPacket {
                auth_type: 0,
                scheme: "digest".into(),
                auth: Bytes::from_static(b"disk:secret").into(),
            }),
        ),
        new(OpCode::CREATE, "", b"", open(), 0),
        new(OpCode::CREATE, "/plain", b"some data", open(), 0),
        new(
            OpCode::CREATE2,
            "/utf8-\u{e4}\u{4e2d}",
            b"\xff\x00\x01",
            open(),
            0,
        ),
        new(OpCode::CREATE, "/seq-", b"1", open(), 2),
        new(OpCode::CREATE, "/seq-", b"2", open(), 2),
        new(OpCode::CREATE, "/ephemeral", b"mine", open(), 1),
        new(OpCode::CREATE, "/ephemeral-", b"mine too", open(), 3),
        new(OpCode::CREATE_CONTAINER, "/container", b"", open(), 4),
        new(OpCode::CREATE, "/container/child", b"", open(), 0),
        new(
            OpCode::CREATE,
            "/owned",
            b"x",
            vec![Acl::creator_all(), Acl::read_unsafe()],
            0,
        ),
        new(
            OpCode::CREATE,
            "/by-address",
            b"x",
            vec![Acl {
                perms: Perms(31),
                id: Id::new("ip", "10.0.0.0/8"),
            }],
            0,
        ),
        new(OpCode::CREATE, "/gone", b"x", open(), 0),
    ];
    steps.push((
        OpCode::CREATE,
        Request::Create(CreateRequest {
            path: at("/null").into(),
            data: None,
            acl: Some(open()),
            flags: 0,
        }),
    ));
    steps.push((
        OpCode::CREATE_TTL,
        Request::CreateTtl(CreateTtlRequest {
            path: at("/ttl").into(),
            data: Some(Bytes::from_static(b"t")),
            acl: Some(open()),
            flags: 5,
            ttl: 86_400_000,
        }),
    ));
    for number in 0..3 {
        steps.push((
            OpCode::SET_DATA,
            Request::SetData(SetDataRequest {
                path: at("/plain").into(),
                data: Some(Bytes::from(vec![b'd'; 1000 * number])),
                version: -1,
            }),
        ));
    }
    steps.push((
        OpCode::SET_ACL,
        Request::SetAcl(SetAclRequest {
            path: at("/owned").into(),
            acl: Some(vec![Acl::creator_all()]),
            version: 0,
        }),
    ));
    steps.push((
        OpCode::DELETE,
        Request::Delete(DeleteRequest {
            path: at("/gone").into(),
            version: -1,
        }),
    ));
    steps.push((
        OpCode::MULTI,
        Request::Multi(MultiRequest {
            ops: vec![
                MultiOp::Create(owned(create(&at("/in-multi"), b"m", open(), 0))),
                MultiOp::Create(owned(create(&at("/in-multi/below"), b"m", open(), 0))),
                MultiOp::SetData(SetDataRequest {
                    path: at("/plain").into(),
                    data: Some(Bytes::from_static(b"from a multi")),
                    version: -1,
                }),
                MultiOp::Delete(DeleteRequest {
                    path: at("/in-multi/below").into(),
                    version: 0,
                }),
            ],
        }),
    ));
    // A multi that fails leaves an error in the log.
    steps.push((
        OpCode::MULTI,
        Request::Multi(MultiRequest {
            ops: vec![
                MultiOp::Create(owned(create(&at("/never"), b"m", open(), 0))),
                MultiOp::Delete(DeleteRequest {
                    path: at("/nowhere").into(),
                    version: 0,
                }),
            ],
        }),
    ));
    for (op, request) in steps {
        ok(op, &|| request.clone());
    }
    connection
}

/// Starts a server on a directory that holds `before` and compares; then writes more and returns all it holds.
fn take_over(
    kind: Kind,
    directory: &std::path::Path,
    options: &Options,
    before: &dump::Tree,
    name: &str,
) -> dump::Tree {
    let target = Target::start_in(kind, options.clone(), directory).unwrap();
    let found = dump::tree(target.addr()).unwrap();
    let differences = dump::differences(before, &found);
    assert!(
        differences.is_empty(),
        "{kind:?} does not serve what was written before:\n{differences}"
    );
    let connection = write_all_kinds(target.addr(), name);
    let after = dump::tree(target.addr()).unwrap();
    assert!(after.contains_key(&format!("/{name}/ephemeral")));
    // Dropped with the session open, and without a word to the server.
    connection.hang_up();
    after
}

fn change_places(test: &str, options: &Options) {
    let Some(_) = gate::need(test, tests::apache::Distribution::debian()) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let first = {
        let target = Target::start_in(Kind::Embedded, options.clone(), path).unwrap();
        let connection = write_all_kinds(target.addr(), "ours-1");
        let tree = dump::tree(target.addr()).unwrap();
        connection.hang_up();
        tree
    };
    assert_eq!(first["/ours-1/plain"].stat.version, 4);
    let second = take_over(Kind::Apache, path, options, &first, "theirs-1");
    let third = take_over(Kind::Embedded, path, options, &second, "ours-2");
    let fourth = take_over(Kind::Apache, path, options, &third, "theirs-2");
    let last = take_over(Kind::Embedded, path, options, &fourth, "ours-3");
    assert!(last.len() > first.len() * 4);
}

#[test]
fn a_directory_of_logs_changes_places() {
    change_places("a_directory_of_logs_changes_places", &options());
}

#[test]
fn a_directory_of_snapshots_and_logs_changes_places() {
    change_places(
        "a_directory_of_snapshots_and_logs_changes_places",
        &options().set("snapCount", 8),
    );
}
