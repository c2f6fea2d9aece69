//! Access control: who a connection is, what a list allows, and the table that keeps each distinct list once.
//!
//! Decision and fix-up follow ZooKeeper's `checkACL` and `fixupACL`. Knows no node and no connection.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use zk_proto::{Acl, Id, Perms};

/// A list in the [`AclTable`]. [`AclId::OPEN`] is everything to everyone, which most nodes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclId(pub(crate) u32);

impl AclId {
    /// `world:anyone` with all permissions: −1 on disk, and never in the table.
    pub const OPEN: Self = Self(0);

    /// The number a snapshot stores.
    #[must_use]
    pub fn to_stored(self) -> i64 {
        if self == Self::OPEN {
            -1
        } else {
            i64::from(self.0)
        }
    }
}

/// Each distinct list once, counted by the nodes that use it.
#[derive(Debug, Default)]
pub struct AclTable {
    lists: BTreeMap<u32, (Arc<[Acl]>, u32)>,
    /// For look-ups only; nothing iterates it.
    ids: HashMap<Arc<[Acl]>, u32>,
    last: u32,
}

impl AclTable {
    /// The id of `list`, counted as used once more.
    pub fn intern(&mut self, list: &[Acl]) -> AclId {
        if is_open(list) {
            return AclId::OPEN;
        }
        if let Some(&id) = self.ids.get(list) {
            if let Some((_, uses)) = self.lists.get_mut(&id) {
                *uses += 1;
            }
            return AclId(id);
        }
        // Ids are not reused before all were used: a snapshot under way names them.
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.lists.contains_key(&self.last) {
                break;
            }
        }
        self.insert(self.last, list.into(), 1);
        AclId(self.last)
    }

    /// Puts a list a snapshot holds under the number it has there, unused so far.
    pub fn restore(&mut self, id: u32, list: &[Acl]) {
        self.last = self.last.max(id);
        self.insert(id, list.into(), 0);
    }

    /// Counts a list of [`restore`](Self::restore) as used; false if there is none of that number.
    pub fn retain(&mut self, id: AclId) -> bool {
        if id == AclId::OPEN {
            return true;
        }
        match self.lists.get_mut(&id.0) {
            Some((_, uses)) => {
                *uses += 1;
                true
            }
            None => false,
        }
    }

    /// Counts a list as used once less; a list that nobody uses goes.
    pub fn release(&mut self, id: AclId) {
        let Some((list, uses)) = self.lists.get_mut(&id.0) else {
            return;
        };
        *uses -= 1;
        if *uses == 0 {
            let list = Arc::clone(list);
            self.lists.remove(&id.0);
            if self.ids.get(&list) == Some(&id.0) {
                self.ids.remove(&list);
            }
        }
    }

    /// Drops lists of a snapshot that no node uses.
    pub fn drop_unused(&mut self) {
        self.lists.retain(|_, (_, uses)| *uses > 0);
        let lists = &self.lists;
        self.ids.retain(|_, id| lists.contains_key(id));
    }

    /// The list itself.
    #[must_use]
    pub fn get(&self, id: AclId) -> Arc<[Acl]> {
        match self.lists.get(&id.0) {
            Some((list, _)) => Arc::clone(list),
            None => open(),
        }
    }

    /// The list, shared with the table if it is there: most nodes are created with one of few lists.
    #[must_use]
    pub fn shared(&self, list: &[Acl]) -> Arc<[Acl]> {
        if is_open(list) {
            return open();
        }
        match self.ids.get_key_value(list) {
            Some((known, _)) => Arc::clone(known),
            None => list.into(),
        }
    }

    /// Whether `ids` may do `needed` on a node with list `id`, without a copy of the list.
    #[must_use]
    pub fn allows(&self, id: AclId, needed: Perms, ids: &[Id]) -> bool {
        match self.lists.get(&id.0) {
            Some((list, _)) => allows(list, needed, ids),
            None => true,
        }
    }

    /// All lists with the numbers a snapshot stores, in order.
    pub fn stored(&self) -> impl Iterator<Item = (i64, &Arc<[Acl]>)> {
        self.lists
            .iter()
            .map(|(id, (list, _))| (i64::from(*id), list))
    }

    fn insert(&mut self, id: u32, list: Arc<[Acl]>, uses: u32) {
        self.ids.insert(Arc::clone(&list), id);
        self.lists.insert(id, (list, uses));
    }
}

