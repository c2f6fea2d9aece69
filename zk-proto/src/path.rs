//! Checked paths: parsed once near the input, valid everywhere after. Knows no server.
//!
//! [`ZPath`] borrows and is `Copy`; [`ZPathBuf`] owns; [`zpath!`](crate::zpath) checks a literal when it is compiled. The
//! rules are ZooKeeper's own (`PathUtils.validatePath`): what passes here is never refused by a server for its form.

use std::borrow::Cow;
use std::fmt;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathErrorKind {
    /// The path is empty.
    Empty,
    /// The path does not start with `/`.
    Relative,
    /// The path ends with `/` and is not the root.
    TrailingSlash,
    /// Two slashes in a row.
    EmptyComponent,
    /// A component is `.` or `..`.
    DotComponent,
    /// A character ZooKeeper does not take: control, surrogate, private use, or specials.
    BadCharacter,
}

/// A text that is no valid path, and where it stops being one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathError {
    /// The refused text.
    pub path: String,
    /// Byte offset of what is wrong.
    pub offset: usize,
    /// What is wrong.
    pub kind: PathErrorKind,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            PathErrorKind::Empty => "is empty",
            PathErrorKind::Relative => "does not start with '/'",
            PathErrorKind::TrailingSlash => "ends with '/'",
            PathErrorKind::EmptyComponent => "has an empty component",
            PathErrorKind::DotComponent => "has a component '.' or '..'",
            PathErrorKind::BadCharacter => "has a character that ZooKeeper refuses",
        };
        write!(f, "path {:?} {what} (byte {})", self.path, self.offset)
    }
}

impl std::error::Error for PathError {}

/// Checks a path by ZooKeeper's rules; returns the byte offset and kind of the first fault.
///
/// # Errors
/// The first fault found, from the left.
pub const fn check_path(path: &str) -> Result<(), (usize, PathErrorKind)> {
    let bytes = path.as_bytes();
    if bytes.is_empty() {
        return Err((0, PathErrorKind::Empty));
    }
    if bytes[0] != b'/' {
        return Err((0, PathErrorKind::Relative));
    }
    let mut start = 1;
    let mut at = 1;
    while at < bytes.len() {
        let byte = bytes[at];
        // Most of any path: a printable ASCII character that is no slash.
        if byte > b'/' && byte < 0x7f {
            at += 1;
            continue;
        }
        if byte == b'/' {
            match component(bytes, start, at) {
                Ok(()) => {}
                Err(kind) => return Err((start, kind)),
            }
            start = at + 1;
        } else if is_refused(bytes, at) {
            return Err((at, PathErrorKind::BadCharacter));
        }
        at += 1;
    }
    if bytes.len() > 1 {
        if start == bytes.len() {
            return Err((start - 1, PathErrorKind::TrailingSlash));
        }
        match component(bytes, start, at) {
            Ok(()) => {}
            Err(kind) => return Err((start, kind)),
        }
    }
    Ok(())
}

const fn component(bytes: &[u8], start: usize, end: usize) -> Result<(), PathErrorKind> {
    match end - start {
        0 => Err(PathErrorKind::EmptyComponent),
        1 if bytes[start] == b'.' => Err(PathErrorKind::DotComponent),
        2 if bytes[start] == b'.' && bytes[start + 1] == b'.' => Err(PathErrorKind::DotComponent),
        _ => Ok(()),
    }
}

/// Whether the character starting at `at` is in a refused range. Works on UTF-8 bytes so that it can run at compile time:
/// U+0000..=U+001F, U+007F..=U+009F, U+D800..=U+F8FF (only U+E000.. can occur in UTF-8), U+FFF0..=U+FFFF, and everything
/// above U+FFFF, which Java sees as surrogates.
const fn is_refused(bytes: &[u8], at: usize) -> bool {
    match bytes[at] {
        0x00..=0x1f | 0x7f => true,
        0xc2 => bytes[at + 1] <= 0x9f,
        0xee => true,
        0xef => bytes[at + 1] <= 0xa3 || (bytes[at + 1] == 0xbf && bytes[at + 2] >= 0xb0),
        0xf0..=0xff => true,
        _ => false,
    }
}

/// A valid absolute path that borrows its text.
///
/// ```
/// use zk_proto::{ZPath, zpath};
///
/// const LOCKS: ZPath<'static> = zpath!("/app/locks"); // checked by the compiler
/// assert_eq!(LOCKS.join("a")?.as_str(), "/app/locks/a");
/// assert!(ZPath::new("/app//locks").is_err());
/// # Ok::<(), zk_proto::PathError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZPath<'a>(&'a str);

