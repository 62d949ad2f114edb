//! First convolution: 3 input channels, gathered into rows and multiplied.

use super::{Finish, Isa, Pointwise, Rows, same};

/// Packed weights of a full convolution with ReLU6.
#[derive(Debug)]
pub(crate) struct Stem {
    height: usize,
    width: usize,
    cin: usize,
    kernel: usize,
    stride: usize,
    product: Pointwise,
}

impl Stem {
    /// Packs `weights`, `[kernel][kernel][cin][cout]`, for inputs of `[height][width][cin]`.
    pub(crate) fn new(
        isa: Isa,
        (height, width, cin): (usize, usize, usize),
        (kernel, stride): (usize, usize),
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        let product = Pointwise::new(isa, kernel * kernel * cin, bias.len(), weights, bias);
        Self { height, width, cin, kernel, stride, product }
    }

    /// Convolves `x` and gives `[height'][width'][cout]`.
    pub(crate) fn run(&self, x: &[f32]) -> Vec<f32> {
        let (above, out_height) = same(self.height, self.kernel, self.stride);
        let (left, out_width) = same(self.width, self.kernel, self.stride);
        let depth = self.kernel * self.kernel * self.cin;
        let mut patches = vec![0.0; out_width * depth];
        let mut out = vec![0.0; out_height * out_width * self.product.cout()];
        for row in 0..out_height {
            for (column, patch) in patches.chunks_exact_mut(depth).enumerate() {
                // Columns of the kernel that lie inside the input; they are neighbours in memory.
                let from = left.saturating_sub(column * self.stride);
                let to = self.kernel.min((self.width + left).saturating_sub(column * self.stride));
                for (ky, part) in patch.chunks_exact_mut(self.kernel * self.cin).enumerate() {
                    let inside = (row * self.stride + ky).checked_sub(above).filter(|&y| y < self.height);
                    let Some(y) = inside else {
                        part.fill(0.0);
                        continue;
                    };
                    if to - from < self.kernel {
                        part.fill(0.0);
                    }
                    let at = (y * self.width + column * self.stride + from - left) * self.cin;
                    part[from * self.cin..to * self.cin].copy_from_slice(&x[at..at + (to - from) * self.cin]);
                }
            }
            let place = row * out_width * self.product.cout();
            self.product.run(&patches, Rows { width: out_width, starts: &[place] }, Finish::Relu6, &mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reference, *};

    #[test]
    fn agrees_with_the_plain_convolution_at_every_edge() {
        let mut random = reference::Random::new(5);
        for isa in Isa::available() {
            for (height, width, cin, cout, kernel, stride) in [
                (16, 16, 3, 32, 3, 2),
                (15, 9, 3, 32, 3, 2),
                (6, 7, 2, 5, 5, 1),
                (3, 3, 1, 8, 5, 2),
                (1, 1, 3, 8, 3, 1),
            ] {
                let (w, b) = (random.floats(kernel * kernel * cin * cout), random.floats(cout));
                let x = random.floats(height * width * cin);
                let op = Stem::new(isa, (height, width, cin), (kernel, stride), &w, &b);
                let mut expected = reference::conv((height, width, cin), (kernel, stride), &x, &w, &b);
                expected.iter_mut().for_each(|v| *v = v.clamp(0.0, 6.0));
                reference::assert_close(&op.run(&x), &expected, 1e-4);
            }
        }
    }
}
