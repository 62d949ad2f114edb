//! Objects that components have through `wasi:blobstore`.

use std::sync::Arc;

use scf_core::{
    ByteSize, Bytes, Grants, Invocation, Limits, ObjectGrant, ObjectId, ObjectStore, Reuse, TenantName, Timestamp,
    read_object,
};
use scf_runtime::Fabric;
use scf_sched::Pipeline;
use scf_state::{FolderObjects, MemoryObjects, ObjectConfig};

use crate::{support::name, wasm::guest, world::builder};

async fn fabric(store: &Arc<dyn ObjectStore>, objects: ObjectGrant) -> Fabric {
    let fabric = Fabric::builder()
        .scheduler(Arc::new(Pipeline::default()))
        .isolates(Arc::new(builder().build().unwrap()))
        .objects(Arc::clone(store))
        .build()
        .unwrap();
    let limits = Limits { payload: ByteSize::from_mib(1), ..Limits::default() };
    let function = guest("services", "run").grants(Grants { objects, ..Grants::default() }).limits(limits);
    fabric.deploy(function).await.unwrap();
    fabric
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(MemoryObjects::new(ObjectConfig::new()))
}

/// What the guest answers to each of the commands, on behalf of `tenant`.
async fn ask(fabric: &Fabric, tenant: &str, commands: &[&str]) -> Vec<String> {
    let text: Vec<String> = commands.iter().map(|command| format!("blob {command}")).collect();
    let invocation = Invocation::new(fabric.new_id(), name("services"), text.join("\n"));
    let outcome = fabric.invoke(invocation.tenant(TenantName::new(tenant).unwrap())).await.unwrap();
    str::from_utf8(&outcome.payload.bytes).unwrap().lines().map(Into::into).collect()
}

#[tokio::test]
async fn what_a_component_writes_it_reads_back_whole_in_part_and_as_a_stream() {
    let at = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(FolderObjects::open(at.path(), ObjectConfig::new()).unwrap());
    let fabric = fabric(&store, ObjectGrant::Write).await;
    let commands = [
        "create photos",
        "put photos cat.txt a cat on a mat",
        "get photos cat.txt 2 4",
        "get photos cat.txt 9 999",
        "fill photos raw/large 3000001",
        "read photos raw/large",
        "size photos raw/large",
        "put photos empty",
        "read photos empty",
        "list photos 100",
    ];
    let answers = ask(&fabric, "ann", &commands).await;
    let expected = [
        "photos",
        "done",
        "3 cat",
        "5 a mat",
        "done",
        "3000001 3000001",
        "photos/raw/large 3000001",
        "done",
        "0 0",
        "cat.txt empty raw/large/1",
    ];
    assert_eq!(answers, expected);
    // The host's own code finds it by the tenant's references, and it is what was written.
    let object = store.resolve("tenant/ann/photos/cat.txt").await.unwrap().unwrap();
    assert_eq!(object, ObjectId::of(b"a cat on a mat"));
    let limit = ByteSize::from_mib(4);
    let large = store.resolve("tenant/ann/photos/raw/large").await.unwrap().unwrap();
    assert_eq!(read_object(&*store, large, limit).await.unwrap(), Bytes::from(vec![b'x'; 3_000_001]));
}

#[tokio::test]
async fn containers_are_made_listed_page_by_page_emptied_and_removed() {
    let (store, commands) = (memory(), ["exists a", "create a", "exists a", "create a", "list a 10", "exists b"]);
    let fabric = fabric(&store, ObjectGrant::Write).await;
    assert_eq!(ask(&fabric, "ann", &commands).await, ["false", "a", "true", "a", "/1", "false"]);
    let puts: Vec<String> = (0..300).map(|number| format!("put a {number:03} {number}")).collect();
    let puts: Vec<&str> = puts.iter().map(String::as_str).collect();
    assert!(ask(&fabric, "ann", &puts).await.iter().all(|answer| answer == "done"));
    let all: Vec<String> = (0..300).map(|number| format!("{number:03}")).collect();
    let all = all.join(" ");
    let answers =
        ask(&fabric, "ann", &["list a 100", "list a 100000", "skip a 299", "skip a 1000", "list a 300"]).await;
    assert_eq!(answers, [&format!("{all}/3"), &format!("{all}/2"), "299 299", "300 ", &format!("{all}/2")]);
    let commands = [
        "create b",
        "copy a 007 b bond",
        "move a 008 b 009",
        "has a 007",
        "has a 008",
        "get b bond 0 9",
        "get b 009 0 9",
        "copy a 007 none x",
        "delete a 007",
        "delete a 007",
        "has a 007",
        "move b 009 b 009",
        "list b 9",
        "clear a",
        "list a 9",
        "exists a",
        "remove a",
        "exists a",
        "list a 9",
        "remove a",
    ];
    let none = "error there is no container \"none\"";
    let expected = [
        "b",
        "done",
        "done",
        "true",
        "false",
        "1 7",
        "1 8",
        none,
        "done",
        "done",
        "false",
        "done",
        "009 bond/1",
        "done",
        "/1",
        "true",
        "done",
        "false",
        "error there is no container \"a\"",
        "done",
    ];
    assert_eq!(ask(&fabric, "ann", &commands).await, expected);
    // What nothing names any more goes.
    for now in 0..2 {
        store.collect(Timestamp::from_nanos(now), std::time::Duration::ZERO).await.unwrap();
    }
    assert_eq!(store.usage().objects, 3, "two copies and the container that is left");
}

