//! What was measured beside the paper's curves, as one self-contained HTML page.

use std::fmt::Error;

use crate::chart::{Axes, COLOURS, STYLE};

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

/// The page.
pub(crate) fn html(curves: &[Curve], savings: &[Saving]) -> Result<String, Error> {
    let mut out = format!("<!doctype html><html lang=en><meta charset=utf-8><title>SCF phases</title>{STYLE}");
    out.push_str(
        "<h1>Remote and local state, on a running fabric</h1>\
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
