//! Memory that compiling leaves behind.
#![cfg_attr(all(target_os = "linux", target_env = "gnu"), expect(unsafe_code, reason = "a call of the C library"))]

/// Gives memory back to the system that is free and that the allocator keeps. A compiler's threads leave some four
/// megabytes each, which a node that compiles when a function is deployed would hold for ever.
///
/// Takes about a millisecond. Does nothing where the allocator is not the GNU C library's.
pub(super) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: the function may be called at any time from any thread; it touches free memory only.
        unsafe { libc::malloc_trim(0) };
    }
}
