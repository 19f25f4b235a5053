//! Charts as SVG, drawn here: no script, no library, and nothing that the content policy forbids.

use std::fmt::Write as _;

use maud::{Markup, html};

/// The drawing's own units; it is stretched to its place.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;

/// Points that are drawn at most: more than a screen shows.
const POINTS_MAX: usize = 240;

/// A named row of values, oldest first.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// Its colour.
    pub(super) class: &'a str,
    pub(super) values: Vec<f64>,
}

/// Areas on top of one another.
pub(super) fn stacked(title: &str, note: &str, lines: &[Line<'_>]) -> Markup {
    let values: Vec<_> = lines.iter().map(|line| thinned(&line.values)).collect();
    let points = values.first().map_or(0, Vec::len);
    let sum_until =
        |line: usize, point: usize| -> f64 { values[..line].iter().map(|it| it[point]).sum() };
    let top = (0..points).map(|point| sum_until(values.len(), point)).fold(1.0, f64::max);
    let areas = lines.iter().enumerate().map(|(place, line)| {
        let upper = (0..points).map(|it| (x(it, points), y(sum_until(place + 1, it), top)));
        let lower = (0..points).rev().map(|it| (x(it, points), y(sum_until(place, it), top)));
        (line.class, path(upper.chain(lower), true))
    });
    let areas: Vec<_> = areas.collect();
    figure(
        title,
        note,
        lines,
        &format!("{top:.0}"),
        &html! {
            @for (class, path) in &areas { path class={ "area " (class) } d=(path) {} }
        },
    )
}

/// Lines beside one another.
pub(super) fn lines(title: &str, note: &str, unit: &str, lines: &[Line<'_>]) -> Markup {
    let values: Vec<_> = lines.iter().map(|line| thinned(&line.values)).collect();
    let top = values.iter().flatten().copied().fold(1.0, f64::max);
    let paths: Vec<_> = values
        .iter()
        .zip(lines)
        .map(|(values, line)| {
            let points = values.iter().enumerate();
            let points = points.map(|(place, value)| (x(place, values.len()), y(*value, top)));
            (line.class, path(points, false))
        })
        .collect();
    figure(
        title,
        note,
        lines,
        &format!("{top:.1} {unit}"),
        &html! {
            @for (class, path) in &paths { path class={ "line " (class) } d=(path) {} }
        },
    )
}

/// A bar for each value.
pub(super) fn bars(title: &str, note: &str, line: &Line<'_>) -> Markup {
    let values = thinned(&line.values);
    let top = values.iter().copied().fold(1.0, f64::max);
    let width = WIDTH / values.len().max(1) as f64;
    figure(
        title,
        note,
        std::slice::from_ref(line),
        &format!("{top:.0}"),
        &html! {
            @for (place, value) in values.iter().enumerate() {
                @if *value > 0.0 {
                    rect class={ "bar " (line.class) } x=(rounded(place as f64 * width)) width=(rounded(width * 0.8))
                        y=(rounded(y(*value, top))) height=(rounded(HEIGHT - y(*value, top))) {}
                }
            }
        },
    )
}

fn figure(title: &str, note: &str, lines: &[Line<'_>], top: &str, drawing: &Markup) -> Markup {
    html! {
        figure.panel.chart {
            figcaption {
                b { (title) } " " span.note { (note) }
                @if lines.len() > 1 {
                    span.key { @for line in lines { span class=(line.class) { (line.name) } } }
                }
            }
            div.plot {
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(format!("{title}: {note}")) { (drawing) }
                span.top { (top) }
            }
        }
    }
}

/// The values, or the largest of each few when they are more than can be drawn.
fn thinned(values: &[f64]) -> Vec<f64> {
    let each = values.len().div_ceil(POINTS_MAX).max(1);
    values.chunks(each).map(|few| few.iter().copied().fold(0.0, f64::max)).collect()
}

fn x(place: usize, points: usize) -> f64 {
    WIDTH * place as f64 / (points.max(2) - 1) as f64
}

fn y(value: f64, top: f64) -> f64 {
    HEIGHT - HEIGHT * (value / top).clamp(0.0, 1.0)
}

fn rounded(value: f64) -> String {
    format!("{value:.1}")
}

fn path(points: impl Iterator<Item = (f64, f64)>, is_closed: bool) -> String {
    let mut path = String::new();
    for (place, (x, y)) in points.enumerate() {
        let verb = if place == 0 { 'M' } else { 'L' };
        // Writing to a string does not fail.
        let _ = write!(path, "{verb}{x:.1} {y:.1}");
    }
    if is_closed && !path.is_empty() {
        path.push('Z');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_lie_on_one_another_and_fill_the_height() {
        let line = |class, values: &[f64]| Line { name: class, class, values: values.to_vec() };
        let lines = [line("active", &[1.0, 3.0]), line("idle", &[3.0, 1.0])];
        let drawn = stacked("Nodes", "", &lines).into_string();
        assert!(drawn.contains("M0.0 75.0L1000.0 25.0L1000.0 100.0L0.0 100.0Z"), "{drawn}");
        assert!(drawn.contains("M0.0 0.0L1000.0 0.0L1000.0 25.0L0.0 75.0Z"), "{drawn}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let line = Line { name: "none", class: "idle", values: Vec::new() };
        assert!(!bars("Nothing", "", &line).into_string().contains("rect"));
        assert!(lines("Nothing", "", "ms", &[line]).into_string().contains("d=\"\""));
    }

    #[test]
    fn a_peak_is_not_lost_between_points() {
        let mut values = vec![0.0; POINTS_MAX * 3];
        values[100] = 9.0;
        let thinned = thinned(&values);
        assert_eq!(thinned.len(), POINTS_MAX);
        assert!(thinned.contains(&9.0));
    }
}
