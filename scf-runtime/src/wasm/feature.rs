//! Features of WebAssembly, and which of them are left out.

use wasmparser::WasmFeatures;

use super::screen::{ScreenError, malformed, validate};

/// What guest toolchains ask for by default, and nothing else.
pub(super) const ACCEPTED: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::COMPONENT_MODEL)
    .difference(WasmFeatures::GC_TYPES);

/// What is left out, with the names that WebAssembly has for it.
const REFUSED: [(WasmFeatures, &str); 29] = [
    (WasmFeatures::CM_ASYNC, "component-model-async"),
    (WasmFeatures::CM_ASYNC_STACKFUL, "component-model-async (stackful)"),
    (WasmFeatures::CM_MORE_ASYNC_BUILTINS, "component-model-async (more built-ins)"),
    (WasmFeatures::CM_ERROR_CONTEXT, "component-model error-context"),
    (WasmFeatures::CM_THREADING, "component-model threads"),
    (WasmFeatures::CM_GC, "component-model gc"),
    (WasmFeatures::CM_VALUES, "component-model values"),
    (WasmFeatures::CM_FIXED_LENGTH_LISTS, "component-model fixed-length-lists"),
    (WasmFeatures::CM_MAP, "component-model maps"),
    (WasmFeatures::CM64, "component-model memory64"),
    (WasmFeatures::CM_IMPLEMENTS, "component-model implements"),
    (WasmFeatures::CM_NESTED_NAMES, "component-model nested names"),
    (WasmFeatures::CM_CANON_NAMES, "component-model canonical names"),
    (WasmFeatures::THREADS, "threads"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything-threads"),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::MULTI_MEMORY, "multi-memory"),
    (WasmFeatures::EXCEPTIONS, "exceptions"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy exceptions"),
    (WasmFeatures::TAIL_CALL, "tail-call"),
    (WasmFeatures::RELAXED_SIMD, "relaxed-simd"),
    (WasmFeatures::FUNCTION_REFERENCES, "function-references"),
    (WasmFeatures::GC, "gc"),
    (WasmFeatures::GC_TYPES, "gc types"),
    (WasmFeatures::STACK_SWITCHING, "stack-switching"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide-arithmetic"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom-page-sizes"),
    (WasmFeatures::MEMORY_CONTROL, "memory-control"),
    (WasmFeatures::CUSTOM_DESCRIPTORS, "custom-descriptors"),
];

/// Says of a component that is not valid which feature would make it so, or make it fail later.
pub(super) fn name(component: &[u8], error: &wasmparser::BinaryReaderError) -> ScreenError {
    let named = |feature: WasmFeatures| {
        let (_, name) = REFUSED.iter().find(|(refused, _)| refused.intersects(feature))?;
        Some(ScreenError::Unsupported { feature: (*name).into() })
    };
    if let Some(unsupported) = error.missing_wasm_feature().and_then(named) {
        return unsupported;
    }
    let helps = |feature: WasmFeatures| match validate(component, ACCEPTED | feature) {
        Ok(()) => true,
        Err(later) => later.offset() > error.offset(),
    };
    // Most errors name their feature; the search is for those where a byte has two readings.
    let found = REFUSED.iter().find(|(feature, _)| helps(*feature)).and_then(|(feature, _)| named(*feature));
    found.unwrap_or_else(|| malformed(error))
}
