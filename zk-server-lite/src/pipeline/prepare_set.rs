//! Preparing what leaves nodes where they are: new data, new access lists, and checks.

use zk_proto::path::check_path;
use zk_proto::session::{CheckVersionRequest, SetAclRequest, SetDataRequest};
use zk_proto::txn::{CheckTxn, SetAclTxn, SetDataTxn, Txn};
use zk_proto::{ErrorCode, Perms};

use super::Engine;
use super::outstanding::{Operation, Saved};
use super::prepare::{Asking, expect_version};

impl Engine {
    pub(super) fn prepare_set_data(
        &mut self,
        asking: &Asking<'_>,
        request: SetDataRequest<'_>,
        saved: &mut Saved,
    ) -> Result<Operation, ErrorCode> {
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        asking.check_session()?;
        check_path(path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        let (place, node) = self.look(path);
        let mut node = node.ok_or(ErrorCode::NO_NODE)?;
        self.allows(&node, Perms::WRITE, asking.ids)?;
        let length = request.data.as_ref().map_or(0, |data| data.len() as i64);
        self.check_quota(path, 0, length - node.data_length)?;
        expect_version(node.version, request.version)?;
        node.version = node.version.wrapping_add(1);
        node.data_length = length;
        let version = node.version;
        let slot = self
            .changes
            .set(place, path, asking.zxid, Some(node), saved);
        let data = self.record(&Txn::SetData(SetDataTxn {
            path: request.path,
            data: request.data,
            version,
        }));
        Ok(Operation::SetData {
            slot,
            data,
            version,
        })
    }

    pub(super) fn prepare_set_acl(
        &mut self,
        asking: &Asking<'_>,
        request: SetAclRequest<'_>,
        saved: &mut Saved,
    ) -> Result<Operation, ErrorCode> {
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        asking.check_session()?;
        check_path(path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        let (acl, list) = self.fixed_acl(request.acl, asking.ids)?;
        let (place, node) = self.look(path);
        let mut node = node.ok_or(ErrorCode::NO_NODE)?;
        self.allows(&node, Perms::ADMIN, asking.ids)?;
        expect_version(node.aversion, request.version)?;
        node.aversion = node.aversion.wrapping_add(1);
        node.acl = list.clone();
        let version = node.aversion;
        let slot = self
            .changes
            .set(place, path, asking.zxid, Some(node), saved);
        self.record(&Txn::SetAcl(SetAclTxn {
            path: request.path,
            acl: Some(acl),
            version,
        }));
        Ok(Operation::SetAcl {
            slot,
            acl: list,
            version,
        })
    }

    pub(super) fn prepare_check(
        &mut self,
        asking: &Asking<'_>,
        request: CheckVersionRequest<'_>,
    ) -> Result<Operation, ErrorCode> {
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        asking.check_session()?;
        check_path(path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        let (_, node) = self.look(path);
        let node = node.ok_or(ErrorCode::NO_NODE)?;
        self.allows(&node, Perms::READ, asking.ids)?;
        expect_version(node.version, request.version)?;
        // Java logs the version a write would have made.
        self.record(&Txn::Check(CheckTxn {
            path: request.path,
            version: node.version.wrapping_add(1),
        }));
        Ok(Operation::Check)
    }
}
