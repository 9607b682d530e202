//! The Date field's text. RFC 9110 §5.6.7.
//!
//! Formats; reads no clock.

use std::io::Write;
use std::time::{Duration, SystemTime};

use httpdate::HttpDate;

/// `Date: ` with an IMF-fixdate and CRLF.
pub type DateLine = [u8; DATE_LINE_BYTES];

/// Writes the line for so long after 1970-01-01 UTC; what lies beyond the year 9999 is the end of it.
#[must_use]
pub fn line(since_epoch: Duration) -> DateLine {
    let seconds = since_epoch.as_secs().min(LAST_SECOND);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let mut line = *b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    let mut text = line.get_mut("Date: ".len()..).unwrap_or_default();
    match write!(text, "{}", HttpDate::from(time)) {
        Ok(()) => (),
        Err(_never) => unreachable!("an IMF-fixdate has 29 bytes"),
    }
    line
}

/// `Date: `, 29 bytes, CRLF.
const DATE_LINE_BYTES: usize = 37;
/// Fri, 31 Dec 9999 23:59:59 GMT.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: u64, expected: &str) {
        let line = line(Duration::new(seconds, 999_999_999));
        assert_eq!(str::from_utf8(&line), Ok(expected));
    }

    #[test]
    fn dates_are_imf_fixdates() {
        check(0, "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
        check(784_111_777, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        check(1_709_164_800, "Date: Thu, 29 Feb 2024 00:00:00 GMT\r\n");
    }

    #[test]
    fn a_clock_beyond_all_reason_still_has_a_date() {
        check(u64::MAX, "Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n");
    }
}
