//! Networks that were trained apart, put together.

use thiserror::Error;

use super::parameters::Parameters;

/// What one node learned in a round.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that an update is")]
pub struct Update {
    /// The numbers after its training.
    pub parameters: Parameters,
    /// The examples that it trained with.
    pub examples: u64,
}

/// The mean of `updates`, each weighted by its examples: one round of *FederatedAveraging* (McMahan et al.,
/// "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017, algorithm 1). Sums are made
/// in double precision and in the order of the updates.
///
/// # Errors
/// [`FederatedError`] naming the update that does not fit.
pub fn federated_average(updates: &[Update]) -> Result<Parameters, FederatedError> {
    let first = updates.first().ok_or(FederatedError::NoUpdates)?;
    let total: u64 = updates.iter().fold(0, |all, update| all.saturating_add(update.examples));
    if total == 0 {
        return Err(FederatedError::NoExamples);
    }
    let shapes = first.parameters.shapes();
    if let Some(update) = updates.iter().position(|update| update.parameters.shapes() != shapes) {
        return Err(FederatedError::Different { update });
    }
    let mut mean = first.parameters.zeros();
    for (name, (_, values)) in &mut mean.tensors {
        let mut sums = vec![0.0f64; values.len()];
        for Update { parameters, examples } in updates {
            let weight = *examples as f64 / total as f64;
            let numbers = parameters.values(name).unwrap_or_default();
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += weight * f64::from(*number));
        }
        values.iter_mut().zip(sums).for_each(|(value, sum)| *value = sum as f32);
    }
    Ok(mean)
}

/// Why there is no mean.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FederatedError {
    /// Nobody trained.
    #[error("there are no updates to average")]
    NoUpdates,
    /// Nobody trained with anything.
    #[error("the updates are of no examples")]
    NoExamples,
    /// An update is of another network.
    #[error("update {update} has other tensors than the first")]
    Different {
        /// Which, counted from 0.
        update: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(values: &[f32], examples: u64) -> Update {
        let tensors = [("w".to_owned(), (vec![values.len()], values.to_vec()))].into();
        Update { parameters: Parameters { tensors }, examples }
    }

    #[test]
    fn who_has_more_examples_counts_for_more() {
        let mean = federated_average(&[update(&[1.0, 0.0], 30), update(&[5.0, 4.0], 10)]).unwrap();
        assert_eq!(mean.values("w"), Some(&[2.0, 1.0][..]));
    }

    #[test]
    fn equal_updates_are_their_own_mean_to_the_bit() {
        let same = update(&[0.1, -3.7e-8, 1e30], 7);
        assert_eq!(federated_average(&vec![same.clone(); 3]).unwrap(), same.parameters);
    }

    #[test]
    fn an_update_of_another_network_is_named() {
        let updates = [update(&[1.0], 1), update(&[1.0], 1), update(&[1.0, 2.0], 1)];
        assert_eq!(federated_average(&updates), Err(FederatedError::Different { update: 2 }));
        assert_eq!(federated_average(&[]), Err(FederatedError::NoUpdates));
        assert_eq!(federated_average(&[update(&[1.0], 0)]), Err(FederatedError::NoExamples));
    }
}
