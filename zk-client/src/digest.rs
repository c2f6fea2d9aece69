//! The identity that the `digest` scheme knows a user by. Feature `digest`: the hash brings nine crates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};
use zk_proto::Id;

/// The identity of `user` under the `digest` scheme, as it stands in access control lists:
/// `user:base64(sha1("user:password"))`, which is what Java's `DigestAuthenticationProvider.generateDigest` makes.
///
/// Whoever then calls [`add_auth("digest", "user:password")`](crate::Client::add_auth) is that user. The hash has no
/// salt, and both the list and the credentials travel in the clear without TLS.
///
/// ```
/// use zk_client::{Acl, Perms, digest_id};
///
/// let bob = Acl { perms: Perms::ALL, id: digest_id("bob", "secret") };
/// assert_eq!(bob.id.scheme, "digest");
/// assert!(bob.id.id.starts_with("bob:"));
/// ```
#[must_use]
pub fn digest_id(user: &str, password: &str) -> Id {
    let mut hash = Sha1::new();
    for part in [user, ":", password] {
        hash.update(part);
    }
    Id {
        scheme: "digest".into(),
        id: format!("{user}:{}", STANDARD.encode(hash.finalize())).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_java_generates() {
        // The example of ZooKeeper's documentation for the super user.
        assert_eq!(
            digest_id("super", "test").id,
            "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
        );
    }
}
