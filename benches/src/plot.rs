//! Curves as SVG, which the READMEs show.
//!
//! Must not know what is measured.

use std::path::Path;

use plotters::prelude::*;

use crate::Result;

/// Pixels of a panel.
const SIZE: (u32, u32) = (520, 340);

/// Panels beside each other.
const COLUMNS: usize = 2;

/// One system of axes.
pub(crate) struct Panel {
    /// What stands above it.
    pub(crate) title: String,
    /// What is compared.
    pub(crate) curves: Vec<Curve>,
}

/// One contender's values.
pub(crate) struct Curve {
    /// Whose.
    pub(crate) name: String,
    /// In the order of x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws the panels; all have these words at their axes.
pub(crate) fn draw(path: &Path, (x, y): (&str, &str), panels: &[Panel]) -> Result<()> {
    let columns = panels.len().clamp(1, COLUMNS);
    let rows = panels.len().div_ceil(columns).max(1);
    let size = (SIZE.0 * u32::try_from(columns)?, SIZE.1 * u32::try_from(rows)?);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, area) in panels.iter().zip(root.split_evenly((rows, columns))) {
        let most = |of: fn(&(f64, f64)) -> f64| {
            let points = panel.curves.iter().flat_map(|curve| &curve.points);
            1.05 * points.map(of).fold(f64::MIN_POSITIVE, f64::max)
        };
        let mut chart = ChartBuilder::on(&area)
            .caption(&panel.title, ("sans-serif", 17))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..most(|point| point.0), 0.0..most(|point| point.1))?;
        chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(TRANSPARENT).draw()?;
        for (index, curve) in panel.curves.iter().enumerate() {
            let style = Palette99::pick(index).stroke_width(2);
            let points = curve.points.iter().copied();
            chart
                .draw_series(LineSeries::new(points, style).point_size(3))?
                .label(&curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        let mut legend = chart.configure_series_labels();
        legend.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).draw()?;
    }
    Ok(root.present()?)
}
