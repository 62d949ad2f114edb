//! What guests are granted of the host's services: key-value store, configuration, secrets, log, other functions.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use scf_core::{
    BucketGrant, ByteSize, Function, Grants, InvocationId, InvokeError, IsolateFactory, Limits, MediaType, Name,
    Payload, PrepareError, Reply, Secret, TenantName, Timestamp, Zone,
};
use scf_runtime::{MemoryKeyValue, MemorySecrets, WasmFactory};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{
    support::{Alone, call, name},
    wasm::guest,
    world::{Ticking, builder},
};

fn services(grants: Grants) -> Function {
    guest("services", "run").grants(grants)
}

fn tenant(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

fn word(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn buckets(write: bool) -> Grants {
    let grant = |bucket| BucketGrant { bucket: word(bucket), write };
    Grants { buckets: vec![grant("things"), grant("default")], ..Grants::default() }
}

fn with_store() -> WasmFactory {
    builder().keyvalue(Arc::new(MemoryKeyValue::new())).build().unwrap()
}

fn plain() -> WasmFactory {
    builder().build().unwrap()
}

async fn run(factory: &WasmFactory, function: &Function, caller: &str, commands: &str) -> Result<Reply, InvokeError> {
    let prepared = factory.prepare(function).await.unwrap();
    let mut call = call(function, Alone::new());
    call.tenant = tenant(caller);
    prepared.instantiate().await?.invoke(&call, commands.to_owned().into()).await
}

fn lines(reply: &Reply) -> Vec<String> {
    str::from_utf8(&reply.payload.bytes).unwrap().lines().map(Into::into).collect()
}

async fn answers(factory: &WasmFactory, function: &Function, commands: &str) -> Vec<String> {
    lines(&run(factory, function, "t", commands).await.unwrap())
}

#[tokio::test]
async fn both_drafts_of_the_key_value_store_see_the_same_buckets() {
    let (factory, function) = (with_store(), services(buckets(true)));
    for (this, other) in [("1", "2"), ("2", "1")] {
        let commands = format!(
            "{this} get things k\n{this} set things k one\n{other} get things k\n{other} exists things k\n\
             {this} delete things k\n{other} exists things k\n{this} set default d x\n{other} get  d\n{this} clear things a b"
        );
        let answers = answers(&factory, &function, &commands).await;
        assert_eq!(answers, ["none", "done", "one", "true", "done", "false", "done", "x", "done"]);
    }
}

#[tokio::test]
async fn counters_count_in_both_drafts() {
    let (factory, function) = (with_store(), services(buckets(true)));
    let commands = "1 add things n 5\n2 add things n -7\n2 add things n 2\n1 add things n 1\n1 add things n 18446744073709551615\n\
                    2 add things n 9223372036854775807\n1 set things n five\n1 add things n 1";
    let answers = answers(&factory, &function, commands).await;
    assert_eq!(answers[..4], ["5", "-2", "0", "1"]);
    assert!(answers[4].contains("overflow") && answers[5].contains("overflow"), "{answers:?}");
    assert!(answers[7].contains("no counter"), "{answers:?}");
}

#[tokio::test]
async fn a_swap_of_an_old_value_fails_and_gives_the_handle_for_another_try() {
    let (factory, function) = (with_store(), services(buckets(true)));
    let answers =
        answers(&factory, &function, "1 set things k a\nswap things k a b\nswap things k x c\n2 get things k").await;
    assert_eq!(answers, ["done", "swapped", "swapped again, from x", "c"]);
}

#[tokio::test]
async fn many_entries_are_written_read_and_listed_page_by_page() {
    let (factory, function) = (with_store(), services(buckets(true)));
    let commands = "2 fill things 600 8\n1 keys things\n2 keys things\n1 many things 0001 no\n2 many things 0001 no\n\
                    2 clear things 0000 0001\n1 get things 0001";
    let answers = answers(&factory, &function, commands).await;
    let all: Vec<String> = (0..600).map(|number| format!("{number:04}")).collect();
    let all = format!("{}/3", all.join(" "));
    assert_eq!(answers[0], "done");
    assert!(answers[1] == all && answers[2] == all, "{answers:?}");
    let [first, second] = [r#"[Some("0001"), None]"#, r#"[("0001", true), ("no", false)]"#];
    assert_eq!(answers[3..], [first, second, "done", "none"]);
}

#[tokio::test]
async fn a_bucket_without_a_grant_is_denied_and_one_for_reading_cannot_be_written() {
    let (factory, reads) = (with_store(), services(buckets(false)));
    answers(&factory, &services(buckets(true)), "1 set things k v").await;
    for draft in ["1", "2"] {
        let commands = format!(
            "{draft} get others k\n{draft} get ../things k\n{draft} get things k\n{draft} set things k w\n\
             {draft} delete things k\n{draft} add things n 1\n{draft} fill things 1 1\n{draft} clear things k k\nswap things k v w"
        );
        let answers = answers(&factory, &reads, &commands).await;
        assert_eq!(answers[0], "error Error::AccessDenied");
        assert_eq!(answers[1], "error Error::NoSuchStore");
        assert_eq!(answers[2], "v");
        assert!(answers[3..].iter().all(|answer| answer.contains("AccessDenied")), "{answers:?}");
    }
    assert_eq!(answers(&factory, &services(Grants::default()), "1 get things k").await, ["error Error::AccessDenied"]);
}

#[tokio::test]
async fn a_bucket_is_that_of_the_tenant_for_whom_the_call_is_made() {
    let (factory, function) = (with_store(), services(buckets(true)));
    let get = async |caller, commands| lines(&run(&factory, &function, caller, commands).await.unwrap());
    assert_eq!(get("ann", "1 set things k ann").await, ["done"]);
    assert_eq!(get("bob", "1 get things k\n2 keys things").await, ["none", "/1"]);
    assert_eq!(get("ann", "2 get things k").await, ["ann"]);
}

#[tokio::test]
async fn what_is_over_a_bound_of_the_store_is_refused() {
    let (factory, function) = (with_store(), services(buckets(true)));
    let long = "k".repeat(2000);
    let commands =
        format!("1 get things {long}\n1 fill things 1 1048577\n2 fill things 1001 1\n2 fill things 17 1000000");
    let refused = answers(&factory, &function, &commands).await;
    for (answer, words) in
        refused.iter().zip(["a key of 2000 bytes", "a value of 1048577", "1001 changes", "the bucket would have"])
    {
        assert!(answer.contains(words), "{answer}");
    }
    let limits = Limits { payload: ByteSize::from_kib(64), ..Limits::default() };
    let narrow = function.limits(limits);
    let answers =
        answers(&factory, &narrow, "1 fill things 2 40000\n1 many things 0000 0001\n1 many things 0000 none").await;
    assert_eq!(answers[0], "done");
    assert!(answers[1].contains("values of over 65536 bytes at once"), "{answers:?}");
    assert_eq!(answers[2], r#"[Some("0000"), None]"#);
}

#[tokio::test]
async fn what_is_granted_and_cannot_be_had_is_refused_when_deployed() {
    let refused = async |factory: WasmFactory, grants| match factory.prepare(&services(grants)).await.unwrap_err() {
        PrepareError::Grant { grant, problem, .. } => (grant, problem),
        other => panic!("{other}"),
    };
    let (grant, problem) = refused(plain(), buckets(false)).await;
    assert_eq!((grant.as_str(), problem.contains("WasmBuilder::keyvalue")), ("buckets things", true));
    let secrets = || Grants { secrets: vec![word("token")], ..Grants::default() };
    let (grant, problem) = refused(plain(), secrets()).await;
    assert_eq!((grant.as_str(), problem.contains("WasmBuilder::secrets")), ("secrets token", true));
    let empty = builder().secrets(Arc::new(MemorySecrets::new())).build().unwrap();
    assert_eq!(refused(empty, secrets()).await.1, "tenant default has no such secret");
    let config = Grants { config: vec![("secret:token".into(), "x".into())], ..Grants::default() };
    assert_eq!(refused(plain(), config).await.0, "config \"secret:token\"");
}

#[tokio::test]
async fn configuration_is_what_is_granted_in_both_versions() {
    let config = vec![("colour".into(), "red".into()), ("size".into(), "3".into())];
    let function = services(Grants { config, ..Grants::default() });
    for version in ["1", "2"] {
        let commands = format!("{version} config colour\n{version} config absent\n{version} configs");
        let all = r#"[("colour", "red"), ("size", "3")]"#;
        assert_eq!(answers(&plain(), &function, &commands).await, ["red", "none", all]);
        assert_eq!(answers(&plain(), &services(Grants::default()), &commands).await, ["none", "none", "[]"]);
    }
}

#[tokio::test]
async fn a_secret_is_read_by_those_who_are_granted_it_and_listed_for_nobody() {
    let secrets = MemorySecrets::new()
        .with(tenant("default"), word("token"), Secret::new("hunter2"))
        .with(tenant("default"), word("other"), Secret::new("hunter3"))
        .with(tenant("rival"), word("theirs"), Secret::new("hunter4"));
    assert!(!format!("{secrets:?}").contains("hunter"), "{secrets:?}");
    let factory = builder().secrets(Arc::new(secrets)).build().unwrap();
    let function = services(Grants { secrets: vec![word("token")], ..Grants::default() });
    for version in ["1", "2"] {
        let commands = format!(
            "{version} config secret:token\n{version} config secret:other\n{version} config secret:theirs\n{version} configs"
        );
        let denied = r#"error Error::Upstream("the secret is not granted")"#;
        assert_eq!(answers(&factory, &function, &commands).await, ["hunter2", denied, denied, "[]"]);
    }
}

/// Keeps level, context and message of every event that has them.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<(Level, String, String)>>>);

#[derive(Default)]
struct Fields {
    context: Option<String>,
    message: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "context" => self.context = Some(value.into()),
            "message" => self.message = value.into(),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Subscriber for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(context) = fields.context {
            self.0.lock().unwrap().push((*event.metadata().level(), context, fields.message));
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn what_a_guest_logs_is_logged_escaped_and_up_to_a_bound() {
    let (kept, factory, function) = (Kept::default(), plain(), services(Grants::default()));
    let guard = tracing::subscriber::set_default(kept.clone());
    answers(&factory, &function, "log info door \u{1b}[2Jopen\nlog critical door shut").await;
    let flood = format!("log debug x {}\n", "m".repeat(900)).repeat(200);
    answers(&factory, &function, &flood).await;
    drop(guard);
    let kept = kept.0.lock().unwrap();
    assert_eq!(kept[0], (Level::INFO, "door".into(), "\\u{1b}[2Jopen".into()));
    assert_eq!(kept[1], (Level::ERROR, "door".into(), "shut".into()));
    let bytes: usize = kept[2..].iter().map(|(_, context, message)| context.len() + message.len() + 32).sum();
    assert!(bytes <= 64 << 10 && bytes > 63 << 10, "{bytes}");
}

#[tokio::test]
async fn the_first_version_of_the_context_is_that_of_the_call() {
    let mut function = services(Grants::default());
    function.needs.zone = Some(Zone::new("site-7").unwrap());
    let prepared = plain().prepare(&function).await.unwrap();
    let host = Ticking::new();
    let mut call = call(&function, host);
    call.id = InvocationId::new(0xabc);
    call.tenant = tenant("ann");
    call.key = Some("cam".into());
    // A third of the 30 s that the function may take.
    call.deadline = Timestamp::from_nanos(10_000_000_000);
    let commands = "1 current\n1 where\n1 leave site-7\n1 leave cloud\n1 quality\n1 quality\n1 current";
    let reply = prepared.instantiate().await.unwrap().invoke(&call, commands.into()).await.unwrap();
    let answers = lines(&reply);
    let (head, left) = answers[0].rsplit_once(' ').unwrap();
    assert_eq!(head, format!("{:032x} services ann cam", 0xabc));
    assert!((9_000..=10_000).contains(&left.parse::<u64>().unwrap()), "{left}");
    assert_eq!(answers[1..4], ["here Tier::Edge none", "true", "false"]);
    assert_eq!(answers[4], "0.33");
    assert_eq!((&answers[4], &answers[0]), (&answers[5], &answers[6]), "no clock is granted, and this is none");
}

#[tokio::test]
async fn a_guest_calls_the_functions_that_it_is_granted_and_is_billed_for_them() {
    let function = services(Grants { functions: vec![name("label"), name("absent")], ..Grants::default() });
    let reply =
        run(&plain(), &function, "t", "call label a b\nkeyed label k c\ncall absent x\ncall other x\ncall ../x y")
            .await
            .unwrap();
    let child = |step| InvocationId::new(1).child(step);
    assert_eq!(
        lines(&reply),
        [
            format!("{} a b", child(0)),
            format!("{} c", child(1)),
            "error InvokeError::NotFound".into(),
            "error InvokeError::Denied".into(),
            "error InvokeError::Denied".into(),
        ]
    );
    let billed: Vec<_> = reply.calls.iter().map(|receipt| receipt.function.as_str()).collect();
    assert_eq!(billed, ["label", "label"]);
}

#[tokio::test]
async fn a_guest_makes_so_many_calls_of_so_much_and_no_more() {
    let limits = Limits { payload: ByteSize::from_kib(1), ..Limits::default() };
    let function = services(Grants { functions: vec![name("label")], ..Grants::default() });
    assert_eq!(answers(&plain(), &function, "calls label 300").await, ["256"]);
    let narrow = function.limits(limits);
    let long = format!("call label {}\ncall label {}", "x".repeat(1025), "x".repeat(1000));
    assert_eq!(answers(&plain(), &narrow, &long).await, ["error InvokeError::Limit"; 2], "nor is it given more");
}

#[tokio::test]
async fn a_component_that_imports_services_is_deployed_where_there_are_none() {
    let reply = run(&plain(), &services(Grants::default()), "t", "1 get things k\n2 get things k").await.unwrap();
    assert_eq!(reply.payload.media, MediaType::OCTETS);
    assert_eq!(lines(&reply), ["error Error::AccessDenied"; 2]);
    assert_eq!(reply.payload, Payload::new("error Error::AccessDenied\n".repeat(2)));
}

#[cfg(not(feature = "wasi-http"))]
#[tokio::test]
async fn without_the_feature_requests_are_refused_when_deployed_naming_it() {
    let refused = async |function| plain().prepare(&function).await.unwrap_err().to_string();
    assert!(refused(guest("fetch", "fetch")).await.contains("needs the feature `wasi-http`"));
    let http = vec![scf_core::HttpGrant { scheme: "http".into(), host: "a".into(), port: None, private: false }];
    assert!(refused(services(Grants { http, ..Grants::default() })).await.contains("needs the feature `wasi-http`"));
}
