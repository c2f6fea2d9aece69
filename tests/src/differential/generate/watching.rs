//! Registering, checking, removing and re-registering watches.

use zk_proto::jute::Ustring;
use zk_proto::session::{
    AddWatchMode, AddWatchRequest, Request, SetWatches, SetWatches2, WatcherType,
    WatcherTypeRequest,
};
use zk_proto::{OpCode, Zxid};

use super::Maker;
use super::places::Style;
use crate::differential::Peer;
use crate::differential::step::{Op, Seen};

impl Maker {
    pub(super) fn add_watch(&mut self) -> Op {
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

    pub(super) fn watcher_type(&mut self) -> Op {
        let v38 = self.rules.peer == Peer::V38;
        let code = if v38 {
            // check-finds-strangers
            OpCode::REMOVE_WATCHES
        } else {
            self.pick(&[OpCode::CHECK_WATCHES, OpCode::REMOVE_WATCHES])
        };
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

    pub(super) fn set_watches(&mut self) -> Op {
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
