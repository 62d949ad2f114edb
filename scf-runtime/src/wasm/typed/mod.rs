//! Functions of any WIT type, called with JSON, with values or with bytes.
//!
//! Types are read once, when a function is deployed, into [`Shape`]s. Input goes from its encoding straight into the
//! engine's values, output from there straight into its encoding.

mod from_json;
mod from_values;
mod place;
mod shape;
#[cfg(test)]
mod tests;
mod to_json;
mod to_values;

use std::io::{self, Write};

use scf_core::{LimitKind, MediaType, Payload, ValueKind};
use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{Func, Val, types::ComponentFunc},
};

use self::{
    place::Place,
    shape::{Names, Reader, Shape},
    to_json::AsJson,
    to_values::AsValue,
};

/// Memory of the host for the values of one call, per byte that a payload may have.
///
/// A number takes two bytes or more as JSON and 32 as a value, so does a byte of a `list<u8>`: those of more than
/// half the limit belong in a function on bytes.
const EXPANSION: usize = 16;

/// How input or output is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `application/json`.
    Json,
    /// `application/vnd.scf.values`.
    Values,
    /// The bytes of the only parameter or of the result, which is `list<u8>` or `string`.
    Raw,
}

impl Form {
    fn of(media: &MediaType) -> Self {
        if *media == MediaType::VALUES {
            return Self::Values;
        }
        match media.as_str().strip_prefix(MediaType::JSON.as_str()) {
            Some(rest) if rest.is_empty() || rest.trim_start().starts_with(';') => Self::Json,
            _ => Self::Raw,
        }
    }
}

/// What a function takes and gives.
#[derive(Debug)]
pub(super) struct Typed {
    names: Names,
    params: Box<[Shape]>,
    gives: Gives,
    /// How it was declared to give its result; none: as it is called.
    declared: Option<Form>,
}

#[derive(Debug)]
enum Gives {
    /// A value, or nothing.
    Plain(Option<Shape>),
    /// `result<T, E>`: the value, or the call is refused with the error.
    Fallible(Option<Shape>, Option<Shape>),
}

impl Gives {
    const fn value(&self) -> Option<&Shape> {
        match self {
            Self::Plain(value) | Self::Fallible(value, _) => value.as_ref(),
        }
    }
}

/// Why there is no output although nothing trapped.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The function says so.
    Said(String),
    /// A part of the input is not of the function's type.
    Input { path: String, problem: String },
    /// The function cannot be called with this type of payload, but with that.
    Media(&'static str),
    /// Values or output are over a limit.
    Over(LimitKind),
}

impl Typed {
    /// Reads the type of a function that is declared to take `input` and to give `output`.
    pub(super) fn of(function: &ComponentFunc, input: &MediaType, output: &MediaType) -> Result<Self, String> {
        if function.async_() {
            return Err("is asynchronous; functions are called synchronously".into());
        }
        let mut reader = Reader::new();
        let names = reader.names(function.params().map(|(name, _)| name))?;
        let params = function.params().map(|(name, of)| {
            reader.read(&of).map_err(|problem| format!("cannot be called: parameter {name:?}: {problem}"))
        });
        let params: Box<[Shape]> = params.collect::<Result<_, _>>()?;
        let gives = function.results().next().map(|of| reader.read(&of)).transpose();
        let gives = match gives.map_err(|problem| format!("cannot be called: its result: {problem}"))? {
            Some(Shape::Result(ok, err)) => Gives::Fallible(ok.map(|ok| *ok), err.map(|err| *err)),
            value => Gives::Plain(value),
        };
        if Form::of(input) == Form::Raw
            && *input != MediaType::OCTETS
            && !matches!(&*params, [only] if is_raw(Some(only)))
        {
            return Err(format!("is declared to take {input}, which only a list<u8> or a string can be"));
        }
        // What a function on bytes gives is JSON already where it is declared to be.
        let is_on_bytes = matches!((&*params, gives.value()), ([Shape::Bytes], Some(Shape::Bytes)));
        let form = || if is_on_bytes && *output != MediaType::VALUES { Form::Raw } else { Form::of(output) };
        let declared = (*output != MediaType::OCTETS).then(form);
        if declared == Some(Form::Raw) && !is_raw(gives.value()) {
            return Err(format!("is declared to give {output}, which only a list<u8> or a string can be"));
        }
        Ok(Self { names, params, gives, declared })
    }

    /// The parameters that a payload has; `limit` is that of a payload in bytes.
    pub(super) fn read(&self, input: &Payload, limit: usize) -> Result<Vec<Val>, Refusal> {
        self.decode(Form::of(&input.media), &input.bytes, limit.saturating_mul(EXPANSION))
    }

