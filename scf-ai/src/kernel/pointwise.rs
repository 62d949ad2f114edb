//! 1x1 convolution: a matrix product with bias, activation and residual in its last step.

use super::{
    Isa,
    vector::{Plain, Vector},
};

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
    /// The Gaussian error linear unit of it.
    Gelu,
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

    /// Input channels.
    pub(crate) const fn cin(&self) -> usize {
        self.cin
    }

    /// Output channels.
    pub(crate) const fn cout(&self) -> usize {
        self.cout
    }

    /// Multiplies the rows of `x`, one after the other without gaps, into the places that `rows` says.
    ///
    /// # Panics
    /// When `x`, `out` or the residual are shorter than `rows` says.
    pub(crate) fn run(&self, x: &[f32], rows: Rows<'_>, finish: Finish<'_>, out: &mut [f32]) {
        let last = rows.starts.iter().max().map_or(0, |start| start + rows.width * self.cout);
        assert!(x.len() >= rows.starts.len() * rows.width * self.cin, "the input is short");
        assert!(out.len() >= last, "the output is short");
        if let Finish::Add(residual) = finish {
            assert!(residual.len() >= last, "the residual is short");
        }
        // SAFETY: the lengths are checked above; an instruction set is named only after `Isa::detect` found it.
        unsafe {
            match self.isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512(self, x, rows, finish, out),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2(self, x, rows, finish, out),
                _ => baseline(self, x, rows, finish, out),
            }
        }
    }

    /// Calls `f` with each panel's width, first column and weights.
    #[inline(always)]
    fn panels(&self, mut f: impl FnMut(usize, usize, &[f32])) {
        let (mut first, mut at) = (0, 0);
        while first < self.cout {
            let width = panel_width(self.isa, self.cout - first);
            f(width, first, &self.panels[at..at + width * self.cin]);
            at += width * self.cin;
            first += width;
        }
    }
}

// Tiles of 7 or 8 pixels by 48 channels fill 21 or 24 of AVX-512's 32 registers; 7 divides every row width of a
// network for 224 pixels, 8 the usual lengths of text. The others have 16 registers.

/// # Safety
/// As [`column`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn avx512(op: &Pointwise, x: &[f32], rows: Rows<'_>, finish: Finish<'_>, out: &mut [f32]) {
    use std::arch::x86_64::{__m256, __m512};
    // SAFETY: the caller's promise.
    op.panels(|width, first, panel| unsafe {
        match width {
            48 if rows.width.is_multiple_of(8) => column::<__m512, 8, 3>(op, first, panel, x, rows, finish, out),
            48 => column::<__m512, 7, 3>(op, first, panel, x, rows, finish, out),
            32 => column::<__m512, 7, 2>(op, first, panel, x, rows, finish, out),
            16 => column::<__m512, 7, 1>(op, first, panel, x, rows, finish, out),
            _ => column::<__m256, 7, 1>(op, first, panel, x, rows, finish, out),
        }
    });
}

/// # Safety
/// As [`column`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(op: &Pointwise, x: &[f32], rows: Rows<'_>, finish: Finish<'_>, out: &mut [f32]) {
    use std::arch::x86_64::__m256;
    // SAFETY: the caller's promise.
    op.panels(|width, first, panel| unsafe {
        match width {
            16 => column::<__m256, 4, 2>(op, first, panel, x, rows, finish, out),
            _ => column::<__m256, 4, 1>(op, first, panel, x, rows, finish, out),
        }
    });
}

/// # Safety
/// As [`column`].
unsafe fn baseline(op: &Pointwise, x: &[f32], rows: Rows<'_>, finish: Finish<'_>, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    op.panels(|width, first, panel| unsafe {
        match width {
            16 => column::<Plain, 2, 4>(op, first, panel, x, rows, finish, out),
            _ => column::<Plain, 4, 2>(op, first, panel, x, rows, finish, out),
        }
    });
}

/// One panel of `C` registers against all pixels, `R` at a time.
///
/// # Safety
/// The lengths are as [`Pointwise::run`] checks them, and the registers are there.
#[inline(always)]
unsafe fn column<V: Vector, const R: usize, const C: usize>(
    op: &Pointwise,
    first: usize,
    panel: &[f32],
    x: &[f32],
    rows: Rows<'_>,
    finish: Finish<'_>,
    out: &mut [f32],
) {
    for (row, &start) in rows.starts.iter().enumerate() {
        let x = &x[row * rows.width * op.cin..][..rows.width * op.cin];
        let mut pixel = 0;
        // SAFETY: the caller's promise, and the pixels stay within the row.
        unsafe {
            while pixel + R <= rows.width {
                tile::<V, R, C>(op, first, panel, &x[pixel * op.cin..], start + pixel * op.cout, finish, out);
                pixel += R;
            }
            while pixel + 3 <= rows.width {
                tile::<V, 3, C>(op, first, panel, &x[pixel * op.cin..], start + pixel * op.cout, finish, out);
                pixel += 3;
            }
            while pixel < rows.width {
                tile::<V, 1, C>(op, first, panel, &x[pixel * op.cin..], start + pixel * op.cout, finish, out);
                pixel += 1;
            }
        }
    }
}

