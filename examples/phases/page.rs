//! What was measured beside the paper's curves, as one self-contained HTML page.

use std::fmt::{Error, Write};

const WIDE: f64 = 520.0;
const HIGH: f64 = 340.0;
const LEFT: f64 = 48.0;
const BOTTOM: f64 = 40.0;
const COLOURS: [&str; 4] = ["#0b6e4f", "#c08a1e", "#4a6fa5", "#a0568c"];

/// Measured with so many local scopes, in seconds of the paper.
pub(crate) struct Point {
    pub(crate) local: f64,
    pub(crate) mean: f64,
    pub(crate) p95: f64,
}

/// What so many clients have.
pub(crate) struct Curve {
    pub(crate) clients: usize,
    /// Local scopes and mean response of the model.
    pub(crate) model: Vec<(f64, f64)>,
    pub(crate) points: Vec<Point>,
    /// The share that was found while it ran.
    pub(crate) found: Point,
}

/// How few slots do.
pub(crate) struct Saving {
    pub(crate) wanted: f64,
    /// Clients, and slots per client of the model.
    pub(crate) model: Vec<(f64, f64)>,
    /// Slots per client at 100 clients.
    pub(crate) measured: f64,
    pub(crate) overflow: f64,
}

/// The axes of a chart and what they span.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
}

impl Axes {
    fn x(&self, x: f64) -> f64 {
        LEFT + (x - self.x.0) / (self.x.1 - self.x.0) * (WIDE - LEFT - 12.0)
    }

    fn y(&self, y: f64) -> f64 {
        let share = ((y - self.y.0) / (self.y.1 - self.y.0)).min(1.0);
        HIGH - BOTTOM - share * (HIGH - BOTTOM - 14.0)
    }

    fn draw(&self, out: &mut String, title: &str, across: &str, steps: [f64; 2]) -> Result<(), Error> {
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

    fn line(&self, out: &mut String, points: impl Iterator<Item = (f64, f64)>, colour: &str) -> Result<(), Error> {
        let mut line = String::new();
        for (x, y) in points.filter(|(_, y)| *y <= self.y.1) {
            write!(line, "{:.1},{:.1} ", self.x(x), self.y(y))?;
        }
        write!(out, "<polyline points='{line}' fill=none stroke='{colour}' stroke-width=1.6 />")
    }

    fn dot(&self, out: &mut String, at: (f64, f64), radius: f64, colour: &str, title: &str) -> Result<(), Error> {
        let (x, y) = (self.x(at.0), self.y(at.1));
        write!(out, "<circle cx={x:.1} cy={y:.1} r={radius} fill='{colour}'><title>{title}</title></circle>")
    }

    fn label(&self, out: &mut String, at: (f64, f64), colour: &str, text: &str) -> Result<(), Error> {
        let (x, y) = (self.x(at.0) + 6.0, self.y(at.1) - 6.0);
        write!(out, "<text x={x:.1} y={y:.1} style='fill:{colour}'>{text}</text>")
    }
}

/// The page.
pub(crate) fn html(curves: &[Curve], savings: &[Saving]) -> Result<String, Error> {
    let mut out = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><title>SCF phases</title><style>\
         body{font:15px/1.5 system-ui,sans-serif;max-width:1120px;margin:2em auto;padding:0 1em;color:#222}\
         figure{display:inline-block;width:540px;margin:0 8px 16px 0;vertical-align:top}\
         svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#444}\
         figcaption{font-weight:600}</style>\
         <h1>Remote and local state, on a running fabric</h1>\
         <p>After Puliafito et al., <i>Stateful Function-as-a-Service at the Edge</i>, IEEE Computer 55(9), 2022: \
         clients call at 0.075 calls a second, a call takes 1 s where its state is local and 3 s where it is remote; \
         40 slots. Run at 1:100 of the time, shown in seconds of the paper. Lines: the paper's model. Dots: measured; \
         the large ones with the number of local clients that was found at run time.</p>",
    );
    let axes = Axes { x: (0.0, 40.0), y: (0.0, 5.0) };
    axes.draw(&mut out, "Mean response (s) by local clients", "clients with a slot of their own", [10.0, 1.0])?;
    for (Curve { clients, model, points, found }, colour) in curves.iter().zip(COLOURS) {
        axes.line(&mut out, model.iter().copied(), colour)?;
        for point in points {
            axes.dot(&mut out, (point.local, point.mean), 3.0, colour, &format!("N = {clients}: {:.2} s", point.mean))?;
        }
        axes.dot(&mut out, (found.local, found.mean), 6.0, colour, &format!("N = {clients}: {:.2} s", found.mean))?;
        axes.label(&mut out, (found.local, found.mean), colour, &format!("N = {clients}"))?;
    }
    out.push_str("</svg></figure>");
    let axes = Axes { x: (0.0, 40.0), y: (0.0, 12.0) };
    axes.draw(&mut out, "95th percentile (s), measured", "clients with a slot of their own", [10.0, 2.0])?;
    for (Curve { clients, points, found, .. }, colour) in curves.iter().zip(COLOURS) {
        let mut all: Vec<_> = points.iter().chain([found]).map(|point| (point.local, point.p95)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        axes.line(&mut out, all.iter().copied(), colour)?;
        for at in all {
            axes.dot(&mut out, at, 3.0, colour, &format!("N = {clients}: {:.2} s", at.1))?;
        }
        axes.dot(&mut out, (found.local, found.p95), 6.0, colour, &format!("N = {clients}: {:.2} s", found.p95))?;
        axes.label(&mut out, (found.local, found.p95), colour, &format!("N = {clients}"))?;
    }
    out.push_str("</svg></figure>");
    let axes = Axes { x: (0.0, 100.0), y: (0.0, 1.2) };
    axes.draw(&mut out, "Slots per client with at most 1 % overflow", "clients", [20.0, 0.2])?;
    for (Saving { wanted, model, measured, overflow }, colour) in savings.iter().zip(COLOURS) {
        axes.line(&mut out, model.iter().copied(), colour)?;
        let title = format!("{measured:.2} slots per client, overflow {:.2} %", overflow * 100.0);
        axes.dot(&mut out, (100.0, *measured), 6.0, colour, &title)?;
        let text = format!("{:.0} % local", wanted * 100.0);
        axes.label(&mut out, (76.0, *measured + 0.02), colour, &text)?;
    }
    out.push_str("</svg></figure></html>");
    Ok(out)
}
