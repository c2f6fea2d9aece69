//! A history from a seed: a small world of paths, so that operations meet; valid and invalid ones, single and pipelined.
//!
//! | below | what happens there |
//! |---|---|
//! | `/o` | everything, watches of all kinds |
//! | `/l` | ACLs that deny READ: reads are refused, so against 3.8.0 no exists and no watch (see `DEVIATIONS_38`) |
//! | `/q` | a quota; never in a pipeline, where Java compares against a state that depends on its threads |
//! | `/zookeeper`, invalid paths | refusals |
//!
//! Every choice comes from the seed and from nothing else. What is never sent is listed in `HAZARDS`.

use bytes::Bytes;
use fastrand::Rng;
use zk_proto::jute::Ustring;
use zk_proto::session::{
    AddWatchMode, AddWatchRequest, AuthPacket, CheckVersionRequest, CreateRequest,
    CreateTtlRequest, DeleteRequest, MultiOp, MultiRequest, PathRequest, PathWatchRequest,
    ReconfigRequest, Request, SaslRequest, Secret, SetAclRequest, SetDataRequest, SetWatches,
    SetWatches2, WatcherType, WatcherTypeRequest,
};
use zk_proto::{Acl, Id, OpCode, Perms, Zxid};

use crate::dump::SUPER_PASSWORD;

use super::step::{Damage, Op, Pass, Seen, Step};
use super::{Peer, Rules};

/// How many clients a history has.
pub const SLOTS: usize = 4;

/// Kinds of watches that a path is used for; against 3.8.0 each path has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    OneShot,
    Persistent,
    Recursive,
}

/// Paths that no server takes for a write.
const INVALID: [&str; 14] = [
    "",
    "zzz",
    "//x",
    "/o/",
    "/o/.",
    "/o/..",
    "/o//a",
    "/./x",
    "/o/\0",
    "/o/\u{1}",
    "/o/\u{7f}",
    "/o/\u{e000}",
    "/o/\u{fffb}",
    "/o/\u{1f600}",
];

const RESERVED: [&str; 5] = [
    "/",
    "/zookeeper",
    "/zookeeper/quota",
    "/zookeeper/config",
    "/zookeeper/quota/q",
];

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Makes a history with about `count` operations.
#[must_use]
pub fn history(seed: u64, count: usize, rules: Rules) -> Vec<Step> {
    let mut maker = Maker {
        rng: Rng::with_seed(seed),
        rules,
        pipelined: false,
        recent: Vec::new(),
    };
    let mut steps: Vec<Step> = (0..SLOTS)
        .map(|slot| Step::Connect {
            slot,
            timeout: 150_000 + 10_000 * slot as i32,
        })
        .collect();
    steps.push(Step::Requests {
        slot: 0,
        ops: [
            "/o",
            "/l",
            "/q",
            "/o/a",
            "/o/b",
            "/l/a",
            "/zookeeper/quota/q",
        ]
        .map(plain_create)
        .into(),
    });
    let mut made = 0;
    while made < count {
        let step = maker.step();
        made += match &step {
            Step::Requests { ops, .. } => ops.len(),
            _ => 1,
        };
        steps.push(step);
    }
    steps
}

fn plain_create(path: &str) -> Op {
    let body = CreateRequest {
        path: path.to_owned().into(),
        data: None,
        acl: Some(vec![Acl::open_unsafe()]),
        flags: 0,
    };
    Op::new(OpCode::CREATE, Request::Create(body))
}

struct Maker {
    rng: Rng,
    rules: Rules,
    /// Whether the operation being made shares its packet with others.
    pipelined: bool,
    /// Paths used lately: what happened at a place is worth asking about.
    recent: Vec<String>,
}

