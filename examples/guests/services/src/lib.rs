//! Uses the services of its host as it is told to, for tests of what a guest is granted of them.
//!
//! A command begins with the version of the interface that it is for, where there are two: `1` is what wasmtime and
//! wasmCloud have, `2` what Spin has; of `scf:function/context` they are 0.1 and 0.2.
//!
//! | command | answers |
//! |---|---|
//! | `V get B K`, `V set B K T`, `V delete B K`, `V exists B K` | the value, or what became of it |
//! | `V fill B N SIZE` | sets N keys to values of SIZE bytes in one go |
//! | `V many B K L` | the values of several keys |
//! | `V clear B K L` | deletes several keys in one go |
//! | `V keys B` | all keys, page by page, and after a slash the number of pages |
//! | `V add B K N` | a counter |
//! | `swap B K T U` | swaps T for U; when the value is another, tries once more with the handle that it was given |
//! | `V config K`, `V configs` | configuration |
//! | `log LEVEL C M` | logs a message |
//! | `V current`, `V where`, `V leave Z`, `V quality`, `2 budget` | what the fabric says of the call |
//! | `spin ROUNDS` | uses CPU time, and says what is left of it |
//! | `call F T`, `keyed F K T` | what another function gives |
//! | `calls F N` | how many of N calls went well |
//! | `timer NAME MS T`, `remind NAME MS T`, `cancel NAME` | sets or calls off a timer that gives T as commands |
//! | `later F K T`, `until K MS T` | enqueues a call; an entry that expires |
//! | `blob …` | objects in containers: see [`blob`] |

mod blob;

mod bindings {
    wit_bindgen::generate!({
        path: "../../../scf-runtime/wit",
        inline: "
            package scf:examples;

            /// A function that uses the services of its host.
            world services {
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
                import wasi:config/store@0.2.0-rc.1;
                import wasi:config/store@0.2.0-draft-2024-09-27;
                import wasi:logging/logging@0.1.0-draft;
                import wasi:blobstore/types@0.2.0-draft;
                import wasi:blobstore/container@0.2.0-draft;
                import wasi:blobstore/blobstore@0.2.0-draft;
                import scf:function/context@0.1.0;
                import scf:function/context@0.2.0;
                import scf:function/functions@0.1.0;
                import scf:function/actor@0.1.0;
                /// Takes commands, one a line, and returns a line for each: see the source.
                export run: func(input: list<u8>) -> result<list<u8>, string>;
            }
        ",
        world: "scf:examples/services",
        generate_all,
    });
}

use bindings::{
    scf::{
        function0_1_0::{
            actor::{self, Due},
            context as context1, functions,
        },
        function0_2_0::context as context2,
    },
    wasi::{
        config0_2_0_draft_2024_09_27::store as config2, config0_2_0_rc_1::store as config1, keyvalue0_2_0_draft as kv1,
        keyvalue0_2_0_draft2 as kv2, logging::logging,
    },
};

struct Services;

impl bindings::Guest for Services {
    fn run(input: Vec<u8>) -> Result<Vec<u8>, String> {
        let input = str::from_utf8(&input).map_err(|error| error.to_string())?;
        let mut answers = String::new();
        for line in input.lines() {
            answers.push_str(&answer(line).unwrap_or_else(|error| format!("error {error}")));
            answers.push('\n');
        }
        Ok(answers.into_bytes())
    }
}

