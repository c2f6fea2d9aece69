//! Whatever can be said can be written and read back: `decode(encode(x)) == x` for random records of every shape.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use zk_proto::jute::{Decode, Encode, Reader, Ustring};
use zk_proto::session::*;
use zk_proto::txn::*;
use zk_proto::{Acl, ErrorCode, Id, OpCode, Perms, SessionId, Stat, Xid, Zxid};

fn ustring() -> impl Strategy<Value = Ustring<'static>> {
    option::weighted(0.9, ".{0,12}").prop_map(|text| Ustring(text.map(Cow::Owned)))
}

fn ustrings() -> impl Strategy<Value = Option<Vec<Ustring<'static>>>> {
    option::weighted(0.9, vec(ustring(), 0..5))
}

fn buffer() -> impl Strategy<Value = Option<Bytes>> {
    option::weighted(0.8, vec(any::<u8>(), 0..20)).prop_map(|data| data.map(Bytes::from))
}

fn acls() -> impl Strategy<Value = Option<Vec<Acl>>> {
    let word = || {
        prop_oneof![
            "world",
            "anyone",
            "digest",
            "ip",
            "auth",
            "[a-z:./0-9]{0,8}"
        ]
    };
    let acl = (any::<i32>(), word(), word()).prop_map(|(perms, scheme, id)| Acl {
        perms: Perms(perms),
        id: Id::new(scheme, id),
    });
    option::weighted(0.9, vec(acl, 0..4))
}

fn stat() -> impl Strategy<Value = Stat> {
    (any::<[i64; 6]>(), any::<[i32; 5]>()).prop_map(|(longs, ints)| Stat {
        czxid: Zxid(longs[0]),
        mzxid: Zxid(longs[1]),
        ctime: longs[2],
        mtime: longs[3],
        version: ints[0],
        cversion: ints[1],
        aversion: ints[2],
        ephemeral_owner: longs[4],
        data_length: ints[3],
        num_children: ints[4],
        pzxid: Zxid(longs[5]),
    })
}

prop_compose! {
    fn create()(path in ustring(), data in buffer(), acl in acls(), flags: i32) -> CreateRequest<'static> {
        CreateRequest { path, data, acl, flags }
    }
}
prop_compose! {
    fn create_ttl()(path in ustring(), data in buffer(), acl in acls(), flags: i32, ttl: i64) -> CreateTtlRequest<'static> {
        CreateTtlRequest { path, data, acl, flags, ttl }
    }
}
prop_compose! {
    fn path_watch()(path in ustring(), watch: bool) -> PathWatchRequest<'static> {
        PathWatchRequest { path, watch }
    }
}
prop_compose! {
    fn set_data()(path in ustring(), data in buffer(), version: i32) -> SetDataRequest<'static> {
        SetDataRequest { path, data, version }
    }
}

fn multi() -> impl Strategy<Value = MultiRequest<'static>> {
    let versioned = || (ustring(), any::<i32>());
    let op = prop_oneof![
        create().prop_map(MultiOp::Create),
        create().prop_map(MultiOp::Create2),
        create().prop_map(MultiOp::CreateContainer),
        create_ttl().prop_map(MultiOp::CreateTtl),
        versioned().prop_map(|(path, version)| MultiOp::Delete(DeleteRequest { path, version })),
        set_data().prop_map(MultiOp::SetData),
        versioned()
            .prop_map(|(path, version)| MultiOp::Check(CheckVersionRequest { path, version })),
        path_watch().prop_map(MultiOp::GetData),
        path_watch().prop_map(MultiOp::GetChildren),
    ];
    vec(op, 0..6).prop_map(|ops| MultiRequest { ops })
}

fn multi_response() -> impl Strategy<Value = MultiResponse<'static>> {
    let result = prop_oneof![
        ustring().prop_map(MultiResult::Create),
        (ustring(), stat()).prop_map(|(path, stat)| MultiResult::Create2(path, stat)),
        Just(MultiResult::Delete),
        stat().prop_map(MultiResult::SetData),
        Just(MultiResult::Check),
        (buffer(), stat()).prop_map(|(data, stat)| MultiResult::GetData(data, stat)),
        ustrings().prop_map(MultiResult::GetChildren),
        any::<i32>().prop_map(|code| MultiResult::Error(ErrorCode(code))),
    ];
    vec(result, 0..6).prop_map(|results| MultiResponse { results })
}

