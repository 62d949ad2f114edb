//! Values of generated types through their encodings, and what a message says of one that does not fit.

use proptest::{
    collection::vec,
    prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof},
    prop_assert_eq, proptest,
};
use scf_core::{LimitKind, MediaType, Payload, Value, ValueKind};
use wasmtime::component::Val;

use super::{
    EXPANSION, Form, Gives, Refusal, Typed,
    shape::{Names, Shape},
};

fn names(names: &[&str]) -> Names {
    Names::new(names.iter().map(|&name| name.into()).collect())
}

const fn plain(kind: ValueKind) -> Shape {
    Shape::Plain(kind)
}

/// A function of these parameters that gives back what it is given first.
fn function(params: Vec<(&str, Shape)>) -> Typed {
    let (named, shapes): (Vec<_>, Vec<_>) = params.into_iter().unzip();
    let gives = Gives::Plain(shapes.first().cloned());
    Typed { names: names(&named), params: shapes.into(), gives, declared: None }
}

fn read(function: &Typed, form: Form, bytes: &[u8]) -> Result<Vec<Val>, Refusal> {
    function.decode(&media(form), bytes, (1 << 20) * EXPANSION)
}

fn media(form: Form) -> MediaType {
    match form {
        Form::Json => MediaType::JSON,
        Form::Values => MediaType::VALUES,
        Form::Raw => MediaType::OCTETS,
    }
}

fn written(function: &Typed, form: Form, value: &Val) -> Payload {
    function.encode(form, Some(value), 1 << 20).unwrap()
}

/// What is said of an input, as it is shown.
fn problem(function: &Typed, json: &str) -> String {
    match read(function, Form::Json, json.as_bytes()) {
        Err(Refusal::Input { path, problem }) => format!("{path}: {problem}"),
        other => panic!("{json}: {other:?}"),
    }
}

fn shape() -> BoxedStrategy<Shape> {
    let leaf = prop_oneof![
        proptest::sample::select(vec![
            ValueKind::Bool,
            ValueKind::S8,
            ValueKind::U8,
            ValueKind::S16,
            ValueKind::U16,
            ValueKind::S32,
            ValueKind::U32,
            ValueKind::S64,
            ValueKind::U64,
            ValueKind::F32,
            ValueKind::F64,
            ValueKind::Char,
            ValueKind::String,
        ])
        .prop_map(plain),
        Just(Shape::Bytes),
        named().prop_map(Shape::Enum),
        named().prop_map(Shape::Flags),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let maybe = proptest::option::of(inner.clone());
        let boxed = || proptest::option::of(inner.clone().prop_map(Box::new));
        prop_oneof![
            // A list of u8 is Bytes.
            inner.clone().prop_map(|element| match element {
                Shape::Plain(ValueKind::U8) => Shape::Bytes,
                element => Shape::List(Box::new(element)),
            }),
            (named(), vec(inner.clone(), 4)).prop_map(|(names, mut fields)| {
                fields.truncate(names.len());
                Shape::Record(names, fields.into())
            }),
            vec(inner.clone(), 1..4).prop_map(|parts| Shape::Tuple(parts.into())),
            (named(), vec(maybe, 4)).prop_map(|(names, mut cases)| {
                cases.truncate(names.len());
                Shape::Variant(names, cases.into())
            }),
            inner.clone().prop_map(|value| Shape::Option(Box::new(value))),
            (boxed(), boxed()).prop_map(|(ok, err)| Shape::Result(ok, err)),
        ]
    })
    .boxed()
}

/// One to four names, some of which are keys that JSON gives a meaning to.
fn named() -> impl Strategy<Value = Names> {
    let words = vec!["ok", "err", "some", "width", "is-it", "x"];
    proptest::sample::subsequence(words, 1..5).prop_shuffle().prop_map(|words| names(&words))
}

