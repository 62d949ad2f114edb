//! Causal attention over remembered keys and values, of which several heads share one (Ainslie et al., "GQA", EMNLP
//! 2023, section 2.2).

use std::cell::RefCell;

use super::{
    Isa,
    attention::exponentials,
    quantised::{sum, widened},
    vector::{Plain, Vector},
};

/// Widest head.
const MAX_HEAD: usize = 256;

/// Sizes of one attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupedAttention {
    heads: usize,
    /// Heads of keys and values; each serves `heads / groups` heads.
    groups: usize,
    /// Width of a head.
    head: usize,
    isa: Isa,
}

thread_local! {
    // Scores of the heads of one group over all positions.
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl GroupedAttention {
    /// Whether there is an attention of these sizes: a head is a multiple of 32 of at most 256.
    pub(crate) fn fits(heads: usize, groups: usize, head: usize) -> bool {
        groups > 0 && heads.is_multiple_of(groups) && head.is_multiple_of(32) && (1..=MAX_HEAD).contains(&head)
    }

    /// # Panics
    /// Where [`GroupedAttention::fits`] says no.
    pub(crate) fn new(isa: Isa, heads: usize, groups: usize, head: usize) -> Self {
        assert!(Self::fits(heads, groups, head), "{heads} heads of {head} in {groups} groups");
        Self { heads, groups, head, isa }
    }

    /// Bytes that are remembered of a position: its keys, then its values, as 16-bit floats.
    pub(crate) const fn row(&self) -> usize {
        2 * 2 * self.groups * self.head
    }

    /// What the queries of the last positions make of all positions up to their own. `queries` and `out` are
    /// `[tokens][heads][head]`, scaled already; `memory` is a row per position.
    ///
    /// # Panics
    /// When `queries` and `out` differ in length or are of more positions than `memory`.
    pub(crate) fn run(&self, queries: &[f32], memory: &[u8], out: &mut [f32]) {
        let width = self.heads * self.head;
        let (tokens, positions) = (queries.len() / width, memory.len() / self.row());
        assert!(queries.len() == out.len() && tokens <= positions, "{tokens} tokens of {positions}");
        SCORES.with_borrow_mut(|scores| {
            let padded = positions.next_multiple_of(16);
            scores.resize((self.heads / self.groups * padded).max(scores.len()), 0.0);
            for (token, (query, out)) in queries.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
                let seen = &memory[..(positions - tokens + token + 1) * self.row()];
                for group in 0..self.groups {
                    let heads = group * width / self.groups..(group + 1) * width / self.groups;
                    let (query, out) = (&query[heads.clone()], &mut out[heads]);
                    // SAFETY: a query and the output are the heads of one group, there are scores for each head
                    // and position, and an instruction set is named only after `Isa::detect` found it.
                    unsafe {
                        match self.isa {
                            #[cfg(target_arch = "x86_64")]
                            Isa::Avx512 => avx512(self, query, (seen, group), scores, out),
                            #[cfg(target_arch = "x86_64")]
                            Isa::Avx2 => avx2(self, query, (seen, group), scores, out),
                            _ => attend::<Plain>(self, query, (seen, group), scores, out),
                        }
                    }
                }
            }
        });
    }
}

/// # Safety
/// As [`attend`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn avx512(op: &GroupedAttention, query: &[f32], seen: (&[u8], usize), scores: &mut [f32], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { attend::<std::arch::x86_64::__m512>(op, query, seen, scores, out) }
}

/// # Safety
/// As [`attend`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(op: &GroupedAttention, query: &[f32], seen: (&[u8], usize), scores: &mut [f32], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { attend::<std::arch::x86_64::__m256>(op, query, seen, scores, out) }
}

