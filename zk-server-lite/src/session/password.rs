//! The password of a session: what a client must show to attach to it again.
//!
//! Java derives it from the session id alone, so whoever knows an id has the session. Ours is keyed with a secret that only
//! the data directory holds. An ensemble with Java members will need Java's derivation; [`derive()`] is the one place to put it.

use sha1::{Digest, Sha1};
use zk_proto::SessionId;

/// Bytes of a password.
pub const LENGTH: usize = 16;

/// The secret of a data directory.
pub type Secret = [u8; 32];

/// The password of a session: HMAC-SHA-1 of its id under the secret, cut to 16 bytes.
#[must_use]
pub fn derive(secret: &Secret, session: SessionId) -> [u8; LENGTH] {
    const BLOCK: usize = 64;
    let pad = |byte: u8| {
        let mut block = [byte; BLOCK];
        block
            .iter_mut()
            .zip(secret)
            .for_each(|(place, key)| *place ^= key);
        block
    };
    let inner = Sha1::new()
        .chain_update(pad(0x36))
        .chain_update(session.0.to_be_bytes())
        .finalize();
    let outer = Sha1::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize();
    let mut password = [0; LENGTH];
    password.copy_from_slice(&outer[..LENGTH]);
    password
}

/// Whether `given` is the session's password, in a time that does not depend on where it differs.
#[must_use]
pub fn verify(secret: &Secret, session: SessionId, given: &[u8]) -> bool {
    let expected = derive(secret, session);
    given.len() == LENGTH
        && expected
            .iter()
            .zip(given)
            .fold(0, |differences, (a, b)| differences | (a ^ b))
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_makes_the_password() {
        let password = derive(&[1; 32], SessionId(7));
        assert!(verify(&[1; 32], SessionId(7), &password));
        assert!(!verify(&[1; 32], SessionId(8), &password));
        assert!(!verify(&[2; 32], SessionId(7), &password));
        assert!(!verify(&[1; 32], SessionId(7), &[]));
    }
}
