use super::*;

fn filled() -> Histogram<u64> {
    let mut histogram = histogram();
    for i in 1..=5_000_u64 {
        histogram.saturating_record(i * i * 997);
    }
    histogram.saturating_record(u64::MAX);
    histogram
}

fn packed(plain: &[u8]) -> Encoded {
    use std::io::Write as _;
    let mut stream = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    stream.write_all(plain).unwrap();
    let stream = stream.finish().unwrap();
    let mut bytes = COOKIE_DEFLATED.to_be_bytes().to_vec();
    bytes.extend(u32::try_from(stream.len()).unwrap().to_be_bytes());
    bytes.extend(stream);
    Encoded(STANDARD.encode(bytes))
}

/// A plain V2 histogram with this payload and these bounds.
fn plain(len: u32, digits: u32, high: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = COOKIE_PLAIN.to_be_bytes().to_vec();
    bytes.extend(len.to_be_bytes());
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(digits.to_be_bytes());
    bytes.extend(1_000_u64.to_be_bytes());
    bytes.extend(high.to_be_bytes());
    bytes.extend(1.0_f64.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn check_payload(payload: &[u8], want: Result<u64, DecodeError>) {
    let len = u32::try_from(payload.len()).unwrap();
    let got = packed(&plain(len, 3, HIGH, payload)).decode();
    assert_eq!(got.map(|histogram| histogram.len()), want, "{payload:?}");
}

#[test]
fn what_was_encoded_is_decoded() {
    for histogram in [filled(), histogram()] {
        let encoded = Encoded::encode(&histogram);
        assert!(encoded.as_str().starts_with("HISTFAAA"));
        assert_eq!(encoded.decode().unwrap(), histogram);
    }
}

#[test]
fn every_truncation_is_refused() {
    let whole = STANDARD
        .decode(Encoded::encode(&filled()).as_str())
        .unwrap();
    for len in 0..whole.len() {
        let cut = Encoded(STANDARD.encode(&whole[..len]));
        assert!(cut.decode().is_err(), "{len} bytes");
    }
    let text = Encoded::encode(&filled()).as_str().to_owned();
    for len in 0..text.len() {
        assert!(Encoded(text[..len].to_owned()).decode().is_err(), "{len}");
    }
}

#[test]
fn every_flipped_byte_is_an_error_or_a_histogram() {
    let whole = STANDARD
        .decode(Encoded::encode(&filled()).as_str())
        .unwrap();
    for idx in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[idx] ^= 0x55;
        match Encoded(STANDARD.encode(&bytes)).decode() {
            Ok(histogram) => assert!(histogram.len() <= SAMPLES_MAX),
            Err(_refused) => (),
        }
    }
}

#[test]
fn foreign_bounds_are_refused() {
    let zero = [0];
    for bytes in [
        plain(1, 4, HIGH, &zero),
        plain(1, 200, HIGH, &zero),
        plain(1, 3, u64::MAX, &zero),
        plain(1, 3, 0, &zero),
    ] {
        assert_eq!(packed(&bytes).decode(), Err(DecodeError::Bounds));
    }
}

#[test]
fn claimed_lengths_allocate_nothing() {
    assert_eq!(
        packed(&plain(u32::MAX, 3, HIGH, &[0])).decode(),
        Err(DecodeError::Truncated)
    );
    // A deflate bomb: a payload of zeros far longer than any histogram.
    let bomb = plain(64 << 20, 3, HIGH, &vec![0; 64 << 20]);
    assert_eq!(packed(&bomb).decode(), Err(DecodeError::Counts));
}

#[test]
fn hostile_counts_are_refused() {
    check_payload(&[2], Ok(1));
    check_payload(&[1, 4], Ok(2)); // One zero, then a 2.
    check_payload(&[0x80], Err(DecodeError::Truncated));
    check_payload(&[0xff; 9], Err(DecodeError::Counts)); // i64::MIN as a run of zeros.
    check_payload(
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        Err(DecodeError::Counts),
    );
    check_payload(&[0xff, 0xff, 0x7f, 2], Err(DecodeError::Counts)); // Past the last slot.
}

#[test]
fn text_that_is_no_histogram_is_refused() {
    for text in ["", "!", "HISTFAAA", "AAAAAAAAAAAA", "aGVsbG8gd29ybGQ="] {
        assert!(Encoded(text.to_owned()).decode().is_err(), "{text}");
    }
    let long = "A".repeat(TEXT_BYTES_MAX + 4);
    assert_eq!(Encoded(long).decode(), Err(DecodeError::Base64));
}

const HIGH: u64 = 60_000_000_000;
