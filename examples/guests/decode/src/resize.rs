//! Antialiased Catmull-Rom resize that computes only a centre crop of the result.
//!
//! The filter widens with the scale, as Pillow's bicubic does, so that every source pixel under an output pixel counts.

use std::ops::Range;

use crate::image::Image;

/// Resizes so that the shorter side is `shorter` pixels and returns the RGB samples, 0.0 to 255.0, of
/// the `crop` x `crop` pixels in the middle; grey is repeated, alpha is dropped.
///
/// `image` is not empty and `crop` is at most `shorter`.
pub(crate) fn shorter_side_and_crop(image: &Image, shorter: u32, crop: u32) -> Vec<f32> {
    let shortest = image.width.min(image.height);
    let columns = Taps::new(image.width, scaled(image.width, shorter, shortest), crop);
    let rows = Taps::new(image.height, scaled(image.height, shorter, shortest), crop);
    let channels = image.channels;
    let is_grey = channels < 3;

    let used = columns.source();
    let (left, width) = (used.start * channels, used.len() * channels);
    // One output row at the source's width: the vertical pass first, because its inner loop runs over
    // contiguous samples, which vectorises.
    let mut row = vec![0.0_f32; width];
    let mut out = Vec::with_capacity(crop as usize * crop as usize * 3);
    for (first, weights) in rows.iter() {
        row.fill(0.0);
        for (y, &weight) in (first..).zip(weights) {
            let source = &image.samples[y * image.width * channels + left..][..width];
            for (sum, &sample) in row.iter_mut().zip(source) {
                *sum += weight * f32::from(sample);
            }
        }
        for (first, weights) in columns.iter() {
            let pixels = row[(first - used.start) * channels..].chunks_exact(channels);
            let mut rgb = [0.0_f32; 3];
            for (pixel, &weight) in pixels.zip(weights) {
                if is_grey {
                    rgb[0] += weight * pixel[0];
                } else {
                    for (sum, &sample) in rgb.iter_mut().zip(pixel) {
                        *sum += weight * sample;
                    }
                }
            }
            if is_grey {
                rgb = [rgb[0]; 3];
            }
            out.extend(rgb.map(|sample| sample.clamp(0.0, 255.0)));
        }
    }
    out
}

/// `side` x `shorter` / `shortest`, rounded half to even.
fn scaled(side: usize, shorter: u32, shortest: usize) -> u64 {
    let (product, divisor) = (side as u64 * u64::from(shorter), shortest as u64);
    let (quotient, twice) = (product / divisor, product % divisor * 2);
    let up = twice > divisor || (twice == divisor && quotient % 2 == 1);
    quotient + u64::from(up)
}

/// For each output position of one axis, the source positions it is computed from and their weights.
struct Taps {
    /// First source position, and the range of `weights`.
    spans: Vec<(usize, Range<usize>)>,
    weights: Vec<f32>,
}

impl Taps {
    /// Taps of the `crop` middle positions when `from` positions become `to`.
    fn new(from: usize, to: u64, crop: u32) -> Self {
        let step = from as f64 / to as f64;
        let stretch = step.max(1.0);
        let support = 2.0 * stretch;
        let skipped = (to - u64::from(crop)) / 2;
        let mut taps = Self { spans: Vec::with_capacity(crop as usize), weights: Vec::new() };
        for position in skipped..skipped + u64::from(crop) {
            let centre = (position as f64 + 0.5) * step;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let weight = |source: usize| catmull_rom((source as f64 - centre + 0.5) / stretch);
            let sum: f64 = (first..end).map(weight).sum();
            let start = taps.weights.len();
            taps.weights.extend((first..end).map(|source| (weight(source) / sum) as f32));
            taps.spans.push((first, start..taps.weights.len()));
        }
        taps
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.spans.iter().map(|(first, range)| (*first, &self.weights[range.clone()]))
    }

    /// All source positions that any output position needs.
    fn source(&self) -> Range<usize> {
        let start = self.iter().map(|(first, _)| first).min().unwrap_or(0);
        let end = self.iter().map(|(first, weights)| first + weights.len()).max();
        start..end.unwrap_or(start)
    }
}

/// The cubic convolution kernel with a = -0.5 (Keys 1981).
fn catmull_rom(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: usize, height: usize, channels: usize, sample: impl Fn(usize, usize, usize) -> u8) -> Image {
        let samples = (0..width * height * channels)
            .map(|i| sample(i / channels % width, i / channels / width, i % channels))
            .collect();
        Image { width, height, channels, samples }
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-3, "{found} is not {expected}");
        }
    }

    #[test]
    fn a_constant_image_stays_constant() {
        for (width, height) in [(1, 1), (3, 700), (1000, 300), (256, 256)] {
            let out = shorter_side_and_crop(&image(width, height, 4, |_, _, c| [10, 100, 250, 9][c]), 256, 224);
            assert_close(&out, &[10.0, 100.0, 250.0].repeat(224 * 224));
        }
    }

    #[test]
    fn grey_is_repeated() {
        let out = shorter_side_and_crop(&image(2, 2, 2, |_, _, c| [40, 7][c]), 4, 2);
        assert_close(&out, &[40.0; 12]);
    }

    #[test]
    fn the_same_size_only_crops() {
        let out = shorter_side_and_crop(&image(6, 4, 1, |x, y, _| (x * 10 + y) as u8), 4, 2);
        let expected = [21.0, 31.0, 22.0, 32.0].map(|grey| [grey; 3]);
        assert_close(&out, expected.as_flattened());
    }

    #[test]
    fn halving_weighs_with_the_stretched_kernel() {
        // Distances of 0.25, 0.75, 1.25 and 1.75 output pixels on both sides of the centre.
        let kernel = [-3.0, -9.0, 29.0, 111.0, 111.0, 29.0, -9.0, -3.0].map(|w| w / 256.0);
        let taps = Taps::new(16, 8, 2);
        let (first, weights) = taps.iter().next().unwrap();
        assert_eq!(first, 3);
        assert_close(weights, &kernel);
    }

    #[test]
    fn sides_round_half_to_even() {
        assert_eq!(scaled(451, 256, 300), 385);
        assert_eq!(scaled(5, 1, 2), 2);
        assert_eq!(scaled(7, 1, 2), 4);
    }

    #[test]
    fn the_longest_thinnest_image_needs_few_taps() {
        let taps = Taps::new(16_000_000, scaled(16_000_000, 256, 1), 224);
        assert!(taps.weights.len() <= 224 * 5);
    }
}
