//! What the systems that a trace came through say about it.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Entries that a list has at most (W3C Trace Context, section 3.3.1.1).
const ENTRIES: usize = 32;
/// Characters of a list that are passed on at most: as many as everybody has to be able to (section 3.3.1.5).
const LENGTH: usize = 512;
/// Characters of an entry above which it is the first to be left out where a list is longer (section 3.3.1.5).
const LARGE: usize = 128;
/// Characters of a key, and of its parts where it is `tenant@system`.
const KEY: usize = 256;
const TENANT: usize = 241;
const SYSTEM: usize = 14;
/// Characters of a value.
const VALUE: usize = 256;

/// What the systems that a trace came through say about it: the header `tracestate`, by W3C Trace Context (level 1),
/// section 3.3.
///
/// It is passed on as it came, and nothing is read out of it. Cloning shares it; an empty one takes no memory, and one
/// byte in a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceState(Option<Arc<str>>);

impl TraceState {
    /// Nothing.
    pub const EMPTY: Self = Self(None);

    /// What the `lines` of a message's header say, in their order: one list. Empty where that is not one, as the
    /// standard wants it: a bad list is dropped and never an error.
    ///
    /// Of a list over 512 characters, entries over 128 characters are left out first, and then those at its end, which
    /// are the oldest.
    #[must_use]
    pub fn of<'l>(lines: impl IntoIterator<Item = &'l str>) -> Self {
        let members = lines.into_iter().flat_map(|line| line.split(',')).map(|member| member.trim_matches([' ', '\t']));
        let mut entries: Vec<(&str, &str)> = Vec::new();
        // Members may be empty.
        for member in members.filter(|member| !member.is_empty()) {
            let Some((key, value)) = member.split_once('=').filter(|(key, value)| is_key(key) && is_value(value))
            else {
                return Self::EMPTY;
            };
            if entries.len() == ENTRIES || entries.iter().any(|(other, _)| *other == key) {
                return Self::EMPTY;
            }
            entries.push((key, value));
        }
        shorten(&mut entries);
        if entries.is_empty() {
            return Self::EMPTY;
        }
        let mut list = String::with_capacity(LENGTH);
        for (key, value) in entries {
            let comma = if list.is_empty() { "" } else { "," };
            list.extend([comma, key, "=", value]);
        }
        Self(Some(list.into()))
    }

    /// Whether nobody says anything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The list as a header has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Leaves entries out until the list is as long as is passed on.
fn shorten(entries: &mut Vec<(&str, &str)>) {
    let length = |(key, value): &(&str, &str)| key.len() + 1 + value.len();
    // With the commas in between.
    let mut all = entries.iter().map(|entry| length(entry) + 1).sum::<usize>();
    while all > LENGTH + 1 {
        let large = entries.iter().rposition(|entry| length(entry) > LARGE);
        let Some(last) = large.or_else(|| entries.len().checked_sub(1)) else { return };
        all -= length(&entries.remove(last)) + 1;
    }
}

fn is_key(key: &str) -> bool {
    let is_part = |part: &str, most: usize, may_begin_with_digit: bool| {
        let begins = |byte: &u8| byte.is_ascii_lowercase() || (may_begin_with_digit && byte.is_ascii_digit());
        let goes_on = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
        part.len() <= most && part.as_bytes().first().is_some_and(begins) && part.bytes().all(goes_on)
    };
    match key.split_once('@') {
        Some((tenant, system)) => is_part(tenant, TENANT, true) && is_part(system, SYSTEM, false),
        None => is_part(key, KEY, false),
    }
}

/// Whether it is printable ASCII without a comma or an equals sign, and ends with no space.
fn is_value(value: &str) -> bool {
    let is_valid = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    !value.is_empty() && value.len() <= VALUE && !value.ends_with(' ') && value.bytes().all(is_valid)
}

impl fmt::Display for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for TraceState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TraceState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of([String::deserialize(deserializer)?.as_str()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> String {
        TraceState::of([list]).to_string()
    }

    #[test]
    fn a_list_is_passed_on_as_it_came() {
        for list in [
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
            "fw529a3039@dt=FfAAEgAAAB,a/b_c-d*e=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~",
            "a=  spaces  inside",
            "0tenant@system=1",
        ] {
            assert_eq!(read(list), list);
        }
        assert_eq!(read(" a=1 ,\t,b=2\t,"), "a=1,b=2", "blanks around members and empty ones are let be");
        assert_eq!(TraceState::of(["a=1", "b=2,c=3"]).as_str(), "a=1,b=2,c=3");
    }

    #[test]
    fn a_bad_list_is_dropped_as_a_whole() {
        let many: Vec<String> = (0..33).map(|entry| format!("a{entry}=1")).collect();
        let many = many.join(",");
        let (long_key, long_value) = (format!("{}=1", "k".repeat(257)), format!("k={}", "v".repeat(257)));
        let (tenant, system) = (format!("{}@s=1", "t".repeat(242)), format!("t@{}=1", "s".repeat(15)));
        for list in [
            "a",
            "a=",
            "=1",
            "A=1",
            "1a=1",
            "a=1,b",
            "a=1=2",
            "a=\u{e9}",
            "a=1\u{7f}",
            "a=1,a=2",
            "a@=1",
            "@a=1",
            "a@1=1",
            "a@b@c=1",
            "a b=1",
            &many,
            &long_key,
            &long_value,
            &tenant,
            &system,
        ] {
            assert_eq!(TraceState::of(["ok=1", list]), TraceState::EMPTY, "{list}");
        }
        assert!(TraceState::of(["", " , "]).is_empty() && TraceState::of([]).is_empty());
        assert_eq!(read(&many[..many.rfind(',').unwrap()]), many[..many.rfind(',').unwrap()]);
    }

    #[test]
    fn of_what_is_too_long_large_entries_go_first_and_then_the_oldest() {
        let entry = |key: char, length: usize| format!("{key}={}", key.to_string().repeat(length - 2));
        let (small, large, other) = (entry('a', 128), entry('b', 129), entry('c', 128));
        let list = [&*small, &*large, &*other, &*entry('d', 128)].join(",");
        assert_eq!(read(&list), [&*small, &*other, &*entry('d', 128)].join(","));
        let five = ['a', 'b', 'c', 'd', 'e'].map(|key| entry(key, 110));
        assert_eq!(read(&five.join(",")), five[..4].join(","));
        let exact = [entry('a', 127), entry('b', 128), entry('c', 127), entry('d', 127)].join(",");
        assert_eq!((exact.len(), read(&exact)), (512, exact));
    }
}
