//! Access control lists as they travel: permissions and identities.

use std::borrow::Cow;
use std::fmt;
use std::ops::BitOr;

use bytes::BytesMut;

use crate::error::DecodeError;
use crate::ids::newtype_field;
use crate::jute::{Decode, Encode, Field, Reader, Ustring, put_int, put_ustring, put_vector};

/// A set of permissions. Bits that ZooKeeper gives no meaning are kept as they come, as its servers do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Perms(pub i32);

impl Perms {
    /// Read data, children and, on newer servers, see that the node exists.
    pub const READ: Self = Self(1);
    /// Set data.
    pub const WRITE: Self = Self(2);
    /// Create children.
    pub const CREATE: Self = Self(4);
    /// Delete children.
    pub const DELETE: Self = Self(8);
    /// Set the ACL.
    pub const ADMIN: Self = Self(16);
    /// All of them.
    pub const ALL: Self = Self(31);

    /// Whether every permission of `other` is in this set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the sets share a permission.
    #[must_use]
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Perms {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Perms {
    /// As ZooKeeper's shell writes them: `cdrwa`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [
            (Self::CREATE, 'c'),
            (Self::DELETE, 'd'),
            (Self::READ, 'r'),
            (Self::WRITE, 'w'),
            (Self::ADMIN, 'a'),
        ];
        let text: String = letters
            .iter()
            .filter(|(perm, _)| self.contains(*perm))
            .map(|(_, letter)| letter)
            .collect();
        if self.0 & !Self::ALL.0 == 0 {
            write!(f, "{text:?}")
        } else {
            write!(f, "{text:?}|{:#x}", self.0)
        }
    }
}

newtype_field!(Perms, i32);

/// Who: a scheme and an id in it, such as `digest` and `user:hash`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Id {
    /// `world`, `ip`, `digest`, `auth`, `x509`, `sasl`, or one a server was taught.
    pub scheme: Cow<'static, str>,
    /// What the scheme makes of it.
    pub id: Cow<'static, str>,
}

impl Id {
    /// An identity of `scheme`.
    #[must_use]
    pub fn new(scheme: impl Into<Cow<'static, str>>, id: impl Into<Cow<'static, str>>) -> Self {
        Self {
            scheme: scheme.into(),
            id: id.into(),
        }
    }

    /// Everyone: `world:anyone`.
    #[must_use]
    pub const fn anyone() -> Self {
        Self {
            scheme: Cow::Borrowed("world"),
            id: Cow::Borrowed("anyone"),
        }
    }

    /// Whoever creates the node, under each identity its connection has: `auth:`.
    #[must_use]
    pub const fn creator() -> Self {
        Self {
            scheme: Cow::Borrowed("auth"),
            id: Cow::Borrowed(""),
        }
    }
}

/// One entry of an access control list: who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Acl {
    /// What.
    pub perms: Perms,
    /// Who.
    pub id: Id,
}

impl Acl {
    /// Everything to everyone: Curator's and ZooKeeper's `OPEN_ACL_UNSAFE`.
    #[must_use]
    pub const fn open_unsafe() -> Self {
        Self {
            perms: Perms::ALL,
            id: Id::anyone(),
        }
    }

    /// Reading to everyone: `READ_ACL_UNSAFE`.
    #[must_use]
    pub const fn read_unsafe() -> Self {
        Self {
            perms: Perms::READ,
            id: Id::anyone(),
        }
    }

    /// Everything to the creator: `CREATOR_ALL_ACL`.
    #[must_use]
    pub const fn creator_all() -> Self {
        Self {
            perms: Perms::ALL,
            id: Id::creator(),
        }
    }
}

/// The usual schemes and ids become statics, so that the lists of almost every create cost no allocation.
fn interned(text: Ustring<'_>) -> Cow<'static, str> {
    match text.as_str() {
        Some("world") => Cow::Borrowed("world"),
        Some("anyone") => Cow::Borrowed("anyone"),
        Some("digest") => Cow::Borrowed("digest"),
        Some("auth") => Cow::Borrowed("auth"),
        Some("ip") => Cow::Borrowed("ip"),
        Some("sasl") => Cow::Borrowed("sasl"),
        Some("x509") => Cow::Borrowed("x509"),
        // A null scheme or id is as invalid as an empty one, and every server refuses both.
        Some("") | None => Cow::Borrowed(""),
        Some(other) => Cow::Owned(other.to_owned()),
    }
}

impl<'a> Decode<'a> for Acl {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let outer = reader.enter("ACL");
        let acl = Self {
            perms: Field::read(reader, "perms")?,
            id: Id {
                scheme: interned(reader.ustring("scheme")?),
                id: interned(reader.ustring("id")?),
            },
        };
        reader.enter(outer);
        Ok(acl)
    }
}

impl Encode for Acl {
    fn encode(&self, out: &mut BytesMut) {
        put_int(out, self.perms.0);
        put_ustring(out, Some(&self.id.scheme));
        put_ustring(out, Some(&self.id.id));
    }
}

/// The list of almost every create, as it travels: one entry, everything to `world:anyone`.
const OPEN_LIST: [u8; 27] = *b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone";

impl<'a> Field<'a> for Acl {
    fn read(reader: &mut Reader<'a>, _field: &'static str) -> Result<Self, DecodeError> {
        Self::decode(reader)
    }

    fn write(&self, out: &mut BytesMut) {
        self.encode(out);
    }

    fn read_vector(
        reader: &mut Reader<'a>,
        field: &'static str,
    ) -> Result<Option<Vec<Self>>, DecodeError> {
        if reader.skip_if(&OPEN_LIST) {
            return Ok(Some(vec![Self::open_unsafe()]));
        }
        reader.vector(field, Self::decode)
    }

    fn write_vector(items: Option<&[Self]>, out: &mut BytesMut) {
        match items {
            Some([only]) if *only == Self::open_unsafe() => out.extend_from_slice(&OPEN_LIST),
            _ => put_vector(out, items, |out, acl| acl.encode(out)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_open_list_is_one_list_among_others() {
        let closed = Acl {
            perms: Perms(31),
            id: Id::new("digest", "a:b"),
        };
        for list in [
            Some(vec![Acl::open_unsafe()]),
            Some(vec![Acl::open_unsafe(), closed.clone()]),
            Some(vec![closed, Acl::open_unsafe()]),
            Some(vec![Acl::read_unsafe()]),
            Some(vec![]),
            None,
        ] {
            let mut short = BytesMut::new();
            Acl::write_vector(list.as_deref(), &mut short);
            let mut plain = BytesMut::new();
            put_vector(&mut plain, list.as_deref(), |out, acl| acl.encode(out));
            assert_eq!(short, plain);
            let bytes: Bytes = short.freeze();
            for end in 0..bytes.len() {
                let cut = bytes.slice(..end);
                let mut reader = Reader::new(&cut, "List");
                assert!(Acl::read_vector(&mut reader, "acl").is_err());
            }
            let mut reader = Reader::new(&bytes, "List");
            assert_eq!(Acl::read_vector(&mut reader, "acl"), Ok(list));
            assert_eq!(reader.remaining(), 0);
        }
    }
}
