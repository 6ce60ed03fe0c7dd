//! A line over time in a few lines of text: each character holds two by four dots.

/// Draws points of (time, value) on `width` × `height` characters, with the highest and the
/// lowest value at the left. Points stand at their time, not at their index, so that a thinned
/// series keeps its shape. Points that are not finite are left out; without any there is no line.
///
/// Empty for no points or no room. A series of one value is a line in the middle.
pub(crate) fn plot(points: &[(i64, f64)], width: usize, height: usize) -> Vec<String> {
    let points: Vec<(i64, f64)> =
        points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let (Some(&(first_ms, first)), Some(&(last_ms, _))) = (points.first(), points.last()) else {
        return Vec::new();
    };
    if width == 0 || height == 0 {
        return Vec::new();
    }
    let low = points.iter().map(|p| p.1).fold(first, f64::min);
    let high = points.iter().map(|p| p.1).fold(first, f64::max);

    let mut canvas = Canvas::new(width, height);
    let column = |at_ms: i64| canvas_position(at_ms, first_ms, last_ms, width * DOTS_ACROSS);
    let row = |value: f64| {
        let rows = height * DOTS_DOWN;
        let share = if high > low { (high - value) / (high - low) } else { 0.5 };
        nearest(share, rows)
    };
    let mut from = (column(first_ms), row(first));
    for &(at_ms, value) in &points {
        let to = (column(at_ms), row(value));
        canvas.line(from, to);
        from = to;
    }
    label(canvas.rows(), high, low)
}

const DOTS_ACROSS: usize = 2;
const DOTS_DOWN: usize = 4;

fn canvas_position(at_ms: i64, first_ms: i64, last_ms: i64, dots: usize) -> usize {
    // i128: the difference of two i64 can be twice as large.
    let passed = i128::from(at_ms) - i128::from(first_ms);
    let all = i128::from(last_ms) - i128::from(first_ms);
    #[expect(clippy::cast_precision_loss, reason = "a position among some hundred dots")]
    let share = if all > 0 { passed as f64 / all as f64 } else { 0.0 };
    nearest(share, dots)
}

/// The dot that stands for a share (0 to 1) of the way from the first to the last of `dots`.
fn nearest(share: f64, dots: usize) -> usize {
    let last = dots - 1;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the dots there are"
    )]
    let dot = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
    dot.min(last)
}

/// Puts the bounds before the first and the last row.
fn label(rows: Vec<String>, high: f64, low: f64) -> Vec<String> {
    let (top, bottom) = (format!("{high:.2}"), format!("{low:.2}"));
    let width = top.len().max(bottom.len());
    let last = rows.len() - 1;
    let labelled = rows.into_iter().enumerate().map(|(index, row)| {
        let bound = match index {
            0 => top.as_str(),
            _ if index == last => bottom.as_str(),
            _ => "",
        };
        format!("{bound:>width$} ┤{row}")
    });
    labelled.collect()
}

struct Canvas {
    width: usize,
    cells: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self { width, cells: vec![0; width * height] }
    }

    fn dot(&mut self, column: usize, row: usize) {
        // The order of the eight dots in the Unicode block "Braille Patterns".
        const BITS: [[u8; DOTS_ACROSS]; DOTS_DOWN] =
            [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let cell = row / DOTS_DOWN * self.width + column / DOTS_ACROSS;
        self.cells[cell] |= BITS[row % DOTS_DOWN][column % DOTS_ACROSS];
    }

    /// Every dot between two, stepping along the longer side.
    fn line(&mut self, from: (usize, usize), to: (usize, usize)) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1));
        let between = |a: usize, b: usize, step: usize| {
            if a <= b {
                a + ((b - a) * step + steps / 2) / steps
            } else {
                a - ((a - b) * step + steps / 2) / steps
            }
        };
        self.dot(to.0, to.1);
        for step in 0..steps {
            self.dot(between(from.0, to.0, step), between(from.1, to.1, step));
        }
    }

    fn rows(&self) -> Vec<String> {
        let character = |bits: &u8| char::from_u32(0x2800 + u32::from(*bits)).unwrap_or(' ');
        self.cells.chunks(self.width).map(|row| row.iter().map(character).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(points: &[(i64, f64)], expected: &[&str]) {
        assert_eq!(plot(points, 4, 2), expected);
    }

    #[test]
    fn a_line_goes_through_its_points() {
        check(&[(0, 1.0), (7, 8.0)], &["8.00 ┤⠀⠀⡠⠊", "1.00 ┤⡠⠊⠀⠀"]);
        check(&[(0, 8.0), (7, 1.0)], &["8.00 ┤⠑⢄⠀⠀", "1.00 ┤⠀⠀⠑⢄"]);
        // A jump is drawn whole, half of it at either time.
        check(&[(0, 1.0), (6, 1.0), (7, 8.0)], &["8.00 ┤⠀⠀⠀⢸", "1.00 ┤⣀⣀⣀⡇"]);
    }

    #[test]
    fn a_series_without_a_shape_is_drawn_or_empty() {
        check(&[], &[]);
        check(&[(0, f64::NAN)], &[]);
        check(&[(5, 3.0)], &["3.00 ┤⠀⠀⠀⠀", "3.00 ┤⠁⠀⠀⠀"]);
        check(&[(0, 3.0), (9, 3.0)], &["3.00 ┤⠀⠀⠀⠀", "3.00 ┤⠉⠉⠉⠉"]);
        check(&[(0, 1.0), (3, f64::INFINITY), (7, 8.0)], &["8.00 ┤⠀⠀⡠⠊", "1.00 ┤⡠⠊⠀⠀"]);
        assert!(plot(&[(0, 1.0)], 0, 8).is_empty());
        assert!(plot(&[(0, 1.0)], 60, 0).is_empty());
    }

    #[test]
    fn extreme_times_and_values_do_not_panic() {
        let points = [(i64::MIN, f64::MIN), (0, 0.0), (i64::MAX, f64::MAX)];
        assert_eq!(plot(&points, 60, 8).len(), 8);
        // Times that go backwards are drawn at the border.
        assert_eq!(plot(&[(5, 1.0), (0, 2.0), (3, 1.5)], 60, 8).len(), 8);
    }

    #[test]
    fn every_row_has_the_same_width() {
        let points: Vec<(i64, f64)> =
            (0..2000).map(|i| (i, (i as f64 / 50.0).sin() * 1000.0)).collect();
        let rows = plot(&points, 60, 8);
        assert_eq!(rows.len(), 8);
        for row in rows {
            assert_eq!(row.chars().count(), "-1000.00 ┤".chars().count() + 60, "{row}");
        }
    }
}
