//! Inverted residual block: expand 1x1, depthwise, project 1x1, fused over rows.
//!
//! Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 3. The widened
//! tensor never exists as a whole: its rows are made once, kept in a ring while a depthwise row still needs
//! them, and projected as soon as they are summed, so that they stay in the second-level cache.

use std::cell::RefCell;

use super::{Depthwise, Finish, Isa, Pointwise, Rows, same};

/// Rows that are made at once are chosen so that both scratch areas together have about so many floats.
const SCRATCH: usize = 96 << 10;

/// Sizes of one block for one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MbConvShape {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) cin: usize,
    pub(crate) expand: usize,
    pub(crate) cout: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
}

impl MbConvShape {
    /// Channels between expansion and projection.
    pub(crate) const fn wide(&self) -> usize {
        self.cin * self.expand
    }

    /// Height and width of the output.
    pub(crate) fn output(&self) -> (usize, usize) {
        (same(self.height, self.kernel, self.stride).1, same(self.width, self.kernel, self.stride).1)
    }

    /// Whether the input is added to the output.
    pub(crate) const fn residual(&self) -> bool {
        self.stride == 1 && self.cin == self.cout
    }
}

/// Packed weights of one block.
#[derive(Debug)]
pub(crate) struct MbConv {
    shape: MbConvShape,
    /// Whether the input is added to the output.
    adds: bool,
    expand: Option<Pointwise>,
    depthwise: Depthwise,
    project: Pointwise,
}

/// A matrix or kernel and its bias.
pub(crate) type Weights<'a> = (&'a [f32], &'a [f32]);

