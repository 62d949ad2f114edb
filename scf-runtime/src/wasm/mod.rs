//! WebAssembly components as isolates.
