//! Decodes a stream of zstd frames, such as `cat a.zst b.zst` makes.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Reads the contents of zstd frames one after the other, and skips frames that have none.
pub(crate) struct ZstdFrames<R> {
    source: R,
    decoder: FrameDecoder,
    is_in_frame: bool,
    /// Number of frames that were begun.
    begun: u64,
    most_frames: u64,
}

impl<R: BufRead> ZstdFrames<R> {
    /// A frame whose window is larger than `max_window` bytes is an error, and so is each frame after `most_frames`.
    pub(crate) fn new(source: R, max_window: u64, most_frames: u64) -> ZstdFrames<R> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(max_window);
        ZstdFrames { source, decoder, is_in_frame: false, begun: 0, most_frames }
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.begun == self.most_frames {
            return Err(io::Error::other("too many frames"));
        }
        self.begun += 1;
        match self.decoder.init(&mut self.source) {
            Ok(()) => {
                self.is_in_frame = true;
                Ok(())
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                if skipped < length.into() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.is_in_frame {
                while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                    self.decoder
                        .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(io::Error::other)?;
                }
                let count = self.decoder.read(to)?;
                if count > 0 || to.is_empty() {
                    return Ok(count);
                }
                self.is_in_frame = false;
                // The decoder only reads the checksum. Without one in the frame, there is nothing to compare.
                let stored = self.decoder.get_checksum_from_data();
                if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum is wrong"));
                }
            }
            if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.begin()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn read(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        ZstdFrames::new(bytes, 1 << 20, 3).read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn frames_follow_each_other_and_those_without_contents_are_skipped() {
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"any"].concat();
        assert_eq!(read(&[frame("one "), skippable.clone(), frame("two")].concat()).unwrap(), "one two");
        assert_eq!(read(b"").unwrap(), "");
        assert_eq!(read(&skippable[..10]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_changed_byte_is_an_error() {
        let text = "{\"duration_ms\":12}";
        let mut changed = frame(text);
        let at = changed.windows(2).position(|bytes| bytes == b"12").unwrap();
        changed[at] = b'9';
        let error = read(&changed).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::InvalidData, "the checksum is wrong")
        );
        assert_eq!(read(&frame(text)).unwrap(), text);
    }

    #[test]
    fn a_stream_that_is_cut_or_has_too_many_frames_is_an_error() {
        let two = [frame("one"), frame("two")].concat();
        assert!(read(&two[..two.len() - 6]).is_err());
        assert!(read(&two.repeat(2)).is_err());
    }
}