/// A request with its opcode: several opcodes share a shape.
fn request() -> impl Strategy<Value = (OpCode, Request<'static>)> {
    let op = |op: OpCode| move |request| (op, request);
    prop_oneof![
        create()
            .prop_map(Request::Create)
            .prop_map(op(OpCode::CREATE2)),
        create_ttl()
            .prop_map(Request::CreateTtl)
            .prop_map(op(OpCode::CREATE_TTL)),
        (ustring(), any::<i32>())
            .prop_map(|(path, version)| Request::Delete(DeleteRequest { path, version }))
            .prop_map(op(OpCode::DELETE)),
        path_watch()
            .prop_map(Request::PathWatch)
            .prop_map(op(OpCode::EXISTS)),
        ustring()
            .prop_map(|path| Request::Path(PathRequest { path }))
            .prop_map(op(OpCode::GET_EPHEMERALS)),
        set_data()
            .prop_map(Request::SetData)
            .prop_map(op(OpCode::SET_DATA)),
        (ustring(), acls(), any::<i32>())
            .prop_map(|(path, acl, version)| Request::SetAcl(SetAclRequest { path, acl, version }))
            .prop_map(op(OpCode::SET_ACL)),
        multi().prop_map(Request::Multi).prop_map(op(OpCode::MULTI)),
        (ustring(), ustring(), ustring(), any::<i64>())
            .prop_map(
                |(joining_servers, leaving_servers, new_members, cur_config_id)| {
                    Request::Reconfig(ReconfigRequest {
                        joining_servers,
                        leaving_servers,
                        new_members,
                        cur_config_id,
                    })
                }
            )
            .prop_map(op(OpCode::RECONFIG)),
        (ustring(), any::<i32>())
            .prop_map(|(path, kind)| {
                Request::WatcherType(WatcherTypeRequest {
                    path,
                    watcher_type: WatcherType(kind),
                })
            })
            .prop_map(op(OpCode::REMOVE_WATCHES)),
        (any::<i32>(), ustring(), buffer())
            .prop_map(|(auth_type, scheme, auth)| {
                Request::Auth(AuthPacket {
                    auth_type,
                    scheme,
                    auth: Secret(auth),
                })
            })
            .prop_map(op(OpCode::AUTH)),
        (
            any::<i64>(),
            ustrings(),
            ustrings(),
            ustrings(),
            ustrings(),
            ustrings()
        )
            .prop_map(|(zxid, data, exist, child, persistent, recursive)| {
                Request::SetWatches2(SetWatches2 {
                    relative_zxid: Zxid(zxid),
                    data_watches: data,
                    exist_watches: exist,
                    child_watches: child,
                    persistent_watches: persistent,
                    persistent_recursive_watches: recursive,
                })
            })
            .prop_map(op(OpCode::SET_WATCHES2)),
        (any::<i32>(), vec(any::<u8>(), 0..20))
            .prop_filter("an opcode this crate does not know", |(op, _)| {
                OpCode(*op).name().is_none()
            })
            .prop_map(|(op, body)| (OpCode(op), Request::Unknown(body.into()))),
    ]
}

fn response() -> impl Strategy<Value = (OpCode, Response<'static>)> {
    let op = |op: OpCode| move |response| (op, response);
    prop_oneof![
        ustring()
            .prop_map(|path| Response::Path(PathResponse { path }))
            .prop_map(op(OpCode::CREATE)),
        (ustring(), stat())
            .prop_map(|(path, stat)| Response::Create(CreateResponse { path, stat }))
            .prop_map(op(OpCode::CREATE2)),
        stat()
            .prop_map(|stat| Response::Stat(StatResponse { stat }))
            .prop_map(op(OpCode::EXISTS)),
        (buffer(), stat())
            .prop_map(|(data, stat)| Response::Data(GetDataResponse { data, stat }))
            .prop_map(op(OpCode::GET_DATA)),
        (acls(), stat())
            .prop_map(|(acl, stat)| Response::Acl(AclResponse { acl, stat }))
            .prop_map(op(OpCode::GET_ACL)),
        ustrings()
            .prop_map(|children| Response::Children(ChildrenResponse { children }))
            .prop_map(op(OpCode::GET_CHILDREN)),
        (ustrings(), stat())
            .prop_map(|(children, stat)| Response::Children2(Children2Response { children, stat }))
            .prop_map(op(OpCode::GET_CHILDREN2)),
        multi_response()
            .prop_map(Response::Multi)
            .prop_map(op(OpCode::MULTI)),
        any::<i32>()
            .prop_map(|total_number| Response::Total(TotalResponse { total_number }))
            .prop_map(op(OpCode::GET_ALL_CHILDREN_NUMBER)),
    ]
}

