//! The tree's digest, version 2: what two servers compare to know that they hold the same tree (disk-formats, 4).
//!
//! A node's digest is the CRC-32 of its path, data and metadata; the tree's is the sum over all nodes. Sessions and access
//! lists are not part of it, and neither is what lies below `/zookeeper`.

use crc32fast::Hasher;

use super::node::Node;

/// Bytes up to which a node is laid out in one piece for the checksum, which is fast for long pieces only.
const BLOCK: usize = 256;

/// The digest of one node. The root has two names, as the parent of `/a` and as itself; both count as the empty one.
pub(super) fn node_digest(path: &str, node: &Node) -> u32 {
    let path = if path == "/" { "" } else { path };
    if path.starts_with("/zookeeper/") {
        return 0;
    }
    let stat = &node.stat;
    let mut fields = [0; 60];
    let longs = [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime];
    for (place, value) in fields.chunks_exact_mut(8).zip(longs) {
        place.copy_from_slice(&value.to_be_bytes());
    }
    let ints = [stat.version, stat.cversion, stat.aversion];
    for (place, value) in fields[40..52].chunks_exact_mut(4).zip(ints) {
        place.copy_from_slice(&value.to_be_bytes());
    }
    fields[52..].copy_from_slice(&stat.owner.to_be_bytes());
    let (path, data) = (path.as_bytes(), node.data().unwrap_or_default());
    let length = path.len() + data.len() + fields.len();
    if length <= BLOCK {
        let mut block = [0; BLOCK];
        let (before, rest) = block.split_at_mut(path.len());
        let (middle, rest) = rest.split_at_mut(data.len());
        before.copy_from_slice(path);
        middle.copy_from_slice(data);
        rest[..fields.len()].copy_from_slice(&fields);
        return crc32fast::hash(&block[..length]);
    }
    let mut hasher = Hasher::new();
    hasher.update(path);
    hasher.update(data);
    hasher.update(&fields);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use crate::tree::DataTree;

    #[test]
    fn an_empty_tree_has_javas_digest() {
        assert_eq!(DataTree::new(true).digest(), 0x51c6_d660);
    }
}
