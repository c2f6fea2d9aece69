//! Sequence numbers in node names: read them, order them.
//!
//! Pure. Knows how a server writes the suffix of a sequential node (`%010d` of a signed 32-bit counter of the parent) and
//! what stands before it; it must not know what the number decides. Invariant: numbers are never compared as if they
//! could not wrap, so there is no `Ord` on [`Sequence`]: an order exists only as seen from one of them.

use std::cmp::Ordering;

/// The number that a server appended to a sequential node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sequence(i32);

impl Sequence {
    /// The number itself.
    pub const fn new(number: i32) -> Self {
        Self(number)
    }

    /// The number as it was written.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// Reads a suffix, the whole of it: ten digits; from the moment the counter has wrapped, a sign and nine or ten digits.
    ///
    /// ```
    /// # use zk_recipes::kit::sequence::Sequence;
    /// assert_eq!(Sequence::parse("0000000003"), Some(Sequence::new(3)));
    /// assert_eq!(Sequence::parse("-2147483648"), Some(Sequence::new(i32::MIN)));
    /// assert_eq!(Sequence::parse("3"), None);
    /// ```
    pub fn parse(suffix: &str) -> Option<Self> {
        let digits = suffix.strip_prefix('-').unwrap_or(suffix);
        let negative = digits.len() != suffix.len();
        let width = if negative {
            matches!(digits.len(), 9 | 10)
        } else {
            digits.len() == 10
        };
        if !width || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // `%010d` never pads a ten-digit number: a leading zero there is not a server's work.
        if negative && digits.len() == 10 && digits.starts_with('0') {
            return None;
        }
        suffix.parse().ok().map(Self)
    }

    /// How `self` stands to `other`: less is earlier. Right as long as fewer than 2^31 creates lie between the two, which
    /// holds for nodes that exist at the same time.
    ///
    /// Not transitive over greater distances, so it must not be given to a sort: sort by [`distance`](Self::distance).
    pub fn order(self, other: Self) -> Ordering {
        self.distance(other).cmp(&0)
    }

    /// How many creates after `origin` (before it, if negative) this one was.
    pub fn distance(self, origin: Self) -> i32 {
        self.0.wrapping_sub(origin.0)
    }
}

/// Cuts a child's name at the `marker` that a sequence number follows to the end: what stands before the marker (empty, or a
/// protected prefix, or what another client library writes there), and the number. The marker may be digits, too.
///
/// ```
/// # use zk_recipes::kit::sequence::{Sequence, split};
/// let name = "_c_870f69b4-5e3c-4dcb-94b0-278556d7761f-lock-0000000003";
/// let (before, sequence) = split(name, "lock-").unwrap();
/// assert_eq!((before.len(), sequence), (40, Sequence::new(3)));
/// assert_eq!(split("latch-0000000003", "lock-"), None);
/// ```
pub fn split<'a>(name: &'a str, marker: &str) -> Option<(&'a str, Sequence)> {
    // From the end, by the two widths a number can have: the marker could be found among its digits.
    [10, 11].into_iter().find_map(|width| {
        let (front, suffix) = name.split_at_checked(name.len().checked_sub(width)?)?;
        let before = front.strip_suffix(marker)?;
        Some((before, Sequence::parse(suffix)?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn suffixes_of_a_server_are_read() {
        for number in [
            0,
            3,
            999_999_999,
            1_000_000_000,
            i32::MAX,
            i32::MIN,
            -1,
            -999_999_999,
            -1_000_000_000,
        ] {
            let text = format!("{number:010}");
            assert_eq!(Sequence::parse(&text), Some(Sequence(number)), "{text}");
            let name = format!("lock-{text}");
            assert_eq!(split(&name, "lock-"), Some(("", Sequence(number))));
        }
        assert_eq!(format!("{:010}", i32::MIN).len(), 11);
    }

    #[test]
    fn anything_else_is_foreign() {
        for text in [
            "",
            "-",
            "3",
            "000000003",
            "00000000003",
            "+000000003",
            "2147483648",
            "-2147483649",
            "-0000000003",
            "--00000003",
            "00000 0003",
            "٠٠٠٠٠٠٠٠٠٣",
        ] {
            assert_eq!(Sequence::parse(text), None, "{text}");
        }
        for name in [
            "stray",
            "lock-",
            "lock-x",
            "lock-0000000001-more",
            "lock_0000000001",
        ] {
            assert_eq!(split(name, "lock-"), None, "{name}");
        }
    }

    #[test]
    fn the_last_marker_counts() {
        let name = "lock-0000000009-lock-0000000002";
        assert_eq!(
            split(name, "lock-"),
            Some(("lock-0000000009-", Sequence(2)))
        );
    }

    #[test]
    fn a_marker_is_not_sought_among_the_digits() {
        for marker in ["0", "00", "5", "10", "1-", "é"] {
            for number in [5, 0, 1_000_000_000, 2_105_500_105, -5, -1_000_000_000] {
                let name = format!("_c_id-x{marker}{number:010}");
                let expected = Some(("_c_id-x", Sequence(number)));
                assert_eq!(split(&name, marker), expected, "{name}");
            }
        }
        assert_eq!(split("é000000001", "é"), None);
    }

    #[test]
    fn order_goes_through_the_wrap() {
        let order = [i32::MAX - 1, i32::MAX, i32::MIN, i32::MIN + 1].map(Sequence);
        for pair in order.windows(2) {
            assert_eq!(pair[0].order(pair[1]), Ordering::Less);
            assert_eq!(pair[1].order(pair[0]), Ordering::Greater);
        }
        // A comparison of texts, as Java Curator does it, has it the other way round.
        assert!("2147483647" > "-2147483648");
    }

    proptest! {
        #[test]
        fn whatever_a_server_writes_is_read_back(number: i32, before in "[a-z_0-9-]{0,45}") {
            let name = format!("{before}lock-{number:010}");
            prop_assert_eq!(split(&name, "lock-"), Some((before.as_str(), Sequence(number))));
        }

        #[test]
        fn any_name_is_read_or_refused(name: String, marker in "[a-z-]{1,5}") {
            let _ = split(&name, &marker);
        }

        #[test]
        fn order_is_that_of_creation(start: i32, step in 1..i32::MAX) {
            let (earlier, later) = (Sequence(start), Sequence(start.wrapping_add(step)));
            prop_assert_eq!(earlier.order(later), Ordering::Less);
            prop_assert_eq!(later.distance(earlier), step);
        }
    }
}
