//! What a guest without the standard library has to bring: an allocator, its export for the caller
//! and a panic handler. A guest that says `use bare as _;` imports nothing.
#![cfg(target_arch = "wasm32")]
#![no_std]

extern crate alloc;

use alloc::alloc::{Layout, alloc, realloc};
use core::{arch::wasm32::unreachable, panic::PanicInfo, ptr};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Gives the caller room for arguments (canonical ABI, `realloc` option).
///
/// # Safety
/// `old` is null with an `old_size` of 0, or came from this function with `old_size` and `align`.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_size: usize, align: usize, new_size: usize) -> *mut u8 {
    if new_size == 0 {
        return ptr::without_provenance_mut(align);
    }
    let block = match Layout::from_size_align(old_size.max(new_size), align) {
        Err(_) => unreachable(),
        // SAFETY: the size is not 0.
        Ok(layout) if old_size == 0 => unsafe { alloc(layout) },
        Ok(_) => {
            // SAFETY: this function made `old` with this size and alignment; the new size is not 0
            // and, as the match says, not over what a layout allows.
            unsafe { realloc(old, Layout::from_size_align_unchecked(old_size, align), new_size) }
        }
    };
    if block.is_null() { unreachable() } else { block }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    unreachable()
}
