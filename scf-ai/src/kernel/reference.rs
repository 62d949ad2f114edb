//! The operations as their definitions, which kernels are held against in tests.

use super::{MbConvShape, mbconv::Weights, same};

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, figure 16).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Numbers between -1 and 1.
    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
    }
}

/// Fails where an element is off by more than `tolerance` of the larger of 1 and itself.
pub(crate) fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance * e.abs().max(1.0), "element {i} is {a}, not {e}");
    }
}

/// By Simpson's rule over the density, in double precision.
pub(crate) fn gelu(x: f32) -> f32 {
    let (end, steps) = (f64::from(x) / std::f64::consts::SQRT_2, 2000);
    let density = |i: i32| (-(end * f64::from(i) / f64::from(steps)).powi(2)).exp();
    let inner: f64 = (1..steps).map(|i| density(i) * if i % 2 == 0 { 2.0 } else { 4.0 }).sum();
    let erf = (density(0) + inner + density(steps)) * end / f64::from(3 * steps) * std::f64::consts::FRAC_2_SQRT_PI;
    (f64::from(x) * 0.5 * (1.0 + erf)) as f32
}

pub(crate) fn pointwise(x: &[f32], w: &[f32], b: &[f32], cin: usize) -> Vec<f32> {
    let cout = b.len();
    let sum = |x: &[f32], o: usize| b[o] + x.iter().enumerate().map(|(i, x)| x * w[i * cout + o]).sum::<f32>();
    x.chunks_exact(cin).flat_map(|x| (0..cout).map(move |o| sum(x, o))).collect()
}

pub(crate) fn conv(
    (height, width, cin): (usize, usize, usize),
    (kernel, stride): (usize, usize),
    x: &[f32],
    w: &[f32],
    b: &[f32],
) -> Vec<f32> {
    let cout = b.len();
    let ((above, out_height), (left, out_width)) = (same(height, kernel, stride), same(width, kernel, stride));
    let mut out = Vec::new();
    for oy in 0..out_height {
        for ox in 0..out_width {
            for o in 0..cout {
                let mut sum = b[o];
                for ky in 0..kernel {
                    for kx in 0..kernel {
                        let (y, x_) = ((oy * stride + ky).wrapping_sub(above), (ox * stride + kx).wrapping_sub(left));
                        if y < height && x_ < width {
                            for c in 0..cin {
                                sum += x[(y * width + x_) * cin + c] * w[((ky * kernel + kx) * cin + c) * cout + o];
                            }
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

fn depthwise(shape: MbConvShape, x: &[f32], (w, b): Weights<'_>) -> Vec<f32> {
    let MbConvShape { height, width, kernel, stride, .. } = shape;
    let channels = b.len();
    let ((above, out_height), (left, out_width)) = (same(height, kernel, stride), same(width, kernel, stride));
    let mut out = Vec::new();
    for oy in 0..out_height {
        for ox in 0..out_width {
            for c in 0..channels {
                let mut sum = b[c];
                for ky in 0..kernel {
                    for kx in 0..kernel {
                        let (y, x_) = ((oy * stride + ky).wrapping_sub(above), (ox * stride + kx).wrapping_sub(left));
                        if y < height && x_ < width {
                            sum += x[(y * width + x_) * channels + c] * w[(ky * kernel + kx) * channels + c];
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

pub(crate) fn mbconv(
    shape: MbConvShape,
    x: &[f32],
    expand: Option<Weights<'_>>,
    dw: Weights<'_>,
    project: Weights<'_>,
) -> Vec<f32> {
    let relu6 = |v: Vec<f32>| v.into_iter().map(|v| v.clamp(0.0, 6.0)).collect::<Vec<_>>();
    let wide = match expand {
        Some((w, b)) => relu6(pointwise(x, w, b, shape.cin)),
        None => x.to_vec(),
    };
    let mut out = pointwise(&relu6(depthwise(shape, &wide, dw)), project.0, project.1, shape.wide());
    if shape.residual() {
        out.iter_mut().zip(x).for_each(|(o, x)| *o += x);
    }
    out
}