fn value(of: &Shape) -> BoxedStrategy<Val> {
    let boxed = |of: &Shape| value(of).prop_map(|value| Some(Box::new(value))).boxed();
    let maybe = |of: Option<&Shape>| of.map_or_else(|| Just(None).boxed(), boxed);
    match of {
        Shape::Plain(kind) => match kind {
            ValueKind::Bool => any::<bool>().prop_map(Val::Bool).boxed(),
            ValueKind::S8 => any::<i8>().prop_map(Val::S8).boxed(),
            ValueKind::U8 => any::<u8>().prop_map(Val::U8).boxed(),
            ValueKind::S16 => any::<i16>().prop_map(Val::S16).boxed(),
            ValueKind::U16 => any::<u16>().prop_map(Val::U16).boxed(),
            ValueKind::S32 => any::<i32>().prop_map(Val::S32).boxed(),
            ValueKind::U32 => any::<u32>().prop_map(Val::U32).boxed(),
            ValueKind::S64 => any::<i64>().prop_map(Val::S64).boxed(),
            ValueKind::U64 => any::<u64>().prop_map(Val::U64).boxed(),
            ValueKind::F32 => proptest::num::f32::ANY.prop_map(Val::Float32).boxed(),
            ValueKind::F64 => proptest::num::f64::ANY.prop_map(Val::Float64).boxed(),
            ValueKind::Char => any::<char>().prop_map(Val::Char).boxed(),
            _ => any::<String>().prop_map(Val::String).boxed(),
        },
        Shape::Bytes => vec(any::<u8>().prop_map(Val::U8), 0..9).prop_map(Val::List).boxed(),
        Shape::List(element) => vec(value(element), 0..4).prop_map(Val::List).boxed(),
        Shape::Record(names, fields) => {
            let names: Vec<String> = names.iter().map(str::to_owned).collect();
            let fields: Vec<_> = fields.iter().map(value).collect();
            fields.prop_map(move |fields| Val::Record(names.iter().cloned().zip(fields).collect())).boxed()
        }
        Shape::Tuple(parts) => parts.iter().map(value).collect::<Vec<_>>().prop_map(Val::Tuple).boxed(),
        Shape::Variant(names, cases) => {
            let cases = names.iter().zip(cases).map(|(name, of)| {
                let name = name.to_owned();
                maybe(of.as_ref()).prop_map(move |value| Val::Variant(name.clone(), value)).boxed()
            });
            proptest::strategy::Union::new(cases).boxed()
        }
        Shape::Enum(names) => {
            let names: Vec<String> = names.iter().map(str::to_owned).collect();
            proptest::sample::select(names).prop_map(Val::Enum).boxed()
        }
        Shape::Option(of) => prop_oneof![Just(None), boxed(of)].prop_map(Val::Option).boxed(),
        Shape::Result(ok, err) => prop_oneof![
            maybe(ok.as_deref()).prop_map(|value| Val::Result(Ok(value))),
            maybe(err.as_deref()).prop_map(|value| Val::Result(Err(value))),
        ]
        .boxed(),
        Shape::Flags(names) => {
            let names: Vec<String> = names.iter().map(str::to_owned).collect();
            let size = 0..=names.len();
            proptest::sample::subsequence(names, size).prop_map(Val::Flags).boxed()
        }
    }
}

fn shape_and_value() -> impl Strategy<Value = (Shape, Val)> {
    shape().prop_flat_map(|shape| (Just(shape.clone()), value(&shape)))
}

