//! One entry of a transaction log, byte for byte (disk formats, section 2).
//!
//! `{ long checksum; int length; payload; byte 'B' }`, big-endian; the checksum is the Adler-32 of the payload alone. A
//! zero-filled region never looks like an entry: its length would be 0.

use zk_proto::Zxid;

/// Bytes of checksum and length, before the payload.
pub(crate) const HEAD: usize = 12;
/// Bytes an entry adds to its payload: head and end mark.
pub(crate) const OVERHEAD: usize = HEAD + 1;
/// The end mark.
pub(crate) const END: u8 = b'B';
/// Bytes of a transaction header: the least payload.
pub(crate) const HEADER: usize = 32;

/// Appends an entry.
pub(crate) fn put(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(&u64::from(simd_adler32::adler32(&payload)).to_be_bytes());
    let length = u32::try_from(payload.len()).expect("no transaction is as long as 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
    out.push(END);
}

/// What an entry's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The checksum as stored.
    pub(crate) checksum: u64,
    /// Length of the payload as stored: 0 where nothing was written.
    pub(crate) length: u32,
}

impl Head {
    /// Reads a head.
    pub(crate) fn read(bytes: &[u8; HEAD]) -> Self {
        let mut checksum = [0; 8];
        checksum.copy_from_slice(&bytes[..8]);
        let mut length = [0; 4];
        length.copy_from_slice(&bytes[8..]);
        Self {
            checksum: u64::from_be_bytes(checksum),
            length: u32::from_be_bytes(length),
        }
    }

    /// Whether `payload` is the one this head was written for.
    pub(crate) fn fits(self, payload: &[u8]) -> bool {
        self.checksum == u64::from(simd_adler32::adler32(&payload))
    }
}

/// The transaction's zxid: bytes 12 to 20 of its header.
pub(crate) fn zxid(payload: &[u8]) -> Option<Zxid> {
    let bytes: [u8; 8] = payload.get(12..20)?.try_into().ok()?;
    (payload.len() >= HEADER).then(|| Zxid(i64::from_be_bytes(bytes)))
}

/// Whether a transaction with `next` may directly follow one with `previous`.
///
/// Within an epoch there are no holes. A leader's first transaction has counter 1.
pub(crate) fn follows(previous: Zxid, next: Zxid) -> bool {
    if previous.epoch() == next.epoch() {
        previous.0.checked_add(1) == Some(next.0)
    } else {
        previous.epoch() < next.epoch() && next.counter() == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_of_the_plain_sample_comes_out_the_same() {
        let sample = include_bytes!("../../tests/data/standalone-plain/version-2/log.1");
        let entry = &sample[16..16 + 48 + OVERHEAD];
        let mut ours = Vec::new();
        put(&mut ours, &entry[HEAD..HEAD + 48]);
        assert_eq!(ours, entry);
        let head = Head::read(entry[..HEAD].try_into().unwrap());
        assert_eq!((head.checksum, head.length), (0xec93_0b8b, 48));
        assert!(head.fits(&entry[HEAD..HEAD + 48]));
        assert_eq!(zxid(&entry[HEAD..]), Some(Zxid(1)));
    }

    #[test]
    fn history_has_no_holes_within_an_epoch() {
        assert!(follows(Zxid(0), Zxid(1)));
        assert!(!follows(Zxid(0), Zxid(2)));
        assert!(!follows(Zxid(5), Zxid(5)));
        assert!(follows(Zxid::new(1, 7), Zxid::new(3, 1)));
        assert!(!follows(Zxid::new(1, 7), Zxid::new(3, 2)));
        assert!(!follows(Zxid::new(3, 1), Zxid::new(1, 8)));
    }
}
