//! What servers write down and send each other: transactions, their headers and digests, and snapshot records.
//!
//! The payload of a log entry and the data of a proposal are the same bytes: a [`TxnHeader`], the transaction's record,
//! and an optional [`TxnDigest`].

mod body;
mod header;
mod snapshot;

pub use body::{
    CheckTxn, CreateTtlTxn, CreateTxn, DeleteTxn, PlainCreateTxn, SetAclTxn, SetDataTxn, Txn,
};
pub use header::{FileHeader, TxnDigest, TxnHeader};
pub use snapshot::{AclEntry, NodeEntry, SessionEntry, SnapshotDigest};

use bytes::{Bytes, BytesMut};

use crate::error::DecodeError;
use crate::jute::{Decode, Encode, Reader};

/// Appends a transaction as logs and proposals hold it.
pub fn encode_txn(
    header: &TxnHeader,
    txn: &Txn<'_>,
    digest: Option<TxnDigest>,
    out: &mut BytesMut,
) {
    header.encode(out);
    txn.encode(out);
    if let Some(digest) = digest {
        digest.encode(out);
    }
}

/// Reads a transaction as logs and proposals hold it. Strings borrow from `payload`, buffers share its memory.
///
/// # Errors
/// When the bytes are not a transaction of a known type.
pub fn decode_txn(payload: &Bytes) -> Result<(TxnHeader, Txn<'_>, Option<TxnDigest>), DecodeError> {
    let mut reader = Reader::new(payload, "Txn");
    let header = TxnHeader::decode(&mut reader)?;
    let txn = Txn::decode(header.op, &mut reader)?;
    // Releases before 3.6 wrote no digest, and error transactions have none; Java asks for 12 bytes in the same way.
    let digest = if reader.remaining() >= TxnDigest::LENGTH {
        Some(TxnDigest::decode(&mut reader)?)
    } else {
        None
    };
    Ok((header, txn, digest))
}
