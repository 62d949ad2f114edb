//! State that an earlier revision of a function wrote.

use futures::future::BoxFuture;
use scf_core::StateSession;

use crate::native::NativeError;

/// The entry of a key's state that says which version its layout has. No key of a function begins like it.
const LAYOUT: &str = "\u{0}scf.layout";

/// What an upgrade hook returns, boxed: `async move { .. }.boxed()`.
pub type UpgradeFuture<'a> = BoxFuture<'a, Result<(), NativeError>>;

type Hook = dyn for<'a> Fn(&'a dyn StateSession, u32) -> UpgradeFuture<'a> + Send + Sync;

/// Brings the state of a key to the layout that a revision of its function works on.
pub(crate) struct Upgrade {
    layout: u32,
    hook: Box<Hook>,
}

impl Upgrade {
    pub(crate) fn new<F>(layout: u32, hook: F) -> Self
    where
        F: for<'a> Fn(&'a dyn StateSession, u32) -> UpgradeFuture<'a> + Send + Sync + 'static,
    {
        Self { layout, hook: Box::new(hook) }
    }

    /// Runs the hook where the state has an earlier layout. Its changes are committed with the call's, so that it
    /// happens once per key.
    pub(crate) async fn run(&self, state: &dyn StateSession) -> Result<(), NativeError> {
        let stored = match state.try_get(LAYOUT) {
            Some(read) => read?,
            None => state.get(LAYOUT).await?,
        };
        let layout = stored.as_deref().and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
        if layout > self.layout {
            return Err(NativeError::Layout { found: layout, known: self.layout });
        }
        if layout < self.layout {
            (self.hook)(state, layout).await?;
            state.put(LAYOUT, self.layout.to_le_bytes().to_vec().into());
        }
        Ok(())
    }
}