#[tokio::test]
async fn what_is_not_finished_or_goes_nowhere_or_cannot_be_is_no_object() {
    let store = memory();
    let fabric = fabric(&store, ObjectGrant::Write).await;
    let long = format!("put a {} x", "n".repeat(255));
    let commands = [
        "create a",
        "half a o text",
        "has a o",
        "lost text",
        "get a o 0 9",
        "put a  x",
        "create a/b",
        "create ",
        &long,
        "put b o x",
        "put a o text",
        "get a o 2 1",
        "get a o 5 5",
        "fill a big 1048577",
        "get a big 0 1048576",
    ];
    let answers = ask(&fabric, "ann", &commands).await;
    let missing = "error there is no object \"o\" in the container \"a\"";
    assert_eq!(answers[..3], ["a", "done", "false"]);
    assert!(answers[3].contains("write-data before it is finished"), "{answers:?}");
    assert_eq!((answers[4].as_str(), answers[5].as_str()), (missing, "error an object has a name"));
    assert!(answers[6].contains("\"a/b\" is no name") && answers[7].contains("\"\" is no name"), "{answers:?}");
    assert!(answers[8].contains("is no name of a reference"), "{answers:?}");
    assert_eq!(answers[9..11], ["error there is no container \"b\"", "done"]);
    assert!(answers[11].contains("from byte 2 to byte 1") && answers[12].contains("byte 5 was asked"), "{answers:?}");
    assert!(answers[13] == "done" && answers[14].contains("read it as a stream"), "{answers:?}");
}

#[tokio::test]
async fn tenants_have_containers_apart_and_nobody_has_what_is_not_granted() {
    let store = memory();
    let writes = fabric(&store, ObjectGrant::Write).await;
    ask(&writes, "ann", &["create a", "put a o ann's"]).await;
    assert_eq!(ask(&writes, "bob", &["exists a", "create a", "put a o bob's", "get a o 0 9"]).await[3], "5 bob's");
    let reads = fabric(&store, ObjectGrant::Read).await;
    let denied = "error it is not granted to write objects";
    let commands = ["get a o 0 9", "list a 9", "put a o x", "delete a o", "create b", "clear a", "get a o 0 9"];
    let answers = ask(&reads, "ann", &commands).await;
    assert_eq!(answers, ["5 ann's", "o/1", denied, denied, denied, denied, "5 ann's"]);
    let none = fabric(&store, ObjectGrant::None).await;
    let answers = ask(&none, "ann", &["exists a", "create a", "get a o 0 9"]).await;
    assert_eq!(answers[0], "error it is not granted to read objects");
    assert!(answers[1..].iter().all(|answer| answer.contains("not granted")), "{answers:?}");
}

#[tokio::test]
async fn an_instance_that_is_kept_serves_each_tenant_its_own() {
    let store = memory();
    let fabric = fabric(&store, ObjectGrant::Write).await;
    let forever = Reuse::Warm { max_idle: 1, max_calls: u32::MAX, max_age: std::time::Duration::MAX };
    let grants = Grants { objects: ObjectGrant::Write, ..Grants::default() };
    fabric.deploy(guest("services", "run").grants(grants).reuse(forever)).await.unwrap();
    for tenant in ["ann", "bob", "ann"] {
        let put = format!("put a o {tenant}");
        ask(&fabric, tenant, &["create a", &put]).await;
    }
    for tenant in ["ann", "bob"] {
        assert_eq!(ask(&fabric, tenant, &["get a o 0 9"]).await, [format!("3 {tenant}")]);
    }
}

#[tokio::test]
async fn a_store_that_is_full_fails_the_write_and_the_object_and_nothing_else() {
    let limit = ObjectConfig::new().quota(ByteSize::from_kib(64));
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryObjects::new(limit));
    let fabric = fabric(&store, ObjectGrant::Write).await;
    let commands = ["create a", "put a o small", "fill a large 200000", "has a large", "get a o 0 9"];
    let answers = ask(&fabric, "ann", &commands).await;
    assert!(answers[2].starts_with("error") && answers[2].contains("do not fit"), "{answers:?}");
    assert_eq!((answers[3].as_str(), answers[4].as_str()), ("false", "5 small"));
}
