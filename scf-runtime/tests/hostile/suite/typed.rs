//! What is not of the type that a function takes.

use scf_core::{Function, LimitKind, MediaType, Payload};

use super::{Attack, Case, Expect, guest::hostile};

const THREAT: &str = "input that is not of its type";
const FRAMES: &[u8] = include_bytes!("../../../../examples/guests/components/frames.wasm");

/// Takes a list of records with a string, two integers, an enum and an optional string.
fn typed() -> Function {
    Function::component(hostile(), FRAMES.to_vec(), "scf:frames/select#largest")
}

/// A list of one record, one field of which is `field`.
fn frame(name: &str, field: &str) -> String {
    let fields = [("camera", "\"a\""), ("width", "2"), ("height", "3"), ("kind", "\"grey\""), ("label", "null")];
    let given = fields.map(|(of, value)| format!("\"{of}\": {}", if of == name { field } else { value }));
    format!("[{{{}}}]", given.join(", "))
}

fn json(name: &'static str, text: impl Into<Vec<u8>>, expect: Expect) -> Case {
    let payload = Payload::new(text.into()).with_media(MediaType::JSON);
    Case::new(THREAT, name, Attack::Payload(typed(), payload, expect))
}

fn values(name: &'static str, bytes: Vec<u8>, expect: Expect) -> Case {
    Case::new(THREAT, name, Attack::Payload(typed(), Payload::new(bytes).with_media(MediaType::VALUES), expect))
}

/// `times` lists inside each other, as JSON.
fn nested(times: usize) -> String {
    format!("{}{}", "[".repeat(times), "]".repeat(times))
}

pub(super) fn cases() -> Vec<Case> {
    let width = |value: &str| frame("width", value);
    let within = Expect::Input("frames");
    vec![
        json("a text where a number is taken", width("\"2\""), Expect::Input("frames[0].width")),
        json("a number that is too large", width("4294967296"), Expect::Input("frames[0].width")),
        json("a number beyond all floats", width("1e999999"), within),
        json("a negative number where none is", width("-1"), Expect::Input("frames[0].width")),
        json("a fraction where an integer is taken", width("1.5"), Expect::Input("frames[0].width")),
        json("a number of a million digits", width(&"9".repeat(1_000_000)), within),
        json("a number where a text is taken", frame("camera", "7"), Expect::Input("frames[0].camera")),
        json("half of a surrogate pair", frame("camera", "\"\\ud800\""), within),
        json("bytes that are no text", [b"[{\"camera\": \"".as_slice(), &[0xff, 0xfe], b"\"}]"].concat(), within),
        json("a case that the enum does not have", frame("kind", "\"\\u001b[2J\""), Expect::Input("frames[0].kind")),
        json("a list where an optional text is taken", frame("label", "[null]"), Expect::Input("frames[0].label")),
        json("lists a hundred thousand deep", nested(100_000), within),
        json(
            "lists a hundred thousand deep in a field",
            frame("label", &nested(100_000)),
            Expect::Input("frames[0].label"),
        ),
        json("lists without an end", "[".repeat(1_000_000), within),
        json("an object where a list is taken", "{\"frames\": {\"0\": 1}}", within),
        json("a record without its fields", "[{}]", Expect::Input("frames[0]")),
        json("a field with control characters in its name", "[{\"\\u001b[2J\\r\\n\": 1}]", Expect::Input("frames[0]")),
        json("the same field twice", "[{\"width\": 1, \"width\": 2}]", Expect::Input("frames[0]")),
        json("a text that breaks off", "[{\"camera\": \"a", Expect::Input("")),
        json("more than a payload may be", vec![b' '; 65 << 20], Expect::Limit(LimitKind::Input)),
        values(
            "a list that says it has 2^63 values",
            vec![1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            Expect::Input(""),
        ),
        values("bytes that are no values", vec![0xff; 4096], Expect::Input("")),
        Case::new(
            THREAT,
            "bytes of a type that it does not take",
            Attack::Payload(typed(), Payload::new(vec![0; 64]), Expect::Media),
        ),
    ]
}
