//! Whose turn is it? Given the children of a lock path and our own node: hold, wait for one other node, or be gone.
//!
//! Pure, and the only place where a queue's order is decided: mutex, semaphore, latch and selector ask here. Knows names;
//! must not know a client, a watch, or what holding means. Invariants: children that are no contenders never count (one of
//! them would block everybody, or let two in); every waiter is sent to exactly one node, whose end alone can change its
//! standing, so that one release wakes one waiter.

use super::sequence::{self, Sequence};

/// Which children of a path take part, by their names: a marker followed by a sequence number at the name's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contenders {
    own: String,
    respected: Vec<String>,
}

impl Contenders {
    /// Those whose names end in `marker` and a sequence number, whatever stands before.
    ///
    /// ```
    /// # use zk_recipes::kit::contend::Contenders;
    /// let locks = Contenders::marked("lock-");
    /// assert!(locks.includes("_c_870f69b4-5e3c-4dcb-94b0-278556d7761f-lock-0000000003"));
    /// assert!(!locks.includes("notes"));
    /// ```
    pub fn marked(marker: impl Into<String>) -> Self {
        Self {
            own: marker.into(),
            respected: Vec::new(),
        }
    }

    /// Counts names with this other marker as well. All sequential children of a path draw from one counter, so they have
    /// one order.
    #[must_use]
    pub fn respecting(mut self, marker: impl Into<String>) -> Self {
        self.respected.push(marker.into());
        self
    }

    /// The marker of our own nodes.
    pub fn marker(&self) -> &str {
        &self.own
    }

    /// Whether the names that a server makes of our marker can be told from others, whatever their number: those of an
    /// empty one, or of dashes, can not, and whoever looked for its own node would never find it.
    pub(crate) fn can_be_told(&self) -> bool {
        let read_back = |number: i32| {
            let name = format!("_c_id-{}{number:010}", self.own);
            sequence::split(&name, &self.own) == Some(("_c_id-", Sequence::new(number)))
        };
        !self.own.contains('/')
            && [0, i32::MAX, -1, i32::MIN + 1, i32::MIN]
                .into_iter()
                .all(read_back)
    }

    /// Whether a child takes part.
    pub fn includes(&self, name: &str) -> bool {
        self.sequence(name).is_some()
    }

    /// The child's place in the order of creation; `None` for a foreign child.
    pub fn sequence(&self, name: &str) -> Option<Sequence> {
        std::iter::once(&self.own)
            .chain(&self.respected)
            .find_map(|marker| sequence::split(name, marker))
            .map(|(_, sequence)| sequence)
    }

    /// All contenders among `children`, first come first.
    pub fn queue<'c>(&self, children: impl IntoIterator<Item = &'c str>) -> Vec<&'c str> {
        let mut queue: Vec<_> = children
            .into_iter()
            .filter_map(|name| Some((self.sequence(name)?, name)))
            .collect();
        // As seen from any one of them: within the 2^31 creates in which an order exists, all agree.
        if let Some(&(origin, _)) = queue.first() {
            queue.sort_unstable_by_key(|&(sequence, name)| (sequence.distance(origin), name));
        }
        queue.into_iter().map(|(_, name)| name).collect()
    }

    /// How the node `mine` stands among `children`, where the first `leases` hold (1 for a mutex).
    ///
    /// ```
    /// # use zk_recipes::kit::contend::{Contenders, Standing};
    /// let locks = Contenders::marked("lock-");
    /// let children = ["lock-0000000007", "README", "lock-0000000005"];
    /// assert_eq!(locks.standing(children, "lock-0000000005", 1).standing, Standing::Hold);
    /// assert_eq!(locks.standing(children, "lock-0000000007", 1).standing, Standing::WaitFor("lock-0000000005"));
    /// assert_eq!(locks.standing(children, "lock-0000000006", 1).standing, Standing::Vanished);
    /// ```
    pub fn standing<'c>(
        &self,
        children: impl IntoIterator<Item = &'c str>,
        mine: &str,
        leases: usize,
    ) -> Assessment<'c> {
        let Some(own) = self.sequence(mine) else {
            return Assessment::vanished();
        };
        let mut there = false;
        let mut foreign = None;
        let mut ahead: Vec<(i32, &'c str)> = Vec::new();
        for name in children {
            if name == mine {
                there = true;
                continue;
            }
            match self.sequence(name) {
                // Equal numbers, and numbers half the range apart, do not come from a server; whoever wrote them, both
                // sides must agree who is first.
                Some(sequence) => {
                    let place = (sequence.distance(own), name);
                    let is_ahead = match place.0 {
                        i32::MIN => sequence.number() > own.number(),
                        _ => place < (0, mine),
                    };
                    if is_ahead {
                        ahead.push(place);
                    }
                }
                None => foreign = Some(name),
            }
        }
        if !there {
            return Assessment {
                foreign,
                ..Assessment::vanished()
            };
        }
        let position = ahead.len();
        let standing = match position.checked_sub(leases.max(1)) {
            None => Standing::Hold,
            // With p ahead and n leases, the (p - n)th ahead must go before we can be among the first n.
            Some(nth) => {
                let (_, &mut (_, name), _) = ahead.select_nth_unstable(nth);
                Standing::WaitFor(name)
            }
        };
        Assessment {
            standing,
            position,
            foreign,
        }
    }
}

