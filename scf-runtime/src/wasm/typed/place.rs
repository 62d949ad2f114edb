//! Where in a value its reader is, what it found wrong there, and what it may still allocate.

use std::{
    cell::{Cell, RefCell},
    fmt::Write,
    mem,
};

use serde::de::Error;
use wasmtime::component::Val;

use super::shape::Names;

/// Characters of a text that a message repeats.
const REPEATED: usize = 40;

/// A step from a value to a part of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'s> {
    /// A parameter, a field, a case.
    Field(&'s str),
    /// An element of a list or a tuple.
    Index(usize),
}

/// What a reader keeps while it reads. After an error the trail still leads to where it happened.
#[derive(Debug)]
pub(super) struct Place<'s> {
    trail: RefCell<Vec<Step<'s>>>,
    problem: RefCell<Option<String>>,
    left: Cell<usize>,
    is_over: Cell<bool>,
}

impl<'s> Place<'s> {
    /// At the beginning, with `budget` bytes to make values of.
    pub(super) const fn new(budget: usize) -> Self {
        Self {
            trail: RefCell::new(Vec::new()),
            problem: RefCell::new(None),
            left: Cell::new(budget),
            is_over: Cell::new(false),
        }
    }

    /// Reads a part.
    pub(super) fn at<T, E>(&self, step: Step<'s>, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.trail.borrow_mut().push(step);
        let part = read()?;
        self.trail.borrow_mut().pop();
        Ok(part)
    }

    /// Says what is wrong here.
    pub(super) fn fail<E: Error>(&self, problem: impl Into<String>) -> E {
        self.problem.borrow_mut().get_or_insert_with(|| problem.into());
        E::custom("a value that does not fit")
    }

    /// Says what is wrong in the part that `step` leads to.
    pub(super) fn fail_at<E: Error>(&self, step: Step<'s>, problem: &str) -> E {
        self.trail.borrow_mut().push(step);
        self.fail(problem)
    }

    pub(super) fn unexpected<E: Error>(&self, expected: &str, found: &str) -> E {
        self.fail(format!("expected {expected}, found {found}"))
    }

    pub(super) fn unknown<E: Error>(&self, what: &str, name: &str, names: &Names) -> E {
        self.fail(format!("no {what} {}; there is {}", quoted(name), names.list()))
    }

    /// Accounts for `count` values that are about to be made.
    pub(super) fn charge<E: Error>(&self, count: usize, text: usize) -> Result<(), E> {
        let bytes = count.saturating_mul(size_of::<Val>()).saturating_add(text);
        match self.left.get().checked_sub(bytes) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.is_over.set(true);
                Err(E::custom("values over the limit"))
            }
        }
    }

    /// Whether what was to be made was more than may be.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Where something is wrong and what, if it is the value; `None` when it is the encoding.
    pub(super) fn into_problem(self) -> (String, Option<String>) {
        let mut path = String::new();
        for step in self.trail.into_inner() {
            // Writing to a string does not fail.
            let _ = match step {
                Step::Field(name) if path.is_empty() => write!(path, "{name}"),
                Step::Field(name) => write!(path, ".{name}"),
                Step::Index(at) => write!(path, "[{at}]"),
            };
        }
        (path, mem::take(&mut *self.problem.borrow_mut()))
    }
}

/// A text of the input as a message repeats it.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(REPEATED).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