fn txn() -> impl Strategy<Value = Txn<'static>> {
    let create = || {
        (ustring(), buffer(), acls(), any::<bool>(), any::<i32>()).prop_map(
            |(path, data, acl, ephemeral, parent)| CreateTxn {
                path,
                data,
                acl,
                ephemeral,
                parent_cversion: Some(parent),
            },
        )
    };
    let plain = (ustring(), buffer(), acls(), any::<i32>()).prop_map(
        |(path, data, acl, parent_cversion)| PlainCreateTxn {
            path,
            data,
            acl,
            parent_cversion,
        },
    );
    let ttl = (ustring(), buffer(), acls(), any::<i32>(), any::<i64>()).prop_map(
        |(path, data, acl, parent_cversion, ttl)| CreateTtlTxn {
            path,
            data,
            acl,
            parent_cversion,
            ttl,
        },
    );
    let set = || {
        (ustring(), buffer(), any::<i32>()).prop_map(|(path, data, version)| SetDataTxn {
            path,
            data,
            version,
        })
    };
    let single =
        prop_oneof![
            create().prop_map(Txn::Create),
            create().prop_map(Txn::Create2),
            plain.prop_map(Txn::CreateContainer),
            ttl.prop_map(Txn::CreateTtl),
            ustring().prop_map(|path| Txn::Delete(DeleteTxn { path })),
            ustring().prop_map(|path| Txn::DeleteContainer(DeleteTxn { path })),
            set().prop_map(Txn::SetData),
            set().prop_map(Txn::Reconfig),
            (ustring(), acls(), any::<i32>())
                .prop_map(|(path, acl, version)| Txn::SetAcl(SetAclTxn { path, acl, version })),
            (ustring(), any::<i32>())
                .prop_map(|(path, version)| Txn::Check(CheckTxn { path, version })),
            any::<i32>().prop_map(|code| Txn::Error(ErrorCode(code))),
        ];
    let single = single.boxed();
    prop_oneof![
        4 => single.clone(),
        1 => any::<i32>().prop_map(|timeout| Txn::CreateSession { timeout }),
        1 => vec("/[a-z]{1,9}".prop_map(Ustring::from), 0..4)
            .prop_map(|paths| Txn::CloseSession { paths: Some(paths) }),
        2 => vec(single, 0..5).prop_map(Txn::Multi),
    ]
}

proptest! {
    #[test]
    fn requests_survive((op, request) in request()) {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        let out = out.freeze();
        let mut reader = Reader::new(&out, "Request");
        prop_assert_eq!(Request::decode(op, &mut reader)?, request.clone());
        prop_assert!(reader.remaining() == 0 || matches!(request, Request::Unknown(_)));
    }

    #[test]
    fn responses_survive((op, response) in response()) {
        let mut out = BytesMut::new();
        response.encode(&mut out);
        let out = out.freeze();
        let mut reader = Reader::new(&out, "Response");
        prop_assert_eq!(Response::decode(op, &mut reader)?, response);
        prop_assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn transactions_survive_with_and_without_a_digest(
        txn in txn(),
        client: i64,
        cxid: i32,
        zxid: i64,
        time: i64,
        digest in option::of(1_i64..),
    ) {
        let header = TxnHeader {
            client_id: SessionId(client),
            cxid: Xid(cxid),
            zxid: Zxid(zxid),
            time,
            op: txn.op(),
        };
        let digest = digest.map(|tree_digest| TxnDigest { version: TxnDigest::VERSION, tree_digest });
        let mut out = BytesMut::new();
        encode_txn(&header, &txn, digest, &mut out);
        let out = out.freeze();
        prop_assert_eq!(decode_txn(&out)?, (header, txn, digest));
    }

    #[test]
    fn node_data_is_never_copied(data in vec(any::<u8>(), 1..100)) {
        let mut out = BytesMut::new();
        CreateRequest { path: "/a".into(), data: Some(data.into()), acl: None, flags: 0 }.encode(&mut out);
        let frame = out.freeze();
        let read = CreateRequest::decode(&mut Reader::new(&frame, "CreateRequest"))?;
        let range = frame.as_ptr_range();
        prop_assert!(range.contains(&read.data.expect("it was written").as_ptr()));
    }
}

#[test]
fn fs_m2_an_announced_count_fails_where_the_frame_ends() {
    // 2^31-1 strings announced in a frame that holds nine.
    let mut frame = vec![0x7f, 0xff, 0xff, 0xff];
    frame.extend([0; 36]);
    let frame = Bytes::from(frame);
    let mut read = 0;
    let error = Reader::new(&frame, "Example")
        .vector("items", |reader| {
            read += 1;
            reader.ustring("item")
        })
        .unwrap_err();
    assert_eq!((read, error.offset), (10, 40), "{error}");
}
