//! Whether a variant keeps its promises.

/// Answers that are remembered.
const REMEMBERED: u32 = 10;
/// Answers among them that may be late.
const FORGIVEN: u32 = 1;

/// Which of the last ten answers were late.
///
/// INFaaS (Romero et al., USENIX ATC 2021, section 4.2) blacklists a variant whose mean latency is above its profile;
/// here the estimates follow the measurements, so what remains is promises that were made by them and broken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing(u16);

impl Standing {
    pub(super) const fn observe(&mut self, in_time: bool) {
        self.0 = (self.0 << 1 | !in_time as u16) & ((1 << REMEMBERED) - 1);
    }

    /// Whether two of the last ten answers were late.
    pub(super) const fn misses(self) -> bool {
        self.0.count_ones() > FORGIVEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_late_answers_of_ten_are_too_many_until_ten_later_ones_were_in_time() {
        let mut standing = Standing::default();
        standing.observe(false);
        assert!(!standing.misses(), "one is forgiven");
        (0..8).for_each(|_| standing.observe(true));
        standing.observe(false);
        assert!(standing.misses());
        standing.observe(true);
        assert!(!standing.misses(), "the first is forgotten");
    }
}
