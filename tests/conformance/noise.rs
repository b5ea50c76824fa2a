//! Hostile bytes that both sides make from a seed, in pieces of any size.

use std::io::{self, Read, Write};

use crate::rig::without_last_words;

/// Returns the bytes of one stream: every value, line ends of every kind, broken UTF-8, JSON that is cut off.
pub struct Noise(u64);

/// Number of bytes of each noise stream.
pub const LENGTH: usize = 700_000;

impl Noise {
    pub fn new(seed: u64, stream: u64) -> Noise {
        Noise((seed << 8 | stream).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, length: usize) -> Vec<u8> {
        const SCRAPS: [&[u8]; 9] = [
            b"\r\n",
            b"\n\n\n",
            b"\0",
            b"\xff\xfe\xc3",
            b"\xef\xbb\xbf",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\n",
            b"{\"id\":\"x\",\"result\":{\"content\":[",
            b"[[[[[[[[",
            b"\x1b[31m\xe2\x80\xa8",
        ];
        let mut bytes = Vec::with_capacity(length + 64);
        while bytes.len() < length {
            match self.next() % 4 {
                0 => bytes.extend_from_slice(SCRAPS[self.next() as usize % SCRAPS.len()]),
                1 => {
                    let run = self.next() % 300;
                    bytes.resize(bytes.len() + run as usize, self.0 as u8);
                }
                // Eight bytes at a time: unoptimised, a step for each takes longer than the wrapper.
                _ => {
                    for _ in 0..self.next() % 26 {
                        let eight = self.next().to_le_bytes();
                        bytes.extend_from_slice(&eight);
                    }
                }
            }
        }
        bytes.truncate(length);
        bytes
    }

    /// Writes the whole stream in pieces of 1 byte to 100 KiB.
    pub fn pour(self, to: &mut impl Write) -> io::Result<()> {
        self.pour_exactly(to, LENGTH)
    }

    pub fn pour_exactly(mut self, to: &mut impl Write, length: usize) -> io::Result<()> {
        let bytes = self.fill(length);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let most = if self.next().is_multiple_of(8) { 100_000 } else { 3_000 };
            let size = (1 + self.next() as usize % most).min(rest.len());
            to.write_all(&rest[..size])?;
            rest = &rest[size..];
        }
        Ok(())
    }

    /// Reads to the end and compares.
    pub fn check(self, from: &mut impl Read) -> io::Result<()> {
        self.check_exactly(from, LENGTH)
    }

    pub fn check_exactly(mut self, from: &mut impl Read, length: usize) -> io::Result<()> {
        let expected = self.fill(length);
        let mut seen = Vec::new();
        from.read_to_end(&mut seen)?;
        let seen = without_last_words(&seen);
        if seen == expected {
            return Ok(());
        }
        let at =
            seen.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(seen.len().min(expected.len()));
        Err(io::Error::other(format!("{} bytes of {}, first difference at {at}", seen.len(), expected.len())))
    }
}

/// A stream of noise without end. It does not depend on how it is cut into pieces.
pub struct Endless {
    seed: u64,
    stream: u64,
    blocks: u64,
    block: Vec<u8>,
    at: usize,
}

/// Number of bytes in each block of an endless stream.
const BLOCK: usize = 64 << 10;

impl Endless {
    pub fn new(seed: u64, stream: u64) -> Endless {
        Endless { seed, stream, blocks: 0, block: Vec::new(), at: 0 }
    }

    /// Returns at most `most` further bytes, and at least one.
    pub fn next(&mut self, most: usize) -> &[u8] {
        if self.at == self.block.len() {
            self.block = Noise::new(self.seed + (self.blocks << 8), self.stream).fill(BLOCK);
            self.blocks += 1;
            self.at = 0;
        }
        let end = (self.at + most).min(self.block.len());
        let bytes = &self.block[self.at..end];
        self.at = end;
        bytes
    }

    /// Returns true if `bytes` come next.
    pub fn goes_on_with(&mut self, bytes: &[u8]) -> bool {
        self.matching(bytes) == bytes.len()
    }

    /// Returns how many of `bytes` come next.
    pub fn matching(&mut self, bytes: &[u8]) -> usize {
        let mut matched = 0;
        while matched < bytes.len() {
            let next = self.next(bytes.len() - matched);
            let here = &bytes[matched..matched + next.len()];
            if here != next {
                return matched + here.iter().zip(next).take_while(|(here, next)| here == next).count();
            }
            matched += next.len();
        }
        matched
    }
}
