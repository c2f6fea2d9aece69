//! Operations: what a [`Client`] can be asked, one builder each.
//!
//! | file | holds |
//! |---|---|
//! | `create`, `create_options`, `protected`, `parents` | making nodes |
//! | `delete` | removing them |
//! | `data`, `children`, `acl` | reading and changing one node |
//! | `multi`, `multi_read` | several at once |
//! | `watch` | reads that leave a watch, persistent watches |
//! | `admin` | sync, identities, ephemerals, configuration |
//! | `call` | the way to the session, the only one |
//!
//! Every builder is a description until it is awaited (or its `send` is). Requests are ordered when they are first polled,
//! not when they are described; to pipeline, join the futures in the wanted order.

mod acl;
mod admin;
mod call;
mod children;
mod create;
mod create_options;
mod data;
mod delete;
mod multi;
mod multi_read;
mod parents;
mod path;
pub mod protected;
mod watch;

use std::pin::Pin;

use bytes::Bytes;

pub use acl::{AclList, GetAcl, SetAcl};
pub use admin::{Identity, ReconfigBuilder};
pub use children::{Children, GetChildren};
pub use create::{CreateBuilder, Created};
pub use create_options::{CreateOptions, CreateOptionsError};
pub use data::{Exists, GetData, NodeData, SetData};
pub use delete::DeleteBuilder;
pub use multi::{Done, Handle, MultiBuilder, MultiCreated, MultiError, MultiOutcome, MultiResults};
pub use multi_read::{MultiReadBuilder, MultiReadOutcome, MultiReadResults};
pub use path::IntoPath;
pub use watch::{WatchedExists, WatchedGetChildren, WatchedGetData};

pub(crate) use multi::ANY_VERSION;
pub(crate) use parents::make as make_path;

use crate::client::Client;

/// The future that awaiting a builder makes.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes builders awaitable: `.await` is `.send().await`, at the price of one allocation.
macro_rules! into_future {
    ($builder:ident => $output:ty) => {
        impl<'a> IntoFuture for $builder<'a> {
            type Output = Result<$output, $crate::error::Error>;
            type IntoFuture = $crate::ops::BoxFuture<'a, Self::Output>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.send())
            }
        }
    };
}
use into_future;

/// `parent` and `name` as one path; both come from checked paths or from the server.
pub(crate) fn join(parent: &str, name: &str) -> String {
    if parent == "/" {
        format!("/{name}")
    } else {
        format!("{parent}/{name}")
    }
}

impl Client {
    /// Creates a node. Persistent, open to everyone, without parents, unless the builder is told otherwise.
    ///
    /// For the payload that Curator writes where none is given see [`default_data`](Self::default_data).
    pub fn create<'a>(
        &'a self,
        path: impl IntoPath<'a>,
        data: impl Into<Bytes>,
    ) -> CreateBuilder<'a> {
        CreateBuilder::new(self, path.into_path(), data.into())
    }

    /// Deletes a node: any version, without its children, unless the builder is told otherwise.
    pub fn delete<'a>(&'a self, path: impl IntoPath<'a>) -> DeleteBuilder<'a> {
        DeleteBuilder::new(self, path.into_path())
    }

    /// Asks whether a node is there: `None` if not.
    pub fn exists<'a>(&'a self, path: impl IntoPath<'a>) -> Exists<'a> {
        Exists::new(self, path.into_path())
    }

    /// Reads a node's data and metadata.
    pub fn get_data<'a>(&'a self, path: impl IntoPath<'a>) -> GetData<'a> {
        GetData::new(self, path.into_path())
    }

    /// Replaces a node's data: any version, unless the builder is told otherwise.
    pub fn set_data<'a>(&'a self, path: impl IntoPath<'a>, data: impl Into<Bytes>) -> SetData<'a> {
        SetData::new(self, path.into_path(), data.into())
    }

    /// Lists the names of a node's children, in no particular order, with the node's metadata.
    pub fn get_children<'a>(&'a self, path: impl IntoPath<'a>) -> GetChildren<'a> {
        GetChildren::new(self, path.into_path())
    }

    /// Reads a node's access list and metadata.
    pub fn get_acl<'a>(&'a self, path: impl IntoPath<'a>) -> GetAcl<'a> {
        GetAcl::new(self, path.into_path())
    }

    /// Replaces a node's access list: any `aversion`, unless the builder is told otherwise.
    pub fn set_acl<'a>(&'a self, path: impl IntoPath<'a>, acl: Vec<zk_proto::Acl>) -> SetAcl<'a> {
        SetAcl::new(self, path.into_path(), acl)
    }

    /// Starts a transaction: several writes, all or none.
    pub fn multi(&self) -> MultiBuilder<'_> {
        MultiBuilder::new(self)
    }

    /// Starts a batch of reads: one request, each answered on its own, not atomic.
    pub fn multi_read(&self) -> MultiReadBuilder<'_> {
        MultiReadBuilder::new(self)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_joined_below_the_root_too() {
        assert_eq!(
            (super::join("/", "a"), super::join("/a", "b")),
            ("/a".to_owned(), "/a/b".to_owned())
        );
    }
}
