//! Decodes the content encodings of a body, with a bound: a bomb costs no more than the largest body.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::text::zstd::ZstdFrames;

/// Largest body of a request, encoded and decoded, in bytes.
pub(crate) const MAX_BODY: usize = 16 << 20;
/// Largest window of a zstd frame, which RFC 9659 asks receivers of HTTP to accept.
const MAX_WINDOW: u64 = 8 << 20;

/// Most zstd frames of a body. A frame takes nine bytes, and much more time than that.
const MOST_FRAMES: u64 = 1000;

/// Content encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyEncoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

/// The encodings that a receiver accepts, as a header lists them.
pub(crate) const ACCEPTED: &str = "gzip, deflate, zstd, identity";

/// Reason why a body cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    TooLarge,
    Broken,
}

impl BodyEncoding {
    /// Parses the value of the header `Content-Encoding`. Returns `None` for another encoding, or for several.
    pub(crate) fn parse(header: &str) -> Option<BodyEncoding> {
        Some(match header.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => BodyEncoding::Identity,
            "gzip" | "x-gzip" => BodyEncoding::Gzip,
            "deflate" => BodyEncoding::Deflate,
            "zstd" => BodyEncoding::Zstd,
            _ => return None,
        })
    }

    /// Decodes a body of at most [`MAX_BODY`] bytes.
    pub(crate) fn decode(self, body: &Bytes) -> Result<Bytes, Undecodable> {
        match self {
            BodyEncoding::Identity => bounded(body.clone()),
            BodyEncoding::Gzip => read(MultiGzDecoder::new(&**body)),
            // RFC 9110 means zlib by this word. Some clients send deflate without the header of zlib.
            BodyEncoding::Deflate if has_zlib_header(body) => read(ZlibDecoder::new(&**body)),
            BodyEncoding::Deflate => read(DeflateDecoder::new(&**body)),
            BodyEncoding::Zstd => read(ZstdFrames::new(&**body, MAX_WINDOW, MOST_FRAMES)),
        }
    }
}

fn bounded(body: Bytes) -> Result<Bytes, Undecodable> {
    if body.len() > MAX_BODY { Err(Undecodable::TooLarge) } else { Ok(body) }
}

fn read(decoder: impl Read) -> Result<Bytes, Undecodable> {
    let mut decoded = Vec::new();
    let read = decoder.take(MAX_BODY as u64 + 1).read_to_end(&mut decoded);
    read.map_err(|_| Undecodable::Broken)?;
    bounded(decoded.into())
}

/// Returns true if `body` begins with the two bytes of zlib (RFC 1950).
fn has_zlib_header(body: &[u8]) -> bool {
    matches!(body, [cmf, flags, ..] if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)) % 31 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    fn encode(encoding: &str, text: &[u8]) -> Bytes {
        let level = Compression::default();
        let encoded = match encoding {
            "gzip" => {
                let mut to = GzEncoder::new(Vec::new(), level);
                to.write_all(text).and_then(|()| to.finish())
            }
            "zlib" => {
                let mut to = ZlibEncoder::new(Vec::new(), level);
                to.write_all(text).and_then(|()| to.finish())
            }
            "deflate" => {
                let mut to = DeflateEncoder::new(Vec::new(), level);
                to.write_all(text).and_then(|()| to.finish())
            }
            "zstd" => {
                Ok(ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest))
            }
            _ => Ok(text.to_vec()),
        };
        encoded.unwrap().into()
    }

    /// The name of a test's encoding, and that of the header.
    const ENCODINGS: [(&str, &str); 5] =
        [("", ""), ("gzip", "gzip"), ("zlib", "deflate"), ("deflate", "deflate"), ("zstd", "Zstd")];

    #[test]
    fn every_encoding_gives_the_body_back() {
        let text = "a body ".repeat(10_000);
        for (encoding, header) in ENCODINGS {
            let encoded = encode(encoding, text.as_bytes());
            let decoded = BodyEncoding::parse(header).unwrap().decode(&encoded);
            assert_eq!(decoded.as_deref(), Ok(text.as_bytes()), "{encoding}");
        }
        let two = [encode("zstd", b"a"), encode("zstd", b"b")].concat();
        assert_eq!(BodyEncoding::Zstd.decode(&two.into()).as_deref(), Ok(&b"ab"[..]));
        assert_eq!(BodyEncoding::parse("br"), None);
        assert_eq!(BodyEncoding::parse("gzip, gzip"), None);
    }

    #[test]
    fn a_bomb_ends_at_the_bound() {
        let zeros = vec![0; MAX_BODY + 1];
        for (encoding, header) in ENCODINGS {
            let encoding_of_header = BodyEncoding::parse(header).unwrap();
            let largest = encoding_of_header.decode(&encode(encoding, &zeros[1..]));
            assert_eq!(largest.map(|body| body.len()), Ok(MAX_BODY), "{encoding}");
            let bomb = encoding_of_header.decode(&encode(encoding, &zeros));
            assert_eq!(bomb, Err(Undecodable::TooLarge), "{encoding}");
        }
    }

    #[test]
    fn a_body_of_endless_frames_is_broken() {
        let frame = encode("zstd", b"a");
        let frames = |count: u64| BodyEncoding::Zstd.decode(&frame.repeat(count as usize).into());
        assert_eq!(frames(MOST_FRAMES).map(|body| body.len()), Ok(MOST_FRAMES as usize));
        assert_eq!(frames(MOST_FRAMES + 1), Err(Undecodable::Broken));
    }

    #[test]
    fn a_body_that_is_cut_or_not_encoded_is_broken() {
        let random: Vec<u8> = (0u32..4096).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for (encoding, header) in &ENCODINGS[1..] {
            let encoding_of_header = BodyEncoding::parse(header).unwrap();
            let encoded = encode(encoding, &random);
            for cut in [1, encoded.len() / 2, encoded.len() - 5] {
                let decoded = encoding_of_header.decode(&encoded.slice(..cut));
                assert_eq!(decoded, Err(Undecodable::Broken), "{encoding} cut at {cut}");
            }
            assert_eq!(
                encoding_of_header.decode(&Bytes::from_static(b"\x7b\x7d}}}}}")),
                Err(Undecodable::Broken)
            );
        }
        // A window of 2 GiB.
        let wide = Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]);
        assert_eq!(BodyEncoding::Zstd.decode(&wide), Err(Undecodable::Broken));
    }
}
