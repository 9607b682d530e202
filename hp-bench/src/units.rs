//! Numbers with units, as the command line has them.

use std::net::IpAddr;
use std::time::Duration;

/// Requests per second over a run, as given.
#[derive(Clone, Debug, PartialEq)]
pub enum RateWords {
    /// One rate.
    Constant(f64),
    /// From one rate to another, over a time or, without one, over the run.
    Ramp(f64, f64, Option<Duration>),
    /// Rates one after the other, each for the same time.
    Steps(Vec<f64>, Duration),
}

/// Reads `10`, `10s`, `500ms`, `1m` or `2h`.
///
/// # Errors
/// A line for the user where the text is none of these.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis_per_unit = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{text:?} is no time; write 10s, 500ms or 1m")),
    };
    let number: Option<u64> = number.parse().ok();
    let millis = number.and_then(|number| number.checked_mul(millis_per_unit));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is no time; write 10s, 500ms or 1m"))
}

/// Reads `100`, `10k` or `1.5M`: above 0, at most 100 million.
///
/// # Errors
/// A line for the user.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let is_plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let rate = number
        .parse::<f64>()
        .ok()
        .filter(|_| is_plain)
        .map(|rate| rate * factor);
    rate.filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate))
        .ok_or_else(|| format!("{text:?} is no rate; write 500, 10k or 1M, up to 100M a second"))
}

/// Reads `A`, `A:B` or `A:B:TIME`.
///
/// # Errors
/// A line for the user.
pub(crate) fn parse_rate_words(text: &str) -> Result<RateWords, String> {
    let mut parts = text.splitn(3, ':');
    let first = parse_rate(parts.next().unwrap_or_default())?;
    let Some(second) = parts.next() else {
        return Ok(RateWords::Constant(first));
    };
    let time = parts.next().map(parse_time).transpose()?;
    if time == Some(Duration::ZERO) {
        return Err(format!("{text:?} has no time to ramp in; write A:B:10s"));
    }
    Ok(RateWords::Ramp(first, parse_rate(second)?, time))
}

/// Reads `A,B,C@TIME`.
///
/// # Errors
/// A line for the user.
pub(crate) fn parse_steps(text: &str) -> Result<RateWords, String> {
    let bad = || format!("{text:?} is no list of steps; write 1k,2k,4k@10s");
    let (rates, time) = text.split_once('@').ok_or_else(bad)?;
    let rates: Result<Vec<f64>, String> = rates.split(',').map(parse_rate).collect();
    let (rates, time) = (rates?, parse_time(time)?);
    if time.is_zero() || rates.len() > STEPS_MAX {
        return Err(bad());
    }
    Ok(RateWords::Steps(rates, time))
}

/// Reads `100`, `10k` or `1M`: a whole number above 0.
///
/// # Errors
/// A line for the user.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    whole(digits)
        .and_then(|number| number.checked_mul(factor))
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{text:?} is no count; write 100, 10k or 1M"))
}

/// Reads `100`, `64k` or `1M` as bytes; k is 1024.
///
/// # Errors
/// A line for the user.
pub fn parse_size(text: &str) -> Result<u64, String> {
    size(text).ok_or_else(|| format!("{text:?} is no number of bytes; write 100, 64k or 1M"))
}

/// The same, where other texts are something else.
pub(crate) fn size(text: &str) -> Option<u64> {
    let bytes = text
        .strip_suffix("iB")
        .or_else(|| text.strip_suffix(['B', 'b']))
        .unwrap_or(text);
    let (digits, shift) = match bytes.as_bytes().last()? {
        b'k' | b'K' => (&bytes[..bytes.len() - 1], 10),
        b'm' | b'M' => (&bytes[..bytes.len() - 1], 20),
        b'g' | b'G' => (&bytes[..bytes.len() - 1], 30),
        _ => (bytes, 0),
    };
    whole(digits)?.checked_mul(1 << shift)
}

/// Reads addresses and ranges of IPv4 addresses.
///
/// # Errors
/// A line for the user.
pub(crate) fn parse_addrs(text: &str) -> Result<Vec<IpAddr>, String> {
    let bad =
        || format!("{text:?} are no addresses; write 127.0.0.2-127.0.0.9 or a list with commas");
    let mut addrs = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => addrs.push(part.parse().map_err(|_no| bad())?),
            Some((first, last)) => {
                let ends: Result<[u32; 2], _> = (|| {
                    let first: std::net::Ipv4Addr = first.parse()?;
                    let last: std::net::Ipv4Addr = last.parse()?;
                    Ok::<_, std::net::AddrParseError>([first, last].map(u32::from))
                })();
                let [first, last] = ends.map_err(|_no| bad())?;
                if first > last || last - first >= ADDRS_MAX {
                    return Err(bad());
                }
                addrs.extend((first..=last).map(|bits| IpAddr::from(bits.to_be_bytes())));
            }
        }
    }
    Ok(addrs)
}

fn whole(digits: &str) -> Option<u64> {
    let is_number = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 1e8;
const STEPS_MAX: usize = 1000;
const ADDRS_MAX: u32 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in [
            ("10", 10_000),
            ("10s", 10_000),
            ("500ms", 500),
            ("1m", 60_000),
        ] {
            assert_eq!(
                parse_time(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "-1",
            "1.5s",
            "10 s",
            "1d",
            "99999999999999999999",
            "1s1",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_have_units_and_shapes() {
        let second = Duration::from_secs(1);
        assert_eq!(parse_rate_words("1.5k"), Ok(RateWords::Constant(1500.0)));
        assert_eq!(parse_rate_words("1:2"), Ok(RateWords::Ramp(1.0, 2.0, None)));
        assert_eq!(
            parse_rate_words("1k:2M:1s"),
            Ok(RateWords::Ramp(1e3, 2e6, Some(second)))
        );
        assert_eq!(
            parse_steps("1,2k@1s"),
            Ok(RateWords::Steps(vec![1.0, 2000.0], second))
        );
        for text in [
            "", "0", "-1", "1e3", "k", "inf", "NaN", "1:", "1:2:", "1:2:3:4", "1:2:0s", "101M",
        ] {
            assert!(parse_rate_words(text).is_err(), "{text}");
        }
        for text in ["1,2", "1,,2@1s", "1@0s", "@1s"] {
            assert!(parse_steps(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_in_powers_of_two_and_counts_of_ten() {
        for (text, want) in [
            ("7", 7),
            ("64k", 65_536),
            ("1M", 1 << 20),
            ("2GiB", 1 << 31),
            ("3B", 3),
        ] {
            assert_eq!(parse_size(text), Ok(want), "{text}");
        }
        assert_eq!(parse_count("64k"), Ok(64_000));
        for text in [
            "",
            "k",
            "B",
            "-1",
            "1.5k",
            "99999999999999999999",
            "99999999999G",
            "é",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_lists_and_ranges() {
        let addrs = parse_addrs("127.0.0.255-127.0.1.1,::1").unwrap();
        let texts: Vec<String> = addrs.iter().map(IpAddr::to_string).collect();
        assert_eq!(texts, ["127.0.0.255", "127.0.1.0", "127.0.1.1", "::1"]);
        for text in [
            "",
            "x",
            "127.0.0.2-",
            "127.0.0.2-127.0.0.1",
            "0.0.0.0-255.255.255.255",
            "::1-::2",
        ] {
            assert!(parse_addrs(text).is_err(), "{text}");
        }
    }
}
