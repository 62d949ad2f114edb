//! What a node runs for the other processes of its fleet.

use scf_core::{ByteSize, Code, Function, Grants, ObjectGrant};

use crate::error::DeployError;

/// Which functions of other processes the nodes of this one make ready, whoever may publish under the fabric's
/// subjects being able to ask for it. Default: [`GuestPolicy::own`].
///
/// A function comes with its limits and grants, and this node's isolates hold it to them as they do its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct GuestPolicy {
    code: Accepted,
    largest: ByteSize,
    grants: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepted {
    Own,
    Artefacts,
    Components,
}

impl Default for GuestPolicy {
    fn default() -> Self {
        Self::own()
    }
}

impl GuestPolicy {
    /// Functions whose code this process has itself: native functions, programs and models, by the names that they were
    /// registered under here.
    pub const fn own() -> Self {
        Self { code: Accepted::Own, largest: ByteSize::from_mib(64), grants: false }
    }

    /// Also components as artefacts that were signed with a key that the factory [trusts](crate::WasmBuilder::trust).
    pub const fn artefacts() -> Self {
        Self { code: Accepted::Artefacts, ..Self::own() }
    }

    /// Also components, whoever made them; they are compiled here.
    pub const fn components() -> Self {
        Self { code: Accepted::Components, ..Self::own() }
    }

    /// The largest component or artefact; default 64 MiB. What the isolates' factory takes bounds it too.
    pub const fn largest(mut self, code: ByteSize) -> Self {
        self.largest = code;
        self
    }

    /// Also functions that are granted something beyond their isolate: folders, origins, buckets, secrets, devices,
    /// objects, functions or models of this node. Default: they are refused.
    pub const fn grants(mut self) -> Self {
        self.grants = true;
        self
    }

    pub(crate) const fn most_code(&self) -> ByteSize {
        self.largest
    }

    /// Passes what may be made ready as far as its description says; its code may yet have to be pulled.
    pub(crate) fn admit(&self, function: &Function) -> Result<(), DeployError> {
        let refused = |why: String| Err(DeployError::Guest { function: function.name.clone(), why });
        if let (false, Some(what)) = (self.grants, reached(&function.grants)) {
            return refused(format!("it is granted {what}, and this node has no GuestPolicy::grants"));
        }
        if matches!(function.code, Code::Component { .. } | Code::Stored { .. }) && self.code == Accepted::Own {
            return refused("its code comes from outside: see FabricBuilder::guests".to_owned());
        }
        self.admit_code(function)
    }

    /// Passes code that may be prepared, as far as it is at hand.
    pub(crate) fn admit_code(&self, function: &Function) -> Result<(), DeployError> {
        let Code::Component { bytes, .. } = &function.code else { return Ok(()) };
        let refused = |why: String| Err(DeployError::Guest { function: function.name.clone(), why });
        let size = ByteSize::from_bytes(bytes.len() as u64);
        if size > self.largest {
            return refused(format!("its code has {size}, and at most {} are taken", self.largest));
        }
        if self.code == Accepted::Artefacts && !is_artefact(bytes) {
            return refused("its code is no signed artefact".to_owned());
        }
        Ok(())
    }
}

/// The first thing beyond the isolate that is granted.
fn reached(grants: &Grants) -> Option<&'static str> {
    let reached = [
        (!grants.secrets.is_empty(), "secrets"),
        (!grants.files.is_empty(), "folders"),
        (!grants.http.is_empty(), "origins"),
        (!grants.buckets.is_empty(), "buckets"),
        (!grants.functions.is_empty(), "functions"),
        (!grants.models.is_empty(), "models"),
        (!grants.devices.is_empty(), "devices"),
        (grants.objects != ObjectGrant::None, "objects"),
    ];
    reached.into_iter().find_map(|(is_granted, what)| is_granted.then_some(what))
}

#[cfg(feature = "wasm-runtime-only")]
use crate::wasm::is_artefact;

/// Without a factory for them nothing is one.
#[cfg(not(feature = "wasm-runtime-only"))]
const fn is_artefact(_: &[u8]) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use scf_core::{FunctionName, Name, ObjectId};

    use super::*;

    fn name() -> FunctionName {
        FunctionName::new("f").unwrap()
    }

    fn refusal(policy: &GuestPolicy, function: &Function) -> String {
        policy.admit(function).unwrap_err().to_string()
    }

    #[test]
    fn code_of_others_is_refused_until_it_is_accepted() {
        let native = Function::native(name(), Name::new("f").unwrap());
        let stored = Function::stored(name(), ObjectId::of(b"code"), "f");
        let component = Function::component(name(), "code", "f");
        assert!(GuestPolicy::default().admit(&native).is_ok());
        for from_outside in [&stored, &component] {
            assert!(refusal(&GuestPolicy::own(), from_outside).contains("FabricBuilder::guests"));
            assert!(GuestPolicy::components().admit(from_outside).is_ok());
        }
        assert!(GuestPolicy::artefacts().admit(&stored).is_ok(), "what it is is known when it was pulled");
        assert!(refusal(&GuestPolicy::artefacts(), &component).contains("no signed artefact"));
        let small = GuestPolicy::components().largest(ByteSize::from_bytes(3));
        assert!(refusal(&small, &component).contains("at most 3 B"), "{}", refusal(&small, &component));
    }

    #[test]
    fn what_is_granted_beyond_the_isolate_is_accepted_only_where_it_was_said() {
        let granted = Grants { objects: ObjectGrant::Read, ..Grants::default() };
        let function = Function::native(name(), Name::new("f").unwrap()).grants(granted);
        assert!(refusal(&GuestPolicy::own(), &function).contains("granted objects"));
        assert!(GuestPolicy::own().grants().admit(&function).is_ok());
    }
}
