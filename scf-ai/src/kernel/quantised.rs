//! Matrix products with weights that stay as a model file has them: in blocks of 32 that share a scale.
//!
//! A block is widened into registers and multiplied with the activations of up to eight tokens, which stay 32-bit
//! floats (weight-only quantisation: Frantar et al., "GPTQ", ICLR 2023, section 4). One token reads every weight once,
//! from 4.5 to 8.5 bits each, where 32-bit weights would be read at the memory's speed; several share the widening.
//! A token's sums are added up in one order however many are computed beside it.

use scf_core::Bytes;

use super::{
    Isa,
    vector::{Plain, Vector},
};

/// How a file keeps numbers: ggml's types of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    F32,
    F16,
    /// A 16-bit float `d` and 4 bits `q` each: `d * (q - 8)`.
    Q4_0,
    /// 16-bit floats `d` and `m`, and 4 bits `q` each: `d * q + m`.
    Q4_1,
    /// A 16-bit float `d` and a signed byte `q` each: `d * q`.
    Q8_0,
}

impl Format {
    /// Numbers of a block.
    pub(crate) const BLOCK: usize = 32;

    /// Those that are read, for errors.
    pub(crate) const NAMES: &str = "F32 (0), F16 (1), Q4_0 (2), Q4_1 (3) and Q8_0 (8)";

    /// The format of a type's number in ggml.
    pub(crate) const fn of_ggml(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            _ => return None,
        })
    }

    /// Bytes of a block.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::F32 => 128,
            Self::F16 => 64,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q8_0 => 34,
        }
    }
}

/// A matrix of `rows` outputs of `columns` inputs.
#[derive(Debug)]
pub(crate) struct Quantised {
    rows: usize,
    columns: usize,
    format: Format,
    /// `[rows][columns / 32]` blocks.
    bytes: Bytes,
    isa: Isa,
}

impl Quantised {
    /// # Panics
    /// When a row is no multiple of a block or `bytes` are not those of the matrix.
    pub(crate) fn new(isa: Isa, (rows, columns): (usize, usize), format: Format, bytes: Bytes) -> Self {
        assert!(columns.is_multiple_of(Format::BLOCK), "rows of {columns}");
        assert_eq!(bytes.len(), rows * columns / Format::BLOCK * format.size(), "a matrix of {rows}x{columns}");
        Self { rows, columns, format, bytes, isa }
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) const fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of the weights.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Multiplies each token of `x`, `[tokens][columns]`, into `out`, `[tokens][rows]`.
    ///
    /// # Panics
    /// When `x` is no whole number of tokens, or `out` is not of as many.
    pub(crate) fn run(&self, x: &[f32], out: &mut [f32]) {
        let tokens = x.len() / self.columns;
        assert_eq!((x.len(), out.len()), (tokens * self.columns, tokens * self.rows), "tokens of the product");
        // SAFETY: the lengths are checked above and in `new`; an instruction set is named only after `Isa::detect`
        // found it.
        unsafe {
            match self.isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512(self, x, out),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2(self, x, out),
                _ => product::<Plain>(self, x, out),
            }
        }
    }

    /// Row `row`, widened into `out`, which has `columns` elements.
    ///
    /// # Panics
    /// When there is no such row or `out` is of another length.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.columns, "a row's length");
        let size = self.format.size();
        let blocks = self.bytes[row * self.columns / Format::BLOCK * size..].chunks_exact(size);
        for (out, block) in out.as_chunks_mut().0.iter_mut().zip(blocks) {
            // SAFETY: these registers are always there, and a block has the bytes of its format.
            let block = unsafe {
                match self.format {
                    Format::F32 => F32::widen::<Plain>(block),
                    Format::F16 => F16::widen::<Plain>(block),
                    Format::Q4_0 => Q4_0::widen::<Plain>(block),
                    Format::Q4_1 => Q4_1::widen::<Plain>(block),
                    Format::Q8_0 => Q8_0::widen::<Plain>(block),
                }
            };
            store(block, out);
        }
    }
}

