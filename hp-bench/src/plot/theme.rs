//! The colors of plots, and what makes them follow the reader's light or dark scheme.

use plotters::style::RGBColor;

/// Puts rules into an SVG text that turn what is drawn in black into the scheme's ink.
pub fn themed(svg: &str) -> String {
    match svg.split_once('>') {
        Some((tag, rest)) => format!("{tag}>\n<style>{STYLE}</style>{rest}"),
        None => svg.to_owned(),
    }
}

/// Told apart in both schemes, and by those who see no red or no green.
pub const COLORS: [RGBColor; 10] = [
    RGBColor(0x33, 0x7a, 0xb7),
    RGBColor(0xd5, 0x7a, 0x1e),
    RGBColor(0x2a, 0x9d, 0x6f),
    RGBColor(0xb0, 0x4f, 0x94),
    RGBColor(0x8a, 0x8a, 0x2e),
    RGBColor(0xc0, 0x50, 0x50),
    RGBColor(0x5c, 0x9e, 0xd6),
    RGBColor(0xe0, 0xa0, 0x30),
    RGBColor(0x50, 0xb8, 0xb0),
    RGBColor(0x90, 0x70, 0xd0),
];

const STYLE: &str = ":root{--ink:#1c1c1c}@media(prefers-color-scheme:dark){:root{--ink:#dcdcdc}}\
                     svg text{fill:var(--ink)}svg [stroke=\"#000000\"]{stroke:var(--ink)}\
                     svg [fill=\"#000000\"]{fill:var(--ink)}";
