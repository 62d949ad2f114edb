//! The type of a function that every instance of a component exports.
#![expect(unsafe_code, reason = "the type is checked once for a component, not at every call")]

use std::{marker::PhantomData, sync::OnceLock};

use wasmtime::{
    AsContext,
    component::{ComponentNamedList, Func, Lift, TypedFunc},
};

/// Whether the function that a component exports was found to take bytes and give `R`.
///
/// For the one export of one component: instances of it have the same types.
#[derive(Debug)]
pub(super) struct Checked<R>(OnceLock<()>, PhantomData<fn() -> R>);

impl<R: ComponentNamedList + Lift + 'static> Checked<R> {
    /// `function` by its type, which is checked the first time. It must be that export of an instance of that
    /// component.
    pub(super) fn typed<'a>(
        &self,
        function: Func,
        store: impl AsContext,
    ) -> wasmtime::Result<TypedFunc<(&'a [u8],), R>> {
        if self.0.get().is_none() {
            let typed = function.typed(store)?;
            self.0.get_or_init(|| ());
            return Ok(typed);
        }
        // SAFETY: `TypedFunc::new_unchecked` requires that the function has this type. `Func::typed` found so of the
        // same export of the same component, whose types do not differ between instances: a `Program` has one
        // component and one export, its `Checked` is private to it, and the functions that it is given are those
        // that `Live` looks up by the export's index in instances of the program's `InstancePre`. The lifetime of
        // the parameter is no part of the function's type.
        Ok(unsafe { TypedFunc::new_unchecked(function) })
    }
}

impl<R> Default for Checked<R> {
    fn default() -> Self {
        Self(OnceLock::new(), PhantomData)
    }
}
