//! Preparing creates of every kind: what may be created where, under which name, and of what kind it will be.

use zk_proto::create_mode::MAX_TTL_MS;
use zk_proto::path::check_path;
use zk_proto::session::{CreateRequest, CreateTtlRequest};
use zk_proto::txn::{CreateTtlTxn, CreateTxn, PlainCreateTxn, Txn};
use zk_proto::{CreateMode, EphemeralOwner, ErrorCode, OpCode, Perms};

use super::Engine;
use super::outstanding::{NodeView, Operation, Saved};
use super::prepare::{Asking, parent_of};
use crate::tree::split_path;

/// A createTTL's request is a create's and a time to live, in milliseconds.
pub(super) fn split_ttl(request: CreateTtlRequest<'_>) -> (CreateRequest<'_>, i64) {
    let CreateTtlRequest {
        path,
        data,
        acl,
        flags,
        ttl,
    } = request;
    let create = CreateRequest {
        path,
        data,
        acl,
        flags,
    };
    (create, ttl)
}

impl Engine {
    pub(super) fn prepare_create(
        &mut self,
        asking: &Asking<'_>,
        op: OpCode,
        request: CreateRequest<'_>,
        ttl: i64,
        saved: &mut Saved,
    ) -> Result<Operation, ErrorCode> {
        let CreateRequest {
            path,
            data,
            acl,
            flags,
        } = request;
        let mode = CreateMode::from_flags(flags).ok_or(ErrorCode::BAD_ARGUMENTS)?;
        if mode.is_ttl() && !self.config.extended_types {
            return Err(ErrorCode::UNIMPLEMENTED);
        }
        // A createTTL with another mode passes Java's checks and kills the server when it is applied.
        let ttl_fits = if mode.is_ttl() {
            (1..=MAX_TTL_MS).contains(&ttl)
        } else {
            ttl < 0
        };
        if !ttl_fits || mode.is_ttl() != (op == OpCode::CREATE_TTL) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        asking.check_session()?;
        let wanted = path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        // What is valid stays so with a number behind it.
        let valid = check_path(wanted).is_ok();
        let parent_path = match split_path(wanted) {
            Some((parent, _)) if valid => parent,
            _ => parent_of(wanted)?,
        };
        let (acl, list) = self.fixed_acl(acl, asking.ids)?;
        let (parent_place, parent) = self.look_parent(parent_path);
        let mut parent = parent.ok_or(ErrorCode::NO_NODE)?;
        self.allows(&parent, Perms::CREATE, asking.ids)?;
        // The operation, not the mode, makes a container; only a plain create makes an ephemeral node.
        let ephemeral = mode.is_ephemeral() && op != OpCode::CREATE_CONTAINER;
        let numbered = mode
            .is_sequential()
            .then(|| format!("{wanted}{:010}", parent.cversion));
        let full = numbered.as_deref().unwrap_or(wanted);
        if !valid {
            check_path(full).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        }
        if full == "/" {
            return Err(ErrorCode::NODE_EXISTS);
        }
        let (place, there) = self.look(full);
        if there.is_some() {
            return Err(ErrorCode::NODE_EXISTS);
        }
        if parent.ephemeral_owner != 0 {
            return Err(ErrorCode::NO_CHILDREN_FOR_EPHEMERALS);
        }
        let length = data.as_ref().map_or(0, |data| data.len() as i64);
        self.check_quota(full, 1, length)?;
        let parent_cversion = parent.cversion.wrapping_add(1);
        // The tree only takes a count that grows: at the end of the range it stays there.
        parent.cversion = parent_cversion;
        parent.children += 1;
        let zxid = asking.zxid;
        let parent_slot = self
            .changes
            .set(parent_place, parent_path, zxid, Some(parent), saved);
        self.changes.remember(parent_slot);
        let view = NodeView {
            version: 0,
            aversion: 0,
            cversion: 0,
            children: 0,
            acl: list.clone(),
            ephemeral_owner: if ephemeral { asking.session.0 } else { 0 },
            data_length: length,
        };
        let slot = self.changes.set(place, full, zxid, Some(view), saved);
        let path = full.into();
        let acl = Some(acl);
        let (txn, owner) = match op {
            OpCode::CREATE_CONTAINER => {
                let txn = PlainCreateTxn {
                    path,
                    data,
                    acl,
                    parent_cversion,
                };
                (Txn::CreateContainer(txn), EphemeralOwner::Container)
            }
            OpCode::CREATE_TTL => {
                let txn = CreateTtlTxn {
                    path,
                    data,
                    acl,
                    parent_cversion,
                    ttl,
                };
                (Txn::CreateTtl(txn), EphemeralOwner::Ttl(ttl))
            }
            _ => {
                let txn = CreateTxn {
                    path,
                    data,
                    acl,
                    ephemeral,
                    parent_cversion: Some(parent_cversion),
                };
                let owner = if ephemeral {
                    EphemeralOwner::Session(asking.session)
                } else {
                    EphemeralOwner::None
                };
                if op == OpCode::CREATE2 {
                    (Txn::Create2(txn), owner)
                } else {
                    (Txn::Create(txn), owner)
                }
            }
        };
        Ok(Operation::Create {
            op,
            slot,
            data: self.record(&txn),
            acl: list,
            owner: owner.to_stored(),
            parent_cversion,
        })
    }
}
