//! One encoder layer on the CPU, over the rows of real tokens.

use std::{cell::RefCell, ops::Range, sync::Arc};

use rayon::ThreadPool;

use super::{EPSILON, HEADS, HIDDEN, Layer, Precision, WIDE};
use crate::kernel::{Attention, Finish, Int8Linear, Isa, LayerNorm, Pointwise, Rows};

/// Rows are dealt to threads in multiples of what a tile of the matrix product takes.
const TILE: usize = 8;

/// A matrix product.
#[derive(Debug)]
enum Product {
    Float(Pointwise),
    Int8(Int8Linear),
}

impl Product {
    fn new(isa: Isa, precision: Precision, (w, b): (Vec<f32>, Vec<f32>)) -> Self {
        match precision {
            Precision::Float => Self::Float(Pointwise::new(isa, w.len() / b.len(), b.len(), &w, &b)),
            Precision::Int8 => Self::Int8(Int8Linear::new(isa, &w, b)),
        }
    }

    fn run(&self, x: &[f32], finish: Finish<'_>, out: &mut [f32]) {
        match self {
            Self::Float(op) => op.run(x, Rows { width: x.len() / op.cin(), starts: &[0] }, finish, out),
            Self::Int8(op) => op.run(x, finish, out),
        }
    }
}

/// Packed weights of one layer.
#[derive(Debug)]
pub(super) struct Encoder {
    qkv: Product,
    attention: Attention,
    mix: Product,
    up: Product,
    down: Product,
    norms: [LayerNorm; 2],
    pool: Option<Arc<ThreadPool>>,
}

thread_local! {
    // The attention's output, the sum after it and the widened rows; a fresh allocation of this size would be faulted
    // in again for every layer.
    static SCRATCH: RefCell<[Vec<f32>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

impl Encoder {
    pub(super) fn new(isa: Isa, precision: Precision, layer: Layer, pool: Option<Arc<ThreadPool>>) -> Self {
        let product = |weights| Product::new(isa, precision, weights);
        Self {
            qkv: product(layer.qkv),
            attention: Attention::new(isa, HEADS, HIDDEN / HEADS),
            mix: product(layer.mix),
            up: product(layer.up),
            down: product(layer.down),
            norms: layer.norms.map(|(gain, bias)| LayerNorm::new(isa, gain, bias, EPSILON)),
            pool,
        }
    }

    /// Runs the layer on the rows of `x` into `out`, both `[tokens][HIDDEN]`, which are those of texts of so many
    /// tokens, one after the other. Tokens see only those of their own text, so a text comes to the same alone; the
    /// weights are read once for all. Threads meet once, between the keys and the attention over them; everything else
    /// is of one row.
    pub(super) fn run(&self, texts: &[usize], x: &[f32], out: &mut [f32]) {
        let tokens = x.len() / HIDDEN;
        let threads = self.pool.as_ref().map_or(1, |pool| pool.current_num_threads());
        let rows = tokens.div_ceil(threads).next_multiple_of(TILE).max(TILE);
        let mut qkv = vec![0.0; tokens * 3 * HIDDEN];
        let shares = qkv.chunks_mut(rows * 3 * HIDDEN).zip(x.chunks(rows * HIDDEN));
        self.each(shares, |(qkv, x)| self.qkv.run(x, Finish::Linear, qkv));
        let shares = out.chunks_mut(rows * HIDDEN).zip(x.chunks(rows * HIDDEN)).enumerate();
        self.each(shares, |(i, (out, x))| self.rows(texts, i * rows, x, &qkv, out));
    }

    /// What follows the keys, for the rows of `x` of which the first is `first`.
    fn rows(&self, texts: &[usize], first: usize, x: &[f32], qkv: &[f32], out: &mut [f32]) {
        let rows = x.len() / HIDDEN;
        SCRATCH.with_borrow_mut(|scratch| {
            let sizes = [rows * HIDDEN, rows * HIDDEN, rows * WIDE];
            for (scratch, size) in scratch.iter_mut().zip(sizes) {
                scratch.resize(size.max(scratch.len()), 0.0);
            }
            let [heads, sum, wide] = scratch;
            let (heads, sum, wide) = (&mut heads[..sizes[0]], &mut sum[..sizes[1]], &mut wide[..sizes[2]]);
            self.attend(texts, first..first + rows, qkv, heads);
            self.mix.run(heads, Finish::Add(x), sum);
            self.norms[0].run(sum);
            self.up.run(sum, Finish::Gelu, wide);
            self.down.run(wide, Finish::Add(sum), out);
            self.norms[1].run(out);
        });
    }

    /// What the queries of the tokens `rows` make of the tokens of their texts.
    fn attend(&self, texts: &[usize], rows: Range<usize>, qkv: &[f32], heads: &mut [f32]) {
        let mut start = 0;
        for tokens in texts {
            let end = start + tokens;
            let own = rows.start.max(start)..rows.end.min(end);
            if !own.is_empty() {
                let heads = &mut heads[(own.start - rows.start) * HIDDEN..(own.end - rows.start) * HIDDEN];
                let qkv = &qkv[start * 3 * HIDDEN..end * 3 * HIDDEN];
                self.attention.run(qkv, own.start - start..own.end - start, heads);
            }
            start = end;
        }
    }

    /// Calls `f` with each share, on the model's threads where it has some.
    fn each<T: Send>(&self, shares: impl Iterator<Item = T> + Send, f: impl Fn(T) + Sync) {
        match &self.pool {
            Some(pool) => pool.scope(|scope| {
                let f = &f;
                shares.for_each(|share| scope.spawn(move |_| f(share)));
            }),
            None => shares.for_each(f),
        }
    }
}
