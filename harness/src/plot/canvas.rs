//! Panels with axes, and what stands in them, as SVG text. Knows numbers, not what they mean.
//!
//! The backend writes whole pixels, so that a figure changes in the lines whose points moved.

use std::ops::Range;

use hp_bench::plot::theme::{COLORS, themed};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

/// A whole picture.
pub(super) struct Figure {
    pub(super) title: String,
    /// Side by side; the rest goes below.
    pub(super) columns: u32,
    /// Width and height of one panel.
    pub(super) panel_size: (u32, u32),
    pub(super) panels: Vec<Panel>,
    /// Names and their inks, below the panels.
    pub(super) legend: Vec<(String, Ink)>,
    /// Sentences below the legend, one a line.
    pub(super) notes: Vec<String>,
}

/// One pair of axes.
pub(super) struct Panel {
    pub(super) title: String,
    /// Pixels for what stands at the ticks of y.
    pub(super) left: u32,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Drawn in this order, the last on top.
    pub(super) layers: Vec<Layer>,
}

/// One axis. Values outside of it are drawn at its ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) name: String,
    /// Finite, and below `high`.
    pub(super) low: f64,
    pub(super) high: f64,
    /// Where lines cross the panel, and what stands at their ends.
    pub(super) ticks: Vec<(f64, String)>,
}

/// Something drawn in one ink.
pub(super) struct Layer {
    pub(super) ink: Ink,
    pub(super) mark: Mark,
}

/// What is drawn.
pub(super) enum Mark {
    /// Points joined in their order.
    Line(Vec<(f64, f64)>),
    /// Filled points.
    Dots(Vec<(f64, f64)>),
    /// Hollow points, for what is shown and not claimed.
    Rings(Vec<(f64, f64)>),
    /// x, lower y, upper y: an area.
    Band(Vec<(f64, f64, f64)>),
    /// A filled rectangle from one corner to the other, and how dark it is, from 0 to 1.
    Cell((f64, f64), (f64, f64), f64),
}

/// A color that can be told from the others in a light and in a dark scheme.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ink {
    /// The text's own: black on light, white on dark.
    Text,
    /// For references and noise, lighter with a higher number.
    Grey(u8),
    /// One of [`COLORS`], counted round.
    Color(u8),
}

/// Draws.
///
/// # Errors
/// The drawing crate's own words.
pub(super) fn draw(figure: &Figure) -> Result<String, String> {
    let panels = u32::try_from(figure.panels.len()).unwrap_or(u32::MAX);
    let rows = panels.div_ceil(figure.columns.max(1));
    let (panel_width, panel_height) = figure.panel_size;
    let width = panel_width * figure.columns.max(1);
    let legend_height = legend_rows(&figure.legend, width) * LINE_HEIGHT;
    let notes_height = u32::try_from(figure.notes.len()).unwrap_or(0) * LINE_HEIGHT;
    let height = TITLE_HEIGHT + rows * panel_height + legend_height + notes_height + MARGIN;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        write_text(&root, &figure.title, (12, 8), TITLE_SIZE)?;
        for (number, panel) in (0..).zip(&figure.panels) {
            let left = (number % figure.columns.max(1)) * panel_width;
            let top = TITLE_HEIGHT + (number / figure.columns.max(1)) * panel_height;
            let area = root
                .clone()
                .shrink((left, top), (panel_width, panel_height));
            draw_panel(&area, panel)?;
        }
        let below = TITLE_HEIGHT + rows * panel_height;
        draw_legend(&root, &figure.legend, width, below)?;
        for (number, note) in (0..).zip(&figure.notes) {
            let top = below + legend_height + number * LINE_HEIGHT;
            write_text(&root, note, (12, signed(top)), LABEL_SIZE)?;
        }
        root.present().map_err(|error| error.to_string())?;
    }
    Ok(themed(&svg))
}

type Area<'b> = DrawingArea<SVGBackend<'b>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

