//! Which models are resident: a pure decision.

use std::collections::HashMap;

use scf_core::{ByteSize, ModelName};

/// Memory for models, and who has it. The model that was asked for longest ago makes room first, as in Clockwork
/// (Gujarati et al., OSDI 2020); one that is used never does.
#[derive(Debug)]
pub(super) struct Residency {
    capacity: ByteSize,
    models: HashMap<ModelName, Place>,
    asked: u64,
}

#[derive(Debug)]
struct Place {
    memory: ByteSize,
    users: usize,
    /// Which request for any model it was given memory for, and which asked for it last.
    stay: Stay,
    asked: u64,
}

/// One time for which a model has its memory; who left a stay that ended does not count in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stay(u64);

/// What is missing for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom {
    /// What could be had if all that is not used made room.
    pub(super) available: ByteSize,
}

impl Residency {
    pub(super) fn new(capacity: ByteSize) -> Self {
        Self { capacity, models: HashMap::new(), asked: 0 }
    }

    /// Bytes that are given away.
    pub(super) fn used(&self) -> ByteSize {
        self.models.values().fold(ByteSize::ZERO, |sum, place| sum + place.memory)
    }

    /// Counts one more user of `model`, if it has its memory.
    pub(super) fn enter(&mut self, model: &ModelName) -> Option<Stay> {
        self.asked += 1;
        let place = self.models.get_mut(model)?;
        (place.users, place.asked) = (place.users + 1, self.asked);
        Some(place.stay)
    }

    /// Gives `memory` to `model`, which has none, and counts its first user. Gives who made room for it.
    pub(super) fn admit(&mut self, model: &ModelName, memory: ByteSize) -> Result<(Stay, Vec<ModelName>), NoRoom> {
        let mut idle: Vec<(u64, ModelName)> =
            self.models.iter().filter(|(_, p)| p.users == 0).map(|(name, p)| (p.asked, name.clone())).collect();
        let unused = idle.iter().fold(ByteSize::ZERO, |sum, (_, name)| sum + self.models[name].memory);
        let available = self.capacity.saturating_sub(self.used().saturating_sub(unused));
        if memory > available {
            return Err(NoRoom { available });
        }
        idle.sort_unstable();
        let mut evicted = Vec::new();
        let mut idle = idle.into_iter();
        while self.used() + memory > self.capacity
            && let Some((_, name)) = idle.next()
        {
            self.models.remove(&name);
            evicted.push(name);
        }
        self.asked += 1;
        let stay = Stay(self.asked);
        self.models.insert(model.clone(), Place { memory, users: 1, stay, asked: self.asked });
        Ok((stay, evicted))
    }

    /// One user less of `model` in `stay`.
    pub(super) fn leave(&mut self, model: &ModelName, stay: Stay) {
        if let Some(place) = self.models.get_mut(model).filter(|place| place.stay == stay) {
            place.users = place.users.saturating_sub(1);
        }
    }

    /// Takes the memory of `model` back: it was not loaded.
    pub(super) fn remove(&mut self, model: &ModelName) {
        self.models.remove(model);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ModelName {
        ModelName::new(text).unwrap()
    }

    const fn mib(mib: u64) -> ByteSize {
        ByteSize::from_mib(mib)
    }

    fn admit(residency: &mut Residency, model: &str, size: u64) -> Stay {
        let (stay, evicted) = residency.admit(&name(model), mib(size)).unwrap();
        assert_eq!(evicted, [], "{model}");
        stay
    }

    #[test]
    fn the_model_that_was_asked_for_longest_ago_makes_room_and_one_in_use_never() {
        let mut residency = Residency::new(mib(10));
        for model in ["a", "b", "c"] {
            assert_eq!(residency.enter(&name(model)), None);
            let stay = admit(&mut residency, model, 3);
            residency.leave(&name(model), stay);
        }
        for model in ["a", "c"].map(name) {
            let stay = residency.enter(&model).unwrap();
            if model == name("a") {
                residency.leave(&model, stay);
            }
        }
        let (_, evicted) = residency.admit(&name("d"), mib(7)).unwrap();
        assert_eq!((evicted, residency.used()), (vec![name("b"), name("a")], mib(10)));
        assert_eq!(residency.admit(&name("e"), mib(1)), Err(NoRoom { available: mib(0) }), "c and d are used");
    }

    #[test]
    fn what_has_no_room_evicts_nobody() {
        let mut residency = Residency::new(mib(10));
        let idle = admit(&mut residency, "idle", 4);
        residency.leave(&name("idle"), idle);
        admit(&mut residency, "used", 4);
        assert_eq!(residency.admit(&name("large"), mib(7)), Err(NoRoom { available: mib(6) }));
        assert!(residency.enter(&name("idle")).is_some());
    }

    #[test]
    fn who_left_a_stay_that_ended_does_not_count_in_the_next() {
        let mut residency = Residency::new(mib(10));
        let failed = admit(&mut residency, "a", 10);
        residency.remove(&name("a"));
        let second = admit(&mut residency, "a", 10);
        residency.leave(&name("a"), failed);
        assert!(residency.admit(&name("b"), mib(1)).is_err(), "the second stay has its user");
        residency.leave(&name("a"), second);
        assert!(residency.admit(&name("b"), mib(1)).is_ok());
    }
}
