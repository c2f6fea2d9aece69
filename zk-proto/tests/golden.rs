//! Frames captured from Apache ZooKeeper 3.8.0 and 3.9.3 decode to what they are known to mean, and encode back to the
//! same bytes. `tests/data/golden-frames.jsonl` holds one frame a line, with its meaning.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where its data is not what it must be"
)]

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};
use zk_proto::jute::{Decode, Encode, Reader, Ustring};
use zk_proto::session::*;
use zk_proto::{Acl, OpCode, Stat};

const FRAMES: &str = include_str!("data/golden-frames.jsonl");

/// Frames that servers answered with MARSHALLINGERROR because their bytes or their operations do not fit: the codec must
/// refuse these. The others of that name are well formed and refused for what they say (a null path, a bad mode).
const MALFORMED: &[&str] = &[
    "create/MARSHALLINGERROR-truncated-body/request",
    "multiRead/MARSHALLINGERROR-bad-op/request",
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn buffer(data: Option<&Bytes>) -> Value {
    data.map_or(Value::Null, |data| hex(data).into())
}

fn text(text: &Ustring<'_>) -> Value {
    text.as_str().map_or(Value::Null, Into::into)
}

fn texts(list: &Option<Vec<Ustring<'_>>>) -> Value {
    list.as_ref()
        .map_or(Value::Null, |list| list.iter().map(text).collect())
}

fn acl(list: &Option<Vec<Acl>>) -> Value {
    list.as_ref().map_or(Value::Null, |list| {
        list.iter()
            .map(|acl| json!({"perms": acl.perms.0, "scheme": acl.id.scheme, "id": acl.id.id}))
            .collect()
    })
}

fn stat(stat: &Stat) -> Value {
    json!({
        "czxid": stat.czxid.0, "mzxid": stat.mzxid.0, "ctime": stat.ctime, "mtime": stat.mtime,
        "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
        "ephemeralOwner": stat.ephemeral_owner, "dataLength": stat.data_length,
        "numChildren": stat.num_children, "pzxid": stat.pzxid.0,
    })
}

fn create(create: &CreateRequest<'_>) -> Value {
    json!({"path": text(&create.path), "data": buffer(create.data.as_ref()), "acl": acl(&create.acl), "flags": create.flags})
}

fn create_ttl(create: &CreateTtlRequest<'_>) -> Value {
    json!({
        "path": text(&create.path), "data": buffer(create.data.as_ref()), "acl": acl(&create.acl),
        "flags": create.flags, "ttl": create.ttl,
    })
}

fn path_watch(read: &PathWatchRequest<'_>) -> Value {
    json!({"path": text(&read.path), "watch": read.watch})
}

fn set_data(set: &SetDataRequest<'_>) -> Value {
    json!({"path": text(&set.path), "data": buffer(set.data.as_ref()), "version": set.version})
}

fn path_version(path: &Ustring<'_>, version: i32) -> Value {
    json!({"path": text(path), "version": version})
}

fn multi_header(op: i32, done: bool, err: i32) -> Value {
    json!({"type": op, "done": done, "err": err})
}

fn with_header(mut body: Value, header: Value) -> Value {
    body.as_object_mut()
        .unwrap()
        .insert("header".to_owned(), header);
    body
}

fn multi_request(multi: &MultiRequest<'_>) -> Value {
    let mut ops: Vec<Value> = multi
        .ops
        .iter()
        .map(|op| {
            let body = match op {
                MultiOp::Create(record)
                | MultiOp::Create2(record)
                | MultiOp::CreateContainer(record) => create(record),
                MultiOp::CreateTtl(record) => create_ttl(record),
                MultiOp::Delete(record) => path_version(&record.path, record.version),
                MultiOp::SetData(record) => set_data(record),
                MultiOp::Check(record) => path_version(&record.path, record.version),
                MultiOp::GetData(record) | MultiOp::GetChildren(record) => path_watch(record),
                other => panic!("no meaning written down for {other:?}"),
            };
            with_header(body, multi_header(op.op().0, false, -1))
        })
        .collect();
    ops.push(json!({"header": multi_header(-1, true, -1)}));
    json!({ "ops": ops })
}

fn multi_response(multi: &MultiResponse<'_>) -> Value {
    let mut results: Vec<Value> = multi
        .results
        .iter()
        .map(|result| {
            let (op, err, body) = match result {
                MultiResult::Create(path) => (1, 0, json!({"path": text(path)})),
                MultiResult::Create2(path, of) => {
                    (15, 0, json!({"path": text(path), "stat": stat(of)}))
                }
                MultiResult::Delete => (2, 0, json!({})),
                MultiResult::SetData(of) => (5, 0, json!({"stat": stat(of)})),
                MultiResult::Check => (13, 0, json!({})),
                MultiResult::GetData(data, of) => (
                    4,
                    0,
                    json!({"data": buffer(data.as_ref()), "stat": stat(of)}),
                ),
                MultiResult::GetChildren(children) => (8, 0, json!({"children": texts(children)})),
                MultiResult::Error(err) => (-1, err.0, json!({"err": err.0})),
                other => panic!("no meaning written down for {other:?}"),
            };
            with_header(body, multi_header(op, false, err))
        })
        .collect();
    results.push(json!({"header": multi_header(-1, true, -1)}));
    json!({ "results": results })
}

fn request_body(op: OpCode, request: &Request<'_>) -> Value {
    match request {
        Request::Create(record) => create(record),
        Request::CreateTtl(record) => create_ttl(record),
        Request::Delete(record) => path_version(&record.path, record.version),
        Request::PathWatch(record) => path_watch(record),
        Request::Path(record) if op == OpCode::GET_EPHEMERALS => {
            json!({"prefixPath": text(&record.path)})
        }
        Request::Path(record) => json!({"path": text(&record.path)}),
        Request::SetData(record) => set_data(record),
        Request::SetAcl(record) => {
            json!({"path": text(&record.path), "acl": acl(&record.acl), "version": record.version})
        }
        Request::Check(record) => path_version(&record.path, record.version),
        Request::Multi(record) => multi_request(record),
        Request::Reconfig(record) => json!({
            "joiningServers": text(&record.joining_servers), "leavingServers": text(&record.leaving_servers),
            "newMembers": text(&record.new_members), "curConfigId": record.cur_config_id,
        }),
        Request::WatcherType(record) => {
            json!({"path": text(&record.path), "type": record.watcher_type.0})
        }
        Request::Auth(record) => {
            json!({"type": record.auth_type, "scheme": text(&record.scheme), "auth": buffer(record.auth.0.as_ref())})
        }
        Request::SetWatches(record) => json!({
            "relativeZxid": record.relative_zxid.0, "dataWatches": texts(&record.data_watches),
            "existWatches": texts(&record.exist_watches), "childWatches": texts(&record.child_watches),
        }),
        Request::SetWatches2(record) => json!({
            "relativeZxid": record.relative_zxid.0, "dataWatches": texts(&record.data_watches),
            "existWatches": texts(&record.exist_watches), "childWatches": texts(&record.child_watches),
            "persistentWatches": texts(&record.persistent_watches),
            "persistentRecursiveWatches": texts(&record.persistent_recursive_watches),
        }),
        Request::Sasl(record) => json!({"token": buffer(record.token.0.as_ref())}),
        Request::AddWatch(record) => json!({"path": text(&record.path), "mode": record.mode.0}),
        Request::Empty => Value::Null,
        Request::Unknown(bytes) if bytes.is_empty() => Value::Null,
        other => panic!("no meaning written down for {other:?}"),
    }
}

fn response_body(response: &Response<'_>) -> Value {
    match response {
        Response::Path(record) => json!({"path": text(&record.path)}),
        Response::Create(record) => json!({"path": text(&record.path), "stat": stat(&record.stat)}),
        Response::Stat(record) => json!({"stat": stat(&record.stat)}),
        Response::Data(record) => {
            json!({"data": buffer(record.data.as_ref()), "stat": stat(&record.stat)})
        }
        Response::Acl(record) => json!({"acl": acl(&record.acl), "stat": stat(&record.stat)}),
        Response::Children(record) => json!({"children": texts(&record.children)}),
        Response::Children2(record) => {
            json!({"children": texts(&record.children), "stat": stat(&record.stat)})
        }
        Response::Multi(record) => multi_response(record),
        Response::Sasl(record) => json!({"token": buffer(record.token.0.as_ref())}),
        Response::Ephemerals(record) => json!({"ephemerals": texts(&record.ephemerals)}),
        Response::Total(record) => json!({"totalNumber": record.total_number}),
        Response::Error(record) => json!({"err": record.err.0}),
        Response::WhoAmI(record) => {
            json!({"clientInfo": record.client_info.as_ref().map_or(Value::Null, |infos| {
                infos.iter().map(|info| json!({"authScheme": text(&info.auth_scheme), "user": text(&info.user)})).collect()
            })})
        }
        Response::Empty => Value::Null,
        other => panic!("no meaning written down for {other:?}"),
    }
}

/// The opcode a line speaks of: a reply does not carry it.
fn op_named(name: &str) -> OpCode {
    (-11..=107)
        .map(OpCode)
        .find(|op| op.name() == Some(name))
        .unwrap_or(OpCode(999))
}

fn insert(map: &mut Map<String, Value>, key: &str, value: Value) {
    if !value.is_null() {
        map.insert(key.to_owned(), value);
    }
}

/// Decodes a frame's content by what kind it is said to be; gives its meaning and its bytes encoded again.
fn decode(meaning: &Value, frame: &Bytes) -> Result<(Value, BytesMut), zk_proto::DecodeError> {
    let mut reader = Reader::new(frame, "frame");
    let mut out = BytesMut::new();
    let mut found = Map::new();
    let kind = meaning["kind"].as_str().unwrap();
    found.insert("kind".to_owned(), kind.into());
    match kind {
        "ConnectRequest" => {
            let record = ConnectRequest::decode(&mut reader)?;
            found.insert("protocolVersion".to_owned(), record.protocol_version.into());
            found.insert("lastZxidSeen".to_owned(), record.last_zxid_seen.0.into());
            found.insert("timeOut".to_owned(), record.timeout.into());
            found.insert("sessionId".to_owned(), record.session_id.0.into());
            found.insert("passwd".to_owned(), buffer(record.passwd.0.as_ref()));
            insert(
                &mut found,
                "readOnly",
                record.read_only.map_or(Value::Null, Into::into),
            );
            record.encode(&mut out);
        }
        "ConnectResponse" => {
            let record = ConnectResponse::decode(&mut reader)?;
            found.insert("protocolVersion".to_owned(), record.protocol_version.into());
            found.insert("timeOut".to_owned(), record.timeout.into());
            found.insert("sessionId".to_owned(), record.session_id.0.into());
            found.insert("passwd".to_owned(), buffer(record.passwd.0.as_ref()));
            insert(
                &mut found,
                "readOnly",
                record.read_only.map_or(Value::Null, Into::into),
            );
            record.encode(&mut out);
        }
        "Request" => {
            let header = RequestHeader::decode(&mut reader)?;
            let request = Request::decode(header.op, &mut reader)?;
            found.insert(
                "op".to_owned(),
                header.op.name().unwrap_or("unknown").into(),
            );
            found.insert(
                "header".to_owned(),
                json!({"xid": header.xid.0, "type": header.op.0}),
            );
            insert(&mut found, "body", request_body(header.op, &request));
            header.encode(&mut out);
            request.encode(&mut out);
        }
        "Reply" => {
            let header = ReplyHeader::decode(&mut reader)?;
            let op = meaning["op"].as_str().unwrap();
            found.insert("op".to_owned(), op.into());
            let err_name = header.err.name().unwrap();
            let fields = json!({"xid": header.xid.0, "zxid": header.zxid.0, "err": header.err.0, "errName": err_name});
            found.insert("header".to_owned(), fields);
            header.encode(&mut out);
            if reader.remaining() > 0 {
                let response = Response::decode(op_named(op), &mut reader)?;
                insert(&mut found, "body", response_body(&response));
                response.encode(&mut out);
            }
        }
        "WatcherEvent" => {
            let header = ReplyHeader::decode(&mut reader)?;
            let event = WatcherEvent::decode(&mut reader)?;
            found.insert(
                "header".to_owned(),
                json!({"xid": header.xid.0, "zxid": header.zxid.0, "err": header.err.0}),
            );
            found.insert(
                "body".to_owned(),
                json!({
                    "type": event.event_type.0, "state": event.state.0, "path": text(&event.path),
                }),
            );
            header.encode(&mut out);
            event.encode(&mut out);
        }
        other => panic!("unknown kind {other}"),
    }
    Ok((Value::Object(found), out))
}

#[test]
fn every_captured_frame_means_what_it_is_known_to_mean() {
    let mut checked = 0;
    let mut refused = 0;
    for line in FRAMES.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let name = line["name"].as_str().unwrap();
        let whole = unhex(line["hex"].as_str().unwrap());
        let mut received = BytesMut::from(&whole[..]);
        let frame = zk_proto::frame::FrameDecoder::new(1 << 20)
            .decode(&mut received)
            .unwrap()
            .expect(name);
        assert!(received.is_empty(), "{name}: bytes behind the frame");
        if MALFORMED.iter().any(|malformed| name.ends_with(malformed)) {
            assert!(
                decode(&line["meaning"], &frame).is_err(),
                "{name} must be refused"
            );
            refused += 1;
            continue;
        }
        let (meaning, encoded) =
            decode(&line["meaning"], &frame).unwrap_or_else(|error| panic!("{name}: {error}"));
        if line["meaning"].get("malformed").is_none() {
            assert_eq!(meaning, line["meaning"], "{name}");
        }
        assert_eq!(hex(&encoded), hex(&frame), "{name} does not encode back");
        checked += 1;
    }
    println!("{checked} frames checked, {refused} refused");
    assert_eq!(
        (checked + refused, refused),
        (570, 4),
        "the capture has 570 frames, four of them malformed"
    );
}
