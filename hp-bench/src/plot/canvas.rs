//! Axes, lines and cells as SVG text. Knows numbers, not what they mean.

use std::ops::Range;

use plotters::prelude::*;

use super::theme::{COLORS, themed};

/// One axis.
pub(super) struct Axis<'a> {
    pub(super) name: &'a str,
    /// Not empty, finite.
    pub(super) range: Range<f64>,
    pub(super) label: &'a dyn Fn(f64) -> String,
}

/// Points in their order, joined.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A filled rectangle.
pub(super) struct Cell {
    pub(super) from: (f64, f64),
    pub(super) to: (f64, f64),
    /// 0 to 1.
    pub(super) darkness: f64,
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

/// What stands between the axes.
pub(super) enum Content<'a> {
    /// Lines, with their names beside.
    Lines(&'a [Line]),
    /// Cells of one color.
    Cells(&'a [Cell]),
}

/// Draws.
///
/// # Errors
/// The drawing crate's own words.
pub(super) fn draw(
    title: &str,
    x: &Axis<'_>,
    y: &Axis<'_>,
    content: &Content<'_>,
) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .caption(title, ("sans-serif", 18))
            .x_label_area_size(40)
            .y_label_area_size(76)
            .build_cartesian_2d(x.range.clone(), y.range.clone())
            .map_err(|error| error.to_string())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .label_style(("sans-serif", LABEL_SIZE))
            .x_desc(x.name)
            .y_desc(y.name)
            .x_label_formatter(&|number| (x.label)(*number))
            .y_label_formatter(&|number| (y.label)(*number))
            .draw()
            .map_err(|error| error.to_string())?;
        match content {
            Content::Lines(curves) => lines(&mut chart, curves)?,
            Content::Cells(heat) => cells(&mut chart, heat)?,
        }
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(themed(&svg))
}

fn lines<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>, curves: &[Line]) -> Result<(), String> {
    for (line, &color) in curves.iter().zip(COLORS.iter().cycle()) {
        let points = line.points.iter().copied();
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))
            .map_err(|error| error.to_string())?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font(("sans-serif", LABEL_SIZE))
        .position(SeriesLabelPosition::UpperLeft)
        .draw()
        .map_err(|error| error.to_string())
}

fn cells<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>, heat: &[Cell]) -> Result<(), String> {
    let [heat_color, ..] = COLORS;
    let rectangles = heat.iter().map(|cell| {
        let style = heat_color.mix(cell.darkness.clamp(0.0, 1.0)).filled();
        Rectangle::new([cell.from, cell.to], style)
    });
    chart
        .draw_series(rectangles)
        .map(|_drawn| ())
        .map_err(|error| error.to_string())
}

const LABEL_SIZE: u32 = 15;
const SIZE: (u32, u32) = (860, 360);
