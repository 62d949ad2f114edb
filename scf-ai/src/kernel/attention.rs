//! Scaled dot-product attention over interleaved queries, keys and values, without transposed copies of the whole.
//!
//! Vaswani et al., "Attention Is All You Need", NeurIPS 2017, sections 3.2.1 and 3.2.2. The scale is part of the
//! query's weights. One head's keys are turned around into a scratch area; its scores live for a few queries only.

use std::{cell::RefCell, ops::Range};

use super::{
    Isa,
    vector::{Plain, Vector},
};

/// Sizes of one attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    heads: usize,
    /// Width of a head, a multiple of 32.
    head: usize,
    isa: Isa,
}

/// Queries that are scored at once, and registers of keys or values beside each other.
const QUERIES: usize = 4;
const COLUMNS: usize = 2;

thread_local! {
    // Keys of one head turned around, and the scores of a few queries.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

impl Attention {
    /// # Panics
    /// When a head is no multiple of 32 wide, which is what two registers of every instruction set divide.
    pub(crate) fn new(isa: Isa, heads: usize, head: usize) -> Self {
        assert!(head.is_multiple_of(32), "a head of {head}");
        Self { heads, head, isa }
    }

    /// What the queries of the tokens `rows` make of all tokens. `qkv` is `[tokens][3][heads][head]`, `out` is
    /// `[rows][heads][head]`.
    ///
    /// # Panics
    /// When `rows` lies outside the tokens or `out` has another length.
    pub(crate) fn run(&self, qkv: &[f32], rows: Range<usize>, out: &mut [f32]) {
        let width = self.heads * self.head;
        let tokens = qkv.len() / (3 * width);
        assert!(rows.start <= rows.end && rows.end <= tokens, "rows {rows:?} of {tokens}");
        assert_eq!(out.len(), rows.len() * width, "the output's length");
        SCRATCH.with_borrow_mut(|(keys, scores)| {
            let padded = tokens.next_multiple_of(COLUMNS * 16);
            keys.resize((self.head * padded).max(keys.len()), 0.0);
            scores.resize((QUERIES * padded).max(scores.len()), 0.0);
            for head in 0..self.heads {
                for (token, from) in qkv.chunks_exact(3 * width).enumerate() {
                    let key = &from[width + head * self.head..][..self.head];
                    key.iter().enumerate().for_each(|(i, k)| keys[i * padded + token] = *k);
                }
                let work = Head { qkv, head, rows: rows.clone(), tokens, padded, keys };
                // SAFETY: the lengths are checked and made above; an instruction set is named only after
                // `Isa::detect` found it.
                unsafe {
                    match self.isa {
                        #[cfg(target_arch = "x86_64")]
                        Isa::Avx512 => avx512(self, &work, scores, out),
                        #[cfg(target_arch = "x86_64")]
                        Isa::Avx2 => avx2(self, &work, scores, out),
                        _ => attend::<Plain>(self, &work, scores, out),
                    }
                }
            }
        });
    }
}

/// One head's share of a run.
struct Head<'a> {
    qkv: &'a [f32],
    head: usize,
    rows: Range<usize>,
    tokens: usize,
    /// Tokens rounded up to two registers of every instruction set.
    padded: usize,
    /// `[head][padded]`.
    keys: &'a [f32],
}

/// # Safety
/// As [`attend`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn avx512(op: &Attention, work: &Head<'_>, scores: &mut [f32], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { attend::<std::arch::x86_64::__m512>(op, work, scores, out) }
}

/// # Safety
/// As [`attend`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(op: &Attention, work: &Head<'_>, scores: &mut [f32], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { attend::<std::arch::x86_64::__m256>(op, work, scores, out) }
}

/// # Safety
/// The lengths are as [`Attention::run`] makes them, and the registers are there.
#[inline(always)]
unsafe fn attend<V: Vector>(op: &Attention, work: &Head<'_>, scores: &mut [f32], out: &mut [f32]) {
    let first = work.rows.start;
    let mut row = first;
    // SAFETY: the caller's promise, and the rows stay within the range.
    unsafe {
        while row + QUERIES <= work.rows.end {
            queries::<V, QUERIES>(op, work, row, scores, &mut out[(row - first) * op.heads * op.head..]);
            row += QUERIES;
        }
        while row < work.rows.end {
            queries::<V, 1>(op, work, row, scores, &mut out[(row - first) * op.heads * op.head..]);
            row += 1;
        }
    }
}

