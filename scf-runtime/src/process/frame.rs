//! Frames between host and guest, as their bytes lie. The layout is described in [`super`].

/// Bytes before a body.
pub(super) const HEAD: usize = 8;
/// Bytes of the invocation id before the input in the body of a call.
pub(super) const ID: usize = 16;
/// The last attempt that a head has room for: it stands for all later ones.
const ATTEMPTS: u32 = (1 << 24) - 1;
/// Longest text of a refusal, in bytes.
pub(super) const TEXT: u64 = 4096;

/// Host to guest: a call.
pub(super) const CALL: u8 = 1;
/// Guest to host: it has started and waits for calls.
pub(super) const READY: u8 = 2;
/// Guest to host: the call's output.
pub(super) const OUTPUT: u8 = 3;
/// Guest to host: it cannot work with the input, and why.
pub(super) const REFUSED: u8 = 4;

/// The head of a frame of `kind` with a body of `length` bytes.
pub(super) fn head(kind: u8, length: u32) -> [u8; HEAD] {
    let [a, b, c, d] = length.to_le_bytes();
    [a, b, c, d, kind, 0, 0, 0]
}

/// The head of a call with a body of `length` bytes, which is attempt `attempt`.
pub(super) fn call_head(length: u32, attempt: u32) -> [u8; HEAD] {
    let ([a, b, c, d], [x, y, z, _]) = (length.to_le_bytes(), attempt.min(ATTEMPTS).to_le_bytes());
    [a, b, c, d, CALL, x, y, z]
}

/// Length of a call's body and which attempt it is; `None` where the head is not one of a call.
pub(super) fn parse_call([a, b, c, d, kind, x, y, z]: [u8; HEAD]) -> Option<(u64, u32)> {
    (kind == CALL).then(|| (u64::from(u32::from_le_bytes([a, b, c, d])), u32::from_le_bytes([x, y, z, 0])))
}

/// Kind and length of a body; `None` where the head is not one.
pub(super) fn parse([a, b, c, d, kind, zeros @ ..]: [u8; HEAD]) -> Option<(u8, u64)> {
    (zeros == [0; 3]).then(|| (kind, u64::from(u32::from_le_bytes([a, b, c, d]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_as_it_was_written_and_lies_as_documented() {
        assert_eq!(head(OUTPUT, 0x0102_0304), [4, 3, 2, 1, 3, 0, 0, 0]);
        assert_eq!(parse(head(REFUSED, u32::MAX)), Some((REFUSED, u64::from(u32::MAX))));
        assert_eq!(parse(*b"GET / HT"), None);
    }

    #[test]
    fn a_call_says_which_attempt_it_is_as_far_as_there_is_room() {
        assert_eq!(call_head(16, 3), [16, 0, 0, 0, CALL, 3, 0, 0]);
        for (attempt, told) in [(1, 1), (0x0001_0203, 0x0001_0203), (u32::MAX, 0x00ff_ffff)] {
            assert_eq!(parse_call(call_head(u32::MAX, attempt)), Some((u64::from(u32::MAX), told)));
        }
        assert_eq!(parse_call(head(READY, 0)), None);
    }
}
