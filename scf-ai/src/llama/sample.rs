//! Which token comes next.

use std::cmp::Ordering;

use scf_core::{
    Activation, BlockCost, BlockMemory, BoxError, DType, Flow, ModelBlock, ModelError, Share, TensorSpec, WireForm,
};

use crate::{
    fixed::Fixed,
    tensor::{little_endian, with_floats},
};

/// How a token is chosen by its logits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Sampling {
    temperature: f32,
    nucleus: Share,
    seed: u64,
}

impl Sampling {
    /// The likeliest token, of equally likely ones that of the lowest id.
    pub const fn greedy() -> Self {
        Self { temperature: 0.0, nucleus: Share::ALL, seed: 0 }
    }

    /// A random token of the `nucleus`: the fewest tokens that together are as likely as that (Holtzman et al., "The
    /// Curious Case of Neural Text Degeneration", ICLR 2020, section 3.1), after logits were divided by
    /// `temperature`. The numbers are those of `seed`, whichever node draws. A temperature that is not above 0 is
    /// [`Sampling::greedy`].
    pub const fn nucleus(temperature: f32, nucleus: Share, seed: u64) -> Self {
        Self { temperature, nucleus, seed }
    }

    /// The token of draw number `draw`.
    fn token(self, logits: &[f32], draw: u64) -> Result<usize, BoxError> {
        if let Some(other) = logits.iter().find(|logit| !logit.is_finite()) {
            return Err(format!("a logit is {other}: the weights or what was kept of the sequence are damaged").into());
        }
        // Of equal ones the first, where `max_by` alone would take the last.
        let larger = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
        let likeliest = logits.iter().enumerate().max_by(larger).map_or(0, |(id, _)| id);
        if self.temperature > 0.0 { Ok(self.draw(logits, logits[likeliest], draw)) } else { Ok(likeliest) }
    }

    fn draw(self, logits: &[f32], largest: f32, draw: u64) -> usize {
        let temperature = f64::from(self.temperature);
        let weight = |logit: f32| ((f64::from(logit) - f64::from(largest)) / temperature).exp();
        let total: f64 = logits.iter().map(|logit| weight(*logit)).sum();
        let nucleus = self.nucleus.fraction();
        // All that are less likely than this are together less likely than what the nucleus leaves out.
        let least = (1.0 - nucleus) / logits.len() as f64 * total;
        let weights = logits.iter().map(|logit| weight(*logit)).enumerate();
        let mut likely: Vec<(usize, f64)> = weights.filter(|(_, weight)| *weight >= least).collect();
        let likelier_first = |a: &(usize, f64), b: &(usize, f64)| match b.1.total_cmp(&a.1) {
            Ordering::Equal => a.0.cmp(&b.0),
            other => other,
        };
        likely.sort_unstable_by(likelier_first);
        let mut inside = 0.0;
        let count = likely.iter().position(|(_, weight)| {
            inside += weight;
            inside >= nucleus * total
        });
        likely.truncate(count.map_or(likely.len(), |last| last + 1));
        let mut left = uniform(self.seed, draw) * inside;
        let drawn = likely.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        drawn.or_else(|| likely.last()).map_or(0, |(id, _)| *id)
    }
}

/// Number `draw` of a seed, from 0 to below 1: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 16), of which any
/// number is known without those before it.
fn uniform(seed: u64, draw: u64) -> f64 {
    let mut z = seed.wrapping_add(draw.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64
}

/// The last block: takes logits and gives a token. What it keeps of a sequence is how often it has drawn.
#[derive(Debug)]
pub(super) struct Sampler {
    fixed: Fixed,
    sampling: Sampling,
    /// Tokens that end an answer.
    ends: Vec<u32>,
}

impl Sampler {
    pub(super) fn new(vocabulary: usize, sampling: Sampling, ends: Vec<u32>) -> Self {
        let [takes, gives] = [vocabulary, 1].map(|width| TensorSpec::new(DType::F32, &[1, width]));
        Self { fixed: Fixed::new("sampler".into(), takes, gives, vocabulary, 0), sampling, ends }
    }
}

impl ModelBlock for Sampler {
    fn name(&self) -> &str {
        &self.fixed.name
    }

    fn output(&self, input: &TensorSpec) -> Result<TensorSpec, ModelError> {
        self.fixed.output(input)
    }

    fn cost(&self, _input: &TensorSpec) -> BlockCost {
        self.fixed.cost
    }

    fn wire_forms(&self) -> &[WireForm] {
        &[WireForm::Exact]
    }

    fn forward(&self, input: Activation) -> Result<Activation, ModelError> {
        self.follow(input, &mut BlockMemory::default()).map(Flow::into_activation)
    }

    fn follow(&self, input: Activation, memory: &mut BlockMemory) -> Result<Flow, ModelError> {
        let gives = self.output(&input.spec)?;
        if !memory.bytes.is_empty() {
            let problem = format!("{} bytes where it keeps none", memory.bytes.len());
            return Err(ModelError::Memory { block: self.fixed.name.clone(), problem });
        }
        let drawn = memory.seen.checked_add(1).ok_or_else(|| {
            let problem = format!("{} tokens are more than are ever drawn", memory.seen);
            ModelError::Memory { block: self.fixed.name.clone(), problem }
        })?;
        let token = with_floats(&input, |logits| self.sampling.token(logits, memory.seen as u64));
        let token = token.map_err(self.fixed.failed())?.map_err(self.fixed.failed())?;
        memory.seen = drawn;
        let part = Activation::new(gives, little_endian(&[token as f32])).map_err(self.fixed.failed())?;
        let ended = u32::try_from(token).is_ok_and(|token| self.ends.contains(&token));
        Ok(if ended { Flow::Continue(part) } else { Flow::Stream(part) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 3.0, -2.0, 0.0];

    #[test]
    fn greedy_takes_the_first_of_the_likeliest() {
        assert_eq!(Sampling::greedy().token(&LOGITS, 0).unwrap(), 1);
        let cold = Sampling::nucleus(f32::NAN, Share::ALL, 7);
        assert_eq!(cold.token(&LOGITS, 0).unwrap(), 1);
    }

    #[test]
    fn draws_tokens_as_often_as_they_are_likely_and_none_outside_the_nucleus() {
        let e: Vec<f64> = LOGITS.iter().map(|logit| f64::from(logit / 1.5).exp()).collect();
        let draws = 20_000;
        let counted = |nucleus: Share| {
            let mut counts = [0u32; 5];
            let sampling = Sampling::nucleus(1.5, nucleus, 11);
            (0..draws).for_each(|draw| counts[sampling.token(&LOGITS, draw).unwrap()] += 1);
            counts
        };
        let all = counted(Share::ALL);
        for (count, weight) in all.iter().zip(&e) {
            let expected = weight / e.iter().sum::<f64>();
            assert!((f64::from(*count) / draws as f64 - expected).abs() < 0.01, "{all:?} where {e:?} were likely");
        }
        // The two likeliest have 82 % together, the third makes 93 %.
        assert_eq!(counted(Share::from_percent(70.0)).map(|count| count > 0), [false, true, true, false, false]);
        assert_eq!(counted(Share::from_percent(90.0)).map(|count| count > 0), [true, true, true, false, false]);
        assert_eq!(counted(Share::NONE).map(|count| count > 0), [false, true, false, false, false]);
    }

    #[test]
    fn a_logit_that_is_no_number_is_an_error() {
        for damaged in [f32::NAN, f32::INFINITY] {
            assert!(Sampling::greedy().token(&[0.0, damaged], 0).unwrap_err().to_string().contains("damaged"));
        }
    }
}
