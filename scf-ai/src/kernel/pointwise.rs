//! 1x1 convolution: a matrix product with bias, activation and residual in its last step.

use super::{BASELINE_FMA, Isa, fma};

/// Weights packed into panels of columns, so that the inner loop reads them in one stream.
#[derive(Debug)]
pub(crate) struct Pointwise {
    cin: usize,
    cout: usize,
    /// Panels one after the other, each `[cin][width]`.
    panels: Vec<f32>,
    bias: Vec<f32>,
    isa: Isa,
}

/// What happens to a sum before it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finish<'a> {
    /// Nothing.
    Linear,
    /// It is held between 0 and 6.
    Relu6,
    /// The element at its place in the output is added.
    Add(&'a [f32]),
}

/// Where the results of a run of pixels go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// Pixels in a row of the input and of the output.
    pub(crate) width: usize,
    /// Where each row starts in the output.
    pub(crate) starts: &'a [usize],
}

/// Widths of panels, widest first; 8 is padded with zeros where fewer columns are left.
fn panel_width(isa: Isa, left: usize) -> usize {
    match (isa, left) {
        (Isa::Avx512, 48..) => 48,
        (Isa::Avx512, 32..) => 32,
        (_, 16..) => 16,
        _ => 8,
    }
}

impl Pointwise {
    /// Packs `weights`, `[cin][cout]`, for `isa`.
    pub(crate) fn new(isa: Isa, cin: usize, cout: usize, weights: &[f32], bias: &[f32]) -> Self {
        assert_eq!((weights.len(), bias.len()), (cin * cout, cout), "weights of {cin}x{cout}");
        let mut panels = Vec::with_capacity(cin * cout.next_multiple_of(8));
        let mut first = 0;
        while first < cout {
            let width = panel_width(isa, cout - first);
            for row in weights.chunks_exact(cout) {
                panels.extend((first..first + width).map(|c| row.get(c).copied().unwrap_or(0.0)));
            }
            first += width;
        }
        let mut bias = bias.to_vec();
        bias.resize(cout.next_multiple_of(8), 0.0);
        Self { cin, cout, panels, bias, isa }
    }

    /// Output channels.
    pub(crate) const fn cout(&self) -> usize {
        self.cout
    }

    /// Multiplies the rows of `x`, one after the other without gaps, into the places that `rows` says.
    pub(crate) fn run(&self, x: &[f32], rows: Rows<'_>, finish: Finish<'_>, out: &mut [f32]) {
        match self.isa {
            // SAFETY: packed for this set only after `Isa::detect` found it.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "target features are detected at run time")]
            Isa::Avx512 => unsafe { avx512(self, x, rows, finish, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "target features are detected at run time")]
            Isa::Avx2 => unsafe { avx2(self, x, rows, finish, out) },
            _ => panels::<4, BASELINE_FMA>(self, x, rows, finish, out),
        }
    }
}

