//! Which trace a call belongs to.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::TraceState;

/// Bit of the flags that says that the caller records the trace.
const SAMPLED: u8 = 1;
/// Characters of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// Where a call stands in a trace: what the header `traceparent` says, by W3C Trace Context (level 1), section 3.2, and
/// beside it what `tracestate` says.
///
/// The former is read with [`FromStr`] and written with [`Display`](fmt::Display), as version 00. Of the flags only the
/// one that version 00 knows is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceContext {
    trace: NonZeroU128,
    span: NonZeroU64,
    is_sampled: bool,
    state: TraceState,
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a traceparent of W3C Trace Context: {problem}")]
#[non_exhaustive]
pub struct InvalidTraceContext {
    /// What is wrong.
    pub problem: &'static str,
}

impl TraceContext {
    /// The place behind `span` in `trace`, of which the caller keeps no record.
    #[must_use]
    pub const fn new(trace: NonZeroU128, span: NonZeroU64) -> Self {
        Self { trace, span, is_sampled: false, state: TraceState::EMPTY }
    }

    /// Whether the caller records the trace; default not.
    #[must_use]
    pub const fn sampled(mut self, is_sampled: bool) -> Self {
        self.is_sampled = is_sampled;
        self
    }

    /// What the systems say about the trace that it came through; default nothing.
    #[must_use]
    pub fn with_state(mut self, state: TraceState) -> Self {
        self.state = state;
        self
    }

    /// The trace: `trace-id`, shown as 32 hexadecimal digits.
    #[must_use]
    pub const fn trace_id(&self) -> NonZeroU128 {
        self.trace
    }

    /// Whatever this is the context of: `parent-id` to those who are given it, shown as 16 hexadecimal digits.
    #[must_use]
    pub const fn span_id(&self) -> NonZeroU64 {
        self.span
    }

    /// Whether the caller records the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// What the systems say about the trace that it came through: `tracestate`.
    #[must_use]
    pub const fn state(&self) -> &TraceState {
        &self.state
    }

    /// The same trace, one step further: behind a span that has `bits` as its id, or 1 for none.
    #[must_use]
    pub const fn at(mut self, bits: u64) -> Self {
        self.span = match NonZeroU64::new(bits) {
            Some(span) => span,
            None => NonZeroU64::MIN,
        };
        self
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.is_sampled { SAMPLED } else { 0 };
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        let invalid = |problem| InvalidTraceContext { problem };
        let (head, rest) = text.as_bytes().split_at_checked(LENGTH).ok_or_else(|| invalid("it is too short"))?;
        let hex = |digits: &[u8]| {
            digits.iter().try_fold(0_u128, |value, digit| match digit {
                b'0'..=b'9' => Ok(value << 4 | u128::from(digit - b'0')),
                b'a'..=b'f' => Ok(value << 4 | u128::from(digit - b'a' + 10)),
                _ => Err(invalid("a field has other characters than the digits 0 to 9 and a to f")),
            })
        };
        if [head[2], head[35], head[52]] != [b'-'; 3] {
            return Err(invalid("its fields do not have the lengths of version 00"));
        }
        let (version, flags) = (hex(&head[..2])?, hex(&head[53..])?);
        match version {
            0 if !rest.is_empty() => return Err(invalid("there is something behind the flags")),
            0xff => return Err(invalid("there is no version ff")),
            // Later versions may have more fields, which are not known here.
            _ if !matches!(rest.first(), None | Some(b'-')) => return Err(invalid("the flags are too long")),
            _ => {}
        }
        let trace = NonZeroU128::new(hex(&head[3..35])?).ok_or_else(|| invalid("the trace is zero"))?;
        let span = u64::try_from(hex(&head[36..52])?).ok().and_then(NonZeroU64::new);
        let span = span.ok_or_else(|| invalid("the parent is zero"))?;
        Ok(Self::new(trace, span).sampled(flags & u128::from(SAMPLED) != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(text: &str) -> Result<TraceContext, InvalidTraceContext> {
        text.parse()
    }

    #[test]
    fn the_example_of_the_standard_is_read_and_written_as_it_is() {
        let context = read(EXAMPLE).unwrap();
        assert_eq!(context.trace_id().get(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((context.span_id().get(), context.is_sampled()), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.to_string(), EXAMPLE);
    }

    #[test]
    fn a_step_further_is_in_the_same_trace_and_behind_a_span() {
        let context = read(EXAMPLE).unwrap();
        assert_eq!(context.clone().at(0xab).to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ab-01");
        assert_eq!(context.at(0).span_id(), NonZeroU64::MIN);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let known = read(EXAMPLE).unwrap();
        for later in [EXAMPLE.replacen("00", "cc", 1), EXAMPLE.replacen("00", "cc", 1) + "-what-comes"] {
            assert_eq!(read(&later).as_ref(), Ok(&known), "{later}");
        }
        let flags = EXAMPLE.replace("-01", "-fe");
        assert_eq!(read(&flags).unwrap().to_string(), EXAMPLE.replace("-01", "-00"), "unknown flags are not passed on");
    }

    #[test]
    fn what_the_standard_calls_invalid_is_refused() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902\u{e9}-01",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