fn draw_panel(area: &Area<'_>, panel: &Panel) -> Result<(), String> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(10)
        .x_label_area_size(42)
        .y_label_area_size(panel.left);
    if !panel.title.is_empty() {
        builder.caption(&panel.title, (FONT, LABEL_SIZE));
    }
    let mut chart = builder
        .build_cartesian_2d(panel.x.clone(), panel.y.clone())
        .map_err(|error| error.to_string())?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .label_style((FONT, LABEL_SIZE))
        .x_desc(&panel.x.name)
        .y_desc(&panel.y.name);
    mesh.draw().map_err(|error| error.to_string())?;
    for layer in &panel.layers {
        draw_layer(&mut chart, layer).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn draw_layer<'a, 'b: 'a>(
    chart: &mut Chart<'a, 'b>,
    layer: &Layer,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let color = layer.ink.color();
    match &layer.mark {
        Mark::Line(points) => {
            let line = PathElement::new(points.clone(), color.stroke_width(2));
            chart.draw_series(std::iter::once(line))?;
        }
        Mark::Dots(points) => {
            let dots = points
                .iter()
                .map(|point| Circle::new(*point, 3, color.filled()));
            chart.draw_series(dots)?;
        }
        Mark::Rings(points) => {
            let rings = points
                .iter()
                .map(|point| Circle::new(*point, 3, color.stroke_width(1)));
            chart.draw_series(rings)?;
        }
        Mark::Band(points) => {
            let lower = points.iter().map(|(x, low, _high)| (*x, *low));
            let upper = points.iter().rev().map(|(x, _low, high)| (*x, *high));
            let edge: Vec<(f64, f64)> = lower.chain(upper).collect();
            let area = Polygon::new(edge, color.mix(BAND_OPACITY).filled());
            chart.draw_series(std::iter::once(area))?;
        }
        Mark::Cell(from, to, darkness) => {
            let style = color.mix(darkness.clamp(0.0, 1.0)).filled();
            chart.draw_series(std::iter::once(Rectangle::new([*from, *to], style)))?;
        }
    }
    Ok(())
}

fn draw_legend(
    root: &Area<'_>,
    legend: &[(String, Ink)],
    width: u32,
    top: u32,
) -> Result<(), String> {
    let cell = legend_cell(legend);
    let columns = legend_columns(legend, width);
    for (number, (name, ink)) in (0_u32..).zip(legend) {
        let left = signed(12 + (number % columns) * cell);
        let line = signed(top + (number / columns) * LINE_HEIGHT);
        let dash = [(left, line + 8), (left + 18, line + 8)];
        let stroke = ink.color().stroke_width(3);
        root.draw(&PathElement::new(dash, stroke))
            .map_err(|error| error.to_string())?;
        write_text(root, name, (left + 24, line), LABEL_SIZE)?;
    }
    Ok(())
}

fn write_text(root: &Area<'_>, text: &str, at: (i32, i32), size: u32) -> Result<(), String> {
    let style = (FONT, size).into_font().color(&BLACK);
    root.draw(&Text::new(text.to_owned(), at, style))
        .map_err(|error| error.to_string())
}

/// Wide enough for the longest name.
fn legend_cell(legend: &[(String, Ink)]) -> u32 {
    let chars = legend.iter().map(|(name, _ink)| name.chars().count()).max();
    40 + LABEL_SIZE * 6 / 10 * u32::try_from(chars.unwrap_or(0)).unwrap_or(0).min(80)
}

fn legend_columns(legend: &[(String, Ink)], width: u32) -> u32 {
    (width.saturating_sub(12) / legend_cell(legend)).max(1)
}

fn legend_rows(legend: &[(String, Ink)], width: u32) -> u32 {
    let names = u32::try_from(legend.len()).unwrap_or(0);
    names.div_ceil(legend_columns(legend, width))
}

fn signed(pixels: u32) -> i32 {
    i32::try_from(pixels).unwrap_or(i32::MAX)
}

impl Ink {
    fn color(self) -> RGBColor {
        match self {
            Self::Text => BLACK,
            Self::Grey(shade) => {
                let level = 0x68 + 0x18 * shade.min(4);
                RGBColor(level, level, level)
            }
            Self::Color(number) => COLORS
                .iter()
                .cycle()
                .nth(usize::from(number))
                .copied()
                .unwrap_or(BLACK),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        let pixels = share * f64::from(limit.1 - limit.0);
        limit.0 + whole(pixels)
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(value, _label)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(at, _label)| at == value);
        tick.map_or_else(String::new, |(_at, label)| label.clone())
    }
}

/// The nearest whole number of pixels; a share of a panel is far below the limits of an `i32`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounded, and clamped to what the type holds"
)]
fn whole(pixels: f64) -> i32 {
    pixels
        .round()
        .clamp(f64::from(i32::MIN), f64::from(i32::MAX)) as i32
}

