//! Why functions run where they do.

use scf_core::{ByteSize, FunctionName, InvokeError, NodeId, ScheduleError, Verdict};

use super::Fabric;

impl Fabric {
    /// Says of every node why the next call of `function` that is made on `from`, with an empty payload, would or would
    /// not be placed there, as its scheduler sees it now. A node that is let out of it since an objective would be missed
    /// is refused by `objectives`. Calls stay where the ones before were placed until something changes.
    ///
    /// # Errors
    /// [`InvokeError::NotFound`] when the function is not deployed; [`InvokeError::Unplaceable`] with
    /// [`ScheduleError::UnknownCaller`] when `from` is no node of this fabric. That no node will do is no error here.
    pub fn explain(&self, function: &FunctionName, from: &NodeId) -> Result<Vec<Verdict>, InvokeError> {
        let inner = &self.inner;
        let route = inner.deployed(function, |deployment| deployment.main().cloned()).flatten();
        let route = route.ok_or_else(|| InvokeError::NotFound { function: function.clone() })?;
        let &at = inner.positions.get(from).ok_or_else(|| InvokeError::Unplaceable {
            function: function.clone(),
            source: ScheduleError::UnknownCaller { from: from.clone() },
        })?;
        let request = inner.request(&route, at, ByteSize::ZERO);
        let avoided = inner.avoided(&route, at, ByteSize::ZERO);
        let mut verdicts = inner.scheduler.explain(&request, &inner.view(&route, &[]));
        if avoided.is_empty() {
            return Ok(verdicts);
        }
        let chosen = inner.propose(&route, &request, &[], &avoided).ok().map(|placement| placement.node);
        for verdict in &mut verdicts {
            verdict.is_chosen = chosen.as_ref() == Some(&verdict.node);
            let is_avoided = inner
                .positions
                .get(&verdict.node)
                .is_some_and(|position| avoided.iter().any(|nodes| nodes.contains(position)));
            if is_avoided && !verdict.is_chosen {
                verdict.refused.push("objectives".to_owned());
            }
        }
        Ok(verdicts)
    }
}
