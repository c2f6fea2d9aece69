//! Making a path: a node and its missing ancestors, bottom-up.
//!
//! Starting at the bottom costs one request where everything exists, and needs no rights near the root (CURATOR-715).
//! Ancestors may vanish while their children are being made (containers are collected): then it goes up again, a bounded
//! number of times. It must not know why the path is wanted.

use bytes::Bytes;
use zk_proto::{Acl, CreateMode, ErrorCode, OpCode};

use super::call::{Call, ViewPath};
use super::create_options::CreateOptions;
use crate::client::Client;
use crate::error::Error;
use crate::retry::{Budget, Repeat};

/// How many more `NONODE`s than ancestors are borne: each of the surplus is a node that vanished meanwhile.
const MAX_VANISHED: usize = 8;

/// Creates `path` (as the view of `client` sees it) and its missing ancestors, up to but without the root that the
/// connect string gave. What exists already is left as it is. False if `path` is that root: there is nothing to make.
pub(crate) async fn make(
    client: &Client,
    path: &str,
    mode: CreateMode,
    acl: Option<&[Acl]>,
    budget: &mut Budget,
) -> Result<bool, Error> {
    let mut options = CreateOptions::from(mode);
    if let Some(acl) = acl {
        options = options.acl(acl.to_vec());
    }
    // From here on paths are those of the base view, so that a namespace is an ancestor like any other.
    let full = client.view().full(path.into(), false).into_owned();
    let client = &client.base_view();
    let checked = options
        .check()
        .map_err(|error| Error::refused(OpCode::CREATE2, path, Box::new(error)))?;

    let mut missing = vec![client.view().strip(&full).to_owned()];
    if missing[0] == "/" {
        return Ok(false);
    }
    let mut absences_left = missing[0].matches('/').count() + MAX_VANISHED;
    while let Some(path) = missing.last() {
        let target = ViewPath::new(client, OpCode::CREATE2, path.as_str().into())?;
        // Making an empty ancestor twice is making it once.
        let made = Call::new(client, checked.opcode(), Some(&target))
            .repeat(Repeat::Always)
            .send_in(budget, &checked.request(target.full().into(), Bytes::new()))
            .await;
        let Err(error) = made else {
            missing.pop();
            continue;
        };
        match error.code() {
            Some(ErrorCode::NODE_EXISTS) => {
                missing.pop();
            }
            Some(ErrorCode::NO_NODE)
                if absences_left > 0 && path.rfind('/').is_some_and(|slash| slash > 0) =>
            {
                absences_left -= 1;
                let parent = path[..path.rfind('/').unwrap_or(0)].to_owned();
                missing.push(parent);
            }
            // A server asks for the right to create before it looks whether there is anything to create.
            Some(ErrorCode::NO_AUTH) if exists(client, &target, budget).await? => {
                missing.pop();
            }
            _ => return Err(error),
        }
    }
    Ok(true)
}

async fn exists(client: &Client, path: &ViewPath<'_>, budget: &mut Budget) -> Result<bool, Error> {
    match Call::read(client, OpCode::EXISTS, Some(path))
        .send_in(budget, &path.unwatched())
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(false),
        Err(error) => Err(error),
    }
}
