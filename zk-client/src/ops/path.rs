//! What operations take as a path.
//!
//! Text is checked when the operation is sent, so that its error carries the operation and the path, and because a
//! sequential create allows what others do not (`/queue/` becomes `/queue/0000000000`). It must not know a client.

use std::borrow::Cow;

use zk_proto::{ZPath, ZPathBuf};

/// Anything an operation accepts as a path: text, checked on sending, or a path that is checked already.
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
/// use zk_client::{ZPath, zpath};
/// const CONFIG: ZPath<'static> = zpath!("/app/config");
///
/// client.get_data(CONFIG).await?;
/// client.get_data("/app/config").await?;
/// client.get_data(format!("/app/{}", "config")).await?;
/// # Ok(()) }
/// ```
pub trait IntoPath<'a> {
    /// The text of the path, as the user of a view sees it (without the view's chroot).
    fn into_path(self) -> Cow<'a, str>;
}

impl<'a> IntoPath<'a> for &'a str {
    fn into_path(self) -> Cow<'a, str> {
        Cow::Borrowed(self)
    }
}

impl<'a> IntoPath<'a> for String {
    fn into_path(self) -> Cow<'a, str> {
        Cow::Owned(self)
    }
}

impl<'a> IntoPath<'a> for &'a String {
    fn into_path(self) -> Cow<'a, str> {
        Cow::Borrowed(self)
    }
}

impl<'a> IntoPath<'a> for Cow<'a, str> {
    fn into_path(self) -> Self {
        self
    }
}

impl<'a> IntoPath<'a> for ZPath<'a> {
    fn into_path(self) -> Cow<'a, str> {
        Cow::Borrowed(self.as_str())
    }
}

impl<'a> IntoPath<'a> for ZPathBuf {
    fn into_path(self) -> Cow<'a, str> {
        self.into()
    }
}

impl<'a> IntoPath<'a> for &'a ZPathBuf {
    fn into_path(self) -> Cow<'a, str> {
        Cow::Borrowed(self.as_str())
    }
}
