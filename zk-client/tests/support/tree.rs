//! The tree of the fake server: nodes, Stats, sequence numbers, the first failing check in ZooKeeper's order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use zk_proto::jute::Encode;
use zk_proto::session::{
    AclResponse, Children2Response, CreateResponse, EventType, GetDataResponse, MultiOp,
    MultiResult, Request, StatResponse,
};
use zk_proto::{Acl, CreateMode, ErrorCode, OpCode, Stat, Zxid};

#[derive(Clone)]
pub struct Node {
    pub data: Bytes,
    pub acl: Vec<Acl>,
    pub stat: Stat,
    pub mode: CreateMode,
    creates: i32,
}

#[derive(Clone)]
pub(super) struct Event {
    pub(super) kind: EventType,
    pub(super) path: String,
}

#[derive(Clone)]
pub struct Tree {
    pub nodes: BTreeMap<String, Node>,
    pub zxid: Zxid,
    events: Vec<Event>,
    in_multi: bool,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node {
            data: Bytes::new(),
            acl: vec![Acl::open_unsafe()],
            stat: Stat::default(),
            mode: CreateMode::Persistent,
            creates: 0,
        };
        Self {
            nodes: BTreeMap::from([("/".to_owned(), root)]),
            zxid: Zxid(1),
            events: Vec::new(),
            in_multi: false,
        }
    }
}

pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