/// What a contender has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'c> {
    /// Its turn.
    Hold,
    /// Not before this child is gone.
    WaitFor(&'c str),
    /// The own node is not among the children: deleted, or gone with its session.
    Vanished,
}

/// A standing, and what else the list of children told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assessment<'c> {
    /// What to do.
    pub standing: Standing<'c>,
    /// How many contenders are ahead; 0 where the own node is not there.
    pub position: usize,
    /// A child that is no contender, if there is one: worth a warning, never waited for.
    pub foreign: Option<&'c str>,
}

impl Assessment<'_> {
    fn vanished() -> Self {
        Self {
            standing: Standing::Vanished,
            position: 0,
            foreign: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "_c_ffffffff-0000-4000-8000-000000000000-lock-0000000001";
    const B: &str = "_c_00000000-0000-4000-8000-000000000000-lock-0000000002";
    const C: &str = "lock-0000000003";

    fn mutex(children: &[&'static str], mine: &str) -> Assessment<'static> {
        Contenders::marked("lock-").standing(children.iter().copied(), mine, 1)
    }

    #[test]
    fn the_sequence_decides_and_not_the_protected_prefix() {
        let children = [C, B, A];
        assert_eq!(mutex(&children, A).standing, Standing::Hold);
        assert_eq!(mutex(&children, B).standing, Standing::WaitFor(A));
        assert_eq!(mutex(&children, C).standing, Standing::WaitFor(B));
        assert_eq!(mutex(&children, C).position, 2);
        assert_eq!(Contenders::marked("lock-").queue([C, "x", B, A]), [A, B, C]);
    }

    #[test]
    fn curator_43_foreign_children_are_neither_waited_for_nor_let_in() {
        for foreign in [
            "0",
            "aaa",
            "lock-",
            "latch-0000000000",
            "lock-0000000000x",
            "lock-000000000",
        ] {
            let children = [foreign, A, B];
            let names = children.to_vec();
            let first = Contenders::marked("lock-");
            let first = first.standing(names.iter().copied(), A, 1);
            assert_eq!(
                (first.standing, first.foreign),
                (Standing::Hold, Some(foreign))
            );
            let second = Contenders::marked("lock-");
            let second = second.standing(names.iter().copied(), B, 1);
            assert_eq!(second.standing, Standing::WaitFor(A));
        }
    }

    #[test]
    fn curator_211_an_own_node_that_is_not_there_is_never_a_grant() {
        assert_eq!(mutex(&[], A).standing, Standing::Vanished);
        assert_eq!(mutex(&[B, C], A).standing, Standing::Vanished);
        assert_eq!(mutex(&["stray"], "stray").standing, Standing::Vanished);
        assert_eq!(mutex(&["stray"], A).foreign, Some("stray"));
    }

    #[test]
    fn order_survives_the_wrap_of_the_counter() {
        let old = "lock-2147483647";
        let new = "lock--2147483648";
        let newer = "lock--2147483647";
        assert_eq!(mutex(&[new, old], old).standing, Standing::Hold);
        assert_eq!(mutex(&[new, old], new).standing, Standing::WaitFor(old));
        for children in [[old, new, newer], [newer, old, new], [new, newer, old]] {
            assert_eq!(
                Contenders::marked("lock-").queue(children),
                [old, new, newer]
            );
        }
    }

    #[test]
    fn respected_names_share_the_order() {
        let kazoo = "2f3c__lock__0000000001";
        let mine = "_c_00000000-0000-4000-8000-000000000000-lock-0000000002";
        assert_eq!(mutex(&[kazoo, mine], mine).standing, Standing::Hold);
        let both = Contenders::marked("lock-").respecting("__lock__");
        let assessment = both.standing([kazoo, mine], mine, 1);
        assert_eq!(
            (assessment.standing, assessment.foreign),
            (Standing::WaitFor(kazoo), None)
        );
    }

    #[test]
    fn markers_that_cannot_be_read_back_are_known() {
        for marker in ["lock-", "__lock__", "0", "1-", "é", "-latch"] {
            assert!(Contenders::marked(marker).can_be_told(), "{marker}");
        }
        for marker in ["", "-", "--", "a/b", "/"] {
            assert!(!Contenders::marked(marker).can_be_told(), "{marker}");
        }
    }

    #[test]
    fn a_forged_equal_number_has_one_winner() {
        let (one, two) = ("a-lock-0000000001", "b-lock-0000000001");
        assert_eq!(mutex(&[two, one], one).standing, Standing::Hold);
        assert_eq!(mutex(&[two, one], two).standing, Standing::WaitFor(one));
    }

    #[test]
    fn forged_numbers_half_the_range_apart_have_one_winner() {
        let (one, two) = ("lock-0000000000", "lock--2147483648");
        assert_eq!(mutex(&[two, one], one).standing, Standing::Hold);
        assert_eq!(mutex(&[two, one], two).standing, Standing::WaitFor(one));
    }

    #[test]
    fn leases_wait_for_the_one_whose_end_lets_them_in() {
        let names: Vec<_> = (0..5).map(|number| format!("lock-{number:010}")).collect();
        let children = || names.iter().map(String::as_str);
        let locks = Contenders::marked("lock-");
        let standing = |mine: usize| locks.standing(children(), &names[mine], 3).standing;
        assert_eq!(standing(2), Standing::Hold);
        assert_eq!(standing(3), Standing::WaitFor(&names[0]));
        assert_eq!(standing(4), Standing::WaitFor(&names[1]));
    }

    proptest! {
        #[test]
        fn exactly_one_holds_and_nobody_is_watched_twice(
            start: i32, gaps in proptest::collection::vec(1..1000i32, 1..40), seed: u64,
        ) {
            let mut number = start;
            let mut names: Vec<String> = gaps.iter().map(|gap| {
                number = number.wrapping_add(*gap);
                format!("_c_{:08x}-lock-{number:010}", seed ^ (*gap as u64))
            }).collect();
            let order = names.clone();
            names.rotate_left(seed as usize % gaps.len());
            let locks = Contenders::marked("lock-");
            prop_assert_eq!(locks.queue(names.iter().map(String::as_str)), order.iter().collect::<Vec<_>>());
            for (place, mine) in order.iter().enumerate() {
                let found = locks.standing(names.iter().map(String::as_str), mine, 1);
                prop_assert_eq!(found.position, place);
                match place.checked_sub(1) {
                    None => prop_assert_eq!(found.standing, Standing::Hold),
                    Some(before) => prop_assert_eq!(found.standing, Standing::WaitFor(&order[before])),
                }
            }
        }

        #[test]
        fn no_list_of_names_confuses_it(names: Vec<String>, numbers: Vec<i32>, leases in 0..4usize) {
            let forged: Vec<_> = numbers.iter().map(|number| format!("lock-{number:010}")).collect();
            let all = || names.iter().chain(&forged).map(String::as_str);
            let locks = Contenders::marked("lock-");
            let queue = locks.queue(all());
            prop_assert_eq!(queue.len(), forged.len());
            for mine in all() {
                let found = locks.standing(all(), mine, leases);
                prop_assert_eq!(found.standing == Standing::Vanished, !locks.includes(mine));
            }
        }
    }
}