impl Maker {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(..100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())].clone()
    }

    fn step(&mut self) -> Step {
        let slot = self.rng.usize(..SLOTS);
        match self.rng.u32(..100) {
            0..=1 => {
                let timeout = self.pick(&[0, -1, 1, 150_000, 200_000, i32::MAX, i32::MIN]);
                Step::Connect { slot, timeout }
            }
            2..=4 => Step::Attach {
                slot,
                seen: self.pick(&[Seen::Nothing, Seen::Last, Seen::Last, Seen::Ahead]),
                password: self.pick(&[
                    Pass::Right,
                    Pass::Right,
                    Pass::Right,
                    Pass::Wrong,
                    Pass::Null,
                ]),
                takeover: self.rng.bool(),
            },
            5..=6 => Step::HangUp { slot },
            7..=24 => {
                self.pipelined = true;
                let count = self.rng.usize(2..9);
                let ops = (0..count).map(|_| self.common()).collect();
                self.pipelined = false;
                Step::Requests { slot, ops }
            }
            25..=32 => Step::Requests {
                slot,
                ops: vec![self.rare()],
            },
            _ => Step::Requests {
                slot,
                ops: vec![self.common()],
            },
        }
    }

    /// Operations that must be alone in their packet, because their answer overtakes or ends the connection.
    fn rare(&mut self) -> Op {
        match self.rng.u32(..100) {
            0..=31 => {
                let auth = self.pick(&["u1:p1", "u1:p1", "u2:p2", "nocolon", "", ":", "a:b:c"]);
                self.auth("digest", auth.as_bytes())
            }
            32..=33 => self.auth("digest", format!("super:{SUPER_PASSWORD}").as_bytes()),
            34..=37 => self.auth("ip", b"whatever"),
            38..=40 => {
                let scheme = self.pick(&["world", "nonsense", ""]);
                self.auth(scheme, b"x")
            }
            41..=50 => Op::new(OpCode::CLOSE_SESSION, Request::Empty),
            51..=55 => {
                let code =
                    self.pick(&[OpCode(0), OpCode(10), OpCode(77), OpCode(-7), OpCode(1000)]);
                Op::new(code, Request::Unknown(Bytes::from_static(b"\0\0\0\x01x")))
            }
            56..=75 => Op::new(OpCode::WHO_AM_I, Request::Empty),
            76..=80 => Op::new(
                OpCode::SASL,
                Request::Sasl(SaslRequest {
                    token: Secret(Some(Bytes::new())),
                }),
            ),
            81..=84 => {
                let body = ReconfigRequest {
                    joining_servers: Ustring::null(),
                    leaving_servers: "3".into(),
                    new_members: Ustring::null(),
                    cur_config_id: -1,
                };
                Op::new(OpCode::RECONFIG, Request::Reconfig(body))
            }
            _ => self.quota(),
        }
    }

    fn auth(&self, scheme: &'static str, auth: &[u8]) -> Op {
        let body = AuthPacket {
            auth_type: 0,
            scheme: scheme.into(),
            auth: Bytes::copy_from_slice(auth).into(),
        };
        Op::new(OpCode::AUTH, Request::Auth(body))
    }

    /// Arms, disarms, reads and corrects the quota of `/q`.
    fn quota(&mut self) -> Op {
        let limits = "/zookeeper/quota/q/zookeeper_limits";
        let stats = "/zookeeper/quota/q/zookeeper_stats";
        let text = self.pick(&[
            "count=3,bytes=20",
            "count=-1,bytes=-1=;byteHardLimit=40;countHardLimit=6",
            "count=5,bytes=-1=;countHardLimit=4",
            "count=-1,bytes=-1=;byteHardLimit=30",
        ]);
        let data = Some(Bytes::from_static(text.as_bytes()));
        let acl = Some(vec![Acl::open_unsafe()]);
        match self.rng.u32(..8) {
            0 | 1 => {
                let body = CreateRequest {
                    path: limits.into(),
                    data,
                    acl,
                    flags: 0,
                };
                Op::new(OpCode::CREATE, Request::Create(body))
            }
            2 => {
                let data = Some(Bytes::from_static(b"count=0,bytes=0"));
                let body = CreateRequest {
                    path: stats.into(),
                    data,
                    acl,
                    flags: 0,
                };
                Op::new(OpCode::CREATE, Request::Create(body))
            }
            3 => Op::new(
                OpCode::SET_DATA,
                Request::SetData(SetDataRequest {
                    path: limits.into(),
                    data,
                    version: -1,
                }),
            ),
            4 if self.chance(40) => {
                let path = self.pick(&[limits, stats]);
                Op::new(
                    OpCode::DELETE,
                    Request::Delete(DeleteRequest {
                        path: path.into(),
                        version: -1,
                    }),
                )
            }
            _ => {
                let path = self.pick(&[limits, stats, stats]);
                Op::new(
                    OpCode::GET_DATA,
                    Request::PathWatch(PathWatchRequest {
                        path: path.into(),
                        watch: false,
                    }),
                )
            }
        }
    }

    fn common(&mut self) -> Op {
        let mut op = match self.rng.u32(..100) {
            0..=21 => self.create(),
            22..=31 => {
                let path = self.path();
                let version = self.version();
                Op::new(
                    OpCode::DELETE,
                    Request::Delete(DeleteRequest {
                        path: path.into(),
                        version,
                    }),
                )
            }
            32..=41 => {
                let (path, data, version) = (self.path(), self.data(), self.version());
                Op::new(
                    OpCode::SET_DATA,
                    Request::SetData(SetDataRequest {
                        path: path.into(),
                        data,
                        version,
                    }),
                )
            }
            42..=62 => self.read(),
            63..=66 => {
                let path = self.path();
                Op::new(
                    OpCode::GET_ACL,
                    Request::Path(PathRequest { path: path.into() }),
                )
            }
            67..=71 => self.set_acl(),
            72 => {
                let path = self.path();
                Op::new(
                    OpCode::SYNC,
                    Request::Path(PathRequest { path: path.into() }),
                )
            }
            73..=81 => self.multi(),
            82..=84 => self.multi_read(),
            85..=89 => self.add_watch(),
            90..=93 => self.watcher_type(),
            94..=95 => self.set_watches(),
            96 => {
                let prefix = self.pick(&["/", "", "/o", "/o/a", "/l", "/nowhere"]);
                Op::new(
                    OpCode::GET_EPHEMERALS,
                    Request::Path(PathRequest {
                        path: prefix.into(),
                    }),
                )
            }
            _ => {
                let path = self.path();
                Op::new(
                    OpCode::GET_ALL_CHILDREN_NUMBER,
                    Request::Path(PathRequest { path: path.into() }),
                )
            }
        };
        // undecodable-write
        let may_cut = self.rules.peer == Peer::V39 || !is_write(op.code);
        op.damage = match self.rng.u32(..100) {
            0 if may_cut => Damage::Cut(self.rng.usize(..1000)),
            1 => Damage::Trail(self.rng.usize(1..9)),
            _ => Damage::None,
        };
        op
    }

    /// A path anywhere, often one that was used before.
    fn path(&mut self) -> String {
        if self.chance(45) && !self.recent.is_empty() {
            let path = self.recent[self.rng.usize(..self.recent.len())].clone();
            if !(self.pipelined && path.starts_with("/q")) {
                return path;
            }
        }
        let path = self.new_path();
        if self.recent.len() < 12 {
            self.recent.push(path.clone());
        } else {
            let at = self.rng.usize(..self.recent.len());
            self.recent[at].clone_from(&path);
        }
        path
    }

    fn new_path(&mut self) -> String {
        match self.rng.u32(..100) {
            0..=2 => self.pick(&INVALID).to_owned(),
            3..=6 => self.pick(&RESERVED).to_owned(),
            7..=9 => format!("/{}", self.pick(&NAMES)),
            10..=21 if !self.pipelined => self.below("/q"),
            22..=36 => self.below("/l"),
            _ => self.below("/o"),
        }
    }

    fn below(&mut self, top: &str) -> String {
        let mut path = top.to_owned();
        for _ in 0..self.pick(&[0, 1, 1, 1, 2, 2, 3]) {
            path.push('/');
            if self.chance(20) {
                let prefix = self.pick(&["", "s", "s"]);
                path.push_str(&format!("{prefix}{:010}", self.rng.u32(..8)));
            } else {
                path.push_str(self.pick(&NAMES));
            }
        }
        path
    }

    /// A path whose node every connection may read, and whose events 3.8.0 and 3.9 send alike.
    fn open_path(&mut self) -> String {
        loop {
            let path = self.path();
            if !(self.rules.peer == Peer::V38 && is_locked(&path)) {
                return path;
            }
        }
    }

    /// A path that is used for this kind of watch.
    fn styled_path(&mut self, style: Style) -> String {
        loop {
            let path = self.open_path();
            if self.rules.peer == Peer::V39 || style_of(&path) == style {
                return path;
            }
        }
    }

    fn version(&mut self) -> i32 {
        self.pick(&[-1, -1, -1, -1, 0, 0, 1, 2, -2, 7])
    }

    fn data(&mut self) -> Option<Bytes> {
        match self.rng.u32(..10) {
            0 => None,
            1 => Some(Bytes::new()),
            2 => Some(vec![b'x'; self.rng.usize(100..3000)].into()),
            _ => {
                let length = self.rng.usize(1..12);
                Some(
                    std::iter::repeat_with(|| self.rng.u8(..))
                        .take(length)
                        .collect::<Vec<_>>()
                        .into(),
                )
            }
        }
    }

    /// An ACL for a node at `path`. Against 3.8.0 it lets everyone read, except below `/l`.
    fn acl(&mut self, path: &str) -> Option<Vec<Acl>> {
        if self.chance(55) {
            return Some(vec![Acl::open_unsafe()]);
        }
        match self.rng.u32(..20) {
            0 => return None,
            1 => return Some(Vec::new()),
            _ => {}
        }
        let count = self.rng.usize(1..4);
        let mut list: Vec<Acl> = (0..count).map(|_| self.acl_entry()).collect();
        if self.rules.peer == Peer::V38 && !is_locked(path) {
            let at = self.rng.usize(..=list.len());
            list.insert(at, Acl::read_unsafe());
        }
        if self.chance(10) {
            list.push(list[0].clone());
        }
        Some(list)
    }

    fn acl_entry(&mut self) -> Acl {
        let perms = Perms(self.pick(&[1, 2, 4, 6, 8, 12, 16, 18, 27, 30, 31, 31, 31, 0, 255]));
        let valid = [
            ("world", "anyone"),
            ("world", "anyone"),
            ("auth", ""),
            ("auth", "x"),
            ("digest", DIGEST_U1),
            ("digest", DIGEST_U2),
            ("ip", "127.0.0.1"),
            ("ip", "127.0.0.1/8"),
            ("ip", "127.0.0.0/24"),
            ("ip", "10.1.2.3"),
        ];
        let invalid = [
            ("world", "someone"),
            ("digest", "abc"),
            ("digest", "a:b:c"),
            ("ip", "300.0.0.1"),
            ("ip", "127.0.0.1/33"),
            ("ip", "::1"),
            ("nonsense", "x"),
            ("super", ""),
            ("", ""),
        ];
        let (scheme, id) = if self.chance(6) {
            self.pick(&invalid)
        } else {
            self.pick(&valid)
        };
        Acl {
            perms,
            id: Id::new(scheme, id),
        }
    }

    fn create(&mut self) -> Op {
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
        let body = self.create_body(true);
        Op::new(code, Request::Create(body))
    }

    fn create_body(&mut self, bad_flags: bool) -> CreateRequest<'static> {
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

    fn create_ttl_body(&mut self, bad_flags: bool) -> CreateTtlRequest<'static> {
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
    fn make_prefix(&mut self, path: &mut String) {
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

    fn read(&mut self) -> Op {
        let code = self.pick(&[
            OpCode::EXISTS,
            OpCode::EXISTS,
            OpCode::GET_DATA,
            OpCode::GET_DATA,
            OpCode::GET_CHILDREN,
            OpCode::GET_CHILDREN2,
        ]);
        let watch = self.chance(45);
        let path = if watch {
            self.styled_path(Style::OneShot)
        } else if code == OpCode::EXISTS {
            self.open_path()
        } else {
            self.path()
        };
        let path = if self.chance(1) {
            Ustring::null()
        } else {
            path.into()
        };
        Op::new(code, Request::PathWatch(PathWatchRequest { path, watch }))
    }

    fn set_acl(&mut self) -> Op {
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

    fn multi(&mut self) -> Op {
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

    fn multi_op(&mut self) -> MultiOp<'static> {
        match self.rng.u32(..100) {
            0..=19 => MultiOp::Create(self.create_body(false)),
            20..=34 => MultiOp::Create2(self.create_body(false)),
            35..=41 => MultiOp::CreateContainer(self.create_body(false)),
            42..=46 => MultiOp::CreateTtl(self.create_ttl_body(false)),
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

    /// A multi with an operation that no multi has, or without its end.
    fn odd_multi(&mut self) -> Op {
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

    fn multi_read(&mut self) -> Op {
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

    fn add_watch(&mut self) -> Op {
        let (style, mode) = self.pick(&[
            (Style::Persistent, AddWatchMode::PERSISTENT),
            (Style::Recursive, AddWatchMode::PERSISTENT_RECURSIVE),
        ]);
        let path = self.styled_path(style);
        let mode = if self.chance(3) {
            AddWatchMode(self.pick(&[2, -1]))
        } else {
            mode
        };
        Op::new(
            OpCode::ADD_WATCH,
            Request::AddWatch(AddWatchRequest {
                path: path.into(),
                mode,
            }),
        )
    }

    fn watcher_type(&mut self) -> Op {
        let code = self.pick(&[OpCode::CHECK_WATCHES, OpCode::REMOVE_WATCHES]);
        let v38 = self.rules.peer == Peer::V38;
        let mut types = vec![1, 2, 3, 0, 6];
        let path = if v38 && self.rng.bool() {
            types = vec![3, 3, 0];
            self.open_path()
        } else {
            self.styled_path(Style::OneShot)
        };
        if !v38 {
            types.extend([4, 5]);
        }
        let watcher_type = WatcherType(self.pick(&types));
        Op::new(
            code,
            Request::WatcherType(WatcherTypeRequest {
                path: path.into(),
                watcher_type,
            }),
        )
    }

    fn set_watches(&mut self) -> Op {
        let list = |maker: &mut Self, style: Style| {
            let count = maker.rng.usize(..3);
            Some(
                (0..count)
                    .map(|_| maker.styled_path(style).into())
                    .collect::<Vec<Ustring<'static>>>(),
            )
        };
        let data_watches = list(self, Style::OneShot);
        let exist_watches = list(self, Style::OneShot);
        let child_watches = list(self, Style::OneShot);
        let relative_zxid = Zxid(0);
        let mut op = if self.rng.bool() {
            let body = SetWatches {
                relative_zxid,
                data_watches,
                exist_watches,
                child_watches,
            };
            Op::new(OpCode::SET_WATCHES, Request::SetWatches(body))
        } else {
            let body = SetWatches2 {
                relative_zxid,
                data_watches,
                exist_watches,
                child_watches,
                persistent_watches: list(self, Style::Persistent),
                persistent_recursive_watches: list(self, Style::Recursive),
            };
            Op::new(OpCode::SET_WATCHES2, Request::SetWatches2(body))
        };
        op.relative = Some(self.pick(&[Seen::Nothing, Seen::Last, Seen::Ahead]));
        op
    }
}

/// Whether READ may be denied at the path, or an event from there may pass it.
fn is_locked(path: &str) -> bool {
    path == "/l" || path.starts_with("/l/")
}

/// Whether the operation is given a zxid.
fn is_write(code: OpCode) -> bool {
    matches!(
        code,
        OpCode::CREATE
            | OpCode::CREATE2
            | OpCode::CREATE_CONTAINER
            | OpCode::CREATE_TTL
            | OpCode::DELETE
            | OpCode::SET_DATA
            | OpCode::SET_ACL
            | OpCode::MULTI
    )
}

/// Which kind of watch a path is used for against 3.8.0. A recursive one on the root would see below `/l`.
fn style_of(path: &str) -> Style {
    if matches!(path, "/" | "") {
        return Style::OneShot;
    }
    match path.bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    }) % 4
    {
        0 => Style::Persistent,
        1 => Style::Recursive,
        _ => Style::OneShot,
    }
}

/// The digest ids of the users `u1:p1` and `u2:p2`.
const DIGEST_U1: &str = "u1:fpT/y03U+EjItKZOSLGvjnJlyng=";
const DIGEST_U2: &str = "u2:o9NxcCGDPOlcV7JVhmKHOf5ctVE=";
