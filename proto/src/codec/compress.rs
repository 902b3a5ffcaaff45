//! Compressions of bodies and results.
//!
//! Whatever is inflated is read through a [`bounded`] reader, so that a small message that would grow into a huge one is
//! refused while it grows.

use std::io::{Read, Write};

use bytes::Bytes;

use crate::{DecodeError, EncodeError, Limits};

/// How a body is compressed; the names are those of the `compression` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// `application/x-gzip`: a zlib stream, whatever the name says.
    Zlib,
    /// `application/x-bz2`.
    Bzip2,
    /// `application/x-lzma`: an .xz container.
    Xz,
    /// `application/x-brotli`.
    Brotli,
    /// `application/zstd`.
    Zstd,
}

/// Memory an .xz or zstd stream may ask for to remember what came before; both formats let the sender choose.
const DICTIONARY_BYTES_LOG2: u32 = 27;

impl Compression {
    /// By header value or any of kombu's aliases.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "application/x-gzip" | "gzip" | "zlib" => Self::Zlib,
            "application/x-bz2" | "bzip2" | "bzip" => Self::Bzip2,
            "application/x-lzma" | "lzma" | "xz" => Self::Xz,
            "application/x-brotli" | "brotli" => Self::Brotli,
            "application/zstd" | "zstd" | "zstandard" => Self::Zstd,
            _ => return None,
        })
    }

    /// The header value.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Zlib => "application/x-gzip",
            Self::Bzip2 => "application/x-bz2",
            Self::Xz => "application/x-lzma",
            Self::Brotli => "application/x-brotli",
            Self::Zstd => "application/zstd",
        }
    }

    /// Compresses, at the levels Python's libraries choose.
    ///
    /// # Errors
    /// When the library fails.
    pub fn compress(self, bytes: &[u8]) -> Result<Bytes, EncodeError> {
        self.pack(bytes).map(Bytes::from).map_err(|error| EncodeError::new(self.content_type(), error.to_string()))
    }

    fn pack(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Zlib => {
                let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                writer.write_all(bytes)?;
                writer.finish()
            }
            Self::Bzip2 => {
                let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
                writer.write_all(bytes)?;
                writer.finish()
            }
            Self::Xz => {
                let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 6);
                writer.write_all(bytes)?;
                writer.finish()
            }
            Self::Brotli => {
                let mut packed = Vec::new();
                let params = brotli::enc::BrotliEncoderParams { quality: 11, ..Default::default() };
                brotli::BrotliCompress(&mut &*bytes, &mut packed, &params)?;
                Ok(packed)
            }
            Self::Zstd => zstd::stream::encode_all(bytes, 0),
        }
    }

    /// Decompresses, never to more than `limits.size_bytes`.
    ///
    /// # Errors
    /// When the bytes are damaged or would grow beyond the limit.
    pub fn decompress(self, bytes: &[u8], limits: Limits) -> Result<Bytes, DecodeError> {
        let damaged = |error: std::io::Error| DecodeError::new("", format!("damaged {}: {error}", self.content_type()));
        let plain = match self {
            Self::Zlib => bounded(flate2::read::ZlibDecoder::new(bytes), limits),
            Self::Bzip2 => bounded(bzip2::read::BzDecoder::new(bytes), limits),
            Self::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(1 << (DICTIONARY_BYTES_LOG2 + 1), 0)
                    .map_err(|error| damaged(error.into()))?;
                bounded(liblzma::read::XzDecoder::new_stream(bytes, stream), limits)
            }
            Self::Brotli => bounded(brotli::Decompressor::new(bytes, 4096), limits),
            Self::Zstd => {
                let mut reader = zstd::stream::read::Decoder::new(bytes).map_err(damaged)?;
                reader.window_log_max(DICTIONARY_BYTES_LOG2).map_err(damaged)?;
                bounded(reader, limits)
            }
        };
        match plain.map_err(damaged)? {
            Some(plain) => Ok(plain.into()),
            None => Err(DecodeError::new("", format!("grows beyond the limit of {} bytes when decompressed", limits.size_bytes))),
        }
    }
}

/// Reads all of `reader`; `None` when that is more than the limit. Never holds more than the limit and one byte.
fn bounded(reader: impl Read, limits: Limits) -> std::io::Result<Option<Vec<u8>>> {
    let mut plain = Vec::new();
    let most = u64::try_from(limits.size_bytes).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut plain)?;
    Ok((plain.len() <= limits.size_bytes).then_some(plain))
}
