//! Which CPUs the threads keep to.

use super::{PlanError, flag};

/// Reads `0`, `0,2` or `1-3,5`: numbers below [`CPUS_MAX`], each once, in the order in which the threads take them.
///
/// # Errors
/// A line for the user.
pub(super) fn parse_cpus(text: &str) -> Result<Vec<usize>, PlanError> {
    let bad = || flag("--pin", format!("{text:?} are no CPUs; write 0,2 or 1-3"));
    let number = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_plain);
        number
            .filter(|number: &usize| *number < CPUS_MAX)
            .ok_or_else(bad)
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(bad());
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(flag(
                    "--pin",
                    format!("CPU {cpu} is named twice; name it once"),
                ));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

/// How many CPUs threads may use: those that were named, if any were.
pub(super) fn cpus_of(named: &[usize], usable: u32) -> u32 {
    match u32::try_from(named.len()) {
        Ok(count @ 1..) => count,
        _ => usable,
    }
}

/// Numbers of CPUs are below this, as in the kernel's own sets.
const CPUS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_numbers_and_ranges() {
        let check = |text, want: &[usize]| assert_eq!(parse_cpus(text).unwrap(), want, "{text}");
        check("0", &[0]);
        check("3,1", &[3, 1]);
        check("1-3,5", &[1, 2, 3, 5]);
        check("1023", &[1023]);
    }

    #[test]
    fn other_texts_are_no_cpus() {
        for text in [
            "", ",", "a", "1-", "-1", "3-1", "1024", "0-1024", "1,1", "0-2,1", "+1", "1 2",
        ] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }
}
