//! What a component must keep to before anything is made of it.

use scf_core::ByteSize;
use thiserror::Error;
use wasmparser::{Encoding, FunctionBody, Operator, Parser, Payload, Validator, WasmFeatures};

use super::feature;

/// Longest name of an import or an export, in bytes.
const NAME: usize = 4096;

/// How large the parts of a component may be. What is over a limit is refused before anything is compiled: a
/// small component can take a compiler minutes.
///
/// All limits but the size are of counts over the whole component, nested modules and components included, where
/// nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct CodeLimits {
    /// The component itself.
    pub size: ByteSize,
    /// Functions that are defined.
    pub functions: u32,
    /// Local variables of one function, parameters not counted.
    pub locals: u32,
    /// Code of one function.
    pub body: ByteSize,
    /// Targets of one `br_table`.
    pub branches: u32,
    /// Types, core types included.
    pub types: u32,
    /// Imports and exports, those of nested modules included.
    pub externs: u32,
    /// Data segments and element segments.
    pub segments: u32,
    /// Elements of all element segments.
    pub elements: u32,
    /// Globals, tables, memories and tags.
    pub globals: u32,
    /// Nested modules, components and their instances.
    pub modules: u32,
    /// How deep modules and components are nested; 1 is a component with a module in it.
    pub depth: u32,
}

impl CodeLimits {
    /// 8 MiB; 20,000 functions of at most 1 MiB and 10,000 local variables; 4,096 targets
    /// of a `br_table`; 20,000 types, 20,000 imports and exports, 20,000 segments with 100,000 elements, 10,000
    /// globals, 256 modules and components, nested 8 deep.
    pub const DEFAULT: Self = Self {
        size: ByteSize::from_mib(8),
        functions: 20_000,
        locals: 10_000,
        body: ByteSize::from_mib(1),
        branches: 4096,
        types: 20_000,
        externs: 20_000,
        // Memory as an initialisation left it comes in up to 10,000 of them.
        segments: 20_000,
        elements: 100_000,
        globals: 10_000,
        modules: 256,
        depth: 8,
    };
}