/// Makes a [`ZPath`] of a literal; a malformed one does not compile.
#[macro_export]
macro_rules! zpath {
    ($path:literal) => {{
        const PATH: $crate::ZPath<'static> = $crate::ZPath::literal($path);
        PATH
    }};
}

impl<'a> ZPath<'a> {
    /// The root, `/`.
    pub const ROOT: ZPath<'static> = ZPath("/");

    /// Checks `path`.
    ///
    /// # Errors
    /// When ZooKeeper would refuse the path for its form.
    pub fn new(path: &'a str) -> Result<Self, PathError> {
        match check_path(path) {
            Ok(()) => Ok(Self(path)),
            Err((offset, kind)) => Err(PathError {
                path: path.to_owned(),
                offset,
                kind,
            }),
        }
    }

    /// Checks a literal in a constant; use [`zpath!`](crate::zpath).
    ///
    /// # Panics
    /// When the path is malformed: at compile time, if called in a constant.
    #[doc(hidden)]
    #[must_use]
    pub const fn literal(path: &'a str) -> Self {
        assert!(check_path(path).is_ok(), "not a valid ZooKeeper path");
        Self(path)
    }

    /// The text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether this is `/`.
    #[must_use]
    pub const fn is_root(self) -> bool {
        self.0.len() == 1
    }

    /// The path without its last component; `None` for the root.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        let (head, _) = self.split()?;
        Some(head)
    }

    /// The last component; `None` for the root.
    #[must_use]
    pub fn name(self) -> Option<&'a str> {
        let (_, name) = self.split()?;
        Some(name)
    }

    fn split(self) -> Option<(Self, &'a str)> {
        if self.is_root() {
            return None;
        }
        let (head, name) = self.0.rsplit_once('/')?;
        Some((Self(if head.is_empty() { "/" } else { head }), name))
    }

    /// The components from the root down.
    pub fn components(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// This path with `relative` appended: one component or several, without a leading slash.
    ///
    /// # Errors
    /// When the result is not a valid path.
    pub fn join(self, relative: &str) -> Result<ZPathBuf, PathError> {
        ZPathBuf::new(if self.is_root() {
            format!("/{relative}")
        } else {
            format!("{}/{relative}", self.0)
        })
    }

    /// Whether `ancestor` is this path or lies above it.
    #[must_use]
    pub fn starts_with(self, ancestor: ZPath<'_>) -> bool {
        ancestor.is_root()
            || self
                .0
                .strip_prefix(ancestor.0)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// This path as the server knows it, seen by a client that lives under `chroot`.
    #[must_use]
    pub fn under(self, chroot: ZPath<'_>) -> ZPathBuf {
        match (chroot.is_root(), self.is_root()) {
            (true, _) => self.to_owned(),
            (false, true) => chroot.to_owned(),
            (false, false) => ZPathBuf(format!("{}{}", chroot.0, self.0)),
        }
    }

    /// This path of the server as a client under `chroot` knows it; `None` when it lies outside.
    #[must_use]
    pub fn strip_chroot(self, chroot: ZPath<'_>) -> Option<Self> {
        if chroot.is_root() {
            return Some(self);
        }
        match self.0.strip_prefix(chroot.0)? {
            "" => Some(ZPath::ROOT),
            rest if rest.starts_with('/') => Some(Self(rest)),
            _ => None,
        }
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(self) -> ZPathBuf {
        ZPathBuf(self.0.to_owned())
    }
}

impl fmt::Display for ZPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for ZPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl AsRef<str> for ZPath<'_> {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl<'a> TryFrom<&'a str> for ZPath<'a> {
    type Error = PathError;
    fn try_from(path: &'a str) -> Result<Self, PathError> {
        Self::new(path)
    }
}

impl<'a> TryFrom<&'a String> for ZPath<'a> {
    type Error = PathError;
    fn try_from(path: &'a String) -> Result<Self, PathError> {
        Self::new(path)
    }
}

impl<'a> From<&'a ZPathBuf> for ZPath<'a> {
    fn from(path: &'a ZPathBuf) -> Self {
        path.as_path()
    }
}

/// A valid absolute path that owns its text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZPathBuf(String);