/// Whether a list is everything to everyone.
pub(crate) fn is_open(list: &[Acl]) -> bool {
    matches!(list, [only] if *only == Acl::open_unsafe())
}

/// The open list as a value.
#[must_use]
pub fn open() -> Arc<[Acl]> {
    static OPEN: std::sync::OnceLock<Arc<[Acl]>> = std::sync::OnceLock::new();
    Arc::clone(OPEN.get_or_init(|| [Acl::open_unsafe()].into()))
}

/// Whether `list` gives one of `ids` the permission. An empty list allows, and `super` may do everything.
#[must_use]
pub fn allows(list: &[Acl], needed: Perms, ids: &[Id]) -> bool {
    list.is_empty()
        || ids.iter().any(|id| id.scheme == "super")
        || list.iter().any(|acl| {
            acl.perms.intersects(needed)
                && (acl.id == Id::anyone() || ids.iter().any(|id| matches(id, &acl.id)))
        })
}

fn matches(have: &Id, wanted: &Id) -> bool {
    have.scheme == wanted.scheme
        && match &*wanted.scheme {
            "ip" => ip_matches(&have.id, &wanted.id),
            _ => have.id == wanted.id,
        }
}

fn ip_matches(address: &str, pattern: &str) -> bool {
    let (Ok(address), Some((network, bits))) = (address.parse::<Ipv4Addr>(), ip_pattern(pattern))
    else {
        return false;
    };
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    u32::from(address) & mask == u32::from(network) & mask
}

/// `a.b.c.d` or `a.b.c.d/bits`. IPv6 literals are refused, as by 3.8 and 3.9.
fn ip_pattern(pattern: &str) -> Option<(Ipv4Addr, u32)> {
    let (address, bits) = match pattern.split_once('/') {
        Some((address, bits)) => (address, bits.parse().ok().filter(|bits| *bits <= 32)?),
        None => (pattern, 32),
    };
    let mut octets = [0; 4];
    let mut parts = address.split('.');
    for octet in &mut octets {
        *octet = parts.next()?.parse().ok()?;
    }
    parts
        .next()
        .is_none()
        .then_some((Ipv4Addr::from(octets), bits))
}

/// Bytes that replacing `auth` by identities may add to a list: what is stored must still fit into a log record.
const MAX_EXPANSION: usize = 256 << 10;

/// Whether a `digest` id has a user and a hash. Text after a last colon that is empty does not count, as in Java's split.
fn is_digest_id(id: &str) -> bool {
    let parts = id.trim_end_matches(':');
    !parts.is_empty() && parts.split(':').count() == 2
}

/// The list a write stores: duplicates dropped, `auth` replaced by the connection's identities. `None` if it is invalid.
#[must_use]
pub fn fix_up(list: Option<&[Acl]>, ids: &[Id], digest_enabled: bool) -> Option<Vec<Acl>> {
    let list = list.filter(|list| !list.is_empty())?;
    let mut fixed = Vec::with_capacity(list.len());
    // For look-ups only: a list of thousands of entries must not take the square of that.
    let mut seen = HashSet::with_capacity(if list.len() > 1 { list.len() } else { 0 });
    let mut room = MAX_EXPANSION;
    for acl in list {
        if list.len() > 1 && !seen.insert(acl) {
            continue;
        }
        match &*acl.id.scheme {
            "world" if acl.id.id == "anyone" => fixed.push(acl.clone()),
            "auth" => {
                let before = fixed.len();
                let own = ids
                    .iter()
                    .filter(|id| matches!(&*id.scheme, "digest" | "sasl" | "x509"));
                for id in own {
                    room = room.checked_sub(id.scheme.len() + id.id.len() + 12)?;
                    fixed.push(Acl {
                        perms: acl.perms,
                        id: id.clone(),
                    });
                }
                if fixed.len() == before {
                    return None;
                }
            }
            "ip" if ip_pattern(&acl.id.id).is_some() => fixed.push(acl.clone()),
            "digest" if digest_enabled && is_digest_id(&acl.id.id) => {
                fixed.push(acl.clone());
            }
            _ => return None,
        }
    }
    Some(fixed)
}

