//! The host's side of the interfaces that are not WASI 0.2, by `wit/`.

use wasmtime::component::Linker;

use super::{HasWorld, context::HasContext, interface::Interface};
use crate::wasm::live::Guest;

wasmtime::component::bindgen!({
    path: "wit",
    inline: "
        package scf:host;
        world services {
            import wasi:keyvalue/store@0.2.0-draft;
            import wasi:keyvalue/atomics@0.2.0-draft;
            import wasi:keyvalue/batch@0.2.0-draft;
            import wasi:keyvalue/store@0.2.0-draft2;
            import wasi:keyvalue/atomics@0.2.0-draft2;
            import wasi:keyvalue/batch@0.2.0-draft2;
            import wasi:config/store@0.2.0-rc.1;
            import wasi:config/store@0.2.0-draft-2024-09-27;
            import wasi:logging/logging@0.1.0-draft;
            import wasi:blobstore/types@0.2.0-draft;
            import wasi:blobstore/container@0.2.0-draft;
            import wasi:blobstore/blobstore@0.2.0-draft;
            import scf:function/context@0.1.0;
            import scf:function/context@0.2.0;
            import scf:function/functions@0.1.0;
            import scf:function/actor@0.1.0;
        }
    ",
    world: "scf:host/services",
    imports: {
        "wasi:logging/logging@0.1.0-draft": trappable,
        "scf:function/context@0.1.0": trappable,
        "scf:function/context@0.2.0": trappable,
        default: async | trappable,
    },
    with: {
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "wasi:blobstore/types.outgoing-value": super::blobstore::Outgoing,
        "wasi:blobstore/types.incoming-value": super::blobstore::Incoming,
        "wasi:blobstore/container.container": super::blobstore::Container,
        "wasi:blobstore/container.stream-object-names": super::blobstore::Names,
        "wasi:keyvalue/store@0.2.0-draft.bucket": super::keyvalue::Opened,
        "wasi:keyvalue/store@0.2.0-draft2.bucket": super::keyvalue::Opened,
        "wasi:keyvalue/atomics@0.2.0-draft2.cas": super::keyvalue::Cas,
    },
});

use self::{
    scf::{
        function0_1_0::{actor, context as context01, functions},
        function0_2_0::context,
    },
    wasi::{
        blobstore::{blobstore, container, types},
        config0_2_0_draft_2024_09_27 as config_draft, config0_2_0_rc_1 as config_rc1, keyvalue0_2_0_draft as draft,
        keyvalue0_2_0_draft2 as draft2,
        logging::logging,
    },
};

/// Links a service; nothing where the interface is none.
pub(super) fn link(service: Interface, linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    match service {
        Interface::KeyValueDraft => {
            draft::store::add_to_linker::<_, HasWorld>(linker, Guest::world)?;
            draft::atomics::add_to_linker::<_, HasWorld>(linker, Guest::world)?;
            draft::batch::add_to_linker::<_, HasWorld>(linker, Guest::world)
        }
        Interface::KeyValueDraft2 => {
            draft2::store::add_to_linker::<_, HasWorld>(linker, Guest::world)?;
            draft2::atomics::add_to_linker::<_, HasWorld>(linker, Guest::world)?;
            draft2::batch::add_to_linker::<_, HasWorld>(linker, Guest::world)
        }
        Interface::ConfigRc1 => config_rc1::store::add_to_linker::<_, HasWorld>(linker, Guest::world),
        Interface::ConfigDraft => config_draft::store::add_to_linker::<_, HasWorld>(linker, Guest::world),
        Interface::Logging => logging::add_to_linker::<_, HasWorld>(linker, Guest::world),
        Interface::Blobstore => {
            types::add_to_linker::<_, HasWorld>(linker, Guest::world)?;
            container::add_to_linker::<_, HasWorld>(linker, Guest::world)?;
            blobstore::add_to_linker::<_, HasWorld>(linker, Guest::world)
        }
        Interface::Context => context::add_to_linker::<_, HasContext>(linker, Guest::context),
        Interface::Context01 => context01::add_to_linker::<_, HasWorld>(linker, Guest::world),
        Interface::Functions => functions::add_to_linker::<_, HasWorld>(linker, Guest::world),
        Interface::Actor => actor::add_to_linker::<_, HasWorld>(linker, Guest::world),
        Interface::Wasi(_) | Interface::Sockets(_) | Interface::Http | Interface::Nn => Ok(()),
    }
}