impl Default for CodeLimits {
    /// [`CodeLimits::DEFAULT`].
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a component is not compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ScreenError {
    /// There is more of something than the limit says.
    #[error("{what}: {found}, where {limit} is the limit")]
    Limit {
        /// The field of [`CodeLimits`].
        what: &'static str,
        /// How much there is, or how much there was when the limit was passed.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// It uses a feature that is left out.
    #[error("it uses {feature}, which this runtime does not run")]
    Unsupported {
        /// The feature, as WebAssembly names it.
        feature: String,
    },
    /// It is a core module; a function is a component.
    #[error("it is a core module, not a component")]
    Module,
    /// It is not well formed.
    #[error("{problem}")]
    Malformed {
        /// What is wrong and where; may quote names that the component's author chose.
        problem: String,
    },
}

/// What was counted so far.
#[derive(Debug, Default)]
struct Count {
    functions: u64,
    types: u64,
    externs: u64,
    segments: u64,
    elements: u64,
    globals: u64,
    modules: u64,
    depth: u64,
}

impl CodeLimits {
    /// Checks a component against the limits, then its validity, without the features that are left out.
    ///
    /// Takes time and memory in proportion to the size of the component, some 20 ms for each MiB.
    pub(super) fn check(&self, component: &[u8]) -> Result<(), ScreenError> {
        within("size", component.len() as u64, self.size.bytes())?;
        let mut count = Count::default();
        for (position, payload) in Parser::new(0).parse_all(component).enumerate() {
            let payload = payload.map_err(malformed)?;
            if let (0, Payload::Version { encoding: Encoding::Module, .. }) = (position, &payload) {
                return Err(ScreenError::Module);
            }
            self.count(&mut count, &payload)?;
        }
        validate(component, feature::ACCEPTED).map_err(|error| feature::name(component, &error))
    }

    fn count(&self, count: &mut Count, payload: &Payload<'_>) -> Result<(), ScreenError> {
        let add = |what, counter: &mut u64, more: u32, limit: u32| {
            *counter += u64::from(more);
            within(what, *counter, limit.into())
        };
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                count.depth += 1;
                within("depth", count.depth, self.depth.into())?;
                add("modules", &mut count.modules, 1, self.modules)
            }
            Payload::End(_) => {
                count.depth = count.depth.saturating_sub(1);
                Ok(())
            }
            Payload::InstanceSection(section) => add("modules", &mut count.modules, section.count(), self.modules),
            Payload::ComponentInstanceSection(section) => {
                add("modules", &mut count.modules, section.count(), self.modules)
            }
            Payload::FunctionSection(section) => {
                add("functions", &mut count.functions, section.count(), self.functions)
            }
            Payload::CodeSectionEntry(body) => self.body(body),
            Payload::TypeSection(section) => add("types", &mut count.types, section.count(), self.types),
            Payload::CoreTypeSection(section) => add("types", &mut count.types, section.count(), self.types),
            Payload::ComponentTypeSection(section) => add("types", &mut count.types, section.count(), self.types),
            Payload::ComponentCanonicalSection(section) => {
                add("functions", &mut count.functions, section.count(), self.functions)
            }
            Payload::ComponentAliasSection(section) => {
                add("externs", &mut count.externs, section.count(), self.externs)
            }
            Payload::ImportSection(section) => {
                add("externs", &mut count.externs, section.count(), self.externs)?;
                for import in section.clone().into_imports() {
                    let import = import.map_err(malformed)?;
                    names(&[import.module, import.name])?;
                }
                Ok(())
            }
            Payload::ExportSection(section) => {
                add("externs", &mut count.externs, section.count(), self.externs)?;
                for export in section.clone() {
                    let export = export.map_err(malformed)?;
                    names(&[export.name])?;
                }
                Ok(())
            }
            Payload::ComponentImportSection(section) => {
                add("externs", &mut count.externs, section.count(), self.externs)?;
                section.clone().into_iter().try_for_each(|import| names(&[import.map_err(malformed)?.name.name]))
            }
            Payload::ComponentExportSection(section) => {
                add("externs", &mut count.externs, section.count(), self.externs)?;
                for export in section.clone() {
                    let export = export.map_err(malformed)?;
                    names(&[export.name.name])?;
                }
                Ok(())
            }
            Payload::DataSection(section) => add("segments", &mut count.segments, section.count(), self.segments),
            Payload::ElementSection(section) => {
                add("segments", &mut count.segments, section.count(), self.segments)?;
                for element in section.clone() {
                    let items = match element.map_err(malformed)?.items {
                        wasmparser::ElementItems::Functions(items) => items.count(),
                        wasmparser::ElementItems::Expressions(_, items) => items.count(),
                    };
                    add("elements", &mut count.elements, items, self.elements)?;
                }
                Ok(())
            }
            Payload::GlobalSection(section) => add("globals", &mut count.globals, section.count(), self.globals),
            Payload::TableSection(section) => add("globals", &mut count.globals, section.count(), self.globals),
            Payload::MemorySection(section) => add("globals", &mut count.globals, section.count(), self.globals),
            Payload::TagSection(section) => add("globals", &mut count.globals, section.count(), self.globals),
            _ => Ok(()),
        }
    }

    fn body(&self, body: &FunctionBody<'_>) -> Result<(), ScreenError> {
        within("body", body.range().len() as u64, self.body.bytes())?;
        let mut locals = 0_u64;
        for group in body.get_locals_reader().map_err(malformed)? {
            locals += u64::from(group.map_err(malformed)?.0);
            within("locals", locals, self.locals.into())?;
        }
        let mut operators = body.get_operators_reader().map_err(malformed)?;
        while !operators.eof() {
            if let Operator::BrTable { targets } = operators.read().map_err(malformed)? {
                within("branches", targets.len().into(), self.branches.into())?;
            }
        }
        Ok(())
    }
}

/// Whether a component is valid with these features.
pub(super) fn validate(component: &[u8], features: WasmFeatures) -> Result<(), wasmparser::BinaryReaderError> {
    Validator::new_with_features(features).validate_all(component).map(drop)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
pub(super) fn malformed(error: impl ToString) -> ScreenError {
    ScreenError::Malformed { problem: error.to_string() }
}

const fn within(what: &'static str, found: u64, limit: u64) -> Result<(), ScreenError> {
    if found > limit { Err(ScreenError::Limit { what, found, limit }) } else { Ok(()) }
}

fn names(names: &[&str]) -> Result<(), ScreenError> {
    names.iter().try_for_each(|name| within("length of a name", name.len() as u64, NAME as u64))
}
