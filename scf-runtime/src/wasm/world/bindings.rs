//! The host's side of the interfaces that are not WASI 0.2, by `wit/`.

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
            import scf:function/context@0.1.0;
            import scf:function/functions@0.1.0;
        }
    ",
    world: "scf:host/services",
    imports: {
        "wasi:logging/logging@0.1.0-draft": trappable,
        "scf:function/context@0.1.0": trappable,
        default: async | trappable,
    },
    with: {
        "wasi:keyvalue/store@0.2.0-draft.bucket": super::keyvalue::Opened,
        "wasi:keyvalue/store@0.2.0-draft2.bucket": super::keyvalue::Opened,
        "wasi:keyvalue/atomics@0.2.0-draft2.cas": super::keyvalue::Cas,
    },
});
