//! Digits as another camera would see them, and what a monitor sees of a call.

use scf::ai::lifecycle::Observation;

use super::random::Random;

/// What becomes of the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drift {
    /// Dark on light becomes light on dark.
    Inverted,
    /// Two pixels to the right and one down.
    Shifted,
    /// Noise of half the range on every pixel.
    Noisy,
    /// A quarter turn.
    Rotated,
}

impl Drift {
    pub(crate) const ALL: [(&str, Self); 4] =
        [("inverted", Self::Inverted), ("shifted", Self::Shifted), ("noisy", Self::Noisy), ("rotated", Self::Rotated)];

    /// The picture after it.
    pub(crate) fn apply(self, pixels: &[u8; 64], random: &mut Random) -> [u8; 64] {
        let mut out = [0; 64];
        for (at, out) in out.iter_mut().enumerate() {
            let (x, y) = (at % 8, at / 8);
            *out = match self {
                Self::Inverted => 16 - pixels[at],
                Self::Shifted if x < 2 || y < 1 => 0,
                Self::Shifted => pixels[(y - 1) * 8 + x - 2],
                Self::Noisy => (f64::from(pixels[at]) + 16.0 * random.unit() - 8.0).clamp(0.0, 16.0) as u8,
                Self::Rotated => pixels[(7 - x) * 8 + y],
            };
        }
        out
    }
}

/// What a monitor is told of a call: ink, its spread, edges and centre of the picture, and the certainty of the answer.
pub(crate) fn observation(pixels: &[u8; 64], logits: &[f32], label: Option<u8>) -> Observation {
    let value = |x: usize, y: usize| f32::from(pixels[8 * y + x]);
    let (mut ink, mut square, mut across, mut down, mut edges) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, y) in (0..64).map(|at| (at % 8, at / 8)) {
        let v = value(x, y);
        (ink, square) = (ink + v, square + v * v);
        (across, down) = (across + v * x as f32, down + v * y as f32);
        edges += if x > 0 { (v - value(x - 1, y)).abs() } else { 0.0 };
        edges += if y > 0 { (v - value(x, y - 1)).abs() } else { 0.0 };
    }
    let answer = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap_or(0);
    let certainty = 1.0 / logits.iter().map(|logit| (logit - logits[answer]).exp()).sum::<f32>();
    Observation {
        features: vec![ink, square, edges, across / ink.max(1.0), down / ink.max(1.0), certainty],
        embedding: logits.to_vec(),
        answer: answer as u32,
        label: label.map(u32::from),
    }
}