/// `R` pixels, whose results start at `at` in the output, by `C` registers of channels from `first` on.
///
/// # Safety
/// `x` has `R` pixels, `out` and a residual have `R` pixels from `at` on, and the registers are there.
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const C: usize>(
    op: &Pointwise,
    first: usize,
    panel: &[f32],
    x: &[f32],
    at: usize,
    finish: Finish<'_>,
    out: &mut [f32],
) {
    let k = op.cin;
    debug_assert!(x.len() >= R * k && panel.len() == k * C * V::LANES && first + C * V::LANES <= op.bias.len());
    debug_assert!(out.len() >= at + R * op.cout);
    // SAFETY: all reads are of `R * k` floats of `x`, of the whole panel and of the padded bias.
    let mut sums = unsafe {
        let bias: [V; C] = std::array::from_fn(|c| V::load(op.bias.as_ptr().add(first + c * V::LANES)));
        let mut sums = [bias; R];
        let (x, panel) = (x.as_ptr(), panel.as_ptr());
        for i in 0..k {
            let weights: [V; C] = std::array::from_fn(|c| V::load(panel.add((i * C + c) * V::LANES)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = V::splat(*x.add(r * k + i));
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = a.fma(weight, *sum);
                }
            }
        }
        sums
    };
    if first + C * V::LANES > op.cout {
        // SAFETY: the registers are there, and the space is as long as they are.
        return unsafe { partial(op, first, at, finish, &sums, out) };
    }
    for (r, sums) in sums.iter_mut().enumerate() {
        for (c, sum) in sums.iter_mut().enumerate() {
            let place = at + r * op.cout + first + c * V::LANES;
            // SAFETY: all channels of the panel exist, so the place is within pixel `r`.
            unsafe {
                *sum = match finish {
                    Finish::Linear => *sum,
                    Finish::Relu6 => sum.relu6(),
                    Finish::Gelu => sum.gelu(),
                    Finish::Add(residual) => sum.add(V::load(residual.as_ptr().add(place))),
                };
                sum.store(out.as_mut_ptr().add(place));
            }
        }
    }
}

/// The end of a tile whose last channels are padding.
///
/// # Safety
/// The registers are there.
#[inline(never)]
unsafe fn partial<V: Vector, const R: usize, const C: usize>(
    op: &Pointwise,
    first: usize,
    at: usize,
    finish: Finish<'_>,
    sums: &[[V; C]; R],
    out: &mut [f32],
) {
    let mut lanes = [0.0f32; 64];
    for (r, sums) in sums.iter().enumerate() {
        for (c, sum) in sums.iter().enumerate() {
            // SAFETY: a panel has at most 48 channels.
            unsafe {
                let sum = if matches!(finish, Finish::Gelu) { sum.gelu() } else { *sum };
                sum.store(lanes[c * V::LANES..][..V::LANES].as_mut_ptr());
            }
        }
        let place = at + r * op.cout + first;
        for (channel, &sum) in lanes[..op.cout - first].iter().enumerate() {
            out[place + channel] = match finish {
                Finish::Linear | Finish::Gelu => sum,
                Finish::Relu6 => sum.clamp(0.0, 6.0),
                Finish::Add(residual) => sum + residual[place + channel],
            };
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
            for (cin, cout, width) in
                [(1, 1, 1), (3, 8, 5), (16, 96, 14), (27, 32, 9), (40, 53, 11), (96, 24, 7), (8, 96, 16)]
            {
                let (w, b) = (random.floats(cin * cout), random.floats(cout));
                let x = random.floats(2 * width * cin);
                let residual = random.floats(2 * width * cout);
                let op = Pointwise::new(isa, cin, cout, &w, &b);
                let rows = Rows { width, starts: &[0, width * cout] };
                let plain = reference::pointwise(&x, &w, &b, cin);
                for finish in [Finish::Linear, Finish::Relu6, Finish::Gelu, Finish::Add(&residual)] {
                    let mut out = vec![f32::NAN; 2 * width * cout];
                    op.run(&x, rows, finish, &mut out);
                    let expected = plain.iter().zip(&residual).map(|(v, r)| match finish {
                        Finish::Linear => *v,
                        Finish::Relu6 => v.clamp(0.0, 6.0),
                        Finish::Gelu => reference::gelu(*v),
                        Finish::Add(_) => v + r,
                    });
                    reference::assert_close(&out, &expected.collect::<Vec<_>>(), 1e-4);
                }
            }
        }
    }
}
