//! Which executables and models a node keeps: the storage auction.

use thiserror::Error;

use crate::fleet::FunctionIx;

/// Why something is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// It is larger than the whole room.
    #[error("{bytes} bytes do not fit into {room}")]
    TooLarge {
        /// What it takes.
        bytes: u64,
        /// What there is.
        room: u64,
    },
    /// Making room for it would have meant to drop what more is paid for.
    #[error("what would have to be dropped is paid better")]
    Outbid,
}

/// What is kept, and what is paid for it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kept {
    function: FunctionIx,
    bytes: u64,
    /// Per byte, so that large and small things compare.
    price: f32,
}

/// Room for executables and models, let to those who pay most for it (Bermbach et al.: AuctionWhisk, Software: Practice
/// and Experience 52(5), 2022, section 3.2), with a difference: there a newcomer drives the lowest bidder out whatever it
/// bids; here it must bid a margin more per byte than everything that it drives out. A higher bid never yields to a
/// lower one, and two nearly equal ones do not drive each other out in turns.
#[derive(Clone, Debug)]
pub struct Shelf {
    room: u64,
    margin: f32,
    kept: Vec<Kept>,
}

impl Shelf {
    /// Room for `room` bytes; a newcomer must bid `margin` more, as a share, than what it drives out.
    #[must_use]
    pub const fn new(room: u64, margin: f32) -> Self {
        Self { room, margin, kept: Vec::new() }
    }

    /// Whether a function's executable is kept.
    #[must_use]
    pub fn has(&self, function: FunctionIx) -> bool {
        self.kept.iter().any(|kept| kept.function == function)
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.kept.iter().map(|kept| kept.bytes).sum()
    }

    /// Takes something in at `price`, and gives those that it drove out. What is kept already has its price raised.
    ///
    /// # Errors
    /// [`ShelfError`] when it does not fit, or what it would drive out is paid better; nothing is changed then.
    pub fn take(&mut self, function: FunctionIx, bytes: u64, price: f32) -> Result<Vec<FunctionIx>, ShelfError> {
        let price = price / bytes.max(1) as f32;
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.function == function) {
            kept.price = kept.price.max(price);
            return Ok(Vec::new());
        }
        if bytes > self.room {
            return Err(ShelfError::TooLarge { bytes, room: self.room });
        }
        self.kept.sort_by(|a, b| a.price.total_cmp(&b.price));
        let mut free = self.room - self.taken().min(self.room);
        let mut out = 0;
        while free < bytes {
            // There is enough once all are out, which the check of the room promises.
            let Some(lowest) = self.kept.get(out) else { break };
            if price <= lowest.price * (1.0 + self.margin) {
                return Err(ShelfError::Outbid);
            }
            free += lowest.bytes;
            out += 1;
        }
        let gone = self.kept.drain(..out).map(|kept| kept.function).collect();
        self.kept.push(Kept { function, bytes, price });
        Ok(gone)
    }

    /// Drops something that nobody pays for any more.
    pub fn drop(&mut self, function: FunctionIx) {
        self.kept.retain(|kept| kept.function != function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_newcomer_must_bid_a_margin_more_than_what_it_drives_out() {
        let mut shelf = Shelf::new(100, 0.1);
        let [a, b, c] = [1, 2, 3].map(FunctionIx);
        assert_eq!(shelf.take(a, 60, 6.0), Ok(vec![]));
        assert_eq!(shelf.take(b, 40, 8.0), Ok(vec![]));
        assert_eq!(shelf.take(c, 60, 6.5), Err(ShelfError::Outbid), "8 % more is not 10 %");
        assert_eq!(shelf.take(c, 60, 6.7), Ok(vec![a]));
        assert_eq!(shelf.take(a, 100, 19.0), Err(ShelfError::Outbid), "b pays 0.2 per byte");
        assert_eq!(shelf.take(a, 101, 1e9), Err(ShelfError::TooLarge { bytes: 101, room: 100 }));
        assert!(shelf.has(b) && shelf.has(c) && !shelf.has(a));
    }

    #[test]
    fn what_is_driven_out_never_paid_more_per_byte_than_what_took_its_place() {
        let (mut shelf, mut random) = (Shelf::new(1000, 0.05), Random::new(4));
        for function in 0..5000 {
            let before = shelf.kept.clone();
            let (bytes, price) = (1 + random.below(400) as u64, random.below(1000) as f32);
            let Ok(gone) = shelf.take(FunctionIx(function), bytes, price) else {
                assert_eq!(shelf.kept.len(), before.len());
                continue;
            };
            assert!(shelf.taken() <= 1000);
            for kept in before.iter().filter(|kept| gone.contains(&kept.function)) {
                assert!(kept.price * 1.05 < price / bytes as f32, "{kept:?} yielded to {price} for {bytes}");
            }
        }
    }
}