// Tiles of 7 pixels by 48 channels fill 21 of the 32 registers; 7 divides every row width of a network for
// 224 pixels. AVX2 has half the registers at half the width.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
fn avx512(op: &Pointwise, x: &[f32], rows: Rows<'_>, finish: Finish<'_>, out: &mut [f32]) {
    panels::<7, true>(op, x, rows, finish, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(op: &Pointwise, x: &[f32], rows: Rows<'_>, finish: Finish<'_>, out: &mut [f32]) {
    panels::<4, true>(op, x, rows, finish, out);
}

#[inline(always)]
fn panels<const R: usize, const FMA: bool>(
    op: &Pointwise,
    x: &[f32],
    rows: Rows<'_>,
    finish: Finish<'_>,
    out: &mut [f32],
) {
    let (mut first, mut at) = (0, 0);
    while first < op.cout {
        let width = panel_width(op.isa, op.cout - first);
        let panel = &op.panels[at..at + width * op.cin];
        let span = Span { cin: op.cin, cout: op.cout, first };
        let bias = &op.bias[first..first + width];
        match width {
            48 => column::<R, 48, FMA>(span, panel, bias, x, rows, finish, out),
            32 => column::<R, 32, FMA>(span, panel, bias, x, rows, finish, out),
            16 => column::<R, 16, FMA>(span, panel, bias, x, rows, finish, out),
            _ => column::<R, 8, FMA>(span, panel, bias, x, rows, finish, out),
        }
        at += width * op.cin;
        first += width;
    }
}

#[derive(Clone, Copy)]
struct Span {
    cin: usize,
    cout: usize,
    first: usize,
}

#[inline(always)]
fn column<const R: usize, const N: usize, const FMA: bool>(
    span: Span,
    panel: &[f32],
    bias: &[f32],
    x: &[f32],
    rows: Rows<'_>,
    finish: Finish<'_>,
    out: &mut [f32],
) {
    let (panel, _) = panel.as_chunks::<N>();
    let (bias, _) = bias.as_chunks::<N>();
    for (row, &start) in rows.starts.iter().enumerate() {
        let x = &x[row * rows.width * span.cin..][..rows.width * span.cin];
        let mut pixel = 0;
        while pixel + R <= rows.width {
            let at = start + pixel * span.cout + span.first;
            tile::<R, N, FMA>(span, panel, &bias[0], &x[pixel * span.cin..], at, finish, out);
            pixel += R;
        }
        while pixel < rows.width {
            let at = start + pixel * span.cout + span.first;
            tile::<1, N, FMA>(span, panel, &bias[0], &x[pixel * span.cin..], at, finish, out);
            pixel += 1;
        }
    }
}

#[inline(always)]
fn tile<const R: usize, const N: usize, const FMA: bool>(
    span: Span,
    panel: &[[f32; N]],
    bias: &[f32; N],
    x: &[f32],
    at: usize,
    finish: Finish<'_>,
    out: &mut [f32],
) {
    let k = span.cin;
    let panel = &panel[..k];
    let x: [&[f32]; R] = std::array::from_fn(|r| &x[r * k..][..k]);
    let mut sums = [*bias; R];
    for i in 0..k {
        for r in 0..R {
            let a = x[r][i];
            for j in 0..N {
                sums[r][j] = fma::<FMA>(a, panel[i][j], sums[r][j]);
            }
        }
    }
    let kept = N.min(span.cout - span.first);
    for (r, sums) in sums.iter_mut().enumerate() {
        let place = at + r * span.cout;
        match finish {
            Finish::Linear => {}
            Finish::Relu6 => sums.iter_mut().for_each(|v| *v = v.clamp(0.0, 6.0)),
            Finish::Add(other) => {
                for (v, o) in sums.iter_mut().zip(&other[place..place + kept]) {
                    *v += o;
                }
            }
        }
        if kept == N {
            out[place..place + N].copy_from_slice(sums);
        } else {
            out[place..place + kept].copy_from_slice(&sums[..kept]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reference, *};

    #[test]
    fn agrees_with_the_plain_sum_for_every_instruction_set_and_odd_sizes() {
        let mut random = reference::Random::new(11);
        for isa in Isa::available() {
            for (cin, cout, width) in [(1, 1, 1), (3, 8, 5), (16, 96, 14), (27, 32, 9), (40, 53, 11), (96, 24, 7)] {
                let (w, b) = (random.floats(cin * cout), random.floats(cout));
                let x = random.floats(2 * width * cin);
                let residual = random.floats(2 * width * cout);
                let op = Pointwise::new(isa, cin, cout, &w, &b);
                let rows = Rows { width, starts: &[0, width * cout] };
                let plain = reference::pointwise(&x, &w, &b, cin);
                for finish in [Finish::Linear, Finish::Relu6, Finish::Add(&residual)] {
                    let mut out = vec![f32::NAN; 2 * width * cout];
                    op.run(&x, rows, finish, &mut out);
                    let expected = plain.iter().zip(&residual).map(|(v, r)| match finish {
                        Finish::Linear => *v,
                        Finish::Relu6 => v.clamp(0.0, 6.0),
                        Finish::Add(_) => v + r,
                    });
                    reference::assert_close(&out, &expected.collect::<Vec<_>>(), 1e-4);
                }
            }
        }
    }
}
