//! The fuzz corpus replayed as an ordinary test, and each of its inputs cut short at every byte and corrupted in every bit.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where its data is not what it must be"
)]

#[path = "support/entry_points.rs"]
mod entry_points;

use std::path::Path;

/// Each input of an entry point's corpus. The folder must not be empty: a corpus that is gone must not pass for clean.
fn corpus(entry: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(entry);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|file| file.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs
}

#[test]
fn the_corpus_decodes_or_is_refused() {
    for (entry, run) in entry_points::ALL {
        for (name, input) in corpus(entry) {
            println!("{name}");
            run(&input);
        }
    }
}

#[test]
fn every_prefix_decodes_or_is_refused() {
    for (entry, run) in entry_points::ALL {
        for (name, input) in corpus(entry) {
            println!("{name}");
            (0..input.len()).for_each(|end| run(&input[..end]));
        }
    }
}

#[test]
fn every_single_byte_corruption_decodes_or_is_refused() {
    for (entry, run) in entry_points::ALL {
        for (name, input) in corpus(entry) {
            println!("{name}");
            let mut bytes = input.clone();
            for at in 0..bytes.len() {
                for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                    bytes[at] = input[at] ^ flip;
                    run(&bytes);
                }
                bytes[at] = input[at];
            }
        }
    }
}