pub(super) fn is_at_or_below(path: &str, root: &str) -> bool {
    root == "/"
        || path
            .strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn encoded(record: &impl Encode) -> Bytes {
    let mut out = BytesMut::new();
    record.encode(&mut out);
    out.freeze()
}

impl Tree {
    pub(super) fn begin(&mut self) {
        self.zxid.0 += 1;
        self.in_multi = true;
    }

    pub(super) fn commit(&mut self) {
        self.in_multi = false;
    }

    fn next_zxid(&mut self) -> Zxid {
        if !self.in_multi {
            self.zxid.0 += 1;
        }
        self.zxid
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub fn stat(&self, path: &str) -> Option<Stat> {
        let node = self.nodes.get(path)?;
        let children = i32::try_from(self.names(path).len()).unwrap();
        let length = i32::try_from(node.data.len()).unwrap();
        Some(Stat {
            num_children: children,
            data_length: length,
            cversion: 2 * node.creates - children,
            ..node.stat
        })
    }

    pub fn names(&self, path: &str) -> Vec<String> {
        let prefix = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        let below = self
            .nodes
            .keys()
            .filter_map(|node| node.strip_prefix(&prefix));
        below
            .filter(|name| !name.is_empty() && !name.contains('/'))
            .map(str::to_owned)
            .collect()
    }

    pub fn create(
        &mut self,
        path: &str,
        data: impl Into<Bytes>,
        mode: CreateMode,
        session: i64,
    ) -> Result<String, ErrorCode> {
        let zxid = self.next_zxid();
        let above = parent(path).to_owned();
        let suffix = self.nodes.get(&above).ok_or(ErrorCode::NO_NODE)?.creates;
        let path = if mode.is_sequential() {
            format!("{path}{suffix:010}")
        } else {
            path.to_owned()
        };
        if self.nodes.contains_key(&path) {
            return Err(ErrorCode::NODE_EXISTS);
        }
        let above = self.nodes.get_mut(&above).unwrap();
        if above.mode.is_ephemeral() {
            return Err(ErrorCode::NO_CHILDREN_FOR_EPHEMERALS);
        }
        above.creates += 1;
        above.stat.pzxid = zxid;
        let ephemeral_owner = if mode.is_ephemeral() { session } else { 0 };
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ephemeral_owner,
            ..Stat::default()
        };
        let node = Node {
            data: data.into(),
            acl: vec![Acl::open_unsafe()],
            stat,
            mode,
            creates: 0,
        };
        self.nodes.insert(path.clone(), node);
        self.events.push(Event {
            kind: EventType::NODE_CREATED,
            path: path.clone(),
        });
        Ok(path)
    }

    pub fn delete(&mut self, path: &str, version: i32) -> Result<(), ErrorCode> {
        let zxid = self.next_zxid();
        let node = self.nodes.get(path).ok_or(ErrorCode::NO_NODE)?;
        if version != -1 && node.stat.version != version {
            return Err(ErrorCode::BAD_VERSION);
        }
        if !self.names(path).is_empty() {
            return Err(ErrorCode::NOT_EMPTY);
        }
        self.nodes.remove(path);
        self.nodes.get_mut(parent(path)).unwrap().stat.pzxid = zxid;
        self.events.push(Event {
            kind: EventType::NODE_DELETED,
            path: path.to_owned(),
        });
        Ok(())
    }

    pub fn set(
        &mut self,
        path: &str,
        data: impl Into<Bytes>,
        version: i32,
    ) -> Result<Stat, ErrorCode> {
        let zxid = self.next_zxid();
        let node = self.nodes.get_mut(path).ok_or(ErrorCode::NO_NODE)?;
        if version != -1 && node.stat.version != version {
            return Err(ErrorCode::BAD_VERSION);
        }
        node.data = data.into();
        node.stat.version += 1;
        node.stat.mzxid = zxid;
        self.events.push(Event {
            kind: EventType::NODE_DATA_CHANGED,
            path: path.to_owned(),
        });
        Ok(self.stat(path).unwrap())
    }

    fn check(&self, path: &str, version: i32) -> Result<(), ErrorCode> {
        let node = self.nodes.get(path).ok_or(ErrorCode::NO_NODE)?;
        if version == -1 || node.stat.version == version {
            Ok(())
        } else {
            Err(ErrorCode::BAD_VERSION)
        }
    }

    pub(super) fn close_session(&mut self, session: i64) {
        let owned = self
            .nodes
            .iter()
            .filter(|(_, node)| node.stat.ephemeral_owner == session);
        for path in owned.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.delete(&path, -1).unwrap();
        }
    }

    pub(super) fn bury(&mut self, live: &BTreeSet<i64>) {
        let owners: BTreeSet<i64> = self
            .nodes
            .values()
            .map(|node| node.stat.ephemeral_owner)
            .collect();
        for owner in owners
            .into_iter()
            .filter(|owner| *owner != 0 && !live.contains(owner))
        {
            self.close_session(owner);
        }
    }

    pub(super) fn ephemerals(&self, session: i64, prefix: &str) -> Vec<String> {
        let mine = self.nodes.iter().filter(|(path, node)| {
            node.stat.ephemeral_owner == session && path.starts_with(prefix)
        });
        mine.map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn descendants(&self, path: &str) -> Result<i32, ErrorCode> {
        self.nodes.get(path).ok_or(ErrorCode::NO_NODE)?;
        Ok(i32::try_from(
            self.nodes
                .keys()
                .filter(|node| is_at_or_below(node, path))
                .count()
                - 1,
        )
        .unwrap())
    }

    pub(super) fn acl(&self, path: &str) -> Result<Bytes, ErrorCode> {
        let node = self.nodes.get(path).ok_or(ErrorCode::NO_NODE)?;
        Ok(encoded(&AclResponse {
            acl: Some(node.acl.clone()),
            stat: self.stat(path).unwrap(),
        }))
    }

    pub(super) fn read(&self, op: OpCode, path: &str) -> Result<Bytes, ErrorCode> {
        let node = self.nodes.get(path).ok_or(ErrorCode::NO_NODE)?;
        let stat = self.stat(path).unwrap();
        Ok(match op {
            OpCode::EXISTS => encoded(&StatResponse { stat }),
            OpCode::GET_DATA => encoded(&GetDataResponse {
                data: Some(node.data.clone()),
                stat,
            }),
            _ => {
                let children = Some(self.names(path).into_iter().map(Into::into).collect());
                encoded(&Children2Response { children, stat })
            }
        })
    }

    pub(super) fn write(
        &mut self,
        session: i64,
        op: OpCode,
        request: &Request<'_>,
    ) -> Result<Bytes, ErrorCode> {
        let created = |tree: &Self, path: String| {
            let stat = tree.stat(&path).unwrap();
            encoded(&CreateResponse {
                path: path.into(),
                stat,
            })
        };
        match request {
            Request::Create(r) => {
                let mode = CreateMode::from_flags(r.flags)
                    .filter(|mode| !mode.is_ttl())
                    .ok_or(ErrorCode::BAD_ARGUMENTS)?;
                assert_eq!(
                    op == OpCode::CREATE_CONTAINER,
                    mode == CreateMode::Container
                );
                let path = self.create(
                    r.path.or_empty(),
                    r.data.clone().unwrap_or_default(),
                    mode,
                    session,
                )?;
                self.nodes.get_mut(&path).unwrap().acl = r.acl.clone().unwrap();
                Ok(created(self, path))
            }
            Request::CreateTtl(r) => {
                let mode = CreateMode::from_flags(r.flags)
                    .filter(|mode| mode.is_ttl())
                    .ok_or(ErrorCode::BAD_ARGUMENTS)?;
                assert!(r.ttl > 0);
                let path = self.create(
                    r.path.or_empty(),
                    r.data.clone().unwrap_or_default(),
                    mode,
                    session,
                )?;
                Ok(created(self, path))
            }
            Request::Delete(r) => self
                .delete(r.path.or_empty(), r.version)
                .map(|()| Bytes::new()),
            Request::SetData(r) => {
                let stat = self.set(
                    r.path.or_empty(),
                    r.data.clone().unwrap_or_default(),
                    r.version,
                )?;
                Ok(encoded(&StatResponse { stat }))
            }
            Request::SetAcl(r) => {
                self.next_zxid();
                let path = r.path.or_empty();
                let node = self.nodes.get_mut(path).ok_or(ErrorCode::NO_NODE)?;
                if r.version != -1 && node.stat.aversion != r.version {
                    return Err(ErrorCode::BAD_VERSION);
                }
                node.acl = r.acl.clone().unwrap();
                node.stat.aversion += 1;
                Ok(encoded(&StatResponse {
                    stat: self.stat(path).unwrap(),
                }))
            }
            _ => Err(ErrorCode::UNIMPLEMENTED),
        }
    }

    pub(super) fn multi_op(
        &mut self,
        session: i64,
        op: &MultiOp<'_>,
    ) -> Result<MultiResult<'static>, ErrorCode> {
        match op {
            MultiOp::Create(r) | MultiOp::Create2(r) | MultiOp::CreateContainer(r) => {
                let mode = CreateMode::from_flags(r.flags).ok_or(ErrorCode::BAD_ARGUMENTS)?;
                let path = self.create(
                    r.path.or_empty(),
                    r.data.clone().unwrap_or_default(),
                    mode,
                    session,
                )?;
                let stat = self.stat(&path).unwrap();
                // As 3.8 does for create2, so that both answers are seen in tests.
                Ok(match op {
                    MultiOp::CreateContainer(_) => MultiResult::Create2(path.into(), stat),
                    _ => MultiResult::Create(path.into()),
                })
            }
            MultiOp::Delete(r) => self
                .delete(r.path.or_empty(), r.version)
                .map(|()| MultiResult::Delete),
            MultiOp::SetData(r) => self
                .set(
                    r.path.or_empty(),
                    r.data.clone().unwrap_or_default(),
                    r.version,
                )
                .map(MultiResult::SetData),
            MultiOp::Check(r) => self
                .check(r.path.or_empty(), r.version)
                .map(|()| MultiResult::Check),
            _ => Err(ErrorCode::MARSHALLING_ERROR),
        }
    }

    pub(super) fn multi_read(&self, op: &MultiOp<'_>) -> Result<MultiResult<'static>, ErrorCode> {
        match op {
            MultiOp::GetData(r) => {
                let path = r.path.or_empty();
                let node = self.nodes.get(path).ok_or(ErrorCode::NO_NODE)?;
                Ok(MultiResult::GetData(
                    Some(node.data.clone()),
                    self.stat(path).unwrap(),
                ))
            }
            MultiOp::GetChildren(r) => {
                self.nodes
                    .get(r.path.or_empty())
                    .ok_or(ErrorCode::NO_NODE)?;
                Ok(MultiResult::GetChildren(Some(
                    self.names(r.path.or_empty())
                        .into_iter()
                        .map(Into::into)
                        .collect(),
                )))
            }
            _ => Err(ErrorCode::MARSHALLING_ERROR),
        }
    }
}
