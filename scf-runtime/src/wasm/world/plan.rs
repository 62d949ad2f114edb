//! What a function's guests import and are granted, checked when it is deployed.

use std::{collections::BTreeSet, fmt, path::Path, sync::Arc};

use scf_core::{
    ByteSize, Call, Function, FunctionName, Grants, InvocationId, KeyValue, PrepareError, Secrets, TenantName, Zone,
};
use wasmtime::{
    Engine,
    component::{Component, Linker},
};
use wasmtime_wasi::{FsPerms, WasiCtx, filesystem::WasiFilesystemCtx};

use super::{GrantedClock, Output, RANDOM, Sequence, files::Folders, interface::Interface, sockets, wasi};
use crate::{budget::Budget, escape::escape, wasm::live::Guest};

/// What the host offers to the guests of all functions.
#[derive(Clone, Debug)]
pub(in crate::wasm) struct Services {
    pub(in crate::wasm) keyvalue: Option<Arc<dyn KeyValue>>,
    pub(in crate::wasm) secrets: Option<Arc<dyn Secrets>>,
    #[cfg(feature = "wasi-http")]
    pub(in crate::wasm) http: Option<crate::outbound::HttpClient>,
    #[cfg(feature = "wasi-nn")]
    pub(in crate::wasm) inference: Option<Arc<dyn scf_core::Inference>>,
}

impl Services {
    /// Nothing.
    pub(in crate::wasm) const NONE: Self = Self {
        keyvalue: None,
        secrets: None,
        #[cfg(feature = "wasi-http")]
        http: None,
        #[cfg(feature = "wasi-nn")]
        inference: None,
    };
}

/// What the guests of one function import and are granted.
#[cfg_attr(not(feature = "services"), expect(dead_code, reason = "some of it is what services read"))]
pub(in crate::wasm) struct Plan {
    pub(super) function: FunctionName,
    pub(super) tenant: TenantName,
    pub(super) zone: Option<Zone>,
    /// Time that a call may take, and size of what it passes to other functions and to services.
    pub(super) wall: std::time::Duration,
    pub(super) payload: ByteSize,
    /// What else a call may use, for those who are told what is left.
    pub(super) budget: Budget,
    /// Memory that a guest may have.
    #[cfg(feature = "wasi-nn")]
    pub(super) memory: ByteSize,
    pub(super) grants: Grants,
    pub(super) services: Services,
    interfaces: BTreeSet<Interface>,
    /// On what terms requests are sent, if the component sends any.
    #[cfg(feature = "wasi-http")]
    pub(super) http: Option<crate::outbound::Terms>,
    /// The folders, opened when the function was deployed.
    files: WasiFilesystemCtx,
    /// What may be added to those that guests may write to.
    pub(super) folders: Folders,
}

