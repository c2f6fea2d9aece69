//! Views: the same session seen from below another root, under another retry policy, with another default payload.
//!
//! A view is text and options; making one costs no round trip. Everything a view does to paths is here and pure: put the
//! root before what goes out, take it off what comes in, on component borders only (`/foo` is not a root of `/foobar`).
//! It must not know requests; the one operation here, `ensure_namespace`, is made of those in `ops`.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::OnceLock;

use bytes::Bytes;
use zk_proto::path::check_path;
use zk_proto::{CreateMode, OpCode, PathError, ZPath, ZPathBuf};

use crate::client::Client;
use crate::error::Error;
use crate::ops::{IntoPath, make_path};
use crate::retry::{Budget, Retry, RetryPolicy};

/// What distinguishes one view of a session from another.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// What is put before every path: empty, or an absolute path that is not `/`.
    root: String,
    /// How much of `root` came with the connect string. That part is the administrator's: never created by us.
    given: usize,
    retry: Option<Retry>,
    default_data: Option<Bytes>,
}

impl View {
    /// The view that a connect string with this chroot asks for.
    pub(crate) fn of_chroot(chroot: ZPath<'_>) -> Self {
        let root = if chroot.is_root() {
            String::new()
        } else {
            chroot.as_str().to_owned()
        };
        Self {
            given: root.len(),
            root,
            ..Self::default()
        }
    }

    /// The whole root; `/` for none.
    pub(crate) fn root(&self) -> &str {
        if self.root.is_empty() {
            "/"
        } else {
            &self.root
        }
    }

    /// Bytes of the root in every full path.
    pub(crate) fn root_len(&self) -> usize {
        self.root.len()
    }

    pub(crate) fn retry(&self) -> Option<&Retry> {
        self.retry.as_ref()
    }

    fn base(&self) -> Self {
        let mut view = self.clone();
        view.root.truncate(view.given);
        view
    }

    fn below(&self, path: ZPath<'_>) -> Self {
        let mut view = self.clone();
        if !path.is_root() {
            view.root.push_str(path.as_str());
        }
        view
    }

    /// The path as the server knows it. `path` is checked; a sequential create may leave a `/` at its end.
    pub(crate) fn full<'p>(&self, path: Cow<'p, str>, sequential: bool) -> Cow<'p, str> {
        match (self.root.is_empty(), path == "/" && !sequential) {
            (true, _) => path,
            (false, true) => Cow::Owned(self.root.clone()),
            (false, false) => Cow::Owned(format!("{}{path}", self.root)),
        }
    }

    /// The path as a user of this view knows it. What lies outside of the view is left as it is.
    pub(crate) fn strip<'p>(&self, full: &'p str) -> &'p str {
        self.strip_inside(full).unwrap_or(full)
    }

    /// The same; `None` for what lies outside of the view.
    pub(crate) fn strip_inside<'p>(&self, full: &'p str) -> Option<&'p str> {
        match full.strip_prefix(self.root.as_str())? {
            "" if !self.root.is_empty() => Some("/"),
            rest if self.root.is_empty() || rest.starts_with('/') => Some(rest),
            _ => None,
        }
    }
}

/// Checks the path of an operation. A sequential create is checked as it will be: with a digit at its end.
pub(crate) fn check(path: &str, sequential: bool) -> Result<(), PathError> {
    let checked = if sequential {
        check_path(&format!("{path}1"))
    } else {
        check_path(path)
    };
    checked.map_err(|(offset, kind)| PathError {
        path: path.to_owned(),
        offset,
        kind,
    })
}

/// The local address as text: Curator's default payload, by which an operator sees whose a lock node is.
///
/// The address from which this host would reach others, without sending anything; the loopback address on a host
/// without a network. Found once, as with Curator: it costs five system calls, and every acquire of a lock asks.
fn local_address() -> Bytes {
    static FOUND: OnceLock<Bytes> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return found.clone();
    }
    match route() {
        Some(address) => FOUND.get_or_init(|| address.to_string().into()).clone(),
        // The network may come up later: not remembered.
        None => Bytes::from(IpAddr::V4(Ipv4Addr::LOCALHOST).to_string()),
    }
}

/// The address that the routing table gives this host.
fn route() -> Option<IpAddr> {
    // Connecting a datagram socket only asks the routing table. The targets are documentation addresses.
    let v4 = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        socket.local_addr().ok()
    };
    let v6 = || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
        socket
            .connect((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9))
            .ok()?;
        socket.local_addr().ok()
    };
    v4().or_else(v6).map(|address| address.ip())
}

