//! Which statuses of answers are no error.

/// Statuses that are no error: whole classes, and single ones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Statuses {
    classes: [bool; 6],
    single: Vec<u16>,
}

impl Statuses {
    /// Reads `2xx,304`.
    ///
    /// # Errors
    /// A line for the user.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} are no statuses; write 2xx or 200,304");
        let mut all = Self {
            classes: [false; 6],
            single: Vec::new(),
        };
        for part in text.split(',') {
            let class = part.strip_suffix("xx").and_then(|class| class.parse().ok());
            match (class, part.parse()) {
                (Some(class @ 1_usize..=5), _) => all.classes[class] = true,
                (None, Ok(status @ 100..=599)) => all.single.push(status),
                _ => return Err(bad()),
            }
        }
        Ok(all)
    }

    /// Whether a status is no error.
    pub fn has(&self, status: u16) -> bool {
        let class = self.classes.get(usize::from(status / 100));
        class.is_some_and(|is_in| *is_in) || self.single.contains(&status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_classes_and_numbers() {
        let statuses = Statuses::parse("2xx,404").unwrap();
        assert!(statuses.has(200) && statuses.has(299) && statuses.has(404));
        assert!(!statuses.has(403) && !statuses.has(304) && !statuses.has(999));
        for text in ["", "2", "600", "0xx", "6xx", "2xx,"] {
            assert!(Statuses::parse(text).is_err(), "{text}");
        }
    }
}