/// Room for a number with its unit, and the axis' name.
pub(super) const LEFT: u32 = 78;

const FONT: &str = "sans-serif";
const LABEL_SIZE: u32 = 14;
const TITLE_SIZE: u32 = 18;
const TITLE_HEIGHT: u32 = 34;
const LINE_HEIGHT: u32 = 20;
const MARGIN: u32 = 8;
const BAND_OPACITY: f64 = 0.18;

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(high: f64) -> Axis {
        Axis {
            name: "x".into(),
            low: 0.0,
            high,
            ticks: vec![(0.0, "none".into()), (high, "all".into())],
        }
    }

    fn figure(layers: Vec<Layer>) -> Figure {
        Figure {
            title: "A <title>".into(),
            columns: 1,
            panel_size: (400, 300),
            panels: vec![Panel {
                title: "panel".into(),
                left: LEFT,
                x: axis(10.0),
                y: axis(1.0),
                layers,
            }],
            legend: vec![
                ("a & b".into(), Ink::Color(0)),
                ("grey".into(), Ink::Grey(1)),
            ],
            notes: vec!["a note".into()],
        }
    }

    #[test]
    fn every_mark_is_drawn_in_its_ink() {
        let layers = [
            Mark::Line(vec![(0.0, 0.0), (10.0, 1.0)]),
            Mark::Dots(vec![(5.0, 0.5)]),
            Mark::Rings(vec![(5.0, 0.5)]),
            Mark::Band(vec![(0.0, 0.1, 0.2), (10.0, 0.3, 0.4)]),
            Mark::Cell((0.0, 0.0), (1.0, 1.0), 0.5),
        ];
        let layers = (0..)
            .zip(layers)
            .map(|(number, mark)| Layer {
                ink: Ink::Color(number),
                mark,
            })
            .collect();
        let svg = draw(&figure(layers)).unwrap();
        for color in ["#337AB7", "#D57A1E", "#2A9D6F", "#B04F94", "#8A8A2E"] {
            assert!(svg.contains(color), "{color}: {svg}");
        }
        assert!(
            svg.contains("A &lt;title&gt;") && svg.contains("a &amp; b"),
            "{svg}"
        );
        assert!(svg.contains("prefers-color-scheme:dark"));
        assert!(!has_fractions(&svg), "{svg}");
    }

    /// Coordinates only; opacities have decimals.
    fn has_fractions(svg: &str) -> bool {
        [" x=\"", " y=\"", " cx=\"", " cy=\"", " points=\""]
            .iter()
            .flat_map(|key| svg.split(key).skip(1))
            .any(|rest| {
                rest.split('"')
                    .next()
                    .is_some_and(|value| value.contains('.'))
            })
    }

    #[test]
    fn what_is_outside_stays_at_the_edge() {
        let axis = axis(10.0);
        assert_eq!(axis.map(&-5.0, (100, 200)), 100);
        assert_eq!(axis.map(&1e300, (100, 200)), 200);
        assert_eq!(axis.map(&5.0, (100, 200)), 150);
        assert_eq!(axis.map(&5.0, (200, 100)), 150);
    }

    #[test]
    fn an_equal_figure_is_equal_text() {
        let layers = || {
            vec![Layer {
                ink: Ink::Text,
                mark: Mark::Line(vec![(0.0, 0.123), (9.87, 0.4)]),
            }]
        };
        assert_eq!(draw(&figure(layers())), draw(&figure(layers())));
    }
}
