//! Multi: all of it or nothing, as one transaction; and what its results look like.

use bytes::BytesMut;
use zk_proto::jute::Encode;
use zk_proto::session::{MultiOp, MultiRequest, MultiResult, put_multi_end};
use zk_proto::txn::Txn;
use zk_proto::{CreateMode, ErrorCode, OpCode, Stat};

use super::Engine;
use super::outstanding::Saved;
use super::prepare::{Asking, split_ttl};

impl Engine {
    /// Prepares every operation against those before it. One that fails takes all back; what is logged then has the error
    /// in its place and −2 in those after it, and changes nothing when applied.
    pub(super) fn prepare_multi<'a>(
        &mut self,
        asking: &Asking<'_>,
        request: MultiRequest<'a>,
        saved: &mut Saved,
    ) -> Txn<'a> {
        if request.ops.iter().any(MultiOp::is_read) {
            return Txn::Error(ErrorCode::MARSHALLING_ERROR);
        }
        let mut failed = false;
        let mut txns = Vec::with_capacity(request.ops.len());
        for op in request.ops {
            if failed {
                txns.push(Txn::Error(ErrorCode::RUNTIME_INCONSISTENCY));
                continue;
            }
            let txn = match op {
                // In a multi, and only there, Java makes a container of every create with a container's flags.
                MultiOp::Create(create) | MultiOp::Create2(create)
                    if create.flags == CreateMode::Container.flags() =>
                {
                    self.prepare_create(asking, OpCode::CREATE_CONTAINER, create, -1, saved)
                }
                MultiOp::Create(create) => {
                    self.prepare_create(asking, OpCode::CREATE, create, -1, saved)
                }
                MultiOp::Create2(create) => {
                    self.prepare_create(asking, OpCode::CREATE2, create, -1, saved)
                }
                MultiOp::CreateContainer(create) => {
                    self.prepare_create(asking, OpCode::CREATE_CONTAINER, create, -1, saved)
                }
                MultiOp::CreateTtl(create) => {
                    let (create, ttl) = split_ttl(create);
                    self.prepare_create(asking, OpCode::CREATE_TTL, create, ttl, saved)
                }
                MultiOp::Delete(delete) => self.prepare_delete(asking, &delete, saved),
                MultiOp::SetData(set) => self.prepare_set_data(asking, set, saved),
                MultiOp::Check(check) => self.prepare_check(asking, check),
                // Reads were refused above; an operation added to the protocol is refused until it has a meaning here.
                _ => Err(ErrorCode::MARSHALLING_ERROR),
            };
            match txn {
                Ok(txn) => txns.push(txn),
                // A path that is null is no failed operation but a request that makes no sense.
                Err(ErrorCode::MARSHALLING_ERROR) => {
                    self.changes.roll_back(std::mem::take(saved));
                    return Txn::Error(ErrorCode::MARSHALLING_ERROR);
                }
                Err(code) => {
                    failed = true;
                    txns.push(Txn::Error(code));
                }
            }
        }
        if failed {
            self.changes.roll_back(std::mem::take(saved));
        }
        Txn::Multi(txns)
    }
}

/// The body of a multi's reply, from its transaction and the Stats that applying it gave.
pub(super) struct MultiReply<'a> {
    pub(super) txns: &'a [Txn<'a>],
    pub(super) stats: &'a [Option<Stat>],
}

impl Encode for MultiReply<'_> {
    fn encode(&self, out: &mut BytesMut) {
        let failed = self
            .txns
            .iter()
            .position(|txn| matches!(txn, Txn::Error(_)));
        for (at, txn) in self.txns.iter().enumerate() {
            let stat = self.stats.get(at).copied().flatten().unwrap_or_default();
            let result = match (txn, failed) {
                (Txn::Error(code), _) => MultiResult::Error(*code),
                (_, Some(failed)) if at < failed => MultiResult::Error(ErrorCode::OK),
                (_, Some(_)) => MultiResult::Error(ErrorCode::RUNTIME_INCONSISTENCY),
                (Txn::Create(create), None) => MultiResult::Create(create.path.clone()),
                (Txn::Create2(create), None) => MultiResult::Create2(create.path.clone(), stat),
                (Txn::CreateContainer(create), None) => {
                    MultiResult::Create2(create.path.clone(), stat)
                }
                (Txn::CreateTtl(create), None) => MultiResult::Create2(create.path.clone(), stat),
                (Txn::SetData(_), None) => MultiResult::SetData(stat),
                (Txn::Check(_), None) => MultiResult::Check,
                (_, None) => MultiResult::Delete,
            };
            result.encode(out);
        }
        put_multi_end(out);
    }
}