impl Plan {
    /// What `component` imports; checks that what `function` is granted can be had.
    pub(in crate::wasm) async fn of(
        function: &Function,
        component: &Component,
        engine: &Engine,
        services: &Services,
    ) -> Result<Arc<Self>, PrepareError> {
        let mut interfaces = BTreeSet::new();
        let world = component.component_type();
        for (import, _) in world.imports(engine) {
            match Interface::of(import) {
                Some(interface) if let Some(feature) = interface.missing_feature() => {
                    let feature = format!("{}, for which scf-runtime needs the feature `{feature}`", escape(import));
                    return Err(PrepareError::Unsupported { function: function.name.clone(), feature });
                }
                Some(interface) => interfaces.insert(interface),
                None => {
                    return Err(PrepareError::Import { function: function.name.clone(), import: escape(import) });
                }
            };
        }
        let grants = &function.grants;
        #[cfg(not(feature = "services"))]
        without_services(function)?;
        let refused = |grant: String, problem: String| {
            Err(PrepareError::Grant { function: function.name.clone(), grant, problem })
        };
        for (name, value) in &grants.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return refused(format!("environment {name:?}"), "is no environment variable".into());
            }
        }
        #[cfg(feature = "services")]
        if let Some((key, _)) = grants.config.iter().find(|(key, _)| key.starts_with(super::config::SECRET)) {
            return refused(format!("config {key:?}"), "keys with this prefix are those of secrets".into());
        }
        if let Some(bucket) = grants.buckets.first()
            && services.keyvalue.is_none()
        {
            let problem = "there is no key-value store: give one to WasmBuilder::keyvalue".into();
            return refused(format!("buckets {}", bucket.bucket), problem);
        }
        for name in &grants.secrets {
            let grant = format!("secrets {name}");
            let Some(secrets) = &services.secrets else {
                return refused(grant, "there are no secrets: give them to WasmBuilder::secrets".into());
            };
            match secrets.get(&function.tenant, name).await {
                Ok(Some(_)) => {}
                Ok(None) => return refused(grant, format!("tenant {} has no such secret", function.tenant)),
                Err(error) => {
                    return Err(PrepareError::Host { function: function.name.clone(), source: error.into() });
                }
            }
        }
        #[cfg(feature = "wasi-nn")]
        super::nn::check(function, services)?;
        #[cfg(not(feature = "wasi-nn"))]
        if let Some(model) = grants.models.first() {
            return refused(format!("models {model}"), "scf-runtime needs the feature `wasi-nn`".into());
        }
        #[cfg(not(feature = "wasi-http"))]
        if let Some(http) = grants.http.first() {
            let problem = "scf-runtime needs the feature `wasi-http`".into();
            return refused(format!("http {:?}", http.host), problem);
        }
        let files = match files(grants) {
            Ok(files) => files,
            Err((grant, problem)) => return refused(grant, problem),
        };
        Ok(Arc::new(Self {
            function: function.name.clone(),
            tenant: function.tenant.clone(),
            zone: function.needs.zone.clone(),
            wall: function.limits.wall,
            payload: function.limits.payload,
            budget: Budget::of(function),
            #[cfg(feature = "wasi-nn")]
            memory: function.limits.memory,
            grants: grants.clone(),
            services: services.clone(),
            #[cfg(feature = "wasi-http")]
            http: super::http::terms(function, services, interfaces.contains(&Interface::Http))?,
            interfaces,
            files,
            folders: Folders::of(grants),
        }))
    }

    /// Whether guests import anything, and so need a [`World`](super::World).
    pub(in crate::wasm) fn imports_anything(&self) -> bool {
        !self.interfaces.is_empty()
    }

    /// Links what `component`, which this plan is of, imports.
    pub(in crate::wasm) fn link(&self, component: &Component, linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
        for interface in &self.interfaces {
            match interface {
                Interface::Wasi(name) => wasi::link(name, linker)?,
                Interface::Sockets(name) => sockets::link(name, component, linker)?,
                #[cfg(feature = "wasi-http")]
                Interface::Http => wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?,
                #[cfg(feature = "wasi-nn")]
                Interface::Nn => super::nn::add_to_linker(linker, |guest: &mut Guest| guest.world().models())?,
                #[cfg(feature = "services")]
                service => super::bindings::link(*service, linker)?,
                // Refused by `of`.
                #[cfg(not(feature = "services"))]
                _ => {}
            }
        }
        Ok(())
    }

    /// WASI for one call: no arguments, no input and no network; the rest as granted.
    pub(super) fn wasi(&self, call: Option<&Call>, clock: &GrantedClock, output: &Output) -> WasiCtx {
        let id = call.map_or(InvocationId::new(0), |call| call.id);
        let mut builder = WasiCtx::builder();
        builder
            .stdout(output.stdout())
            .stderr(output.stderr())
            .envs(&self.grants.environment)
            .wall_clock(clock.clone())
            .monotonic_clock(clock.clone())
            .max_random_size(RANDOM)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        if !self.grants.random {
            builder
                .secure_random(Sequence::of(id, 0))
                .insecure_random(Sequence::of(id, 1))
                .insecure_random_seed(Sequence::of(id, 2).seed());
        }
        let mut wasi = builder.build();
        wasi.filesystem().clone_from(&self.files);
        wasi
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("function", &self.function)
            .field("imports", &self.interfaces)
            .finish_non_exhaustive()
    }
}

/// Refuses what only services give, in a build without them.
#[cfg(not(feature = "services"))]
fn without_services(function: &Function) -> Result<(), PrepareError> {
    let Grants { config, buckets, secrets, functions, objects, .. } = &function.grants;
    let granted = [
        ("config", config.is_empty()),
        ("buckets", buckets.is_empty()),
        ("secrets", secrets.is_empty()),
        ("functions", functions.is_empty()),
        ("objects", *objects == scf_core::ObjectGrant::None),
    ];
    match granted.iter().find(|(_, is_empty)| !is_empty) {
        Some((grant, _)) => Err(PrepareError::Grant {
            function: function.name.clone(),
            grant: (*grant).into(),
            problem: "scf-runtime needs the feature `services`".into(),
        }),
        None => Ok(()),
    }
}

/// Opens the folders, so that guests have the folder that was there when the function was deployed, whatever
/// its path comes to lead to later.
fn files(grants: &Grants) -> Result<WasiFilesystemCtx, (String, String)> {
    let mut builder = WasiCtx::builder();
    let mut seen: BTreeSet<&Path> = BTreeSet::new();
    for file in &grants.files {
        let refused = |problem: String| (format!("files {:?}", file.host), problem);
        if file.guest.is_empty() || !seen.insert(Path::new(&file.guest)) {
            return Err(refused(format!("{:?} is no path for a folder, or that of another", file.guest)));
        }
        let perms = if file.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        builder
            .preopened_dir(&file.host, &file.guest, perms)
            .map_err(|error| refused(format!("cannot be opened as a folder: {error:#}")))?;
    }
    Ok(builder.build().filesystem().clone())
}

#[cfg(all(test, not(feature = "services")))]
mod tests {
    use scf_core::{BucketGrant, Name};

    use super::*;

    #[test]
    fn what_only_services_give_is_refused_by_the_feature_it_comes_with() {
        let mut function = Function::component(FunctionName::new("f").unwrap(), Vec::new(), "f");
        assert!(without_services(&function).is_ok());
        function.grants.buckets.push(BucketGrant { bucket: Name::new("b").unwrap(), write: false });
        let error = without_services(&function).unwrap_err().to_string();
        assert!(error.contains("buckets") && error.contains("feature `services`"), "{error}");
        assert_eq!(Interface::KeyValueDraft.missing_feature(), Some("services"));
    }
}
