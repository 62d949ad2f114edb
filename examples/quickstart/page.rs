//! The run as one self-contained HTML page.

use std::{fmt::Write, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::{
    network::SCHEDULE,
    record::{ARMS, Frame},
    report::{labels, phases},
};

const LEFT: f64 = 90.0;
const STEP: f64 = 15.0;
const CHART: f64 = 260.0;
const ARM_COLOURS: [&str; 4] = ["#0b6e4f", "#c08a1e", "#4a6fa5", "#a0568c"];
const NODE_COLOURS: [(&str, &str); 3] = [("camera", "#c08a1e"), ("gateway", "#0b6e4f"), ("cloud", "#4a6fa5")];
const WEATHER_COLOURS: [&str; 4] = ["#e6f2ec", "#fbeecf", "#f7d9d5", "#e6f2ec"];
const LOWEST_MS: f64 = 10.0;
const DECADES: f64 = 2.7;

/// The page: timeline, photos, and `tables` as text. `photos` are names and JPEG files.
pub(crate) fn html(frames: &[Frame], photos: &[(&str, Vec<u8>)], tables: &str) -> Result<String, std::fmt::Error> {
    let mut out = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><title>SCF quickstart</title><style>\
         body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}\
         svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#444}pre{overflow:auto;font-size:12px}\
         figure{display:inline-block;margin:0 12px 12px 0;width:230px;vertical-align:top}figure img{width:100%;\
         height:150px;object-fit:cover;border-radius:4px}figcaption{font-size:13px}</style>\
         <h1>One photo after another, across camera, gateway and cloud</h1>",
    );
    let blocks: usize =
        frames.iter().filter_map(|f| f.arms[0].as_ref().ok()).map(|r| r.blocks.iter().sum()).max().unwrap_or(1);
    write!(
        out,
        "<p>{} frames, EfficientNet-Lite0 in {blocks} blocks, split anew for every frame. Lines and dots: time of the \
         classification by arm. Bars: which node ran how many blocks of the planned split. Below: where the state of \
         <i>tally</i> was.</p>",
        frames.len()
    )?;
    timeline(&mut out, frames, blocks)?;
    out.push_str("<h2>What was seen</h2>");
    for (photo, label, probability, count) in labels(frames) {
        let image = photos
            .iter()
            .find(|(name, _)| *name == photo)
            .map(|(_, bytes)| BASE64_STANDARD.encode(bytes))
            .unwrap_or_default();
        write!(
            out,
            "<figure><img alt='{photo}' src='data:image/jpeg;base64,{image}'><figcaption><b>{}</b> {probability:.2}, \
             {count} frames</figcaption></figure>",
            escape(&label)
        )?;
    }
    write!(out, "<h2>Figures</h2><pre>{}</pre></html>", escape(tables))?;
    Ok(out)
}

fn timeline(out: &mut String, frames: &[Frame], blocks: usize) -> std::fmt::Result {
    let width = LEFT + STEP * frames.len() as f64 + 20.0;
    let x = |frame: usize| LEFT + STEP * frame as f64;
    let y = |time: Duration| {
        let decades = (time.as_secs_f64() * 1e3 / LOWEST_MS).log10().clamp(0.0, DECADES);
        20.0 + CHART * (1.0 - decades / DECADES)
    };
    write!(out, "<svg viewBox='0 0 {width} 480' role=img aria-label='timeline of the run'>")?;
    let mut first = 0;
    for (weather, colour) in SCHEDULE.iter().zip(WEATHER_COLOURS) {
        let (left, wide) = (x(first), STEP * weather.frames as f64);
        let uplink = weather.uplink.map_or_else(|| "no uplink".into(), |link| format!("uplink {}", link.bandwidth));
        let name = weather.name;
        write!(out, "<rect x={left} y=20 width={wide} height=420 fill='{colour}'/>")?;
        write!(out, "<text x={0} y=34 font-weight=600>{name}</text><text x={0} y=48>{uplink}</text>", left + 4.0)?;
        first += weather.frames;
    }
    for ms in [10u64, 30, 100, 300, 1000, 3000] {
        let at = y(Duration::from_millis(ms));
        write!(out, "<line x1={LEFT} x2={width} y1={at} y2={at} stroke='#bbb' stroke-width=.5 />")?;
        write!(out, "<text x={} y={} text-anchor=end>{ms} ms</text>", LEFT - 6.0, at + 4.0)?;
    }
    for (arm, colour) in ARM_COLOURS.iter().enumerate().rev() {
        let mut line = String::new();
        for (position, frame) in frames.iter().enumerate() {
            let Ok(run) = &frame.arms[arm] else { continue };
            let (cx, cy) = (x(position) + STEP / 2.0, y(run.took));
            write!(line, "{cx},{cy:.1} ")?;
            let radius = if arm == 0 { 3.2 } else { 2.2 };
            write!(
                out,
                "<circle cx={cx} cy={cy:.1} r={radius} fill='{colour}' fill-opacity={}>",
                if arm == 0 { 1.0 } else { 0.6 }
            )?;
            write!(
                out,
                "<title>frame {}, {}: {:.1} ms, {}</title></circle>",
                position + 1,
                ARMS[arm],
                run.took.as_secs_f64() * 1e3,
                run.split
            )?;
        }
        if arm == 0 {
            write!(out, "<polyline points='{line}' fill=none stroke='{colour}' stroke-width=1.6 />")?;
        }
        let left = LEFT + 150.0 * arm as f64;
        write!(out, "<circle cx={left} cy=470 r=4 fill='{colour}'/><text x={} y=474>{}</text>", left + 8.0, ARMS[arm])?;
    }
    write!(out, "<text x={} y=345 text-anchor=end>blocks on</text>", LEFT - 6.0)?;
    for (position, frame) in frames.iter().enumerate() {
        let Ok(run) = &frame.arms[0] else { continue };
        let mut top = 300.0;
        for (count, (node, colour)) in run.blocks.iter().zip(NODE_COLOURS) {
            let high = 90.0 * *count as f64 / blocks as f64;
            write!(
                out,
                "<rect x={} y={top:.1} width={} height={high:.1} fill='{colour}'>",
                x(position) + 1.0,
                STEP - 2.0
            )?;
            write!(out, "<title>frame {}: {count} blocks on {node}</title></rect>", position + 1)?;
            top += high;
        }
    }
    for (row, (node, colour)) in NODE_COLOURS.iter().enumerate() {
        let at = 360.0 + 14.0 * row as f64;
        write!(
            out,
            "<text x={} y={at} text-anchor=end style='fill:{colour};font-weight:600'>{node}</text>",
            LEFT - 6.0
        )?;
    }
    write!(out, "<text x={} y=418 text-anchor=end>tally's state</text>", LEFT - 6.0)?;
    for (from, to, phase) in phases(frames) {
        let (left, wide) = (x(from - 1), STEP * (to + 1 - from) as f64);
        let colour = if phase == "local" { "#7fb69b" } else { "#c9c4d6" };
        write!(out, "<rect x={left} y=402 width={wide} height=24 fill='{colour}'/>")?;
        if wide > 50.0 {
            write!(out, "<text x={} y=418>{phase}</text>", left + 4.0)?;
        }
    }
    let last = frames.last().map(|frame| frame.at).unwrap_or_default();
    write!(out, "<text x={LEFT} y=454>frame 1</text>")?;
    write!(
        out,
        "<text x={} y=454 text-anchor=end>frame {}, {:.0} s later</text></svg>",
        width - 20.0,
        frames.len(),
        last.as_secs_f64()
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
