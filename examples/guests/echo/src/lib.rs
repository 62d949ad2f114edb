//! Returns its input.
//!
//! Built without the standard library, so that the component imports nothing: what is left is the
//! cost of starting a component.
#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::{string::String, vec::Vec};

#[cfg(target_arch = "wasm32")]
use bare as _;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "echo" });
}

struct Echo;

impl bindings::Guest for Echo {
    fn echo(input: Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(input)
    }
}

bindings::export!(Echo with_types_in bindings);
