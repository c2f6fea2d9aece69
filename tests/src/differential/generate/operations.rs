//! The single operations: creates, reads, ACLs, multis.

use zk_proto::OpCode;
use zk_proto::jute::Ustring;
use zk_proto::session::{
    CheckVersionRequest, CreateRequest, CreateTtlRequest, DeleteRequest, MultiOp, MultiRequest,
    PathWatchRequest, Request, SetAclRequest, SetDataRequest,
};

use super::Maker;
use super::places::Style;
use crate::differential::Peer;
use crate::differential::step::Op;

impl Maker {
    pub(super) fn create(&mut self) -> Op {
        let ttl = self.chance(12);
        if ttl {
            return Op::new(
                OpCode::CREATE_TTL,
                Request::CreateTtl(self.create_ttl_body(true)),
            );
        }
        let code = self.pick(&[
            OpCode::CREATE,
            OpCode::CREATE,
            OpCode::CREATE2,
            OpCode::CREATE2,
            OpCode::CREATE_CONTAINER,
        ]);
        let mut body = self.create_body(true);
        if code == OpCode::CREATE_CONTAINER && self.pipelined {
            // ephemeral-container-in-flight
            body.flags &= !1;
        }
        Op::new(code, Request::Create(body))
    }

    pub(super) fn create_body(&mut self, bad_flags: bool) -> CreateRequest<'static> {
        let mut path = self.path();
        let mut flags = self.pick(&[0, 0, 0, 1, 1, 2, 3, 4]);
        if bad_flags && self.chance(4) {
            flags = self.pick(&[5, 6, 7, -1, i32::MAX]);
        }
        if matches!(flags, 2 | 3) {
            self.make_prefix(&mut path);
        }
        let acl = self.acl(&path);
        let null = self.chance(1) && self.chance(50);
        let data = self.data();
        CreateRequest {
            path: if null { Ustring::null() } else { path.into() },
            data,
            acl,
            flags,
        }
    }

    pub(super) fn create_ttl_body(&mut self, bad_flags: bool) -> CreateTtlRequest<'static> {
        let mut path = self.path();
        let mut flags = self.pick(&[5, 5, 6]);
        let mut ttl = self.pick(&[3_600_000, 7_200_000, (1 << 40) - 1]);
        if self.chance(15) {
            ttl = self.pick(&[0, -1, 1 << 40, i64::MAX, i64::MIN]);
        }
        if bad_flags && self.chance(8) {
            flags = self.pick(&[7, -1, 99]);
        }
        if flags == 6 {
            self.make_prefix(&mut path);
        }
        let acl = self.acl(&path);
        let data = self.data();
        CreateTtlRequest {
            path: path.into(),
            data,
            acl,
            flags,
            ttl,
        }
    }

    /// Turns a path into the prefix of a sequential one, now and then into its parent and a slash.
    pub(super) fn make_prefix(&mut self, path: &mut String) {
        match self.rng.u32(..10) {
            0 => path.push('/'),
            1 => path.push_str("/."),
            2 => {}
            _ => {
                if let Some(at) = path.rfind('/') {
                    path.truncate(at);
                    path.push_str("/s");
                }
            }
        }
    }

    pub(super) fn read(&mut self) -> Op {
        let code = self.pick(&[
            OpCode::EXISTS,
            OpCode::EXISTS,
            OpCode::GET_DATA,
            OpCode::GET_DATA,
            OpCode::GET_CHILDREN,
            OpCode::GET_CHILDREN2,
        ]);
        let mut watch = self.chance(45);
        let path = if code == OpCode::EXISTS {
            self.open_path()
        } else if watch {
            self.styled_path(Style::OneShot)
        } else {
            self.path()
        };
        watch &= code != OpCode::EXISTS || self.is_styled(&path, Style::OneShot);
        let path = if self.chance(1) {
            Ustring::null()
        } else {
            path.into()
        };
        Op::new(code, Request::PathWatch(PathWatchRequest { path, watch }))
    }

    pub(super) fn set_acl(&mut self) -> Op {
        let path = loop {
            let path = self.path();
            // What everything else happens below stays open to all.
            if !matches!(
                path.as_str(),
                "/" | ""
                    | "/o"
                    | "/l"
                    | "/q"
                    | "/zookeeper"
                    | "/zookeeper/quota"
                    | "/zookeeper/quota/q"
                    | "/zookeeper/config"
            ) {
                break path;
            }
        };
        let acl = self.acl(&path);
        let version = self.version();
        Op::new(
            OpCode::SET_ACL,
            Request::SetAcl(SetAclRequest {
                path: path.into(),
                acl,
                version,
            }),
        )
    }

    pub(super) fn multi(&mut self) -> Op {
        let mut ops = Vec::new();
        let size = self.pick(&[0, 1, 2, 2, 3, 3, 4, 5]);
        for _ in 0..size {
            let op = self.multi_op();
            ops.push(op);
        }
        if self.chance(4) {
            let path = self.path();
            ops.push(MultiOp::GetData(PathWatchRequest {
                path: path.into(),
                watch: false,
            }));
        }
        if self.chance(4) {
            return self.odd_multi();
        }
        Op::new(OpCode::MULTI, Request::Multi(MultiRequest { ops }))
    }

    pub(super) fn multi_op(&mut self) -> MultiOp<'static> {
        match self.rng.u32(..100) {
            0..=19 => MultiOp::Create(self.multi_create()),
            20..=34 => MultiOp::Create2(self.multi_create()),
            35..=41 => {
                let mut body = self.multi_create();
                if self.rules.peer == Peer::V38 {
                    // container-flags-in-multi
                    body.flags = 4;
                }
                // ephemeral-container-in-flight
                body.flags &= !1;
                MultiOp::CreateContainer(body)
            }
            42..=46 => {
                let mut body = self.create_ttl_body(false);
                // null-acl-in-multi
                body.acl.get_or_insert_default();
                MultiOp::CreateTtl(body)
            }
            47..=61 => {
                let path = self.path();
                let version = self.version();
                MultiOp::Delete(DeleteRequest {
                    path: path.into(),
                    version,
                })
            }
            62..=81 => {
                let (path, data, version) = (self.path(), self.data(), self.version());
                MultiOp::SetData(SetDataRequest {
                    path: path.into(),
                    data,
                    version,
                })
            }
            _ => {
                let path = self.path();
                let version = self.version();
                MultiOp::Check(CheckVersionRequest {
                    path: path.into(),
                    version,
                })
            }
        }
    }

    /// The body of a create in a multi, without what the versions refuse differently there.
    fn multi_create(&mut self) -> CreateRequest<'static> {
        loop {
            let body = self.create_body(false);
            // null-path-in-multi, null-acl-in-multi
            if body.path.0.is_some() && body.acl.is_some() {
                return body;
            }
        }
    }

    /// A multi with an operation that no multi has, or without its end.
    pub(super) fn odd_multi(&mut self) -> Op {
        let bytes = match self.rng.u32(..3) {
            // exists inside
            0 => b"\0\0\0\x03\0\xff\xff\xff\xff\0\0\0\x02/o\0\xff\xff\xff\xff\x01\xff\xff\xff\xff"
                .to_vec(),
            // opcode 99 inside
            1 => b"\0\0\0\x63\0\xff\xff\xff\xff\xff\xff\xff\xff\x01\xff\xff\xff\xff".to_vec(),
            // no end
            _ => b"\0\0\0\x02\0\xff\xff\xff\xff\0\0\0\x02/z\0\0\0\0".to_vec(),
        };
        let code = self.pick(&[OpCode::MULTI, OpCode::MULTI, OpCode::MULTI_READ]);
        Op::new(code, Request::Unknown(bytes.into()))
    }

    pub(super) fn multi_read(&mut self) -> Op {
        let mut ops = Vec::new();
        for _ in 0..self.rng.usize(..5) {
            let path = self.path();
            let body = PathWatchRequest {
                path: path.into(),
                watch: self.rng.bool(),
            };
            ops.push(if self.rng.bool() {
                MultiOp::GetData(body)
            } else {
                MultiOp::GetChildren(body)
            });
        }
        if self.chance(8) {
            let op = self.multi_op();
            ops.push(op);
        }
        Op::new(OpCode::MULTI_READ, Request::Multi(MultiRequest { ops }))
    }
}
