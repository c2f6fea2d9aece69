//! A history from a seed: a small world of paths, so that operations meet; valid and invalid ones, single and pipelined.
//!
//! | below | what happens there |
//! |---|---|
//! | `/o` | everything; against 3.8.0 everyone may read |
//! | `/l` | ACLs that deny READ, so against 3.8.0 no exists (see `DEVIATIONS_38`) |
//! | `/q` | a quota; never in a pipeline, where Java compares against a state that depends on its threads |
//! | `/zookeeper`, invalid paths | refusals |
//!
//! Every choice comes from the seed and from nothing else. What is never sent is listed in `HAZARDS`.

mod operations;
mod places;
mod watching;

use bytes::Bytes;
use fastrand::Rng;
use zk_proto::jute::Ustring;
use zk_proto::session::{
    AuthPacket, CreateRequest, DeleteRequest, PathRequest, PathWatchRequest, ReconfigRequest,
    Request, SaslRequest, Secret, SetDataRequest,
};
use zk_proto::{Acl, OpCode};

use super::step::{Damage, Op, Pass, Seen, Step};
use super::{Peer, Rules};
use crate::dump::SUPER_PASSWORD;

/// How many clients a history has.
pub const SLOTS: usize = 4;

/// How many of a thousand steps kill the server; each costs Java a second.
const RESTARTS_IN_1000: u32 = 2;

/// Makes a history with about `count` operations. Those of even seeds restart the server, those of odd ones use quotas.
#[must_use]
pub fn history(seed: u64, count: usize, rules: Rules) -> Vec<Step> {
    let mut maker = Maker {
        rng: Rng::with_seed(seed),
        rules,
        // quota-after-restart
        restarts: seed.is_multiple_of(2),
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
    /// Whether the server is restarted now and then; there are no quotas then.
    restarts: bool,
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
        if self.restarts && self.rng.u32(..1000) < RESTARTS_IN_1000 {
            return Step::Restart;
        }
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
            _ if self.restarts => self.read(),
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
            // setACL-in-flight
            67..=71 if !self.pipelined => self.set_acl(),
            67..=71 => self.read(),
            72 => {
                let path = self.echoed_path();
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
