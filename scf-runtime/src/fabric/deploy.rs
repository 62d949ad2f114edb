//! Deploys functions and workflows.

use std::sync::{Arc, PoisonError};

use scf_core::{Function, FunctionName, ObjectGrant, Revision, Workflow, WorkflowError};

use super::{Fabric, Inner};
use crate::{
    controller::{Fitted, Ready},
    deployment::Deployment,
    error::DeployError,
    ledger::{Books, Ledger},
    route::Route,
};

/// Whether a new revision gets the live traffic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Traffic {
    All,
    None,
}

impl Fabric {
    /// Makes `function` ready on every node that its needs allow, as the next revision of that name, and then sends
    /// all live traffic to it. Calls of earlier revisions that run are finished there.
    ///
    /// # Errors
    /// [`DeployError`] naming the function and what is wrong; the traffic goes where it went before.
    pub async fn deploy(&self, function: Function) -> Result<Revision, DeployError> {
        self.inner.add(function, Traffic::All).await
    }

    /// Makes `function` ready as the next revision of that name without traffic. It is reached by its number,
    /// through an [alias](Fabric::alias) or once it is given [traffic](Fabric::traffic).
    ///
    /// # Errors
    /// As [`Fabric::deploy`].
    pub async fn publish(&self, function: Function) -> Result<Revision, DeployError> {
        self.inner.add(function, Traffic::None).await
    }

    /// Takes a function off, all of its revisions; calls that run are finished. Answers whether there was one.
    pub fn undeploy(&self, function: &FunctionName) -> bool {
        let mut functions = self.inner.functions.write().unwrap_or_else(PoisonError::into_inner);
        let Some(deployment) = functions.remove(function) else { return false };
        self.inner.near.forget(function);
        self.inner.settle(&Deployment::default(), &deployment);
        !deployment.revisions().is_empty()
    }

    /// Checks `workflow` against the deployed functions and keeps it, in place of an earlier one of that name.
    ///
    /// With the feature `check`, steps that are typed functions of components are compared as by
    /// [`check`](Self::check).
    ///
    /// # Errors
    /// [`WorkflowError`] naming the step.
    pub fn deploy_workflow(&self, workflow: Workflow) -> Result<(), WorkflowError> {
        if !workflow.objectives.is_empty() && self.inner.slo.is_none() {
            return Err(WorkflowError::Objectives { workflow: workflow.name });
        }
        let types = {
            let functions = self.inner.functions.read().unwrap_or_else(PoisonError::into_inner);
            let type_of = |route: &Arc<Route>| (route.function.input.clone(), route.function.output.clone());
            let known = |(name, deployment): (&FunctionName, &Arc<Deployment>)| {
                Some((name.clone(), deployment.main().map(type_of)?))
            };
            functions.iter().filter_map(known).collect()
        };
        workflow.check_with(&types, |from, to| {
            let (from, to) = self.inner.function(from).zip(self.inner.function(to))?;
            crate::check::objection(&from, &to)
        })?;
        let mut workflows = self.inner.workflows.write().unwrap_or_else(PoisonError::into_inner);
        workflows.insert(workflow.name.clone(), Arc::new(workflow));
        Ok(())
    }
}

impl Inner {
    /// Makes a function of another process ready here. Calls that are made here go to it where nothing of its name was
    /// deployed.
    pub(crate) async fn add_guest(&self, function: Function) -> Result<Revision, DeployError> {
        let function = self.admitted(function).await?;
        let is_new = self.deployed(&function.name, |deployment| deployment.revisions().is_empty()).unwrap_or(true);
        self.add(function, if is_new { Traffic::All } else { Traffic::None }).await
    }

