//! A hash for paths, keyed at random, made for speed: a write looks its paths up some fifteen times.
//!
//! With the standard library's SipHash a quarter of all instructions of a create went into hashing (callgrind). This one
//! takes eight bytes at a time into one wide multiplication and folds the halves, as foldhash and wyhash do. Clients choose
//! paths, so the key is drawn for each table: who does not know it cannot make paths collide on purpose. Nothing iterates
//! a table by its hashes, so the key changes no result.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Odd, with no pattern: the digits of pi.
const MULTIPLIER: u64 = 0x243f_6a88_85a3_08d3;

/// Makes hashers with one random key.
#[derive(Debug, Clone)]
pub(crate) struct PathHashing {
    key: u64,
    other: u64,
}

impl Default for PathHashing {
    fn default() -> Self {
        let random = RandomState::new();
        Self {
            key: random.hash_one(0_u8),
            other: random.hash_one(1_u8),
        }
    }
}

impl BuildHasher for PathHashing {
    type Hasher = PathHasher;

    fn build_hasher(&self) -> PathHasher {
        PathHasher {
            state: self.key,
            other: self.other,
        }
    }
}

/// See the [module page](self).
#[derive(Debug)]
pub(crate) struct PathHasher {
    state: u64,
    other: u64,
}

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ (wide >> 64) as u64
}

impl Hasher for PathHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut state = self.state;
        for word in words {
            state = fold(state ^ u64::from_le_bytes(*word), self.other ^ MULTIPLIER);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // The length tells `a` from `a` and a zero byte.
        let length = bytes.len() as u64;
        self.state = fold(
            state ^ u64::from_le_bytes(last),
            self.other.wrapping_add(length) ^ MULTIPLIER.rotate_left(32),
        );
    }

    fn write_u8(&mut self, byte: u8) {
        // What ends a text: one step, as its length is in already.
        self.state ^= u64::from(byte);
    }

    fn finish(&self) -> u64 {
        fold(self.state, self.other | 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn paths_that_differ_in_one_digit_spread_over_all_bits() {
        let hashing = PathHashing::default();
        let mut low = HashSet::new();
        let mut high = HashSet::new();
        for number in 0..10_000 {
            let hash = hashing.hash_one(format!("/parent/node-{number:010}").as_str());
            low.insert(hash as u32);
            high.insert(hash >> 32);
        }
        // Ten thousand of four billion: a collision or two may be, a pattern may not.
        assert!(
            low.len() > 9_990 && high.len() > 9_990,
            "{} {}",
            low.len(),
            high.len()
        );
    }

    #[test]
    fn each_table_has_its_own_key() {
        let (one, other) = (PathHashing::default(), PathHashing::default());
        assert_ne!(one.hash_one("/a"), other.hash_one("/a"));
        assert_eq!(one.hash_one("/a"), one.hash_one("/a"));
    }

    #[test]
    fn zeros_at_the_end_count() {
        let hashing = PathHashing::default();
        assert_ne!(hashing.hash_one("/a"), hashing.hash_one("/a\0"));
        assert_ne!(hashing.hash_one(""), hashing.hash_one("\0"));
    }
}
