//! Charts of what examples and benches measured, as SVG inside a page.

use std::fmt::{Error, Write};

const WIDE: f64 = 520.0;
const HIGH: f64 = 340.0;
const LEFT: f64 = 48.0;
const BOTTOM: f64 = 40.0;
/// Of the first, second … line or dot of a chart.
pub(crate) const COLOURS: [&str; 4] = ["#0b6e4f", "#c08a1e", "#4a6fa5", "#a0568c"];
/// What a page with charts looks like.
pub(crate) const STYLE: &str = "<style>\
    body{font:15px/1.5 system-ui,sans-serif;max-width:1120px;margin:2em auto;padding:0 1em;color:#222}\
    figure{display:inline-block;width:540px;margin:0 8px 16px 0;vertical-align:top}\
    svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#444}\
    figcaption{font-weight:600}pre{overflow:auto;font-size:12px}:root{color-scheme:light dark}\
    @media(prefers-color-scheme:dark){body{background:#16181a;color:#ddd}svg text{fill:#aaa}svg line{stroke:#33373b}}\
    </style>";

/// The axes of a chart and what they span.
pub(crate) struct Axes {
    pub(crate) x: (f64, f64),
    pub(crate) y: (f64, f64),
}

impl Axes {
    fn x(&self, x: f64) -> f64 {
        LEFT + (x - self.x.0) / (self.x.1 - self.x.0) * (WIDE - LEFT - 12.0)
    }

    fn y(&self, y: f64) -> f64 {
        let share = ((y - self.y.0) / (self.y.1 - self.y.0)).min(1.0);
        HIGH - BOTTOM - share * (HIGH - BOTTOM - 14.0)
    }

    /// Begins a figure: its caption, the lines and numbers of both axes at `steps`, and what is `across`.
    pub(crate) fn draw(&self, out: &mut String, title: &str, across: &str, steps: [f64; 2]) -> Result<(), Error> {
        write!(out, "<figure><figcaption>{title}</figcaption><svg viewBox='0 0 {WIDE} {HIGH}' role=img>")?;
        let mut at = self.y.0;
        while at <= self.y.1 + 1e-9 {
            let y = self.y(at);
            write!(out, "<line x1={LEFT} x2={} y1={y:.1} y2={y:.1} stroke='#ddd'/>", WIDE - 12.0)?;
            write!(out, "<text x={} y={:.1} text-anchor=end>{at:.1}</text>", LEFT - 6.0, y + 4.0)?;
            at += steps[1];
        }
        let mut at = self.x.0;
        while at <= self.x.1 + 1e-9 {
            write!(out, "<text x={:.1} y={} text-anchor=middle>{at:.0}</text>", self.x(at), HIGH - BOTTOM + 16.0)?;
            at += steps[0];
        }
        write!(out, "<text x={} y={} text-anchor=middle>{across}</text>", (LEFT + WIDE) / 2.0, HIGH - 6.0)
    }

    /// A line through `points`, as far as they are not above the chart.
    pub(crate) fn line(
        &self,
        out: &mut String,
        points: impl Iterator<Item = (f64, f64)>,
        colour: &str,
    ) -> Result<(), Error> {
        let mut line = String::new();
        for (x, y) in points.filter(|(_, y)| *y <= self.y.1) {
            write!(line, "{:.1},{:.1} ", self.x(x), self.y(y))?;
        }
        write!(out, "<polyline points='{line}' fill=none stroke='{colour}' stroke-width=1.6 />")
    }

    /// A dot that says `title` when it is pointed at.
    pub(crate) fn dot(
        &self,
        out: &mut String,
        at: (f64, f64),
        radius: f64,
        colour: &str,
        title: &str,
    ) -> Result<(), Error> {
        let (x, y) = (self.x(at.0), self.y(at.1));
        write!(out, "<circle cx={x:.1} cy={y:.1} r={radius} fill='{colour}'><title>{title}</title></circle>")
    }

    /// A word beside a place.
    pub(crate) fn label(&self, out: &mut String, at: (f64, f64), colour: &str, text: &str) -> Result<(), Error> {
        let (x, y) = (self.x(at.0) + 6.0, self.y(at.1) - 6.0);
        write!(out, "<text x={x:.1} y={y:.1} style='fill:{colour}'>{text}</text>")
    }
}
