//! Every kernel of this processor beside another implementation of SHA-256 and published values,
//! at every count, stride and alignment, against the edge of readable memory.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{HashPairs, Sha256d, Sha256dKernel, sha256d_pair};
use crate::types::Hash;

fn reference(bytes: &[u8]) -> Hash {
    Sha256::digest(Sha256::digest(bytes)).into()
}

pub(super) fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// From the order in which hashes are shown.
fn shown(text: &str) -> Hash {
    let mut bytes = hex(text);
    bytes.reverse();
    bytes.try_into().unwrap()
}

/// Bytes that follow from `seed`.
pub(super) fn bytes(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

fn check_pairs(kernel: Sha256d, pairs: &HashPairs<'_>, at: &str) {
    let mut out = vec![[0xee; 32]; pairs.count()];
    kernel.hash_pairs(pairs, &mut out);
    let mut grouped = vec![[0xee; 32]; pairs.count()];
    kernel.hash_pairs_in_groups(pairs, &mut grouped);
    for index in 0..pairs.count() {
        let expected = reference(&pairs.input(index));
        assert_eq!(out[index], expected, "{kernel:?} {at} pair {index}");
        assert_eq!(grouped[index], expected, "{kernel:?} in groups, {at} pair {index}");
    }
}

#[test]
fn what_is_tested_here() {
    let names: Vec<&str> = Sha256dKernel::available().map(|k| k.kernel().name()).collect();
    eprintln!("kernels of this processor: {names:?}");
    assert_eq!(names.last(), Some(&"portable"));
    // What the processor says it has is tested.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for (name, there) in [
        ("avx512", is_x86_feature_detected!("avx512bw")),
        ("shani", is_x86_feature_detected!("sha")),
        ("avx2", is_x86_feature_detected!("avx2")),
    ] {
        assert_eq!(names.contains(&name), there, "{name}");
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    assert_eq!(names.contains(&"armsha2"), std::arch::is_aarch64_feature_detected!("sha2"));
}

#[test]
fn published_values() {
    // The header of Bitcoin's first block, and the Merkle root over the two transactions of
    // block 170.
    let header = format!(
        "01000000{}3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a\
         29ab5f49ffff001d1dac2b7c",
        "00".repeat(32)
    );
    let texts = [
        (Vec::new(), "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456"),
        (b"hello".into(), "9595c9df90075148eb06860365df33584b75bff782a510c6cd4883a419833d50"),
        (hex(&header), "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"),
    ];
    let left = shown("b1fea52486ce0c62bb442b530a3f0132b826c74e473d1f2c220bfa78111c5082");
    let right = shown("f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16");
    let root = shown("7dac2c5666815c17a3b36427de37bb9d2e2c5ccec3f8633eb91a4205cb4c10ff");
    for kernel in Sha256d::combinations() {
        for (text, expected) in &texts {
            assert_eq!(kernel.hash(text), *hex(expected), "{kernel:?} {text:?}");
        }
        assert_eq!(kernel.hash_pair(&left, &right), root, "{kernel:?}");
        let many = [left, right].repeat(33);
        let mut out = [[0; 32]; 33];
        kernel.hash_pairs(&HashPairs::of_hashes(&many), &mut out);
        assert_eq!(out, [root; 33], "{kernel:?}");
    }
}

#[test]
fn every_length_up_to_four_blocks() {
    let bytes = bytes(260, 1);
    for kernel in Sha256d::combinations() {
        for length in 0..=bytes.len() {
            let text = &bytes[..length];
            assert_eq!(kernel.hash(text), reference(text), "{kernel:?} {length}");
        }
    }
}

#[test]
fn every_count_of_inputs_up_to_some_groups() {
    let inputs: Vec<[u8; 64]> = (0..67).map(|i| bytes(64, i).try_into().unwrap()).collect();
    for kernel in Sha256d::combinations() {
        for count in 0..=inputs.len() {
            let inputs = &inputs[..count];
            check_pairs(kernel, &HashPairs::of_inputs(inputs), &format!("count {count}"));
            let mut out = vec![[0; 32]; count];
            kernel.hash_64_many(inputs, &mut out);
            assert!(inputs.iter().zip(&out).all(|(input, out)| reference(input) == *out));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_stride_and_alignment(
        count in 0usize..140,
        stride in 32usize..130,
        offset in 0usize..64,
        seed: u32,
    ) {
        let length = if count == 0 { 0 } else { (count - 1) * stride + 32 };
        let bytes = bytes(offset + length, seed);
        let pairs = HashPairs::with_stride(&bytes[offset..], stride);
        prop_assert_eq!(pairs.count(), count / 2);
        for kernel in Sha256d::combinations() {
            check_pairs(kernel, &pairs, &format!("stride {stride} offset {offset}"));
        }
    }
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn nothing_behind_the_input_is_read_and_nothing_behind_the_output_written() {
    let (mut input, mut output) = (super::edge::Edge::new(), super::edge::Edge::new());
    for kernel in Sha256d::combinations() {
        for count in 0..70usize {
            for stride in [32, 48] {
                // The input ends with the last hash, whatever the stride.
                let length = if count == 0 { 0 } else { (2 * count - 1) * stride + 32 };
                let input = input.last(length);
                input.copy_from_slice(&bytes(length, 7));
                let pairs = HashPairs::with_stride(input, stride);
                assert_eq!(pairs.count(), count);
                for grouped in [false, true] {
                    let out = output.last(32 * count).as_chunks_mut().0;
                    if grouped {
                        kernel.hash_pairs_in_groups(&pairs, out);
                    } else {
                        kernel.hash_pairs(&pairs, out);
                    }
                    for (index, out) in out.iter().enumerate() {
                        assert_eq!(*out, reference(&pairs.input(index)), "{kernel:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_kernel_that_is_not_there_is_an_error_that_names_it() {
    let missing = Sha256dKernel::ALL.into_iter().filter(|k| Sha256d::new(*k).is_err());
    let mut errors = missing.map(|kernel| (kernel, Sha256d::new(kernel).unwrap_err()));
    // No processor has the instructions of both x86 and ARM.
    let (kernel, error) = errors.next().unwrap();
    let text = format!("hash kernel {}: this processor lacks", kernel.name());
    assert!(error.to_string().contains(&text), "{error}");
}

#[test]
fn auto_is_the_fastest_there_is() {
    let auto = Sha256d::new(Sha256dKernel::Auto).unwrap();
    assert_eq!(Some(auto), Sha256dKernel::available().next());
    assert_eq!(sha256d_pair(&[1; 32], &[2; 32]), reference(&[[1; 32], [2; 32]].concat()));
}

#[test]
#[should_panic(expected = "one output for each pair")]
fn lengths_must_match() {
    Sha256d::selected().hash_64_many(&[[0; 64]], &mut []);
}