    /// Makes the next revision of a function. Nothing is visible of it until all nodes are ready.
    async fn add(&self, function: Function, traffic: Traffic) -> Result<Revision, DeployError> {
        let function = Arc::new(self.with_code(self.narrowed(function)?).await?);
        if function.grants.objects != ObjectGrant::None && self.objects.is_none() {
            return Err(DeployError::NoObjects { function: function.name.clone() });
        }
        let is_promised = !function.objectives.is_empty();
        if is_promised && self.slo.is_none() {
            return Err(DeployError::NoSlo { function: function.name.clone() });
        }
        let account = self
            .accounts
            .of(&function.tenant)
            .map_err(|too_many| DeployError::Tenants { function: function.name.clone(), tenants: too_many.tenants })?;
        let mut fitted: Vec<Option<Fitted>> = Vec::new();
        for member in &self.members {
            fitted.push(match function.needs.allow(&member.node) {
                true => Some(member.controller.prepare(&function).await?),
                false => None,
            });
        }
        let name = function.name.clone();
        let (revision, ledger) = {
            let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
            let deployment = Arc::make_mut(functions.entry(name.clone()).or_default());
            self.near.forget(&name);
            (deployment.reserve(), Arc::clone(&deployment.ledger))
        };
        let books = Books::new(&ledger, &account);
        let mut ready: Vec<Option<Arc<Ready>>> = Vec::new();
        for (member, fitted) in self.members.iter().zip(fitted) {
            let here = fitted.map(|fitted| member.controller.ready(&function, revision, fitted, &books));
            if let Some(ready) = &here {
                // Isolates that are kept are there before the first call can come.
                member.controller.warm(ready).await;
            }
            ready.push(here);
        }
        let route = Route::new(Arc::clone(&function), revision, books, account, ready.into());
        let route = Arc::new(route);
        self.put(&name, &ledger, &route, traffic).inspect_err(|_| self.drain(&route))?;
        if is_promised {
            self.promised.notify_one();
        }
        tracing::info!(
            faas.name = %name, faas.version = %revision, kind = function.code.kind(), "scf.deploy"
        );
        Ok(revision)
    }

    /// Adds a revision to a function; the function itself too, where it was taken off meanwhile.
    fn put(
        &self,
        name: &FunctionName,
        ledger: &Arc<Ledger>,
        route: &Arc<Route>,
        traffic: Traffic,
    ) -> Result<(), DeployError> {
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        let before = functions.get(name).cloned().unwrap_or_else(|| Arc::new(Deployment::billed_to(ledger)));
        let mut deployment = (*before).clone();
        deployment.publish(Arc::clone(route), self.revisions)?;
        if traffic == Traffic::All {
            deployment.go_live(route);
        }
        self.settle(&deployment, &before);
        functions.insert(name.clone(), Arc::new(deployment));
        self.near.forget(name);
        if let Some(dispatcher) = &self.dispatcher {
            dispatcher.wake();
        }
        Ok(())
    }

    /// `function` with its needs narrowed to the nodes that have the devices that it is granted.
    fn narrowed(&self, mut function: Function) -> Result<Function, DeployError> {
        let allowed: Vec<_> = self.members.iter().filter(|member| function.needs.allow(&member.node)).collect();
        let is_allowed_abroad = || self.peers.all().iter().any(|peer| function.needs.allow(&peer.status().node));
        if allowed.is_empty() && !is_allowed_abroad() {
            return Err(DeployError::NoNode { function: function.name });
        }
        if !function.grants.devices.is_empty() && !allowed.is_empty() {
            let (mut nodes, mut lacking) = (Vec::new(), None);
            for member in allowed {
                match member.controller.devices_of(&function) {
                    Ok(_) => nodes.push(member.node.id.clone()),
                    Err(error) => lacking = lacking.or(Some(error)),
                }
            }
            if let (true, Some(error)) = (nodes.is_empty(), lacking) {
                return Err(error);
            }
            function.needs.nodes = nodes;
        }
        Ok(function)
    }

    /// Replaces what is known of a function by a changed copy; `None` when it is not deployed.
    pub(super) fn change<T>(&self, function: &FunctionName, change: impl FnOnce(&mut Deployment) -> T) -> Option<T> {
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        let before = Arc::clone(functions.get(function)?);
        let mut deployment = (*before).clone();
        let result = change(&mut deployment);
        self.settle(&deployment, &before);
        functions.insert(function.clone(), Arc::new(deployment));
        self.near.forget(function);
        Some(result)
    }

    /// Gives back what revisions claimed that lost their traffic, and lets those drain that are gone. Called under
    /// the lock of the functions, so that it happens in the order of the changes.
    fn settle(&self, now: &Deployment, before: &Deployment) {
        let (idle, gone) = now.settle(before);
        for route in idle.iter().chain(&gone) {
            self.members.iter().for_each(|member| member.unclaim(&route.function, route.revision));
            self.release_abroad(route);
        }
        gone.iter().for_each(|route| self.drain(route));
    }

    fn drain(&self, route: &Route) {
        for (member, ready) in self.members.iter().zip(&route.ready) {
            if let Some(ready) = ready {
                member.controller.drain(ready);
            }
        }
    }
}