/// `R` queries from `row` on.
///
/// # Safety
/// As [`attend`]; `out` starts at the first of the rows and has all of them.
#[inline(always)]
unsafe fn queries<V: Vector, const R: usize>(
    op: &Attention,
    work: &Head<'_>,
    row: usize,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let (width, padded) = (op.heads * op.head, work.padded);
    let place = work.head * op.head;
    // SAFETY: a query is `head` floats from its token's start on, keys are `[head][padded]`, values one row per
    // token, and steps are whole pairs of registers within each.
    unsafe {
        let query = work.qkv.as_ptr().add(row * 3 * width + place);
        for column in (0..padded).step_by(COLUMNS * V::LANES) {
            let keys = work.keys.as_ptr().add(column);
            let sums = product::<V, R>(op.head, (query, 3 * width), (keys, padded));
            for (r, [a, b]) in sums.into_iter().enumerate() {
                a.store(scores.as_mut_ptr().add(r * padded + column));
                b.store(scores.as_mut_ptr().add(r * padded + column + V::LANES));
            }
        }
        let mut shares = [0.0; R];
        for (r, share) in shares.iter_mut().enumerate() {
            let scores = &mut scores[r * padded..][..padded];
            scores[work.tokens..].fill(f32::MIN);
            *share = exponentials::<V>(scores).recip();
        }
        for column in (0..op.head).step_by(COLUMNS * V::LANES) {
            let values = work.qkv.as_ptr().add(2 * width + place + column);
            let sums = product::<V, R>(work.tokens, (scores.as_ptr(), padded), (values, 3 * width));
            for (r, [a, b]) in sums.into_iter().enumerate() {
                let out = out.as_mut_ptr().add(r * width + place + column);
                a.mul(V::splat(shares[r])).store(out);
                b.mul(V::splat(shares[r])).store(out.add(V::LANES));
            }
        }
    }
}

/// `R` rows of `a` times two registers of columns of `b`, over `depth`; each with the distance between its rows.
///
/// # Safety
/// `a` has `R` rows of `depth` floats, `b` has `depth` rows of two registers, and the registers are there.
#[inline(always)]
unsafe fn product<V: Vector, const R: usize>(
    depth: usize,
    (a, a_row): (*const f32, usize),
    (b, b_row): (*const f32, usize),
) -> [[V; COLUMNS]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(0.0); COLUMNS]; R];
        for i in 0..depth {
            let columns = [V::load(b.add(i * b_row)), V::load(b.add(i * b_row + V::LANES))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = V::splat(*a.add(r * a_row + i));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = x.fma(column, *sum);
                }
            }
        }
        sums
    }
}

/// Makes each score `e` to the power of how far it is below the largest, and gives their sum.
///
/// # Safety
/// The scores are a multiple of the registers, which are there.
#[inline(always)]
pub(super) unsafe fn exponentials<V: Vector>(scores: &mut [f32]) -> f32 {
    let steps = (0..scores.len()).step_by(V::LANES);
    // SAFETY: steps are whole registers within the scores.
    unsafe {
        let mut largest = V::splat(f32::MIN);
        for at in steps.clone() {
            largest = largest.max(V::load(scores.as_ptr().add(at)));
        }
        let largest = V::splat(largest.lanes()[..V::LANES].iter().copied().fold(f32::MIN, f32::max));
        let mut sum = V::splat(0.0);
        for at in steps {
            let e = V::load(scores.as_ptr().add(at)).sub(largest).exp();
            e.store(scores.as_mut_ptr().add(at));
            sum = sum.add(e);
        }
        sum.lanes()[..V::LANES].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reference, *};

    #[test]
    fn agrees_with_the_definition_for_every_instruction_set_and_odd_lengths() {
        let mut random = reference::Random::new(23);
        let (heads, head) = (3, 32);
        let width = heads * head;
        for isa in Isa::available() {
            for tokens in [1, 2, 7, 31, 32, 33, 70] {
                let qkv = random.floats(tokens * 3 * width);
                let part =
                    |token: usize, which: usize, h: usize| &qkv[(token * 3 + which) * width + h * head..][..head];
                let mut expected = Vec::new();
                for row in 0..tokens {
                    for h in 0..heads {
                        let dot = |t: usize| part(row, 0, h).iter().zip(part(t, 1, h)).map(|(q, k)| q * k).sum::<f32>();
                        let e: Vec<f64> = (0..tokens).map(|t| f64::from(dot(t)).exp()).collect();
                        let sum: f64 = e.iter().sum();
                        expected.extend((0..head).map(|i| {
                            let value = |t: usize| f64::from(part(t, 2, h)[i]);
                            ((0..tokens).map(|t| e[t] * value(t)).sum::<f64>() / sum) as f32
                        }));
                    }
                }
                let op = Attention::new(isa, heads, head);
                let mut out = vec![f32::NAN; tokens * width];
                let middle = tokens / 2;
                let (above, below) = out.split_at_mut(middle * width);
                op.run(&qkv, 0..middle, above);
                op.run(&qkv, middle..tokens, below);
                reference::assert_close(&out, &expected, 1e-5);
            }
        }
    }
}