/// What both drafts of the store can do, by the module of a draft.
macro_rules! store {
    ($name:ident, $kv:ident) => {
        fn $name(words: &[&str]) -> Result<String, $kv::store::Error> {
            let bucket = $kv::store::open(words[1])?;
            let text = |value: Option<Vec<u8>>| match value {
                Some(value) => String::from_utf8_lossy(&value).into_owned(),
                None => "none".into(),
            };
            match *words {
                ["get", _, key] => bucket.get(key).map(text),
                ["set", _, key, value] => bucket.set(key, value.as_bytes()).map(done),
                ["delete", _, key] => bucket.delete(key).map(done),
                ["exists", _, key] => bucket.exists(key).map(|found| found.to_string()),
                ["fill", _, count, size] => {
                    let size: usize = size.parse().unwrap_or(0);
                    let key = |number| (format!("{number:04}"), vec![b'x'; size]);
                    let entries: Vec<_> = (0..count.parse().unwrap_or(0)).map(key).collect();
                    $kv::batch::set_many(&bucket, &entries).map(done)
                }
                ["clear", _, first, second] => {
                    $kv::batch::delete_many(&bucket, &[first.into(), second.into()]).map(done)
                }
                ["keys", _] => {
                    let (mut keys, mut pages, mut cursor) = (Vec::new(), 0, None);
                    loop {
                        let page = bucket.list_keys(page_of(&cursor))?;
                        keys.extend(page.keys);
                        pages += 1;
                        cursor = page.cursor;
                        if cursor.is_none() {
                            keys.sort();
                            return Ok(format!("{}/{pages}", keys.join(" ")));
                        }
                    }
                }
                ["add", _, key, delta] => {
                    $kv::atomics::increment(&bucket, key, delta.parse().unwrap_or(0)).map(|value| value.to_string())
                }
                _ => Ok("unknown command".into()),
            }
        }
    };
}

store!(store1, kv1);
store!(store2, kv2);

/// The drafts differ in how a cursor is passed: by value or by reference.
trait PageOf<'a> {
    type Passed;
    fn page_of(&'a self) -> Self::Passed;
}

impl PageOf<'_> for Option<u64> {
    type Passed = Self;
    fn page_of(&self) -> Self {
        *self
    }
}

impl<'a> PageOf<'a> for Option<String> {
    type Passed = Option<&'a str>;
    fn page_of(&'a self) -> Option<&'a str> {
        self.as_deref()
    }
}

fn page_of<'a, T: PageOf<'a>>(cursor: &'a T) -> T::Passed {
    cursor.page_of()
}

fn done(_: ()) -> String {
    "done".into()
}

fn answer(line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["1", "config", key] => said(config1::get(key).map(|value| value.unwrap_or_else(|| "none".into()))),
        ["2", "config", key] => said(config2::get(key).map(|value| value.unwrap_or_else(|| "none".into()))),
        ["1", "configs"] => said(config1::get_all().map(|all| format!("{all:?}"))),
        ["2", "configs"] => said(config2::get_all().map(|all| format!("{all:?}"))),
        ["1", "many", bucket, first, second] => said(kv1::store::open(bucket).and_then(|bucket| {
            let found = kv1::batch::get_many(&bucket, &[first.into(), second.into()])?;
            Ok(format!("{:?}", found.into_iter().map(|pair| pair.map(|(key, _)| key)).collect::<Vec<_>>()))
        })),
        ["2", "many", bucket, first, second] => said(kv2::store::open(bucket).and_then(|bucket| {
            let found = kv2::batch::get_many(&bucket, &[first.into(), second.into()])?;
            Ok(format!("{:?}", found.into_iter().map(|(key, value)| (key, value.is_some())).collect::<Vec<_>>()))
        })),
        ["1", "current"] => {
            let current = context1::current();
            let key = current.key.as_deref().unwrap_or("none");
            let (id, function, tenant) = (current.id, current.function, current.tenant);
            Ok(format!("{id} {function} {tenant} {key} {}", current.deadline_remaining_ms))
        }
        ["2", "current"] => {
            let current = context2::current();
            let start = if current.cold_start { "cold" } else { "warm" };
            let trace = current.traceparent.as_deref().unwrap_or("none");
            let (id, attempt, left) = (current.idempotency_key, current.attempt, current.deadline_remaining_ms);
            let (function, tenant, key) = (current.function, current.tenant, current.key.as_deref().unwrap_or("none"));
            Ok(format!("{id} {attempt} {start} {trace} {function} {tenant} {key} {left}"))
        }
        ["1", "where"] => {
            let place = context1::where_am_i();
            Ok(format!("{} {:?} {}", place.node, place.tier, place.zone.as_deref().unwrap_or("none")))
        }
        ["2", "where"] => {
            let place = context2::where_am_i();
            let (zone, battery) = (place.zone.as_deref().unwrap_or("none"), place.battery_percent);
            Ok(format!("{} {:?} {zone} {battery:?}", place.node, place.tier))
        }
        ["1", "leave", zone] => Ok(context1::may_leave(zone).to_string()),
        ["2", "leave", zone] => Ok(context2::may_leave(zone).to_string()),
        ["1", "quality"] => Ok(format!("{:.2}", context1::quality_hint())),
        ["2", "quality"] => Ok(format!("{:.2}", context2::quality_hint())),
        ["2", "budget"] => Ok(budget()),
        ["spin", rounds] => {
            (0..number(rounds)?).for_each(|round| {
                std::hint::black_box(round);
            });
            Ok(budget())
        }
        ["1", ref command @ ..] => said(store1(command)),
        ["2", ref command @ ..] => said(store2(command)),
        ["swap", bucket, key, from, to] => swap(bucket, key, from, to),
        ["log", level, context, ref message @ ..] => {
            let level = match level {
                "info" => logging::Level::Info,
                "critical" => logging::Level::Critical,
                _ => logging::Level::Debug,
            };
            logging::log(level, context, &message.join(" "));
            Ok("done".into())
        }
        ["blob", ref command @ ..] => blob::answer(command),
        ["call", function, ref payload @ ..] => call(function, None, &payload.join(" ")),
        ["keyed", function, key, ref payload @ ..] => call(function, Some(key), &payload.join(" ")),
        ["calls", function, count] => {
            let count = count.parse().map_err(|_| "count")?;
            Ok((0..count).filter(|_| functions::invoke(function, None, b"x").is_ok()).count().to_string())
        }
        ["timer", name, ms, ref commands @ ..] => {
            said(actor::set_timer(name, Due::AfterMs(number(ms)?), commands.join(" ").as_bytes()).map(done))
        }
        ["remind", name, ms, ref commands @ ..] => {
            let (first, period) = (Due::AfterMs(number(ms)?), number(ms)?);
            said(actor::set_reminder(name, first, period, commands.join(" ").as_bytes()).map(done))
        }
        ["cancel", name] => said(actor::cancel_timer(name).map(done)),
        ["later", function, key, ref commands @ ..] => {
            said(actor::enqueue(function, Some(key), Due::Now, commands.join(" ").as_bytes()))
        }
        ["until", key, ms, ref value @ ..] => {
            said(actor::put_until(key, value.join(" ").as_bytes(), number(ms)?).map(done))
        }
        _ => Err("unknown command".into()),
    }
}