impl ZPathBuf {
    /// Checks `path`.
    ///
    /// # Errors
    /// When ZooKeeper would refuse the path for its form.
    pub fn new(path: impl Into<String>) -> Result<Self, PathError> {
        let path = path.into();
        match check_path(&path) {
            Ok(()) => Ok(Self(path)),
            Err((offset, kind)) => Err(PathError { path, offset, kind }),
        }
    }

    /// Borrows it.
    #[must_use]
    pub fn as_path(&self) -> ZPath<'_> {
        ZPath(&self.0)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, owned.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    /// See [`ZPath::parent`].
    #[must_use]
    pub fn parent(&self) -> Option<ZPath<'_>> {
        self.as_path().parent()
    }

    /// See [`ZPath::name`].
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.as_path().name()
    }

    /// See [`ZPath::join`].
    ///
    /// # Errors
    /// When the result is not a valid path.
    pub fn join(&self, relative: &str) -> Result<Self, PathError> {
        self.as_path().join(relative)
    }
}

impl fmt::Display for ZPathBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ZPathBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for ZPathBuf {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<ZPath<'_>> for ZPathBuf {
    fn from(path: ZPath<'_>) -> Self {
        path.to_owned()
    }
}

impl std::str::FromStr for ZPathBuf {
    type Err = PathError;
    fn from_str(path: &str) -> Result<Self, PathError> {
        Self::new(path)
    }
}

impl From<ZPathBuf> for Cow<'_, str> {
    fn from(path: ZPathBuf) -> Self {
        Self::Owned(path.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ZooKeeper's rules, written the slow and plain way.
    fn model(path: &str) -> bool {
        path == "/"
            || (path.starts_with('/')
                && path[1..].split('/').all(|part| !matches!(part, "" | "." | ".."))
                && path.encode_utf16().all(|unit| {
                    !matches!(unit, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff)
                }))
    }

    #[test]
    fn agrees_with_the_plain_rules_on_every_character() {
        for character in '\0'..=char::MAX {
            let path = format!("/a{character}");
            assert_eq!(
                check_path(&path).is_ok(),
                model(&path),
                "{path:?} U+{:04X}",
                character as u32
            );
        }
    }

    #[test]
    fn refusals_name_what_and_where() {
        let table = [
            ("", 0, PathErrorKind::Empty),
            ("zzz", 0, PathErrorKind::Relative),
            ("/a/", 2, PathErrorKind::TrailingSlash),
            ("//", 1, PathErrorKind::EmptyComponent),
            ("/a//b", 3, PathErrorKind::EmptyComponent),
            ("/./x", 1, PathErrorKind::DotComponent),
            ("/a/..", 3, PathErrorKind::DotComponent),
            ("/a\0", 2, PathErrorKind::BadCharacter),
        ];
        for (path, offset, kind) in table {
            assert_eq!(
                ZPath::new(path),
                Err(PathError {
                    path: path.to_owned(),
                    offset,
                    kind
                })
            );
        }
        assert_eq!(
            ZPath::new("/a//b").unwrap_err().to_string(),
            "path \"/a//b\" has an empty component (byte 3)"
        );
        for good in ["/", "/a", "/...", "/.a", "/a.", "/é/中"] {
            assert!(ZPath::new(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn parents_names_and_chroots() {
        let path = zpath!("/a/b");
        assert_eq!(
            (path.parent(), path.name()),
            (Some(zpath!("/a")), Some("b"))
        );
        assert_eq!(zpath!("/a").parent(), Some(ZPath::ROOT));
        assert_eq!((ZPath::ROOT.parent(), ZPath::ROOT.name()), (None, None));
        assert_eq!(path.under(zpath!("/x")).as_str(), "/x/a/b");
        assert_eq!(ZPath::ROOT.under(zpath!("/x")).as_str(), "/x");
        assert_eq!(path.under(ZPath::ROOT).as_str(), "/a/b");
        assert_eq!(
            zpath!("/x/a").strip_chroot(zpath!("/x")),
            Some(zpath!("/a"))
        );
        assert_eq!(zpath!("/x").strip_chroot(zpath!("/x")), Some(ZPath::ROOT));
        assert_eq!(zpath!("/xy").strip_chroot(zpath!("/x")), None);
        assert!(
            zpath!("/x/a").starts_with(zpath!("/x")) && !zpath!("/xy").starts_with(zpath!("/x"))
        );
        assert!(
            path.join("").is_err() && path.join("c/d").is_ok() && ZPath::ROOT.join("c").is_ok()
        );
    }
}