/// One token's heads of the group, over the rows that it may see.
///
/// # Safety
/// `query` and `out` are `[heads of the group][head]`, `scores` has room for the positions, padded to 16, of as many
/// heads, and the registers are there.
#[inline(always)]
unsafe fn attend<V: Vector>(
    op: &GroupedAttention,
    query: &[f32],
    (seen, group): (&[u8], usize),
    scores: &mut [f32],
    out: &mut [f32],
) {
    let rows = seen.chunks_exact(op.row());
    let positions = rows.len();
    let padded = positions.next_multiple_of(16);
    let place = 2 * group * op.head;
    let mut wide = [0.0; MAX_HEAD];
    // SAFETY: a head is whole registers, and places are within the heads of the group and the scores.
    unsafe {
        for (position, row) in rows.clone().enumerate() {
            widen(&row[place..][..2 * op.head], &mut wide);
            for (head, query) in query.chunks_exact(op.head).enumerate() {
                let mut total = V::splat(0.0);
                for at in (0..op.head).step_by(V::LANES) {
                    total = V::load(query.as_ptr().add(at)).fma(V::load(wide.as_ptr().add(at)), total);
                }
                scores[head * padded + position] = sum(total);
            }
        }
        out.fill(0.0);
        for scores in scores.chunks_exact_mut(padded).take(query.len() / op.head) {
            scores[positions..].fill(f32::MIN);
            let share = exponentials::<V>(scores).recip();
            scores.iter_mut().for_each(|score| *score *= share);
        }
        for (position, row) in rows.enumerate() {
            widen(&row[op.row() / 2 + place..][..2 * op.head], &mut wide);
            for (head, out) in out.chunks_exact_mut(op.head).enumerate() {
                let share = V::splat(scores[head * padded + position]);
                for at in (0..op.head).step_by(V::LANES) {
                    let out = out.as_mut_ptr().add(at);
                    share.fma(V::load(wide.as_ptr().add(at)), V::load(out)).store(out);
                }
            }
        }
    }
}

#[inline(always)]
fn widen(halves: &[u8], wide: &mut [f32; MAX_HEAD]) {
    for (wide, half) in wide.iter_mut().zip(halves.as_chunks().0) {
        *wide = widened(u16::from_le_bytes(*half));
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::{super::reference, *};

    #[test]
    fn agrees_with_the_definition_for_every_instruction_set_and_division_of_the_tokens() {
        let mut random = reference::Random::new(29);
        let (heads, groups, head, positions) = (6, 2, 32, 35);
        let half = |v: &f32| f16::from_f32(*v);
        for isa in Isa::available() {
            let op = GroupedAttention::new(isa, heads, groups, head);
            let queries = random.floats(positions * heads * head);
            let kept: Vec<f16> = random.floats(positions * 2 * groups * head).iter().map(half).collect();
            let memory: Vec<u8> = kept.iter().flat_map(|h| h.to_le_bytes()).collect();
            let part = |position: usize, which: usize, h: usize, i: usize| {
                kept[((position * 2 + which) * groups + h / (heads / groups)) * head + i].to_f64()
            };
            let mut expected = Vec::new();
            for (token, query) in queries.chunks_exact(heads * head).enumerate() {
                for (h, query) in query.chunks_exact(head).enumerate() {
                    let score = |p: usize| (0..head).map(|i| f64::from(query[i]) * part(p, 0, h, i)).sum::<f64>();
                    let e: Vec<f64> = (0..=token).map(|p| score(p).exp()).collect();
                    let all: f64 = e.iter().sum();
                    let value = |i: usize| e.iter().enumerate().map(|(p, e)| e * part(p, 1, h, i)).sum::<f64>() / all;
                    expected.extend((0..head).map(|i| value(i) as f32));
                }
            }
            let mut out = vec![f32::NAN; queries.len()];
            op.run(&queries, &memory, &mut out);
            reference::assert_close(&out, &expected, 1e-5);
            for tokens in [1, 4, 17] {
                let from = queries.len() - tokens * heads * head;
                let mut last = vec![f32::NAN; tokens * heads * head];
                op.run(&queries[from..], &memory, &mut last);
                assert_eq!(last, out[from..], "{tokens} tokens alone are others than with those before them");
            }
        }
    }
}