fn budget() -> String {
    let left = context2::budget_remaining();
    format!("{} {:?}", left.cpu_us, left.energy_uj)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn said<E: std::fmt::Debug>(result: Result<String, E>) -> Result<String, String> {
    result.map_err(|error| format!("{error:?}"))
}

fn call(function: &str, key: Option<&str>, payload: &str) -> Result<String, String> {
    let given = functions::invoke(function, key, payload.as_bytes()).map_err(|error| format!("{error:?}"))?;
    Ok(String::from_utf8_lossy(&given).into_owned())
}

fn swap(bucket: &str, key: &str, from: &str, to: &str) -> Result<String, String> {
    let fail = |error| format!("{error:?}");
    let bucket = kv2::store::open(bucket).map_err(fail)?;
    let cas = kv2::atomics::Cas::new(&bucket, key).map_err(fail)?;
    if cas.current().map_err(fail)?.as_deref() != Some(from.as_bytes()) {
        // As if another had written between: the handle is of the value before.
        bucket.set(key, from.as_bytes()).map_err(fail)?;
    }
    match kv2::atomics::swap(cas, to.as_bytes()) {
        Ok(()) => Ok("swapped".into()),
        Err(kv2::atomics::CasError::StoreError(error)) => Err(fail(error)),
        Err(kv2::atomics::CasError::CasFailed(again)) => {
            let current = again.current().map_err(fail)?.unwrap_or_default();
            let current = String::from_utf8_lossy(&current).into_owned();
            kv2::atomics::swap(again, to.as_bytes()).map_err(|_| "failed twice")?;
            Ok(format!("swapped again, from {current}"))
        }
    }
}

bindings::export!(Services with_types_in bindings);
