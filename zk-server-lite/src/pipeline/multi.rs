//! Multi: all of it or nothing, as one transaction; and what its results look like.
//!
//! Each operation is prepared as it is read, and its record written behind those before it.

use bytes::{BufMut, BytesMut};
use zk_proto::frame::{begin_frame, end_frame};
use zk_proto::jute::{Encode, Reader};
use zk_proto::session::{MultiOp, MultiResult, put_multi_end};
use zk_proto::txn::Txn;
use zk_proto::{CreateMode, ErrorCode, OpCode, Stat};

use super::Engine;
use super::outstanding::{Operation, Outstanding, Saved};
use super::prepare::Asking;
use super::prepare_create::split_ttl;

impl Engine {
    /// Prepares every operation against those before it. One that fails takes all back; what is logged then has the error
    /// in its place and −2 in those after it, and changes nothing when applied.
    ///
    /// # Errors
    /// When the request makes no sense as a whole: what was done for it is the caller's to take back.
    pub(super) fn prepare_multi(
        &mut self,
        asking: &Asking<'_>,
        reader: &mut Reader<'_>,
        saved: &mut Saved,
    ) -> Result<(), ErrorCode> {
        let first = self.operations.len();
        let count_at = self.scratch.len();
        self.scratch.put_i32(0);
        let mut failed = None;
        while let Some(op) =
            MultiOp::decode_next(reader).map_err(|_| ErrorCode::MARSHALLING_ERROR)?
        {
            if op.is_read() {
                return Err(ErrorCode::MARSHALLING_ERROR);
            }
            let prepared = match failed {
                None => {
                    let start = self.scratch.len();
                    self.scratch.put_i32(0);
                    let mark = begin_frame(&mut self.scratch);
                    let prepared = self.prepare_multi_op(asking, op, saved);
                    match prepared {
                        Ok((op, operation)) => {
                            end_frame(&mut self.scratch, mark);
                            self.scratch[start..start + 4].copy_from_slice(&op.0.to_be_bytes());
                            Ok(operation)
                        }
                        // A path that is null is no failed operation but a request that makes no sense.
                        Err(ErrorCode::MARSHALLING_ERROR) => {
                            return Err(ErrorCode::MARSHALLING_ERROR);
                        }
                        Err(code) => {
                            self.scratch.truncate(start);
                            failed = Some(self.operations.len() - first);
                            Err(code)
                        }
                    }
                }
                Some(_) => Err(ErrorCode::RUNTIME_INCONSISTENCY),
            };
            self.operations.push_back(prepared.unwrap_or_else(|code| {
                put_error(code, &mut self.scratch);
                Operation::Error(code)
            }));
        }
        let count = self.operations.len() - first;
        // A frame holds fewer operations than it has bytes.
        let count = i32::try_from(count).map_err(|_| ErrorCode::MARSHALLING_ERROR)?;
        self.scratch[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
        if let Some(failed) = failed {
            self.changes.roll_back(saved);
            for operation in self.operations.range_mut(first..first + failed) {
                *operation = Operation::Error(ErrorCode::OK);
            }
        }
        Ok(())
    }

    /// Prepares one operation; returns its type in the log, too.
    fn prepare_multi_op(
        &mut self,
        asking: &Asking<'_>,
        op: MultiOp<'_>,
        saved: &mut Saved,
    ) -> Result<(OpCode, Operation), ErrorCode> {
        let mut create = |op, create, ttl| {
            self.prepare_create(asking, op, create, ttl, saved)
                .map(|operation| (op, operation))
        };
        match op {
            // In a multi, and only there, Java makes a container of every create with a container's flags.
            MultiOp::Create(request) | MultiOp::Create2(request)
                if request.flags == CreateMode::Container.flags() =>
            {
                create(OpCode::CREATE_CONTAINER, request, -1)
            }
            MultiOp::Create(request) => create(OpCode::CREATE, request, -1),
            MultiOp::Create2(request) => create(OpCode::CREATE2, request, -1),
            MultiOp::CreateContainer(request) => create(OpCode::CREATE_CONTAINER, request, -1),
            MultiOp::CreateTtl(request) => {
                let (request, ttl) = split_ttl(request);
                create(OpCode::CREATE_TTL, request, ttl)
            }
            MultiOp::Delete(request) => self
                .prepare_delete(asking, request, saved)
                .map(|operation| (OpCode::DELETE, operation)),
            MultiOp::SetData(request) => self
                .prepare_set_data(asking, request, saved)
                .map(|operation| (OpCode::SET_DATA, operation)),
            MultiOp::Check(request) => self
                .prepare_check(asking, request)
                .map(|operation| (OpCode::CHECK, operation)),
            // Reads were refused before; an operation added to the protocol is refused until it has a meaning here.
            _ => Err(ErrorCode::MARSHALLING_ERROR),
        }
    }
}

/// The record of an operation that failed, as multis hold it.
fn put_error(code: ErrorCode, out: &mut BytesMut) {
    out.put_i32(OpCode::ERROR.0);
    let mark = begin_frame(out);
    Txn::Error(code).encode(out);
    end_frame(out, mark);
}

/// Writes the body of a multi's reply, from its operations and the Stats that applying them gave.
pub(super) fn put_multi_reply<'a>(
    operations: impl Iterator<Item = &'a Operation>,
    changes: &Outstanding,
    stats: &[Option<Stat>],
    out: &mut BytesMut,
) {
    for (operation, stat) in operations.zip(stats) {
        let stat = stat.unwrap_or_default();
        let result = match operation {
            Operation::Create {
                op: OpCode::CREATE,
                slot,
                ..
            } => MultiResult::Create(changes.path(*slot).0.into()),
            Operation::Create { slot, .. } => {
                MultiResult::Create2(changes.path(*slot).0.into(), stat)
            }
            Operation::SetData { .. } => MultiResult::SetData(stat),
            Operation::Check => MultiResult::Check,
            Operation::Error(code) => MultiResult::Error(*code),
            // A multi sets no access list and has no record to be read again.
            Operation::Delete { .. } | Operation::SetAcl { .. } | Operation::Logged => {
                MultiResult::Delete
            }
        };
        result.encode(out);
    }
    put_multi_end(out);
}