impl Client {
    /// The same session seen from below `path`: every path of the view's operations and events is relative to it. Cheap;
    /// nothing is sent, and the node need not exist (see [`ensure_namespace`](Self::ensure_namespace)). Views nest.
    ///
    /// ```no_run
    /// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
    /// let app = client.namespace("/app/x")?;
    /// app.ensure_namespace().await?;
    /// app.create("/config", "on").await?; // `/app/x/config` on the server
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The path is malformed.
    pub fn namespace<'p>(&self, path: impl IntoPath<'p>) -> Result<Self, Error> {
        let path = path.into_path();
        let path =
            ZPath::new(&path).map_err(|error| Error::bad_path(OpCode::CREATE_CONTAINER, error))?;
        Ok(self.with_view(self.view().below(path)))
    }

    /// A view whose operations are repeated as `retry` says and as [the table](crate::retry) allows. Without one, the
    /// first error is final. `retry` is a policy, or a [`Retry`] where a deadline is wanted.
    ///
    /// ```no_run
    /// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
    /// use std::time::Duration;
    /// use zk_client::retry::{ExponentialBackoff, Retry};
    ///
    /// let policy = ExponentialBackoff::new(Duration::from_millis(50), 8);
    /// let patient = client.retrying(Retry::new(policy).deadline(Duration::from_secs(30)));
    /// patient.get_data("/config").await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn retrying(&self, retry: impl Into<Retry>) -> Self {
        self.with_view(View {
            retry: Some(retry.into()),
            ..self.view().clone()
        })
    }

    /// A view without retries: for the inside of a loop of your own.
    #[must_use]
    pub fn without_retries(&self) -> Self {
        self.with_view(View {
            retry: None,
            ..self.view().clone()
        })
    }

    /// A view with another default payload; see [`default_data`](Self::default_data).
    #[must_use]
    pub fn with_default_data(&self, data: impl Into<Bytes>) -> Self {
        self.with_view(View {
            default_data: Some(data.into()),
            ..self.view().clone()
        })
    }

    /// What recipes put into nodes whose content nobody asked for: this host's address as text, as Curator's
    /// `defaultData` is, unless [`with_default_data`](Self::with_default_data) says otherwise. Empty bytes given to a
    /// create are empty, not this.
    pub fn default_data(&self) -> Bytes {
        self.view()
            .default_data
            .clone()
            .unwrap_or_else(local_address)
    }

    /// The root of this view as the server knows it; `/` for none.
    pub fn root(&self) -> ZPathBuf {
        ZPathBuf::new(self.view().root()).expect("roots are joined from checked paths only")
    }

    /// Creates the node at the root of this view, and its missing ancestors, as containers: they go away again some time
    /// after their last child did. What the connect string names as chroot is not created: ZooKeeper's clients leave
    /// that to the administrator.
    ///
    /// # Errors
    ///
    /// As those of a create; a node that exists already is success.
    ///
    /// # Cancellation
    ///
    /// Safe: ancestors that were made so far may stay, empty, until the server collects them.
    pub async fn ensure_namespace(&self) -> Result<(), Error> {
        let mut budget = Budget::new(self.view().retry().cloned());
        make_path(self, "/", CreateMode::Container, None, &mut budget)
            .await
            .map(drop)
    }

    /// The view that the connect string asked for, under the same policy.
    pub(crate) fn base_view(&self) -> Self {
        self.with_view(self.view().base())
    }

    /// The view that sees what the server sees, without a policy.
    pub(crate) fn bare_view(&self) -> Self {
        self.with_view(View::default())
    }
}

impl<P: RetryPolicy + 'static> From<P> for Retry {
    fn from(policy: P) -> Self {
        Self::new(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zk_proto::zpath;

    fn full(view: &View, path: &str) -> String {
        view.full(path.into(), false).into_owned()
    }

    #[test]
    fn roots_go_on_and_come_off() {
        let view = View::of_chroot(zpath!("/given")).below(zpath!("/app/x"));
        assert_eq!(
            (view.root(), view.base().root()),
            ("/given/app/x", "/given")
        );
        assert_eq!(full(&view, "/"), "/given/app/x");
        assert_eq!(full(&view, "/a"), "/given/app/x/a");
        assert_eq!(view.full("/".into(), true), "/given/app/x/");
        assert_eq!(view.strip("/given/app/x/a"), "/a");
        assert_eq!(view.strip("/given/app/x"), "/");
        // On component borders only; what is outside stays as it is.
        assert_eq!(view.strip("/given/app/xy"), "/given/app/xy");
        assert_eq!(view.strip_inside("/given/app/xy"), None);
        assert_eq!(view.strip("/other"), "/other");
    }

    #[test]
    fn no_root_changes_nothing() {
        let view = View::of_chroot(ZPath::ROOT).below(ZPath::ROOT);
        assert_eq!((view.root(), view.base().root()), ("/", "/"));
        for path in ["/", "/a", "/a/b"] {
            assert_eq!((full(&view, path).as_str(), view.strip(path)), (path, path));
        }
    }

    #[test]
    fn sequential_creates_may_end_in_a_slash() {
        assert!(
            check("/queue/", true).is_ok()
                && check("/queue/.", true).is_ok()
                && check("/", true).is_ok()
        );
        assert!(
            check("/queue/", false).is_err()
                && check("", true).is_err()
                && check("/a//", true).is_err()
        );
    }

    #[test]
    fn the_default_payload_is_an_address() {
        let address = local_address();
        let text = std::str::from_utf8(&address).expect("text");
        assert!(text.parse::<IpAddr>().is_ok());
        assert_eq!(local_address(), address, "found once");
    }
}
