//! What is printed of the calls.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) const HEAD: &str = " photo  name         label                       time  blocks";

/// The parts of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All three processes run.
    Together,
    /// The gateway's was killed.
    Without,
    /// It was started again.
    Again,
}

/// A call as it was answered.
pub(crate) struct Call {
    part: Part,
    at: Instant,
    number: u64,
    photo: String,
    answer: Result<Answer, String>,
    tries: u64,
}

struct Answer {
    label: String,
    split: String,
    nodes: Vec<String>,
    took: Duration,
}

impl Call {
    /// Reads what the camera printed, if it is an answer.
    pub(crate) fn read(part: Part, at: Instant, line: &Value) -> Option<Self> {
        let (number, call) = (line["answered"].as_u64()?, &line["call"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let answer = match call["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(Answer {
                label: text(&call["label"]),
                split: text(&call["split"]),
                nodes: call["nodes"].as_array().into_iter().flatten().map(text).collect(),
                took: Duration::from_secs_f64(call["ms"].as_f64().unwrap_or_default() / 1e3),
            }),
        };
        Some(Self { part, at, number, photo: text(&line["photo"]), answer, tries: call["tries"].as_u64()? })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, photo, .. } = self;
        match &self.answer {
            Ok(Answer { label, split, took, .. }) => {
                write!(f, "{number:>6}  {photo:<12} {label:<22} {:>9}  {split}", millis(*took))
            }
            Err(error) => write!(f, "{number:>6}  {photo:<12} {error}"),
        }
    }
}

/// A whole run.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) asked: usize,
    pub(crate) calls: Vec<Call>,
    pub(crate) killed: Option<Instant>,
    pub(crate) started: Option<Instant>,
}

impl Run {
    fn answers(&self, part: Part) -> impl Iterator<Item = (&Call, &Answer)> {
        let of_part = self.calls.iter().filter(move |call| call.part == part);
        of_part.filter_map(|call| Some((call, call.answer.as_ref().ok()?)))
    }

    pub(crate) fn answered(&self, part: Part) -> usize {
        self.answers(part).count()
    }

    /// Answers in which the gateway took part.
    pub(crate) fn with_gateway(&self, part: Part) -> usize {
        self.answers(part).filter(|(_, answer)| has_gateway(answer)).count()
    }

    /// Calls that were made and not answered, but for the one that is under way.
    pub(crate) fn lost(&self) -> usize {
        let answered = self.calls.iter().filter(|call| call.answer.is_ok()).count();
        self.asked.saturating_sub(answered + 1)
    }

    /// From `since` to the first answer that the gateway took part in, or did not.
    fn until(&self, since: Option<Instant>, part: Part, by_gateway: bool) -> String {
        let first = self.answers(part).find(|(_, answer)| has_gateway(answer) == by_gateway);
        let took = since.zip(first).map(|(since, (call, _))| call.at.saturating_duration_since(since));
        took.map_or_else(|| "never".to_owned(), millis)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "                    photos       p50       max  blocks (photos)")?;
        for (part, name) in
            [(Part::Together, "all three"), (Part::Without, "gateway killed"), (Part::Again, "gateway again")]
        {
            let mut times: Vec<Duration> = self.answers(part).map(|(_, answer)| answer.took).collect();
            times.sort_unstable();
            let at = |time: Option<&Duration>| time.map_or_else(|| "-".to_owned(), |time| millis(*time));
            let (p50, max) = (at(times.get(times.len() / 2)), at(times.last()));
            let mut splits: BTreeMap<&str, usize> = BTreeMap::new();
            self.answers(part).for_each(|(_, answer)| *splits.entry(&answer.split).or_default() += 1);
            let splits: Vec<_> = splits.iter().map(|(split, times)| format!("{split} ({times})")).collect();
            writeln!(f, "  {name:<16} {:>7} {p50:>9} {max:>9}  {}", times.len(), splits.join("; "))?;
        }
        let repeated = self.calls.iter().filter(|call| call.tries > 1).count();
        writeln!(f, "from the kill to the next answer:          {:>9}", self.until(self.killed, Part::Without, false))?;
        writeln!(f, "from the start to the gateway's next part: {:>9}", self.until(self.started, Part::Again, true))?;
        let answered = self.calls.len();
        write!(f, "{answered} photos answered, {} lost, {repeated} asked again by the camera", self.lost())
    }
}

fn has_gateway(answer: &Answer) -> bool {
    answer.nodes.iter().any(|node| node == "gateway")
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
