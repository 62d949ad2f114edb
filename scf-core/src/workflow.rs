//! Functions joined to one.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{FunctionName, MediaType, Name, Objectives};

/// Functions of which each is given what the one before it gave.
///
/// Steps form a tree: each has one predecessor, or takes the workflow's own input. Checked against the
/// deployed functions when it is deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Workflow {
    /// Its name.
    pub name: Name,
    /// Its steps, each after its predecessor.
    pub steps: Vec<Step>,
    /// What is promised about a run of it, from its input to the last step's outcome.
    #[serde(default)]
    pub objectives: Objectives,
}

/// One step of a [`Workflow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Step {
    /// The function.
    pub function: FunctionName,
    /// The step that gives its input, by position; none: the workflow's own input.
    pub after: Option<usize>,
}

impl Workflow {
    /// A workflow without steps.
    #[must_use]
    pub const fn new(name: Name) -> Self {
        Self { name, steps: Vec::new(), objectives: Objectives::none() }
    }

    /// Adds a step that is given what the last one gives, or the workflow's input when it is the first.
    #[must_use]
    pub fn then(mut self, function: FunctionName) -> Self {
        let after = self.steps.len().checked_sub(1);
        self.steps.push(Step { function, after });
        self
    }

    /// Adds a step that is given what step `after` gives.
    #[must_use]
    pub fn step(mut self, function: FunctionName, after: usize) -> Self {
        self.steps.push(Step { function, after: Some(after) });
        self
    }

    /// What is promised about a run of it; default nothing.
    #[must_use]
    pub fn objectives(mut self, objectives: Objectives) -> Self {
        self.objectives = objectives;
        self
    }

    /// Checks that every step's function is there and takes what its predecessor gives.
    ///
    /// `types` has what each function takes and gives.
    ///
    /// # Errors
    /// [`WorkflowError`] naming the step.
    pub fn check(&self, types: &HashMap<FunctionName, (MediaType, MediaType)>) -> Result<(), WorkflowError> {
        self.check_with(types, |_, _| None)
    }

    /// Checks as [`check`](Self::check) does, and asks of each step that has a predecessor what speaks against
    /// giving the value of the first function to the second: called once per such step.
    ///
    /// # Errors
    /// [`WorkflowError`] naming the step.
    pub fn check_with(
        &self,
        types: &HashMap<FunctionName, (MediaType, MediaType)>,
        mut objection: impl FnMut(&FunctionName, &FunctionName) -> Option<String>,
    ) -> Result<(), WorkflowError> {
        if self.steps.is_empty() {
            return Err(WorkflowError::Empty { workflow: self.name.clone() });
        }
        for (position, step) in self.steps.iter().enumerate() {
            let workflow = self.name.clone();
            let function = step.function.clone();
            let Some((takes, _)) = types.get(&step.function) else {
                return Err(WorkflowError::NotDeployed { workflow, step: position, function });
            };
            let Some(after) = step.after else { continue };
            if after >= position {
                return Err(WorkflowError::Order { workflow, step: position, after });
            }
            let predecessor = &self.steps[after].function;
            let gives = &types[predecessor].1;
            if !takes.takes(gives) {
                return Err(WorkflowError::Type {
                    workflow,
                    step: position,
                    function,
                    takes: takes.clone(),
                    predecessor: predecessor.clone(),
                    gives: gives.clone(),
                });
            }
            if let Some(problem) = objection(predecessor, &function) {
                let predecessor = predecessor.clone();
                return Err(WorkflowError::Value { workflow, step: position, function, predecessor, problem });
            }
        }
        Ok(())
    }
}

/// Why a workflow cannot be deployed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WorkflowError {
    /// It has no steps.
    #[error("workflow {workflow} has no steps")]
    Empty {
        /// The workflow.
        workflow: Name,
    },
    /// A step's function is not deployed.
    #[error("workflow {workflow}, step {step}: function {function} is not deployed")]
    NotDeployed {
        /// The workflow.
        workflow: Name,
        /// The step's position.
        step: usize,
        /// The function.
        function: FunctionName,
    },
    /// Something is promised of its runs, and nobody keeps it.
    #[error("workflow {workflow} has objectives and the fabric has nobody who keeps them: call FabricBuilder::slo")]
    Objectives {
        /// The workflow.
        workflow: Name,
    },
    /// A step comes before the one that gives its input.
    #[error("workflow {workflow}, step {step}: its input comes from step {after}, which is not before it")]
    Order {
        /// The workflow.
        workflow: Name,
        /// The step's position.
        step: usize,
        /// Its predecessor's position.
        after: usize,
    },
    /// A function takes something else than its predecessor gives.
    #[error("workflow {workflow}, step {step}: {function} takes {takes}, but {predecessor} gives {gives}")]
    Type {
        /// The workflow.
        workflow: Name,
        /// The step's position.
        step: usize,
        /// The function.
        function: FunctionName,
        /// What it takes.
        takes: MediaType,
        /// The function before it.
        predecessor: FunctionName,
        /// What that gives.
        gives: MediaType,
    },
    /// The value that a function gives is not of the WIT type that the next one takes.
    #[error("workflow {workflow}, step {step}: {function} does not take what {predecessor} gives: {problem}")]
    Value {
        /// The workflow.
        workflow: Name,
        /// The step's position.
        step: usize,
        /// The function.
        function: FunctionName,
        /// The function before it.
        predecessor: FunctionName,
        /// Which part of the value, and what is expected and found.
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str) -> FunctionName {
        FunctionName::new(name).unwrap()
    }

    #[test]
    fn names_the_step_whose_type_does_not_fit() {
        let types = HashMap::from([
            (function("decode"), (MediaType::OCTETS, MediaType::ACTIVATION)),
            (function("tally"), (MediaType::JSON, MediaType::JSON)),
        ]);
        let workflow = Workflow::new(Name::new("photos").unwrap()).then(function("decode")).then(function("tally"));
        let error = workflow.check(&types).unwrap_err();
        assert_eq!(
            error.to_string(),
            "workflow photos, step 1: tally takes application/json, but decode gives application/vnd.scf.activation"
        );
    }

    #[test]
    fn names_the_step_that_somebody_objects_to() {
        let types = HashMap::from(["a", "b"].map(|name| (function(name), (MediaType::OCTETS, MediaType::OCTETS))));
        let workflow = Workflow::new(Name::new("w").unwrap()).then(function("a")).then(function("b"));
        let mut asked = Vec::new();
        let error = workflow.check_with(&types, |from, to| {
            asked.push(format!("{from} {to}"));
            Some("field `x`".into())
        });
        assert_eq!(error.unwrap_err().to_string(), "workflow w, step 1: b does not take what a gives: field `x`");
        assert_eq!(asked, ["a b"]);
    }

    #[test]
    fn a_step_cannot_come_before_its_input() {
        let types = HashMap::from([(function("a"), (MediaType::OCTETS, MediaType::OCTETS))]);
        let workflow = Workflow::new(Name::new("w").unwrap()).step(function("a"), 1).then(function("a"));
        assert!(matches!(workflow.check(&types), Err(WorkflowError::Order { step: 0, after: 1, .. })));
    }
}