    /// Calls the function with the parameters of a payload that was of type `media`.
    pub(super) async fn call<T: Send>(
        &self,
        function: Func,
        mut store: StoreContextMut<'_, T>,
        params: Vec<Val>,
        media: &MediaType,
        limit: usize,
    ) -> wasmtime::Result<Result<Payload, Refusal>> {
        store.as_context_mut().set_hostcall_fuel(limit.saturating_mul(EXPANSION));
        let mut results = [Val::Bool(false)];
        let results = if self.has_result() { &mut results[..] } else { &mut [] };
        function.call_async(&mut store, &params, results).await?;
        drop(params);
        Ok(self.encode(self.declared.unwrap_or_else(|| Form::of(media)), results.first(), limit))
    }

    /// Whether it has no parameters.
    #[cfg(feature = "snapshot")]
    pub(super) fn takes_nothing(&self) -> bool {
        self.params.is_empty()
    }

    const fn has_result(&self) -> bool {
        !matches!(self.gives, Gives::Plain(None))
    }

    fn decode(&self, form: Form, bytes: &[u8], budget: usize) -> Result<Vec<Val>, Refusal> {
        let Self { names, params, .. } = self;
        let place = Place::new(budget);
        let (read, encoding) = match (form, &**params) {
            (Form::Json, _) => {
                (from_json::read(names, params, bytes, &place).map_err(|error| error.to_string()), "JSON")
            }
            (Form::Values, _) => {
                (from_values::read(names, params, bytes, &place).map_err(|error| error.to_string()), "values")
            }
            (Form::Raw, [Shape::Bytes]) => {
                let charged = place.charge::<serde_json::Error>(bytes.len(), 0);
                let value = || vec![Val::List(bytes.iter().copied().map(Val::U8).collect())];
                (charged.map(|()| value()).map_err(|error| error.to_string()), "bytes")
            }
            (Form::Raw, [Shape::Plain(ValueKind::String)]) => {
                let text = str::from_utf8(bytes).map_err(|error| format!("expected a string: {error}"));
                (text.map(|text| vec![Val::String(text.into())]), "text")
            }
            (Form::Raw, _) => return Err(Refusal::Media("application/json or application/vnd.scf.values")),
        };
        read.map_err(|error| {
            if place.is_over() {
                return Refusal::Over(LimitKind::HostMemory);
            }
            let (path, problem) = place.into_problem();
            let path = if path.is_empty() { "input".into() } else { path };
            Refusal::Input { path, problem: problem.unwrap_or_else(|| format!("not {encoding}: {error}")) }
        })
    }

    fn encode(&self, form: Form, result: Option<&Val>, limit: usize) -> Result<Payload, Refusal> {
        let value = match (&self.gives, result) {
            (Gives::Fallible(_, shape), Some(Val::Result(Err(error)))) => {
                return Err(Refusal::Said(said(shape.as_ref(), error.as_deref())));
            }
            (Gives::Fallible(..), Some(Val::Result(Ok(value)))) => value.as_deref(),
            (_, value) => value,
        };
        let value = self.gives.value().zip(value);
        let mut out = Capped { bytes: Vec::new(), limit, is_over: false };
        let (written, media) = match (form, value) {
            (Form::Values, value) => {
                let value = value.map(|(shape, value)| AsValue(shape, value));
                let written = postcard::to_io(value.as_slice(), &mut out).map(drop);
                (written.map_err(|error| error.to_string()), MediaType::VALUES)
            }
            (Form::Raw, Some((Shape::Bytes, Val::List(values)))) => {
                let bytes: Vec<u8> = to_json::bytes(values).collect();
                out.is_over = bytes.len() > limit;
                out.bytes = bytes;
                (if out.is_over { Err(String::new()) } else { Ok(()) }, MediaType::OCTETS)
            }
            (Form::Raw, Some((_, Val::String(text)))) => {
                let written = out.write_all(text.as_bytes());
                (written.map_err(|error| error.to_string()), MediaType::TEXT)
            }
            (Form::Json | Form::Raw, value) => {
                let value = value.map(|(shape, value)| AsJson(shape, value));
                (serde_json::to_writer(&mut out, &value).map_err(|error| error.to_string()), MediaType::JSON)
            }
        };
        match written {
            Ok(()) => Ok(Payload::new(out.bytes).with_media(media)),
            Err(_) if out.is_over => Err(Refusal::Over(LimitKind::Output)),
            Err(error) => Err(Refusal::Said(error)),
        }
    }
}

/// What the caller is told about the error of a `result`: a string as it is, anything else as JSON.
fn said(shape: Option<&Shape>, error: Option<&Val>) -> String {
    match shape.zip(error) {
        Some((_, Val::String(text))) => text.clone(),
        Some((shape, error)) => serde_json::to_string(&AsJson(shape, error)).unwrap_or_else(|error| error.to_string()),
        None => "it gives an error without a value".into(),
    }
}

/// Takes so many bytes and no more.
struct Capped {
    bytes: Vec<u8>,
    limit: usize,
    is_over: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_raw(shape: Option<&Shape>) -> bool {
    matches!(shape, Some(Shape::Bytes | Shape::Plain(ValueKind::String)))
}
