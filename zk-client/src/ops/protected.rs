//! Names of protected nodes: how a create whose reply was lost is found again.
//!
//! Pure text, the byte contract shared with Curator: `_c_`, a lower-case hyphenated UUID, `-`, then the caller's name. The
//! UUID is the identity of one logical create. It must not know a client; the search itself is in `create.rs`.

use uuid::Uuid;

/// Length of the prefix: `_c_`, 36 characters of UUID, `-`.
pub const PREFIX_LEN: usize = 40;
const MARK: &str = "_c_";

/// `_c_<uuid>-`: what the name of every node made by the logical create `id` begins with.
pub fn prefix(id: Uuid) -> String {
    format!("{MARK}{}-", id.hyphenated())
}

/// The UUID in a protected name, or `None` where `name` is not one (Curator's `ProtectedUtils.isProtectedZNode`).
///
/// ```
/// # use zk_client::protected;
/// let name = "_c_870f69b4-5e3c-4dcb-94b0-278556d7761f-lock-0000000003";
/// assert!(protected::id(name).is_some());
/// assert_eq!(protected::normalize(name), "lock-0000000003");
/// assert_eq!(protected::id("lock-0000000003"), None);
/// ```
pub fn id(name: &str) -> Option<Uuid> {
    if name.len() <= PREFIX_LEN || name.as_bytes()[PREFIX_LEN - 1] != b'-' {
        return None;
    }
    let text = name
        .strip_prefix(MARK)?
        .get(..PREFIX_LEN - MARK.len() - 1)?;
    // `try_parse` also takes braces and URNs; those have another length, so only the hyphenated form can pass here.
    Uuid::try_parse(text).ok()
}

/// `name` without its protected prefix; other names are returned as they are (Curator's `ProtectedUtils.normalize`).
pub fn normalize(name: &str) -> &str {
    if id(name).is_some() {
        &name[PREFIX_LEN..]
    } else {
        name
    }
}

/// The node among `children` that the logical create `id` made, if one is there.
///
/// A sequential create that was repeated although the first one had worked leaves two; the first in sequence order is
/// the real one for every queue, so the smallest name is taken, however the server ordered the list.
pub fn find<'a>(id: Uuid, children: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let prefix = prefix(id);
    children
        .into_iter()
        .filter(|name| name.starts_with(&prefix))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "870f69b4-5e3c-4dcb-94b0-278556d7761f";
    const NAME: &str = "_c_870f69b4-5e3c-4dcb-94b0-278556d7761f-lock-0000000003";

    fn uuid() -> Uuid {
        Uuid::parse_str(ID).unwrap()
    }

    #[test]
    fn curators_sample_is_read_and_written() {
        assert_eq!(format!("{}lock-0000000003", prefix(uuid())), NAME);
        assert_eq!(prefix(uuid()).len(), PREFIX_LEN);
        assert_eq!(id(NAME), Some(uuid()));
        assert_eq!(normalize(NAME), "lock-0000000003");
    }

    #[test]
    fn what_is_not_protected_is_left_alone() {
        let braces = "_c_{870f69b4-5e3c-4dcb-94b0-278556d776}-x";
        let bare = &NAME[..PREFIX_LEN];
        let no_dash = NAME.replacen("1f-lock", "1f_lock", 1);
        let multibyte = "_c_éééééééééééééééééé-x";
        for name in [
            "",
            "lock-0000000003",
            bare,
            &no_dash,
            braces,
            multibyte,
            &NAME[1..],
        ] {
            assert_eq!((id(name), normalize(name)), (None, name));
        }
    }

    #[test]
    fn own_node_is_found_by_prefix_and_the_oldest_wins() {
        let other = "_c_00000000-0000-4000-8000-000000000000-lock-0000000001";
        let later = NAME.replace("0003", "0009");
        assert_eq!(find(uuid(), [other, later.as_str(), NAME]), Some(NAME));
        assert_eq!(find(uuid(), [other, "lock-0000000000"]), None);
    }
}
