//! Every parser over the files of tests/data, and over what becomes of them by damage that finds
//! bugs: cut anywhere, bits flipped, counts and lengths at their extremes, pieces of each other.
//! The same checks run under a fuzzer (`make fuzz`), which is guided by coverage.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

#[path = "common/counting.rs"]
mod counting;
#[path = "common/parsers.rs"]
mod parsers;
#[path = "common/rng.rs"]
mod rng;

use std::path::{Path, PathBuf};

use blocktier::subtree::MerkleLevels;
use parsers::check_all;
use rng::Rng;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// All files that a parser is for, the short ones first.
fn corpus() -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for directory in ["bad", "derived", "subtrees", "proofs"] {
        for entry in std::fs::read_dir(data().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let ending = path.extension().unwrap_or_default().to_str().unwrap();
            if ["subtree", "subtreeMeta", "hashes", "proof"].contains(&ending) {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut contents: Vec<Vec<u8>> =
        files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    contents.sort_by_key(Vec::len);
    assert!(contents.len() > 80, "{} files", contents.len());
    contents
}

/// Proofs of a tree of 21 leaves, by the name of the file that has them.
fn proofs() -> [(&'static str, Vec<u8>); 4] {
    let leaves: Vec<[u8; 32]> = (0..21).map(|number| [number; 32]).collect();
    let levels = MerkleLevels::heap(&leaves[..]).unwrap();
    let all: Vec<usize> = (0..21).collect();
    [("first", &[0][..]), ("last", &[20]), ("three", &[3, 4, 9]), ("all", &all)]
        .map(|(name, indexes)| (name, levels.compact_proof(indexes).unwrap().to_bytes().unwrap()))
}

#[test]
fn proofs_are_written_as_they_always_were() {
    for (name, bytes) in proofs() {
        let path = data().join(format!("proofs/{name}.proof"));
        assert!(std::fs::read(&path).unwrap() == bytes, "{}", path.display());
    }
}

#[test]
fn files_as_they_are() {
    corpus().iter().for_each(|file| check_all(file));
    check_all(&[]);
}

#[test]
fn files_cut_anywhere() {
    for file in corpus().iter().filter(|file| file.len() < 2000) {
        (0..file.len()).for_each(|length| check_all(&file[..length]));
    }
}

#[test]
fn files_with_one_word_at_its_extremes() {
    let words = [0, 1, 31, 32, 1 << 27, 1 << 32, (1 << 58) + 1, u64::MAX / 48, u64::MAX];
    for file in corpus().iter().filter(|file| file.len() < 5000) {
        // Counts stand at the beginning, and behind the nodes.
        let end = file.len().saturating_sub(8);
        let places = (0..end.min(80)).chain(end.saturating_sub(200)..end);
        for place in places.step_by(4) {
            let mut damaged = file.clone();
            for word in words {
                damaged[place..place + 8].copy_from_slice(&u64::to_le_bytes(word));
                check_all(&damaged);
            }
            damaged.clone_from(file);
            for word in [0, 1, u32::MAX / 36, u32::MAX] {
                damaged[place..place + 4].copy_from_slice(&u32::to_le_bytes(word));
                check_all(&damaged);
            }
        }
    }
}

#[test]
fn files_with_bits_flipped_and_pieces_of_others() {
    let (corpus, mut rng) = (corpus(), Rng::new(5));
    let short: Vec<&Vec<u8>> = corpus.iter().filter(|file| file.len() < 5000).collect();
    for _ in 0..5000 {
        let mut any = |end: usize| rng.below(end as u64) as usize;
        let mut damaged = short[any(short.len())].clone();
        let other = short[any(short.len())];
        match any(3) {
            0 if !damaged.is_empty() => {
                for _ in 0..=any(4) {
                    let place = any(damaged.len());
                    damaged[place] ^= 1 << any(8);
                }
            }
            1 => {
                let (from, to) = (any(other.len() + 1), any(damaged.len() + 1));
                damaged.truncate(to);
                damaged.extend_from_slice(&other[from..]);
            }
            _ => {
                let (from, to) = (any(damaged.len() + 1), any(damaged.len() + 1));
                damaged.drain(from.min(to)..from.max(to));
            }
        }
        check_all(&damaged);
    }
}
