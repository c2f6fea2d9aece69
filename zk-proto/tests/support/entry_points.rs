//! Every way bytes enter the crate, as functions from any bytes: shared by the fuzz targets, the replay of their corpus and
//! the corruption tests. None may panic, and whatever decodes must survive being encoded and decoded again.

use bytes::{Bytes, BytesMut};
use zk_proto::OpCode;
use zk_proto::frame::FrameDecoder;
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{
    ConnectRequest, ConnectResponse, ReplyHeader, Request, RequestHeader, Response, WatcherEvent,
};
use zk_proto::txn::{AclEntry, FileHeader, NodeEntry, SessionEntry, decode_txn, encode_txn};

pub(crate) type Entry = fn(&[u8]);

pub(crate) const ALL: &[(&str, Entry)] = &[
    ("frame", frame),
    ("connect", connect),
    ("request", request),
    ("reply", reply),
    ("txn", txn),
    ("snapshot", snapshot),
];

/// A byte stream cut into frames.
pub(crate) fn frame(data: &[u8]) {
    let decoder = FrameDecoder::new(1 << 16);
    let mut buffer = BytesMut::from(data);
    let mut total = 0;
    while let Ok(Some(frame)) = decoder.decode(&mut buffer) {
        total += frame.len() + 4;
    }
    assert!(total <= data.len(), "more came out than went in");
}

/// What an encodable record looks like on the wire.
fn encoded(record: &impl Encode) -> Bytes {
    let mut out = BytesMut::new();
    record.encode(&mut out);
    out.freeze()
}

/// The two frames of a handshake.
pub(crate) fn connect(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(record) = ConnectRequest::decode(&mut Reader::new(&bytes, "ConnectRequest")) {
        let out = encoded(&record);
        assert_eq!(
            record,
            ConnectRequest::decode(&mut Reader::new(&out, "again")).unwrap()
        );
    }
    if let Ok(record) = ConnectResponse::decode(&mut Reader::new(&bytes, "ConnectResponse")) {
        let out = encoded(&record);
        assert_eq!(
            record,
            ConnectResponse::decode(&mut Reader::new(&out, "again")).unwrap()
        );
    }
}

/// A frame from a client.
pub(crate) fn request(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let mut reader = Reader::new(&bytes, "Request");
    let Ok(header) = RequestHeader::decode(&mut reader) else {
        return;
    };
    let Ok(request) = Request::decode(header.op, &mut reader) else {
        return;
    };
    let out = encoded(&request);
    let again = Request::decode(header.op, &mut Reader::new(&out, "again")).unwrap();
    assert_eq!(request, again);
}

/// A frame from a server: four bytes choose the request it answers, since a reply does not say.
pub(crate) fn reply(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let mut reader = Reader::new(&bytes, "Reply");
    let Ok(op) = reader.int("op") else { return };
    let Ok(_header) = ReplyHeader::decode(&mut reader) else {
        return;
    };
    let body = reader.rest();
    if let Ok(event) = WatcherEvent::decode(&mut Reader::new(&body, "WatcherEvent")) {
        let out = encoded(&event);
        assert_eq!(
            event,
            WatcherEvent::decode(&mut Reader::new(&out, "again")).unwrap()
        );
    }
    let Ok(response) = Response::decode(OpCode(op), &mut Reader::new(&body, "Response")) else {
        return;
    };
    let out = encoded(&response);
    assert_eq!(
        response,
        Response::decode(OpCode(op), &mut Reader::new(&out, "again")).unwrap()
    );
}

/// The payload of a log entry or proposal.
pub(crate) fn txn(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok((header, txn, digest)) = decode_txn(&bytes) else {
        return;
    };
    let mut out = BytesMut::new();
    encode_txn(&header, &txn, digest, &mut out);
    let out = out.freeze();
    assert_eq!((header, txn, digest), decode_txn(&out).unwrap());
}

/// The records of a snapshot, in its order.
pub(crate) fn snapshot(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let mut reader = Reader::new(&bytes, "Snapshot");
    let mut read = || -> Result<(), zk_proto::DecodeError> {
        FileHeader::decode(&mut reader)?;
        reader.vector("sessions", SessionEntry::decode)?;
        reader.vector("acls", AclEntry::decode)?;
        loop {
            let node = NodeEntry::decode(&mut reader)?;
            let out = encoded(&node);
            assert_eq!(node, NodeEntry::decode(&mut Reader::new(&out, "again"))?);
        }
    };
    // It ends with an error whatever the bytes: a snapshot's nodes end at a marker that this loop does not know.
    assert!(read().is_err());
}
