//! An SVG of bars: a panel per work, a bar per peer, its range as a line.

use std::fmt::Write as _;

use crate::report::{Report, number, title, unit};

const WIDTH: f64 = 760.0;
const NAMES: f64 = 160.0;
const BARS: f64 = 460.0;
const LINE: f64 = 22.0;
const HEAD: f64 = 34.0;

/// Draws medians and ranges, each panel on its own scale from zero.
pub(crate) fn draw(report: &Report) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for of in report.works() {
        y += HEAD;
        let _ = writeln!(
            body,
            r#"<text x="10" y="{:.1}" font-weight="bold">{}, {}</text>"#,
            y - 12.0,
            escape(&title(of.0, of.1)),
            unit(of.1)
        );
        let rows: Vec<_> = report
            .rows(of)
            .filter_map(|row| Some((row, row.spread(|figure| Some(figure.value))?)))
            .collect();
        let most = rows.iter().map(|(_, spread)| spread.most).fold(f64::MIN_POSITIVE, f64::max);
        for (row, spread) in rows {
            let [median, least, most] =
                [spread.median, spread.least, spread.most].map(|value| value / most * BARS);
            let (middle, base) = (y + LINE / 2.0 - 2.0, y + LINE - 7.0);
            let color = match row.peer {
                "raw" => "#9a9a9a",
                "scheduler-core" => "#1f6fb4",
                _ => "#d9a441",
            };
            let _ = writeln!(
                body,
                r##"<text x="10" y="{base:.1}">{}</text>
<rect x="{NAMES}" y="{y:.1}" width="{median:.1}" height="{:.1}" fill="{color}"/>
<path d="M{:.1} {middle:.1}H{:.1}" stroke="#222" stroke-width="1.5"/>
<text x="{:.1}" y="{base:.1}">{}</text>"##,
                escape(row.peer),
                LINE - 4.0,
                NAMES + least,
                NAMES + most,
                NAMES + most + 8.0,
                number(spread.median),
            );
            y += LINE;
        }
    }
    let height = y + 16.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#fff"/>
{body}</svg>
"##
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
