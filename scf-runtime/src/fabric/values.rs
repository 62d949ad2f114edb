//! Typed functions: whether they fit, and calling them with values.

use std::sync::{Arc, PoisonError};

use scf_core::{Function, FunctionName, InvokeError, Value};

use super::Fabric;
use crate::{
    check::CheckError,
    fabric::Inner,
    values::{decode_values, encode_values},
};

impl Fabric {
    /// Whether the result of `from` is, by its structure, what `to` takes as its single parameter. Of a
    /// `result<T, E>` it is the `T`. The functions may be of components that were built apart from each other.
    ///
    /// Reads both components, a millisecond per MiB, on the thread that asks.
    ///
    /// # Errors
    /// [`CheckError`], which names the field that does not fit, or why nothing can be said.
    pub fn check(&self, from: &FunctionName, to: &FunctionName) -> Result<(), CheckError> {
        let find = |name: &FunctionName| {
            let missing = || CheckError::NotDeployed { function: name.clone() };
            self.inner.function(name).ok_or_else(missing)
        };
        crate::check::check(&*find(from)?, &*find(to)?)
    }

    /// Calls a typed function with `values`, one per parameter, from the first node, and gives its result; `None`
    /// when it has none. For the receipt [`invoke`](Self::invoke) it with [`encode_values`].
    ///
    /// # Errors
    /// [`InvokeError`], which names the function, and the field where a value does not fit.
    pub async fn call_values(&self, function: &FunctionName, values: &[Value]) -> Result<Option<Value>, InvokeError> {
        let outcome = self.call(function, encode_values(values)).await?;
        match decode_values(&outcome.payload) {
            Ok(mut results) => Ok(results.pop()),
            Err(error) => Err(InvokeError::Host { function: function.clone(), message: error.to_string() }),
        }
    }

    /// A deployed function, as the revision that has most of its traffic.
    #[cfg(feature = "http")]
    pub(crate) fn function(&self, name: &FunctionName) -> Option<Arc<Function>> {
        self.inner.function(name)
    }
}

impl Inner {
    /// A deployed function, as the revision that has most of its traffic.
    pub(crate) fn function(&self, name: &FunctionName) -> Option<Arc<Function>> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.get(name)?.main().map(|route| Arc::clone(&route.function))
    }
}
