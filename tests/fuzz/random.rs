//! Reproducible random numbers, and inputs that are changed by them.

/// xorshift64*: the sequence has to be reproducible, not good.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.max(1))
    }

    /// Seeded with FNV-1a of `bytes`.
    pub fn of(bytes: &[u8]) -> Random {
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Random::new(bytes.iter().fold(0xcbf2_9ce4_8422_2325, hash))
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }

    #[allow(dead_code, reason = "a coverage-guided fuzzer changes inputs itself")]
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let (a, b) = (self.below(length + 1), self.below(length + 1));
        a.min(b)..a.max(b)
    }
}

/// Bytes that have a meaning for one of the parsers.
const SPICE: [&[u8]; 24] = [
    b"\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud83d",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\xef\xbb\xbf",
    b"\xff",
    b"1e400",
    b"-0",
    b"null",
    b"\xe2\x80\xa8",
    b"# ",
    b"- ",
    b"=",
    b"'",
    b"\x1b[",
    b"\t",
];

/// Returns one input: a few pieces of the corpus, changed a few times.
#[allow(dead_code, reason = "a coverage-guided fuzzer changes inputs itself")]
pub fn input(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..1 + random.below(3)).flat_map(|_| corpus[random.below(corpus.len())].clone()).collect();
    for _ in 0..random.below(8) {
        let range = random.range(bytes.len());
        match random.below(6) {
            0 => drop(bytes.drain(range)),
            1 if bytes.len() < 32 << 10 => {
                let piece = bytes[range].repeat(1 + random.below(20));
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, piece);
            }
            2 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            3 => {
                let other = &corpus[random.below(corpus.len())];
                let piece = other[random.range(other.len())].to_vec();
                bytes.splice(range, piece);
            }
            4 => bytes[range].reverse(),
            _ => {
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, SPICE[random.below(SPICE.len())].iter().copied());
            }
        }
    }
    bytes.truncate(64 << 10);
    bytes
}
