//! Where log records go while guests are hostile.

use std::{
    fmt::{self, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Counts what is logged and keeps the first record with a raw control character.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    raw: Mutex<Option<String>>,
}

impl Log {
    /// Receives the records of this process.
    pub(crate) fn install() -> Self {
        let log = Self::default();
        tracing::subscriber::set_global_default(log.clone()).expect("nobody else receives the records of this process");
        log
    }

    /// Bytes of all records so far.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.load(Relaxed)
    }

    /// Takes the record with a control character, if there was one.
    pub(crate) fn raw(&self) -> Option<String> {
        self.0.raw.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("scf")
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut text = Text::default();
        attributes.record(&mut text);
        self.keep(text.0);
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut text = Text::default();
        values.record(&mut text);
        self.keep(text.0);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.keep(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Log {
    fn keep(&self, text: String) {
        self.0.bytes.fetch_add(text.len(), Relaxed);
        if text.chars().any(char::is_control) {
            self.0.raw.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        }
    }
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        // As it is: a subscriber that prints text would.
        let _ = write!(self.0, "{}={value} ", field.name());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}