/// A list as shown to someone without ADMIN: digests are masked.
#[must_use]
pub fn masked(list: &[Acl]) -> Vec<Acl> {
    list.iter()
        .map(|acl| match (&*acl.id.scheme, acl.id.id.split_once(':')) {
            ("digest", Some((user, _))) => Acl {
                perms: acl.perms,
                id: Id::new("digest", format!("{user}:x")),
            },
            _ => acl.clone(),
        })
        .collect()
}

/// The identity of an address.
#[must_use]
pub fn ip_identity(peer: IpAddr) -> Id {
    Id::new("ip", peer.to_canonical().to_string())
}

/// The identity of `user:password`: `user:` and the base64 SHA-1 of the whole.
#[must_use]
pub fn digest_identity(credentials: &[u8]) -> Id {
    let text = String::from_utf8_lossy(credentials);
    let user = text.split(':').next().unwrap_or_default();
    let hash = STANDARD.encode(Sha1::digest(text.as_bytes()));
    Id {
        scheme: Cow::Borrowed("digest"),
        id: Cow::Owned(format!("{user}:{hash}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_zookeepers() {
        assert_eq!(
            digest_identity(b"bob:pw").id,
            "bob:ikIaKsbtGweaHnb/jKn7OHqbunM="
        );
    }

    #[test]
    fn addresses_match_by_prefix() {
        for (pattern, valid, hit) in [
            ("127.0.0.1", true, true),
            ("127.0.0.0/8", true, true),
            ("10.0.0.0/8", true, false),
            ("0.0.0.0/0", true, true),
            ("127.0.0.1/33", false, false),
            ("256.0.0.1", false, false),
            ("::1", false, false),
            ("1.2.3", false, false),
        ] {
            assert_eq!(ip_pattern(pattern).is_some(), valid, "{pattern}");
            assert_eq!(ip_matches("127.0.0.1", pattern), hit, "{pattern}");
        }
    }

    #[test]
    fn auth_expands_in_place_and_duplicates_go() {
        let bob = digest_identity(b"bob:pw");
        let acl = |perms, scheme: &'static str, id: &'static str| Acl {
            perms: Perms(perms),
            id: Id::new(scheme, id),
        };
        let list = [
            acl(1, "world", "anyone"),
            acl(1, "world", "anyone"),
            acl(31, "auth", ""),
            acl(31, "digest", "x:y"),
        ];
        let fixed = fix_up(Some(&list), std::slice::from_ref(&bob), true).unwrap();
        assert_eq!(
            fixed,
            [
                acl(1, "world", "anyone"),
                Acl {
                    perms: Perms(31),
                    id: bob
                },
                acl(31, "digest", "x:y")
            ]
        );
        assert_eq!(
            fix_up(Some(&list), &[Id::new("ip", "127.0.0.1")], true),
            None
        );
        for bad in [
            acl(31, "digest", "abc"),
            acl(31, "digest", "a:b:c"),
            acl(1, "world", "x"),
            acl(1, "no", "x"),
        ] {
            assert_eq!(fix_up(Some(&[bad]), &[], true), None);
        }
        assert_eq!(fix_up(Some(&[]), &[], true), None);
        assert_eq!(fix_up(None, &[], true), None);
    }
}
