//! What is told of a command line that cannot be read.

/// What clap says in several lines: what is wrong, and its tip where it has one.
pub(super) fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let what = lines.next().unwrap_or_default();
    let mut line = String::from(what.strip_prefix("error: ").unwrap_or(what));
    // The values that a flag takes, and flags that are missing, stand in lines of their own.
    for more in lines.by_ref().take_while(|more| !more.is_empty()) {
        line.push(' ');
        line.push_str(more);
    }
    for (what, remedy) in NUMBERS {
        line = line.replace(what, remedy);
    }
    // Clap takes a value that begins with a dash for a flag, and no flag begins with a number.
    let after_dash = line.strip_prefix("unexpected argument '-");
    if after_dash.is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit())) {
        line.push_str("; no value is below 0");
    }
    let mut tips = lines.filter_map(|line| line.strip_prefix("tip: "));
    // No value begins with a dash.
    if let Some(tip) = tips.find(|tip| !tip.starts_with("to pass")) {
        line.push_str("; ");
        line.push_str(tip);
    }
    line.push_str("; hp-proxy --help lists the options");
    line
}

/// What the standard library says of a text that is no number, and what to do about it.
const NUMBERS: [(&str, &str); 2] = [
    ("invalid digit found in string", "write a whole number"),
    (
        "cannot parse integer from empty string",
        "write a whole number",
    ),
];