/// The value as callers see it.
fn seen(shape: &Shape, value: &Val) -> Value {
    let boxed = |shape: &Shape, value: &Val| Some(Box::new(seen(shape, value)));
    let maybe = |shape: Option<&Shape>, value: &Option<Box<Val>>| match (shape, value) {
        (Some(shape), Some(value)) => boxed(shape, value),
        _ => None,
    };
    match (shape, value) {
        (_, Val::Bool(it)) => Value::Bool(*it),
        (_, Val::S8(it)) => Value::S8(*it),
        (_, Val::U8(it)) => Value::U8(*it),
        (_, Val::S16(it)) => Value::S16(*it),
        (_, Val::U16(it)) => Value::U16(*it),
        (_, Val::S32(it)) => Value::S32(*it),
        (_, Val::U32(it)) => Value::U32(*it),
        (_, Val::S64(it)) => Value::S64(*it),
        (_, Val::U64(it)) => Value::U64(*it),
        (_, Val::Float32(it)) => Value::F32(*it),
        (_, Val::Float64(it)) => Value::F64(*it),
        (_, Val::Char(it)) => Value::Char(*it),
        (_, Val::String(it)) => Value::String(it.clone()),
        (Shape::Bytes, Val::List(values)) => {
            Value::Bytes(values.iter().map(|value| if let Val::U8(byte) = value { *byte } else { 0 }).collect())
        }
        (Shape::List(of), Val::List(values)) => values.iter().map(|value| seen(of, value)).collect(),
        (Shape::Record(_, of), Val::Record(fields)) => {
            Value::record(of.iter().zip(fields).map(|(of, (name, value))| (name.clone(), seen(of, value))))
        }
        (Shape::Tuple(of), Val::Tuple(parts)) => {
            Value::Tuple(of.iter().zip(parts).map(|(of, part)| seen(of, part)).collect())
        }
        (Shape::Variant(names, of), Val::Variant(case, value)) => {
            Value::Variant(case.clone(), maybe(of[names.position(case).unwrap()].as_ref(), value))
        }
        (_, Val::Enum(case)) => Value::Enum(case.clone()),
        (Shape::Option(of), Val::Option(value)) => Value::Option(maybe(Some(of), value)),
        (Shape::Result(ok, err), Val::Result(result)) => Value::Result(match result {
            Ok(value) => Ok(maybe(ok.as_deref(), value)),
            Err(value) => Err(maybe(err.as_deref(), value)),
        }),
        (_, Val::Flags(flags)) => Value::Flags(flags.clone()),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn a_value_of_any_type_is_read_from_json_as_it_was_written((shape, value) in shape_and_value()) {
        // No key of a generated type is called like this.
        let function = function(vec![("it", shape)]);
        let json = written(&function, Form::Json, &value);
        prop_assert_eq!(&json.media, &MediaType::JSON);
        prop_assert_eq!(read(&function, Form::Json, &json.bytes).unwrap(), vec![value.clone()]);
        let by_name = [b"{\"it\":", &*json.bytes, b"}"].concat();
        prop_assert_eq!(read(&function, Form::Json, &by_name).unwrap(), vec![value]);
    }

    #[test]
    fn a_value_of_any_type_travels_as_the_value_that_callers_see((shape, value) in shape_and_value()) {
        let function = function(vec![("x", shape.clone())]);
        let bytes = written(&function, Form::Values, &value).bytes;
        prop_assert_eq!(read(&function, Form::Values, &bytes).unwrap(), vec![value.clone()]);
        let seen = vec![seen(&shape, &value)];
        prop_assert_eq!(&postcard::to_stdvec(&seen).unwrap(), &bytes);
        // NaN is not equal to itself, its text is.
        prop_assert_eq!(format!("{:?}", postcard::from_bytes::<Vec<Value>>(&bytes).unwrap()), format!("{seen:?}"));
    }

    #[test]
    fn bytes_of_any_kind_are_refused_and_never_taken_for_more_than_they_may_be(
        shape in shape(), bytes in vec(any::<u8>(), 0..64),
    ) {
        let function = function(vec![("x", shape)]);
        for form in [Form::Json, Form::Values] {
            // What it finds to be a value is one: it can be written.
            if let Ok(values) = read(&function, form, &bytes) {
                written(&function, form, &values[0]);
            }
        }
    }
}

/// `frames: list<record { width: u32, label: option<string>, kind: enum { colour, grey } }>`
fn frames() -> Typed {
    let fields = vec![
        plain(ValueKind::U32),
        Shape::Option(Box::new(plain(ValueKind::String))),
        Shape::Enum(names(&["colour", "grey"])),
    ];
    let frame = Shape::Record(names(&["width", "label", "kind"]), fields.into());
    function(vec![("frames", Shape::List(Box::new(frame)))])
}

#[test]
fn an_error_names_the_field_by_its_path() {
    let good = r#"{"width": 1, "label": null, "kind": "grey"}"#;
    for (bad, said) in [
        (r#"{"width": "abc", "label": null, "kind": "grey"}"#, "frames[2].width: expected u32, found \"abc\""),
        (r#"{"width": -1, "label": null, "kind": "grey"}"#, "frames[2].width: expected u32, found -1"),
        (r#"{"width": 4294967296, "label": null, "kind": "grey"}"#, "frames[2].width: expected u32, found 4294967296"),
        (r#"{"width": 1.0, "label": null, "kind": "grey"}"#, "frames[2].width: expected u32, found 1.0"),
        (r#"{"width": null, "label": null, "kind": "grey"}"#, "frames[2].width: expected u32, found null"),
        (r#"{"width": 1, "label": [], "kind": "grey"}"#, "frames[2].label: expected string, found an array"),
        (r#"{"width": 1, "label": null, "kind": "red"}"#, "frames[2].kind: no case \"red\"; there is colour, grey"),
        (r#"{"width": 1, "label": null}"#, "frames[2].kind: missing"),
        (r#"{"width": 1, "width": 1, "label": null}"#, "frames[2].width: given twice"),
        (r#"{"width": 1, "height": 1}"#, "frames[2]: no field \"height\"; there is width, label, kind"),
        ("7", "frames[2]: expected a record, found 7"),
    ] {
        assert_eq!(problem(&frames(), &format!("[{good}, {good}, {bad}]")), said);
        // By name it is the same place.
        assert_eq!(problem(&frames(), &format!("{{\"frames\": [{good}, {good}, {bad}]}}")), said);
    }
    let text = problem(&frames(), "[{\"width\": 1,");
    assert_eq!(text, "frames[0]: not JSON: EOF while parsing a value at line 1 column 13");
    assert_eq!(problem(&frames(), "[] []"), "input: not JSON: trailing characters at line 1 column 4");
}

#[test]
fn several_parameters_are_an_object_by_name() {
    let add = function(vec![("left", plain(ValueKind::S64)), ("right", plain(ValueKind::F64))]);
    let values = read(&add, Form::Json, br#"{"right": 2, "left": -9223372036854775808}"#).unwrap();
    assert_eq!(values, [Val::S64(i64::MIN), Val::Float64(2.0)]);
    assert_eq!(problem(&add, r#"{"left": 1}"#), "right: missing");
    assert_eq!(problem(&add, r#"{"left": 1, "middle": 2}"#), "input: no parameter \"middle\"; there is left, right");
    assert_eq!(read(&function(vec![]), Form::Json, b" ").unwrap(), []);
    assert_eq!(read(&function(vec![]), Form::Json, b"{}").unwrap(), []);
}

#[test]
fn a_record_with_a_field_named_as_the_parameter_is_not_taken_for_the_parameters() {
    let inner = Shape::Record(names(&["size"]), vec![plain(ValueKind::U8)].into());
    let value = Val::Record(vec![("size".into(), Val::U8(3))]);
    let same = function(vec![("size", inner.clone())]);
    assert_eq!(read(&same, Form::Json, br#"{"size": 3}"#).unwrap(), vec![value.clone()]);
    let other = function(vec![("it", inner)]);
    assert_eq!(read(&other, Form::Json, br#"{"it": {"size": 3}}"#).unwrap(), vec![value.clone()]);
    assert_eq!(read(&other, Form::Json, br#"{"size": 3}"#).unwrap(), [value]);
}

#[test]
fn integers_are_exact_and_what_is_no_number_has_a_name() {
    let exact = function(vec![("x", plain(ValueKind::U64))]);
    assert_eq!(read(&exact, Form::Json, b"18446744073709551615").unwrap(), [Val::U64(u64::MAX)]);
    let float = function(vec![("x", plain(ValueKind::F32))]);
    assert_eq!(read(&float, Form::Json, b"\"-Infinity\"").unwrap(), [Val::Float32(f32::NEG_INFINITY)]);
    assert_eq!(*written(&float, Form::Json, &Val::Float32(f32::NAN)).bytes, *b"\"NaN\"");
    assert_eq!(problem(&float, "1e39"), "x: expected f32, found 1e39");
}

#[test]
fn bytes_are_base64_or_an_array() {
    let blob = function(vec![("blob", Shape::Bytes)]);
    let bytes = vec![Val::List(vec![Val::U8(0), Val::U8(255)])];
    assert_eq!(read(&blob, Form::Json, b"\"AP8=\"").unwrap(), bytes);
    assert_eq!(read(&blob, Form::Json, b"[0, 255]").unwrap(), bytes);
    assert_eq!(read(&blob, Form::Raw, &[0, 255]).unwrap(), bytes);
    assert_eq!(problem(&blob, "[256]"), "blob[0]: expected u8, found 256");
    assert_eq!(problem(&blob, "\"A\""), "blob: expected base64: Invalid input length: 1");
}

#[test]
fn values_over_what_the_host_may_use_are_refused_before_they_are_made() {
    let list = function(vec![("list", Shape::List(Box::new(plain(ValueKind::U8))))]);
    let over = |form, bytes: &[u8]| {
        matches!(list.decode(&media(form), bytes, 4096), Err(Refusal::Over(LimitKind::HostMemory)))
    };
    let json = format!("[{}0]", "0,".repeat(1000));
    assert!(over(Form::Json, json.as_bytes()));
    assert!(over(Form::Values, &postcard::to_stdvec(&vec![Value::List(vec![Value::U8(0); 1000])]).unwrap()));
    let short = format!("[{}0]", "0,".repeat(20));
    assert_eq!(list.decode(&MediaType::JSON, short.as_bytes(), 4096).unwrap().len(), 1);
}

#[test]
fn output_over_the_limit_is_cut_off_while_it_is_written() {
    let text = function(vec![("text", plain(ValueKind::String))]);
    let value = Val::String("a".repeat(100));
    for form in [Form::Json, Form::Values, Form::Raw] {
        let over = text.encode(form, Some(&value), 50);
        assert!(matches!(over, Err(Refusal::Over(LimitKind::Output))), "{form:?}: {over:?}");
    }
}

#[test]
fn values_of_another_kind_are_named() {
    let say = |value: Value| match read(&frames(), Form::Values, &postcard::to_stdvec(&vec![value]).unwrap()) {
        Err(Refusal::Input { path, problem }) => format!("{path}: {problem}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(say(Value::from("x")), "frames: expected list<record>, found string");
    let frame = |width: Value| Value::List(vec![Value::record([("width", width), ("label", Value::none())])]);
    assert_eq!(say(frame(Value::from(1u8))), "frames[0].width: expected u32, found u8");
    assert_eq!(say(frame(Value::from(1u32))), "frames[0].kind: missing");
    let none = read(&frames(), Form::Values, &postcard::to_stdvec(&Vec::<Value>::new()).unwrap());
    assert!(matches!(none, Err(Refusal::Input { problem, .. }) if problem == "expected 1 values, found 0"));
}