thread_local! {
    // A fresh allocation of this size is returned to the system and faulted in again at every block.
    static RING: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

impl MbConv {
    /// Packs weights; `expand` is absent exactly when the expansion ratio is 1.
    pub(crate) fn new(
        isa: Isa,
        shape: MbConvShape,
        expand: Option<Weights<'_>>,
        depthwise: Weights<'_>,
        project: Weights<'_>,
    ) -> Self {
        assert!(shape.kernel <= MAX_KERNEL, "a kernel of {}", shape.kernel);
        assert_eq!(expand.is_some(), shape.expand != 1, "an expansion of 1 has no weights");
        Self {
            shape,
            adds: shape.residual(),
            expand: expand.map(|(w, b)| Pointwise::new(isa, shape.cin, shape.wide(), w, b)),
            depthwise: Depthwise::new(isa, shape.kernel, shape.stride, depthwise.0, depthwise.1),
            project: Pointwise::new(isa, shape.wide(), shape.cout, project.0, project.1),
        }
    }

    /// The same without adding the input to the output.
    pub(crate) const fn without_addition(mut self) -> Self {
        self.adds = false;
        self
    }

    /// Runs the block on `x`, `[height][width][cin]`, and gives `[height'][width'][cout]`.
    pub(crate) fn run(&self, x: &[f32]) -> Vec<f32> {
        RING.with_borrow_mut(|(ring, sums)| self.run_in(x, ring, sums))
    }

    fn run_in(&self, x: &[f32], ring: &mut Vec<f32>, sums: &mut Vec<f32>) -> Vec<f32> {
        let MbConvShape { height, width, cin, kernel, stride, cout, .. } = self.shape;
        let wide = self.shape.wide();
        let ((above, out_height), (left, out_width)) = (same(height, kernel, stride), same(width, kernel, stride));
        // Pixels that the kernel reads of one row, padding included; more than `width` unless the stride skips some.
        let padded = ((out_width - 1) * stride + kernel).max(left + width);
        let line = padded * wide;
        let batch = (SCRATCH.saturating_sub(kernel * line) / (stride * line + out_width * wide)).clamp(1, out_height);
        let slots = (batch - 1) * stride + kernel;

        ring.resize((slots * line).max(ring.len()), 0.0);
        for slot in ring[..slots * line].chunks_exact_mut(line) {
            slot[..left * wide].fill(0.0);
            slot[(left + width) * wide..].fill(0.0);
        }
        sums.resize((batch * out_width * wide).max(sums.len()), 0.0);
        let mut out = vec![0.0; out_height * out_width * cout];
        let mut starts = Vec::with_capacity(slots);
        let mut made = 0;
        for first in (0..out_height).step_by(batch) {
            let rows = batch.min(out_height - first);
            let needed = ((first + rows - 1) * stride + kernel).saturating_sub(above).min(height);
            if made < needed {
                starts.clear();
                starts.extend((made..needed).map(|y| (y % slots) * line + left * wide));
                let fresh = &x[made * width * cin..needed * width * cin];
                match &self.expand {
                    Some(expand) => expand.run(fresh, Rows { width, starts: &starts }, Finish::Relu6, ring),
                    None => {
                        for (row, &start) in fresh.chunks_exact(width * wide).zip(&starts) {
                            ring[start..start + width * wide].copy_from_slice(row);
                        }
                    }
                }
                made = needed;
            }
            for row in 0..rows {
                let top = (first + row) * stride;
                let mut lines = [(0, &ring[..0]); MAX_KERNEL];
                let mut covered = 0;
                for ky in 0..kernel {
                    if let Some(y) = (top + ky).checked_sub(above).filter(|&y| y < height) {
                        lines[covered] = (ky, &ring[(y % slots) * line..][..line]);
                        covered += 1;
                    }
                }
                let sums = &mut sums[row * out_width * wide..][..out_width * wide];
                self.depthwise.row(&lines[..covered], sums);
            }
            let place = first * out_width * cout;
            let finish = if self.adds { Finish::Add(x) } else { Finish::Linear };
            let pixels = Rows { width: rows * out_width, starts: &[place] };
            self.project.run(sums, pixels, finish, &mut out);
        }
        out
    }
}

/// Largest kernel.
const MAX_KERNEL: usize = 7;

#[cfg(test)]
mod tests {
    use super::{super::reference, *};

    #[test]
    fn agrees_with_the_plain_convolutions_at_every_edge_stride_and_kernel() {
        let mut random = reference::Random::new(3);
        let shape = |height, width, cin, expand, cout, kernel, stride| MbConvShape {
            height,
            width,
            cin,
            expand,
            cout,
            kernel,
            stride,
        };
        let shapes = [
            shape(1, 1, 8, 6, 8, 3, 1),
            shape(7, 7, 16, 6, 16, 5, 1),
            shape(14, 14, 16, 6, 24, 5, 2),
            shape(9, 5, 8, 6, 12, 3, 2),
            shape(8, 10, 24, 1, 16, 3, 1),
            shape(11, 13, 6, 3, 6, 5, 1),
            shape(11, 13, 6, 3, 7, 5, 2),
            shape(5, 6, 4, 2, 4, 7, 1),
            // Wide enough that the ring turns around several times.
            shape(30, 56, 24, 6, 24, 5, 1),
            shape(30, 56, 24, 6, 40, 5, 2),
        ];
        for isa in Isa::available() {
            for shape in shapes {
                let wide = shape.wide();
                let expand = (random.floats(shape.cin * wide), random.floats(wide));
                let depthwise = (random.floats(shape.kernel * shape.kernel * wide), random.floats(wide));
                let project = (random.floats(wide * shape.cout), random.floats(shape.cout));
                let x = random.floats(shape.height * shape.width * shape.cin);
                let expand = (shape.expand != 1).then_some((&expand.0[..], &expand.1[..]));
                let op = MbConv::new(isa, shape, expand, (&depthwise.0, &depthwise.1), (&project.0, &project.1));
                let expected =
                    reference::mbconv(shape, &x, expand, (&depthwise.0, &depthwise.1), (&project.0, &project.1));
                reference::assert_close(&op.run(&x), &expected, 2e-4);
                // The second run finds the scratch of the first.
                reference::assert_close(&op.run(&x), &expected, 2e-4);
            }
        }
    }
}
