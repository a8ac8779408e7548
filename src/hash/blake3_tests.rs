//! Every kernel of this processor beside crate `blake3` and published values, at every count and
//! alignment, between the edges of readable memory. Where the processor has no AVX-512, Miri has:
//!
//! ```text
//! RUSTFLAGS="-C target-feature=+avx2,+avx512f" cargo +nightly miri test --lib hash::blake3_tests
//! ```

#[cfg(not(miri))]
use proptest::prelude::*;

use super::tests::{bytes, hex};
use super::{Blake3, Blake3Kernel};
use crate::types::Hash;

/// Runs a generic check for each length of inputs.
macro_rules! each_length {
    ($check:ident($($argument:expr),*)) => {
        $check::<64>($($argument),*);
        $check::<128>($($argument),*);
        $check::<256>($($argument),*);
        $check::<512>($($argument),*);
    };
}

fn check<const N: usize>(inputs: &[[u8; N]], out: &mut [Hash], at: &str) {
    let expected: Vec<Hash> =
        inputs.iter().map(|input| *::blake3::hash(input).as_bytes()).collect();
    for kernel in Blake3Kernel::available() {
        for grouped in [false, true] {
            out.fill([0xee; 32]);
            if grouped {
                kernel.hash_many_in_groups(inputs, out);
            } else {
                kernel.hash_many(inputs, out);
            }
            let (name, count) = (kernel.kernel().name(), inputs.len());
            let wrong = (0..count).find(|index| out[*index] != expected[*index]);
            assert_eq!(wrong, None, "{name}, {count} of {N} bytes, {at}, in groups: {grouped}");
        }
    }
}

#[test]
fn what_is_tested_here() {
    let names: Vec<&str> = Blake3Kernel::available().map(|k| k.kernel().name()).collect();
    eprintln!("BLAKE3 kernels of this processor: {names:?}");
    assert_eq!(names.last(), Some(&"crate"));
    #[cfg(target_arch = "x86_64")]
    for (name, there) in [
        ("avx512", is_x86_feature_detected!("avx512f")),
        ("avx2", is_x86_feature_detected!("avx2")),
    ] {
        assert_eq!(names.contains(&name), there, "{name}");
    }
}

fn published<const N: usize>(expected: &str) {
    let input: [u8; N] = std::array::from_fn(|i| (i % 251) as u8);
    for kernel in Blake3Kernel::available() {
        let mut out = [[0; 32]; 35];
        kernel.hash_many(&[input; 35], &mut out);
        assert!(out.iter().all(|hash| *hash == *hex(expected)), "{kernel:?} {N}");
    }
}

#[test]
fn published_values() {
    published::<64>("4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98");
    published::<128>("f17e570564b26578c33bb7f44643f539624b05df1a76c81f30acd548c44b45ef");
}

fn every_count<const N: usize>() {
    let inputs: Vec<[u8; N]> = (0..70).map(|i| bytes(N, i).try_into().unwrap()).collect();
    // Under Miri, which runs AVX-512 on any processor, a hash takes milliseconds.
    let some = [2, 35];
    for count in (0..=inputs.len()).filter(|count| !cfg!(miri) || some.contains(count)) {
        check(&inputs[..count], &mut vec![[0; 32]; count], "one after the other");
    }
}

#[test]
fn every_count_of_inputs_up_to_some_groups() {
    each_length!(every_count());
}

#[cfg(not(miri))]
fn at_an_offset<const N: usize>(count: usize, input_at: usize, out_at: usize, seed: u32) {
    let bytes = bytes(input_at + count * N, seed);
    let mut out = vec![0; out_at + 32 * count];
    let at = format!("offsets {input_at} and {out_at}");
    let out = out[out_at..].as_chunks_mut().0;
    check::<N>(bytes[input_at..].as_chunks().0, out, &at);
}

#[cfg(not(miri))]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_count_and_alignment(
        count in 0usize..140,
        input_at in 0usize..64,
        out_at in 0usize..64,
        seed: u32,
    ) {
        each_length!(at_an_offset(count, input_at, out_at, seed));
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn between_edges<const N: usize>(input: &mut super::edge::Edge, out: &mut super::edge::Edge) {
    for count in 0..=70 {
        let bytes = bytes(count * N, 7);
        let inputs = input.last(count * N);
        inputs.copy_from_slice(&bytes);
        check::<N>(inputs.as_chunks().0, out.last(count * 32).as_chunks_mut().0, "upper edge");
        let inputs = input.first(count * N);
        inputs.copy_from_slice(&bytes);
        check::<N>(inputs.as_chunks().0, out.first(count * 32).as_chunks_mut().0, "lower edge");
    }
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn nothing_outside_the_input_is_read_and_nothing_outside_the_output_written() {
    let (mut input, mut out) = (super::edge::Edge::new(), super::edge::Edge::new());
    each_length!(between_edges(&mut input, &mut out));
}

#[test]
fn a_kernel_that_is_not_there_is_an_error_that_names_it() {
    for kernel in Blake3Kernel::ALL {
        match Blake3::new(kernel) {
            Ok(there) => assert_eq!(there.kernel(), kernel),
            Err(error) => {
                assert_ne!(kernel, Blake3Kernel::Crate, "always there");
                let text = format!("BLAKE3 kernel {}: this processor lacks", kernel.name());
                assert!(matches!(error, crate::Error::Unsupported(_)), "{error:?}");
                assert!(error.to_string().contains(&text), "{error}");
            }
        }
    }
}

/// Alone in changing the choice of the process, which no other test of BLAKE3 reads.
#[test]
fn the_selected_kernel_is_the_fastest_until_one_is_selected() {
    let fastest = Blake3::new(Blake3Kernel::Auto).unwrap();
    assert_eq!(Some(fastest), Blake3Kernel::available().next());
    assert_eq!(Blake3::selected(), fastest);
    for kernel in Blake3Kernel::available() {
        kernel.select();
        assert_eq!(Blake3::selected(), kernel);
    }
    fastest.select();
}

#[test]
#[should_panic(expected = "one output for each input")]
fn lengths_must_match() {
    Blake3::selected().hash_many(&[[0; 64]], &mut []);
}