fn store(block: [Plain; REGISTERS], out: &mut [f32; Format::BLOCK]) {
    for (register, out) in block.into_iter().zip(out.chunks_exact_mut(Plain::LANES)) {
        // SAFETY: these registers are always there, and `out` is one.
        unsafe { register.store(out.as_mut_ptr()) };
    }
}

/// A 16-bit float, given by its bits, with all values that it can have.
#[inline(always)]
pub(super) fn widened(half: u16) -> f32 {
    // 2^112 is what the biases of the exponents differ by; a product with it is exact and right for subnormal ones
    // too. Infinities and what is no number have the largest exponent.
    const BIAS: f32 = f32::from_bits((112 + 127) << 23);
    const LARGEST: u32 = 0x7c00 << 13;
    let magnitude = u32::from(half & 0x7fff) << 13;
    let finite = (f32::from_bits(magnitude) * BIAS).to_bits();
    let value = if magnitude >= LARGEST { magnitude | 0x7f80_0000 } else { finite };
    f32::from_bits(value | u32::from(half & 0x8000) << 16)
}

/// Most registers of a block.
const REGISTERS: usize = Format::BLOCK / 4;

/// A format's blocks.
trait Blocks {
    const BYTES: usize;

    /// The numbers of a block in the first `32 / LANES` registers.
    ///
    /// # Safety
    /// `block` has [`Blocks::BYTES`], and the registers are there.
    unsafe fn widen<V: Vector>(block: &[u8]) -> [V; REGISTERS];
}

/// # Safety
/// The registers are there.
#[inline(always)]
unsafe fn floats<V: Vector>(values: &[f32; Format::BLOCK]) -> [V; REGISTERS] {
    // SAFETY: the registers of a block are within the values, and are there.
    unsafe {
        let mut out = [V::splat(0.0); REGISTERS];
        for (out, values) in out.iter_mut().zip(values.chunks_exact(V::LANES)) {
            *out = V::load(values.as_ptr());
        }
        out
    }
}

/// `scale * q + offset` of each.
///
/// # Safety
/// The registers are there.
#[inline(always)]
unsafe fn affine<V: Vector>(q: &[i8; Format::BLOCK], scale: f32, offset: f32) -> [V; REGISTERS] {
    // SAFETY: the registers of a block are within the values, and are there.
    unsafe {
        let mut out = [V::splat(0.0); REGISTERS];
        for (out, q) in out.iter_mut().zip(q.chunks_exact(V::LANES)) {
            *out = V::bytes(q.as_ptr()).fma(V::splat(scale), V::splat(offset));
        }
        out
    }
}

