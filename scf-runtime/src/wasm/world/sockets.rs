//! `wasi:sockets`: there are none. Guests have no network but `wasi:http`, so that every socket is denied with the
//! interface's own error; components made elsewhere, which often import sockets and use none, can still be deployed.
//!
//! The functions are made from the types that the component imports them with: one denial serves all of them, where
//! an implementation of sockets that is never reached would be a tenth of a gateway's program.

use wasmtime::{
    StoreContextMut,
    component::{
        Component, Linker, LinkerInstance, ResourceDynamic, ResourceType, Val,
        types::{ComponentFunc, ComponentItem, Type},
    },
};

use crate::wasm::live::Guest;

/// The interfaces, each with the resources that it defines.
const INTERFACES: [(&str, &[&str]); 7] = [
    ("wasi:sockets/network", &[NETWORK]),
    ("wasi:sockets/instance-network", &[]),
    ("wasi:sockets/ip-name-lookup", &["resolve-address-stream"]),
    ("wasi:sockets/tcp", &["tcp-socket"]),
    ("wasi:sockets/tcp-create-socket", &[]),
    ("wasi:sockets/udp", &["udp-socket", "incoming-datagram-stream", "outgoing-datagram-stream"]),
    ("wasi:sockets/udp-create-socket", &[]),
];
const NETWORK: &str = "network";
/// What `network` is among the resources that have no type in the host.
const NETWORK_TYPE: u32 = 0;

/// The interface of that name, as it is known here.
pub(super) fn find(name: &str) -> Option<&'static str> {
    INTERFACES.iter().map(|(known, _)| *known).find(|known| *known == name)
}

/// Links the interface `name` as `component` imports it, in each of the versions that it does.
pub(super) fn link(name: &str, component: &Component, linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let engine = component.engine();
    let resources = INTERFACES.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, resources)| resources);
    for (import, extern_) in component.component_type().imports(engine) {
        let is_it = import.strip_prefix(name).is_some_and(|version| version.starts_with('@'));
        let ComponentItem::ComponentInstance(ty) = extern_.ty else { continue };
        if !is_it {
            continue;
        }
        let mut instance = linker.instance(import)?;
        for (item, extern_) in ty.exports(engine) {
            match extern_.ty {
                ComponentItem::Resource(_) if resources.contains(&item) => resource(&mut instance, item)?,
                ComponentItem::ComponentFunc(_) => {
                    let denial = Denial::of(item);
                    instance
                        .func_new(item, move |store, ty, params, results| denial.answer(store, &ty, params, results))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Gives a resource a type of the host's. Only of `network` there are any.
fn resource(instance: &mut LinkerInstance<'_, Guest>, name: &str) -> wasmtime::Result<()> {
    let number = INTERFACES.iter().flat_map(|(_, resources)| *resources).position(|known| *known == name);
    let number = number.and_then(|number| u32::try_from(number).ok()).unwrap_or(NETWORK_TYPE);
    instance.resource(name, ResourceType::host_dynamic(number), |_, _| Ok(()))
}

/// How a function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denial {
    /// `instance-network` has no error to answer with: what it gives is good for nothing.
    Network,
    /// With this error code.
    Code(&'static str),
}

impl Denial {
    fn of(function: &str) -> Self {
        match function {
            "instance-network" => Self::Network,
            "resolve-addresses" => Self::Code("permanent-resolver-failure"),
            _ => Self::Code("access-denied"),
        }
    }

    fn answer(
        self,
        mut store: StoreContextMut<'_, Guest>,
        ty: &ComponentFunc,
        params: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        // A borrow that is not given back is a trap when the call ends.
        for param in params {
            if let Val::Resource(resource) = param {
                ResourceDynamic::try_from_resource_any(*resource, &mut store)?;
            }
        }
        let answer = match (self, ty.results().next()) {
            (Self::Network, Some(Type::Own(_))) => {
                Val::Resource(ResourceDynamic::new_own(0, NETWORK_TYPE).try_into_resource_any(store)?)
            }
            (Self::Code(code), Some(Type::Result(_))) => Val::Result(Err(Some(Box::new(Val::Enum(code.into()))))),
            // A method of a socket, though no socket was ever given.
            _ => return Err(wasmtime::format_err!("there are no sockets")),
        };
        if let [result] = results {
            *result = answer;
        }
        Ok(())
    }
}
