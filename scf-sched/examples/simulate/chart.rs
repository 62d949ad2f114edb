//! Figures as SVG, without anything to install.

use std::fmt::Write as _;

use scf_sched::sim::Report;

/// Distinct also for those who see colours otherwise (Okabe and Ito).
const COLOURS: [&str; 8] = ["#999999", "#e69f00", "#56b4e9", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000"];
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;

/// Every figure with a name for its file.
pub(crate) fn all(scenario: &str, all: &[(String, Vec<Report>)]) -> Vec<(&'static str, String)> {
    vec![
        ("times", bars(&format!("{scenario}: seconds per request"), "s", all, |run| run.took.mean())),
        ("uplink", bars(&format!("{scenario}: sent over uplinks"), "GB", all, |run| run.uplink_bytes / 1e9)),
        ("timeline", timeline(&format!("{scenario}: seconds per request over the first run"), all)),
        ("front", front(&format!("{scenario}: time against uplink"), all)),
    ]
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"system-ui,sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"20\" y=\"28\" font-size=\"17\" font-weight=\"600\" fill=\"#222\">{}</text>\n{body}</svg>\n",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

fn mean(runs: &[Report], of: impl Fn(&Report) -> f64) -> f64 {
    runs.iter().map(of).sum::<f64>() / runs.len() as f64
}

/// Horizontal bars, each run as a dot on them.
fn bars(title: &str, unit: &str, all: &[(String, Vec<Report>)], of: impl Fn(&Report) -> f64 + Copy) -> String {
    let most = all.iter().flat_map(|(_, runs)| runs.iter().map(of)).fold(1e-12, f64::max);
    let (left, right, top) = (170.0, WIDTH - 90.0, 52.0);
    let step = ((HEIGHT - top - 16.0) / all.len() as f64).min(56.0);
    let x = |value: f64| left + (right - left) * value / most;
    let mut body = String::new();
    for (at, (policy, runs)) in all.iter().enumerate() {
        let (y, value) = (top + at as f64 * step, mean(runs, of));
        let (centre, colour) = (y + step * 0.36, COLOURS[at % COLOURS.len()]);
        let _written = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#222\">{}</text>\n\
             <rect x=\"{left}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{colour}\"/>",
            left - 10.0,
            centre + 4.5,
            escape(policy),
            (x(value) - left).max(1.0),
            step * 0.72,
        );
        let mut furthest = x(value);
        for run in runs {
            furthest = furthest.max(x(of(run)));
            let _written = writeln!(
                body,
                "<circle cx=\"{:.1}\" cy=\"{centre:.1}\" r=\"3\" fill=\"#fff\" stroke=\"#222\" stroke-width=\"1\"/>",
                x(of(run))
            );
        }
        let _written = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#222\">{} {unit}</text>",
            furthest + 8.0,
            centre + 4.5,
            short(value)
        );
    }
    page(title, &body)
}

/// Axes with a scale by tens, and where a value is on them.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn by_tens(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let (low, high) = values
            .fold((f64::INFINITY, 1e-3), |(low, high): (f64, f64), value| (low.min(value.max(1e-3)), high.max(value)));
        let (mut from, mut to) = (low.min(high).log10() - 0.08, high.log10() + 0.08);
        // At least one whole step, so that there is something to read it by.
        if to.floor() < from.ceil() || to - from < 0.6 {
            (from, to) = (from.floor(), to.ceil());
        }
        Self { from, to, start, end }
    }

    fn at(&self, value: f64) -> f64 {
        self.start + (self.end - self.start) * (value.max(1e-3).log10() - self.from) / (self.to - self.from)
    }

    /// Values at which a line is drawn: 1, 2 and 5 times powers of ten.
    fn ticks(&self) -> Vec<f64> {
        let powers = (self.from.floor() as i32)..=(self.to.ceil() as i32);
        let steps: &[f64] = if self.to - self.from > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        all.filter(|tick| (self.from..=self.to).contains(&tick.log10())).collect()
    }
}

fn grid(body: &mut String, y: &Axis, left: f64, right: f64, unit: &str) {
    for tick in y.ticks() {
        let at = y.at(tick);
        let _written = writeln!(
            body,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{tick} {unit}</text>",
            left - 8.0,
            at + 4.5
        );
    }
}

/// The mean of the first run in each stretch of time.
fn timeline(title: &str, all: &[(String, Vec<Report>)]) -> String {
    let (left, right, top, bottom) = (74.0, WIDTH - 160.0, 48.0, HEIGHT - 44.0);
    let points = || all.iter().flat_map(|(_, runs)| runs[0].timeline.points());
    let last = points().map(|(at, _)| at).fold(1.0, f64::max);
    let y = Axis::by_tens(points().map(|(_, value)| value), bottom, top);
    let x = |at: f64| left + (right - left) * at / last;
    let mut body = String::new();
    grid(&mut body, &y, left, right, "s");
    let hours = last / 3600.0;
    let step = [0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 12.0, 24.0, 48.0].into_iter().find(|step| hours / step <= 8.0);
    let step = step.unwrap_or(hours / 8.0);
    for tick in 0..=(hours / step) as u32 {
        let hour = f64::from(tick) * step;
        let _written = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{hour} h</text>",
            x(hour * 3600.0),
            bottom + 22.0
        );
    }
    for (at, (policy, runs)) in all.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let line: Vec<String> =
            runs[0].timeline.points().map(|(at, value)| format!("{:.1},{:.1}", x(at), y.at(value))).collect();
        let legend = top + 16.0 + at as f64 * 22.0;
        let _written = writeln!(
            body,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" stroke-linejoin=\"round\" points=\"{}\"/>\n\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{:.1}\" y=\"{legend:.1}\" fill=\"#222\">{}</text>",
            line.join(" "),
            right + 14.0,
            right + 30.0,
            legend - 4.5,
            legend - 4.5,
            right + 36.0,
            escape(policy)
        );
    }
    page(title, &body)
}

/// Each run as a point: left and low is good.
fn front(title: &str, all: &[(String, Vec<Report>)]) -> String {
    let (left, right, top, bottom) = (74.0, WIDTH - 160.0, 48.0, HEIGHT - 50.0);
    let runs = || all.iter().flat_map(|(_, runs)| runs);
    let y = Axis::by_tens(runs().map(|run| run.took.mean()), bottom, top);
    let x = Axis::by_tens(runs().map(|run| run.uplink_bytes / 1e9), left, right);
    let mut body = String::new();
    grid(&mut body, &y, left, right, "s");
    for tick in x.ticks() {
        let at = x.at(tick);
        let _written = writeln!(
            body,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"#eee\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{tick}</text>",
            bottom + 20.0
        );
    }
    let _written = writeln!(
        body,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">GB over uplinks</text>",
        f64::midpoint(left, right),
        bottom + 40.0
    );
    for (at, (policy, runs)) in all.iter().enumerate() {
        let (colour, legend) = (COLOURS[at % COLOURS.len()], top + 16.0 + at as f64 * 22.0);
        for run in runs {
            let _written = writeln!(
                body,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"{colour}\" fill-opacity=\"0.75\"/>",
                x.at(run.uplink_bytes / 1e9),
                y.at(run.took.mean())
            );
        }
        let _written = writeln!(
            body,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{legend:.1}\" fill=\"#222\">{}</text>",
            right + 22.0,
            legend - 4.5,
            right + 36.0,
            escape(policy)
        );
    }
    page(title, &body)
}