/// The 16-bit float that the bytes begin with.
#[inline(always)]
fn scale(bytes: &[u8]) -> f32 {
    widened(u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// The lower four bits of 16 bytes, then the upper ones.
#[inline(always)]
fn nibbles(bytes: &[u8]) -> [i8; Format::BLOCK] {
    let mut q = [0; Format::BLOCK];
    let (low, high) = q.split_at_mut(Format::BLOCK / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&bytes[..Format::BLOCK / 2]) {
        (*low, *high) = ((byte & 15) as i8, (byte >> 4) as i8);
    }
    q
}

macro_rules! blocks {
    ($name:ident, $block:ident => $widen:expr) => {
        struct $name;

        impl Blocks for $name {
            const BYTES: usize = Format::$name.size();

            #[inline(always)]
            unsafe fn widen<V: Vector>(block: &[u8]) -> [V; REGISTERS] {
                let $block = &block[..Self::BYTES];
                // SAFETY: the caller's promise.
                unsafe { $widen }
            }
        }
    };
}

blocks!(Q4_0, block => { let d = scale(block); affine(&nibbles(&block[2..]), d, -8.0 * d) });
blocks!(Q4_1, block => affine(&nibbles(&block[4..]), scale(block), scale(&block[2..])));
blocks!(Q8_0, block => {
    let mut q = [0; Format::BLOCK];
    q.iter_mut().zip(&block[2..]).for_each(|(q, byte)| *q = *byte as i8);
    affine(&q, scale(block), 0.0)
});

struct F16;
struct F32;

impl Blocks for F16 {
    const BYTES: usize = Format::F16.size();

    #[inline(always)]
    unsafe fn widen<V: Vector>(block: &[u8]) -> [V; REGISTERS] {
        let mut values = [0.0; Format::BLOCK];
        let halves = block[..Self::BYTES].as_chunks().0;
        values.iter_mut().zip(halves).for_each(|(value, &half)| *value = widened(u16::from_le_bytes(half)));
        // SAFETY: the caller's promise.
        unsafe { floats(&values) }
    }
}

impl Blocks for F32 {
    const BYTES: usize = Format::F32.size();

    #[inline(always)]
    unsafe fn widen<V: Vector>(block: &[u8]) -> [V; REGISTERS] {
        let mut values = [0.0; Format::BLOCK];
        let from = block[..Self::BYTES].as_chunks().0;
        values.iter_mut().zip(from).for_each(|(value, &float)| *value = f32::from_le_bytes(float));
        // SAFETY: the caller's promise.
        unsafe { floats(&values) }
    }
}

/// # Safety
/// As [`product`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
unsafe fn avx512(op: &Quantised, x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { product::<std::arch::x86_64::__m512>(op, x, out) }
}

/// # Safety
/// As [`product`], and the processor has the instruction sets.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(op: &Quantised, x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { product::<std::arch::x86_64::__m256>(op, x, out) }
}

/// # Safety
/// The lengths are as [`Quantised::run`] has checked them, and the registers are there.
#[inline(always)]
unsafe fn product<V: Vector>(op: &Quantised, x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match op.format {
            Format::F32 => all::<V, F32>(op, x, out),
            Format::F16 => all::<V, F16>(op, x, out),
            Format::Q4_0 => all::<V, Q4_0>(op, x, out),
            Format::Q4_1 => all::<V, Q4_1>(op, x, out),
            Format::Q8_0 => all::<V, Q8_0>(op, x, out),
        }
    }
}

/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn all<V: Vector, B: Blocks>(op: &Quantised, mut x: &[f32], mut out: &mut [f32]) {
    // SAFETY: each step takes as many tokens as are left at least.
    unsafe {
        // Sixteen sums fit into 32 registers, eight into 16.
        while V::LANES == 16 && x.len() >= 8 * op.columns {
            tokens::<V, B, 8>(op, &mut x, &mut out);
        }
        while x.len() >= 4 * op.columns {
            tokens::<V, B, 4>(op, &mut x, &mut out);
        }
        while !x.is_empty() {
            tokens::<V, B, 1>(op, &mut x, &mut out);
        }
    }
}

/// Multiplies the first `T` tokens and leaves the others.
///
/// # Safety
/// As [`product`], and there are `T` tokens.
#[inline(always)]
unsafe fn tokens<V: Vector, B: Blocks, const T: usize>(op: &Quantised, x: &mut &[f32], out: &mut &mut [f32]) {
    let (here, left) = x.split_at(T * op.columns);
    let (to, beyond) = std::mem::take(out).split_at_mut(T * op.rows);
    for (row, blocks) in op.bytes.chunks_exact(op.columns / Format::BLOCK * B::BYTES).enumerate() {
        // SAFETY: the caller's promise; `here` has T tokens.
        let sums = unsafe { row_times::<V, B, T>(blocks, here.as_ptr(), op.columns) };
        for (token, sum) in sums.into_iter().enumerate() {
            to[token * op.rows + row] = sum;
        }
    }
    (*x, *out) = (left, beyond);
}

/// One row times `T` tokens.
///
/// # Safety
/// `blocks` are those of `columns` numbers, `x` has `T` times as many floats, and the registers are there.
#[inline(always)]
unsafe fn row_times<V: Vector, B: Blocks, const T: usize>(blocks: &[u8], x: *const f32, columns: usize) -> [f32; T] {
    // SAFETY: the registers of each block and token lie within the token's columns.
    unsafe {
        let mut sums = [[V::splat(0.0); 2]; T];
        for (i, block) in blocks.chunks_exact(B::BYTES).enumerate() {
            let weights = B::widen::<V>(block);
            for (token, sums) in sums.iter_mut().enumerate() {
                let x = x.add(token * columns + i * Format::BLOCK);
                for r in 0..Format::BLOCK / V::LANES {
                    sums[r % 2] = weights[r].fma(V::load(x.add(r * V::LANES)), sums[r % 2]);
                }
            }
        }
        sums.map(|[a, b]| sum(a.add(b)))
    }
}

