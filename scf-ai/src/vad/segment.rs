//! From the probabilities of chunks to stretches of speech.

use std::{ops::Range, time::Duration};

use super::{CHUNK, SileroVad};

/// When speech begins and ends: with hysteresis, so that a moment of doubt ends nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct SpeechLimits {
    /// Probability from which on speech begins, or goes on; default 0.5.
    pub begins: f32,
    /// Probability below which it may have ended; default 0.35.
    pub ends: f32,
    /// How long it has to stay below until it has; default 100 ms.
    pub silence: Duration,
    /// The shortest speech that is one; default 250 ms.
    pub shortest: Duration,
}

impl Default for SpeechLimits {
    fn default() -> Self {
        Self { begins: 0.5, ends: 0.35, silence: Duration::from_millis(100), shortest: Duration::from_millis(250) }
    }
}

/// Where a stream stands, in samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Samples heard.
    pub(super) heard: u64,
    /// Where the speech that has not ended began.
    pub(super) begun: Option<u64>,
    /// Since when it may have ended.
    pub(super) quiet: Option<u64>,
}

impl Standing {
    /// Takes the next chunk's probability in; gives the stretch that ended with it.
    pub(super) fn hear(&mut self, speech: f32, limits: &SpeechLimits) -> Option<Range<u64>> {
        let at = self.heard;
        self.heard = at.saturating_add(CHUNK as u64);
        if speech >= limits.begins {
            self.begun.get_or_insert(at);
            self.quiet = None;
            return None;
        }
        let begun = self.begun?;
        if speech >= limits.ends && self.quiet.is_none() {
            return None;
        }
        let quiet = *self.quiet.get_or_insert(at);
        if self.heard.saturating_sub(quiet) < samples(limits.silence) {
            return None;
        }
        (self.begun, self.quiet) = (None, None);
        stretch(begun, quiet, limits)
    }

    /// Ends what has not ended.
    pub(super) fn finish(&mut self, limits: &SpeechLimits) -> Option<Range<u64>> {
        let (begun, quiet) = (self.begun.take()?, self.quiet.take());
        stretch(begun, quiet.unwrap_or(self.heard), limits)
    }
}

fn stretch(from: u64, to: u64, limits: &SpeechLimits) -> Option<Range<u64>> {
    (to.saturating_sub(from) >= samples(limits.shortest)).then_some(from..to)
}

fn samples(time: Duration) -> u64 {
    (time.as_secs_f64() * f64::from(SileroVad::RATE)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where stretches begin and end, in chunks.
    fn stretches(speech: &[f32]) -> Vec<(u64, u64)> {
        let (mut standing, limits) = (Standing::default(), SpeechLimits::default());
        let mut found: Vec<_> = speech.iter().filter_map(|speech| standing.hear(*speech, &limits)).collect();
        found.extend(standing.finish(&limits));
        found.into_iter().map(|found| (found.start / CHUNK as u64, found.end / CHUNK as u64)).collect()
    }

    #[test]
    fn doubt_begins_nothing_and_ends_nothing_and_a_short_silence_neither() {
        assert_eq!(stretches(&[0.4; 40]), []);
        let speech = [[0.1; 5], [0.9; 5], [0.4; 5], [0.9; 5], [0.1; 5], [0.1; 5]].concat();
        assert_eq!(stretches(&speech), [(5, 20)]);
        let breath = [&[0.9; 9][..], &[0.1; 3], &[0.9; 9], &[0.1; 4]].concat();
        assert_eq!(stretches(&breath), [(0, 21)], "96 ms are no silence");
    }

    #[test]
    fn what_is_shorter_than_a_word_is_none_and_what_has_not_ended_ends_with_the_sound() {
        let speech = [&[0.9; 7][..], &[0.1; 9], &[0.9; 8], &[0.1; 9], &[0.7; 20]].concat();
        assert_eq!(stretches(&speech), [(16, 24), (33, 53)]);
    }
}
