//! Bytes, names and numbers, as readers take them apart.

/// RFC 9110 §5.6.2.
pub(crate) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Removes spaces and tabs from both ends.
pub(crate) fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Where the first LF is: eight bytes at a time, for most of the time of a run goes into this.
pub(crate) fn first_lf(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let differs = u64::from_le_bytes(*word) ^ u64::from_le_bytes([b'\n'; 8]);
        // The lowest byte that is zero has its high bit set here, and no byte below it has.
        let equals = differs.wrapping_sub(0x0101_0101_0101_0101) & !differs & 0x8080_8080_8080_8080;
        if equals != 0 {
            return Some(index * 8 + equals.trailing_zeros() as usize / 8);
        }
    }
    let found = rest.iter().position(|&byte| byte == b'\n')?;
    Some(bytes.len() - rest.len() + found)
}

/// Compares a name that was changed with a known one, without case.
pub(crate) fn is_same(name: impl Iterator<Item = u8>, known: &str) -> bool {
    name.map(|byte| byte.to_ascii_lowercase())
        .eq(known.bytes().map(|byte| byte.to_ascii_lowercase()))
}

/// The text without one of these bytes before it.
pub(crate) fn without<'b>(text: &'b [u8], signs: &[u8]) -> &'b [u8] {
    match text {
        [first, rest @ ..] if signs.contains(first) => rest,
        _ => text,
    }
}

/// Members between commas.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// All of the text in this base, wrapped at 64 bits.
pub(crate) fn whole(text: &[u8], base: u32) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(|&byte| char::from(byte).is_digit(base));
    is_number.then(|| digits(text, base))
}

/// The digits that the text begins with, wrapped at 64 bits.
pub(crate) fn digits(text: &[u8], base: u32) -> u64 {
    let digits = text
        .iter()
        .map_while(|&byte| char::from(byte).to_digit(base));
    digits.fold(0, |value: u64, digit| {
        value
            .wrapping_mul(u64::from(base))
            .wrapping_add(u64::from(digit))
    })
}