/// The sum of the lanes, halves first.
///
/// # Safety
/// The registers are there.
#[inline(always)]
pub(super) unsafe fn sum<V: Vector>(register: V) -> f32 {
    // SAFETY: the caller's promise.
    let mut lanes = unsafe { register.lanes() };
    let mut width = V::LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::{super::reference, *};

    /// Blocks of a format with seeded content, and the numbers that they stand for.
    fn blocks(format: Format, count: usize, random: &mut reference::Random) -> (Vec<u8>, Vec<f32>) {
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let [d, m] = [0, 1].map(|_| f16::from_f32(random.floats(1)[0] * 0.1));
            let q: Vec<u8> = (0..32).map(|_| random.next() as u8).collect();
            let packed = |out: &mut Vec<u8>| out.extend((0..16).map(|i| (q[i] & 15) | (q[i + 16] << 4)));
            let float = |q: u8| f32::from(f16::from_f32(f32::from(q) / 64.0 - 2.0));
            match format {
                Format::F32 => bytes.extend(q.iter().flat_map(|&q| float(q).to_le_bytes())),
                Format::F16 => bytes.extend(q.iter().flat_map(|&q| f16::from_f32(float(q)).to_le_bytes())),
                Format::Q8_0 => {
                    bytes.extend(d.to_le_bytes());
                    bytes.extend(&q);
                }
                Format::Q4_0 => {
                    bytes.extend(d.to_le_bytes());
                    packed(&mut bytes);
                }
                Format::Q4_1 => {
                    bytes.extend(d.to_le_bytes());
                    bytes.extend(m.to_le_bytes());
                    packed(&mut bytes);
                }
            }
            values.extend(q.iter().map(|&q| match format {
                Format::F32 | Format::F16 => float(q),
                Format::Q8_0 => d.to_f32() * f32::from(q as i8),
                Format::Q4_0 => d.to_f32() * (f32::from(q & 15) - 8.0),
                Format::Q4_1 => d.to_f32() * f32::from(q & 15) + m.to_f32(),
            }));
        }
        (bytes, values)
    }

    #[test]
    fn agrees_with_the_definition_for_every_format_instruction_set_and_number_of_tokens() {
        let mut random = reference::Random::new(31);
        let (rows, columns) = (5, 96);
        for format in [Format::F32, Format::F16, Format::Q4_0, Format::Q4_1, Format::Q8_0] {
            let (bytes, weights) = blocks(format, rows * columns / 32, &mut random);
            // At an odd place, as a file may have it.
            let bytes = Bytes::from([&[0][..], &bytes].concat()).slice(1..);
            for isa in Isa::available() {
                let op = Quantised::new(isa, (rows, columns), format, bytes.clone());
                let x = random.floats(13 * columns);
                let mut expected = Vec::new();
                for x in x.chunks_exact(columns) {
                    let dot = |w: &[f32]| w.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum::<f64>() as f32;
                    expected.extend(weights.chunks_exact(columns).map(dot));
                }
                let mut out = vec![f32::NAN; 13 * rows];
                op.run(&x, &mut out);
                reference::assert_close(&out, &expected, 1e-5);
                let mut alone = vec![f32::NAN; rows];
                op.run(&x[9 * columns..][..columns], &mut alone);
                assert_eq!(alone, out[9 * rows..][..rows], "a token's sums depend on those beside it");
                let mut row = vec![f32::NAN; columns];
                op.row(3, &mut row);
                reference::assert_close(&row, &weights[3 * columns..][..columns], 1e-6);
            }
        }
    }

    #[test]
    fn widens_every_half() {
        for bits in 0..=u16::MAX {
            let (actual, expected) = (widened(bits), f16::from_bits(bits).to_f32());
            assert!(actual.to_bits() == expected.to_bits() || (actual.is_nan() && expected.is_nan()), "{bits:#x}");
        }
    }
}
