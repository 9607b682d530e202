//! Markdown tables, padded so that they read in a terminal as well. Knows no number.

/// On which side of its column a text stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Renders a table; every row has one text per column of `head`. A `|` in a text is escaped, a line's end becomes a blank.
///
/// # Panics
/// When a row has another number of texts than `head`.
pub fn render(head: &[(&str, Side)], rows: &[Vec<String>]) -> String {
    let mut columns: Vec<Vec<String>> = Vec::new();
    for (index, (title, _side)) in head.iter().enumerate() {
        let mut texts = vec![(*title).to_owned()];
        for row in rows {
            assert_eq!(row.len(), head.len(), "a row has one text per column");
            texts.push(one_line(&row[index]).replace('|', "\\|"));
        }
        columns.push(texts);
    }
    let widths: Vec<usize> = columns
        .iter()
        .map(|texts| {
            texts
                .iter()
                .map(|text| text.chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        })
        .collect();

    let mut out = String::new();
    for line in 0..=rows.len() {
        for ((texts, &width), (_title, side)) in columns.iter().zip(&widths).zip(head) {
            out.push_str("| ");
            match side {
                Side::Left => out.push_str(&format!("{:<width$} ", texts[line])),
                Side::Right => out.push_str(&format!("{:>width$} ", texts[line])),
            }
        }
        out.push_str("|\n");
        if line == 0 {
            out.push_str(&rule(head, &widths));
        }
    }
    out
}

/// The text with a blank for each control character, such as a line's end.
pub fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

/// A rounded number with a comma before each group of three digits.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    if value < 0.0 && digits != "0" {
        out.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The line under the head, which also carries each column's side.
fn rule(head: &[(&str, Side)], widths: &[usize]) -> String {
    let mut out = String::new();
    for (&width, (_title, side)) in widths.iter().zip(head) {
        let dashes = "-".repeat(width - 1);
        match side {
            Side::Left => out.push_str(&format!("| {dashes}- ")),
            Side::Right => out.push_str(&format!("| {dashes}: ")),
        }
    }
    out.push_str("|\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_to_their_widest_text() {
        let rows = vec![
            vec!["uring".into(), "9.5".into()],
            vec!["a|b".into(), "48,211".into()],
            vec!["µ".into(), "\n—".into()],
        ];
        assert_eq!(
            render(&[("engine", Side::Left), ("req/s", Side::Right)], &rows),
            "\
| engine |  req/s |
| ------ | -----: |
| uring  |    9.5 |
| a\\|b   | 48,211 |
| µ      |      — |
"
        );
    }

    #[test]
    fn large_numbers_are_grouped() {
        for (value, text) in [
            (0.4, "0"),
            (999.0, "999"),
            (48_211.3, "48,211"),
            (1e6, "1,000,000"),
            (-123.0, "-123"),
            (-48_211.3, "-48,211"),
            (-0.4, "0"),
        ] {
            assert_eq!(thousands(value), text);
        }
    }
}
