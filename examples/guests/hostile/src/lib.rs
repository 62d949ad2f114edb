//! Misbehaves on purpose: for tests of deadlines and memory limits.
//!
//! Built without the standard library, so that the component imports nothing and only the host's
//! own limits can end it.
#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::{format, string::String, vec::Vec};

#[cfg(target_arch = "wasm32")]
use bare as _;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "hostile" });
}

const MIB: usize = 1 << 20;

struct Hostile;

impl bindings::Guest for Hostile {
    fn spin(_: Vec<u8>) -> Result<Vec<u8>, String> {
        loop {
            core::hint::spin_loop();
        }
    }

    fn grow(_: Vec<u8>) -> Result<Vec<u8>, String> {
        let mut held: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut block = Vec::new();
            if held.try_reserve(1).is_err() || block.try_reserve_exact(MIB).is_err() {
                let mib = held.len();
                // Freed first, so that the message itself can be allocated.
                drop(held);
                return Err(format!("memory: refused after {mib} MiB"));
            }
            block.resize(MIB, 0xa5);
            held.push(core::hint::black_box(block));
        }
    }
}

bindings::export!(Hostile with_types_in bindings);
