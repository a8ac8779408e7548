//! The tables of FIPS 180-4, and what follows from them for inputs of fixed length.

/// The state before the first block.
pub(super) const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// One constant per round.
#[rustfmt::skip]
pub(super) const ROUND: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5,
    0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3,
    0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc,
    0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7,
    0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13,
    0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3,
    0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5,
    0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208,
    0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// The words 8 to 15 of a block whose first half is a hash: a one bit, zeros, 256 bits.
pub(super) const HASH_PADDING: [u32; 8] = [0x8000_0000, 0, 0, 0, 0, 0, 0, 256];

/// Round constant plus message word, for each round over the block that follows 64 bytes of input:
/// a one bit, zeros, 512 bits. The block is the same for every input, so its schedule is too.
pub(super) const PADDING_ROUND: [u32; 64] = padding_round();

const fn padding_round() -> [u32; 64] {
    let mut words = [0u32; 64];
    words[0] = 0x8000_0000;
    words[15] = 512;
    let mut t = 16;
    while t < 64 {
        words[t] = words[t - 16]
            .wrapping_add(small_sigma0(words[t - 15]))
            .wrapping_add(words[t - 7])
            .wrapping_add(small_sigma1(words[t - 2]));
        t += 1;
    }
    t = 0;
    while t < 64 {
        words[t] = words[t].wrapping_add(ROUND[t]);
        t += 1;
    }
    words
}

pub(super) const fn small_sigma0(word: u32) -> u32 {
    word.rotate_right(7) ^ word.rotate_right(18) ^ (word >> 3)
}

pub(super) const fn small_sigma1(word: u32) -> u32 {
    word.rotate_right(17) ^ word.rotate_right(19) ^ (word >> 10)
}
