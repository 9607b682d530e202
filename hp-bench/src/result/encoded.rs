//! Histograms as text: HdrHistogram V2, deflated, in base64, as its ports in other languages read it.
//!
//! What is decoded is hostile. Lengths, bounds and counts are checked here, before the crate that
//! decodes would allocate by them or add them up.

use std::fmt;
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::record::histogram;

/// A histogram as text. What a file says is kept unread until [`Encoded::decode`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Encoded(String);

/// Why a text is no histogram of this schema.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DecodeError {
    /// Not base64, or longer than any histogram of this schema.
    Base64,
    /// Not a deflated V2 histogram, or one that is cut off.
    Truncated,
    /// Another unit, range or precision than `hp-bench/1` has.
    Bounds,
    /// Counts that no run can have.
    Counts,
}

impl Encoded {
    /// Encodes a histogram with the bounds of this schema.
    pub fn encode(histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(histogram, &mut bytes)
            .expect("writing to memory does not fail, and our counts fit");
        Self(STANDARD.encode(bytes))
    }

    /// Decodes; what comes out has the bounds of this schema and a sum of counts below
    /// [`SAMPLES_MAX`].
    ///
    /// # Errors
    /// [`DecodeError`], with nothing large allocated before.
    pub fn decode(&self) -> Result<Histogram<u64>, DecodeError> {
        if self.0.len() > TEXT_BYTES_MAX {
            return Err(DecodeError::Base64);
        }
        let bytes = STANDARD
            .decode(&self.0)
            .map_err(|_bad| DecodeError::Base64)?;
        let plain = inflate(&bytes)?;
        check(&plain)?;
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut plain.as_slice())
            .map_err(|_bad| DecodeError::Truncated)?;
        Ok(histogram)
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base64 => "not base64 of a histogram's length",
            Self::Truncated => "not a whole HdrHistogram V2",
            Self::Bounds => "not in ns from 1 us to 60 s with 3 digits",
            Self::Counts => "counts beyond any run",
        })
    }
}

impl std::error::Error for DecodeError {}

/// The compressed cookie and length, then the plain form as a zlib stream that ends where it says.
fn inflate(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let (cookie, rest) = word(bytes).ok_or(DecodeError::Truncated)?;
    let (len, stream) = word(rest).ok_or(DecodeError::Truncated)?;
    if cookie != COOKIE_DEFLATED || usize::try_from(len) != Ok(stream.len()) {
        return Err(DecodeError::Truncated);
    }
    let mut plain = Vec::new();
    let limit = PLAIN_BYTES_MAX as u64 + 1;
    ZlibDecoder::new(stream)
        .take(limit)
        .read_to_end(&mut plain)
        .map_err(|_bad| DecodeError::Truncated)?;
    if plain.len() > PLAIN_BYTES_MAX {
        return Err(DecodeError::Counts);
    }
    Ok(plain)
}

/// Holds the plain form to what [`Encoded::encode`] writes.
///
/// ```text
/// cookie:4 payload length:4 offset:4 digits:4 low:8 high:8 ratio:8, then zigzag LEB128: counts, and runs of zeros below 0
/// ```
fn check(plain: &[u8]) -> Result<(), DecodeError> {
    let (header, payload) = plain
        .split_at_checked(HEADER_BYTES)
        .ok_or(DecodeError::Truncated)?;
    let (cookie, rest) = word(header).ok_or(DecodeError::Truncated)?;
    let (len, bounds) = word(rest).ok_or(DecodeError::Truncated)?;
    if cookie != COOKIE_PLAIN || usize::try_from(len) != Ok(payload.len()) {
        return Err(DecodeError::Truncated);
    }
    let ours = histogram();
    let mut wanted = Vec::with_capacity(HEADER_BYTES);
    wanted.extend(0_u32.to_be_bytes());
    wanted.extend(u32::from(ours.sigfig()).to_be_bytes());
    wanted.extend(ours.low().to_be_bytes());
    wanted.extend(ours.high().to_be_bytes());
    wanted.extend(1.0_f64.to_be_bytes());
    if bounds != wanted {
        return Err(DecodeError::Bounds);
    }
    let (mut rest, mut slots, mut samples) = (payload, 0_u64, 0_u64);
    let slots_max = ours.distinct_values() as u64;
    while !rest.is_empty() {
        let (number, after) = signed(rest).ok_or(DecodeError::Truncated)?;
        rest = after;
        let (width, count) = match u64::try_from(number) {
            Ok(count) => (1, count),
            Err(_negative) => (number.unsigned_abs(), 0),
        };
        slots = slots.checked_add(width).ok_or(DecodeError::Counts)?;
        samples = samples.checked_add(count).ok_or(DecodeError::Counts)?;
        if slots > slots_max || samples > SAMPLES_MAX {
            return Err(DecodeError::Counts);
        }
    }
    Ok(())
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*first), rest))
}

/// A LEB128 of at most 9 bytes, the ninth whole, with the sign in the lowest bit.
fn signed(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0_u64;
    for (idx, &byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        let is_last = idx + 1 == VARINT_BYTES_MAX;
        let bits = if is_last { byte } else { byte & 0x7f };
        value |= u64::from(bits) << (7 * idx);
        if is_last || byte & 0x80 == 0 {
            let magnitude = (value >> 1).cast_signed();
            let sign = -(value & 1).cast_signed();
            return Some((magnitude ^ sign, bytes.get(idx + 1..)?));
        }
    }
    None
}

/// Samples in one histogram that a file may claim: sums of many files stay within a `u64`, and
/// within what a float counts exactly.
pub const SAMPLES_MAX: u64 = 1 << 53;

const COOKIE_DEFLATED: u32 = 0x1c84_9304 | 0x10;
const COOKIE_PLAIN: u32 = 0x1c84_9303 | 0x10;
const HEADER_BYTES: usize = 40;
const VARINT_BYTES_MAX: usize = 9;
/// A full histogram has 17 halves of 2,048 slots and one whole one, each at most 9 bytes.
const PLAIN_BYTES_MAX: usize = 256 * 1024;
const TEXT_BYTES_MAX: usize = 512 * 1024;

#[cfg(test)]
mod tests;
