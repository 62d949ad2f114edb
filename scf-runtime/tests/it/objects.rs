//! Code out of an object store, and what native functions keep in one.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use scf_core::{
    ByteSize, Bytes, Call, Code, Collected, Function, Grants, Invocation, InvokeError, Isolate, IsolateFactory, Name,
    ObjectError, ObjectGrant, ObjectId, ObjectReader, ObjectStat, ObjectStore, ObjectUsage, ObjectWriter, Payload,
    PrepareError, Prepared, Reply, TenantName, Timestamp, Usage, read_object,
};
use scf_runtime::{DeployError, Fabric, NativeError, NativeFactory};
use scf_sched::Pipeline;
use scf_state::{FolderObjects, MemoryObjects, ObjectConfig};

use crate::support::name;

/// Runs code that is its own output, of at most 4 MiB.
#[derive(Debug)]
struct Quine;

#[derive(Debug)]
struct Verbatim(Bytes);

#[async_trait]
impl IsolateFactory for Quine {
    fn name(&self) -> &'static str {
        "quine"
    }

    fn accepts(&self, code: &Code) -> bool {
        matches!(code, Code::Component { .. })
    }

    fn code_limit(&self) -> ByteSize {
        ByteSize::from_mib(4)
    }

    async fn prepare(&self, function: &Function) -> Result<Arc<dyn Prepared>, PrepareError> {
        let Code::Component { bytes, .. } = &function.code else { panic!("it is given components alone") };
        Ok(Arc::new(Verbatim(bytes.clone())))
    }
}

#[async_trait]
impl Prepared for Verbatim {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

#[async_trait]
impl Isolate for Verbatim {
    async fn invoke(&mut self, _: &Call, _: Payload) -> Result<Reply, InvokeError> {
        Ok(Reply::new(Payload::new(self.0.clone()), Usage::default()))
    }
}

fn fabric(factory: impl IsolateFactory, store: Option<Arc<dyn ObjectStore>>) -> Fabric {
    let builder = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(factory));
    match store {
        Some(store) => builder.objects(store),
        None => builder,
    }
    .build()
    .unwrap()
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(MemoryObjects::new(ObjectConfig::new()))
}

fn stored(object: ObjectId) -> Function {
    Function::stored(name("f"), object, "run")
}

/// Bytes that do not repeat.
fn noise(size: usize) -> Vec<u8> {
    (0..size as u64)
        .scan(1, |x: &mut u64, _| {
            *x = x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            Some((*x >> 56) as u8)
        })
        .collect()
}

#[tokio::test]
async fn revisions_of_stored_code_share_the_chunks_that_they_have_in_common() {
    let at = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(FolderObjects::open(at.path(), ObjectConfig::new()).unwrap());
    let fabric = fabric(Quine, Some(Arc::clone(&store)));
    let common = noise(3 << 20);
    let revisions: [Bytes; 2] = [b"one", b"two"].map(|end| [&common[..], end].concat().into());
    let mut added = Vec::new();
    for (at, code) in (1..).zip(revisions) {
        let put = store.put_bytes(code.clone()).await.unwrap();
        added.push(put.added);
        assert_eq!(put.object, ObjectId::of(&code));
        fabric.deploy(stored(put.object)).await.unwrap();
        let outcome = fabric.call(&name("f"), "").await.unwrap();
        assert_eq!((outcome.receipt.revision.number(), outcome.payload.bytes), (at, code));
    }
    assert_eq!(added[0].bytes(), (3 << 20) + 3);
    assert!(added[1].bytes() <= 1 << 20, "one chunk is new, not {}", added[1]);
    assert_eq!(store.usage().bytes, added[0] + added[1]);
    // A deployed revision does not rest on the object any more.
    for now in 0..2 {
        store.collect(Timestamp::from_nanos(now), Duration::ZERO).await.unwrap();
    }
    assert_eq!(store.usage().objects, 0);
    fabric.call(&name("f"), "").await.unwrap();
}

#[tokio::test]
async fn code_that_is_absent_too_large_or_has_no_store_is_refused_by_function_and_digest() {
    let store = memory();
    let with = fabric(Quine, Some(Arc::clone(&store)));
    let absent = ObjectId::of(b"absent");
    let error = with.deploy(stored(absent)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("function f: code {absent} was not read"));
    assert!(matches!(
        error,
        DeployError::Code { function, object, source: ObjectError::NotFound { object: missing } }
            if function == name("f") && object == absent && missing == absent
    ));
    let large = store.put_bytes(noise((4 << 20) + 1).into()).await.unwrap().object;
    let error = with.deploy(stored(large)).await.unwrap_err();
    let most = ByteSize::from_mib(4);
    assert!(
        matches!(
            &error,
            DeployError::Code { source: ObjectError::TooLarge { object, limit, .. }, .. }
                if *object == large && *limit == most
        ),
        "{error:?}"
    );
    let error = fabric(Quine, None).deploy(stored(absent)).await.unwrap_err();
    assert!(matches!(error, DeployError::NoObjects { function } if function == name("f")));
    let error = fabric(NativeFactory::new(), Some(store)).deploy(stored(large)).await.unwrap_err();
    assert!(
        matches!(&error, DeployError::Prepare { source: PrepareError::NoFactory { .. }, .. }),
        "nothing is read that nothing runs: {error:?}"
    );
}

/// A store that gives other content than it was asked for, and trusts itself.
#[derive(Debug)]
struct Forger {
    behind: MemoryObjects,
    asked: ObjectId,
    given: ObjectId,
}

#[async_trait]
impl ObjectStore for Forger {
    async fn put(&self) -> Result<Box<dyn ObjectWriter>, ObjectError> {
        self.behind.put().await
    }

    async fn get(&self, object: ObjectId, range: Range<u64>) -> Result<Box<dyn ObjectReader>, ObjectError> {
        self.behind.get(if object == self.asked { self.given } else { object }, range).await
    }

    async fn stat(&self, object: ObjectId) -> Result<Option<ObjectStat>, ObjectError> {
        self.behind.stat(if object == self.asked { self.given } else { object }).await
    }

    async fn refer(&self, name: &str, object: ObjectId) -> Result<Option<ObjectId>, ObjectError> {
        self.behind.refer(name, object).await
    }

    async fn resolve(&self, name: &str) -> Result<Option<ObjectId>, ObjectError> {
        self.behind.resolve(name).await
    }

    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, ObjectId)>, ObjectError> {
        self.behind.references(prefix, after, limit).await
    }

    async fn unrefer(&self, name: &str) -> Result<Option<ObjectId>, ObjectError> {
        self.behind.unrefer(name).await
    }

    async fn collect(&self, now: Timestamp, grace: Duration) -> Result<Collected, ObjectError> {
        self.behind.collect(now, grace).await
    }

    fn usage(&self) -> ObjectUsage {
        self.behind.usage()
    }
}

#[tokio::test]
async fn code_that_is_not_what_its_digest_says_is_never_run() {
    let behind = MemoryObjects::new(ObjectConfig::new());
    let given = behind.put_bytes(Bytes::from_static(b"other code")).await.unwrap().object;
    let asked = ObjectId::of(b"code that was asked for");
    let fabric = fabric(Quine, Some(Arc::new(Forger { behind, asked, given })));
    let error = fabric.deploy(stored(asked)).await.unwrap_err();
    assert!(
        matches!(
            &error,
            DeployError::Code { function, object, source: ObjectError::Corrupt { object: named, chunk: None } }
                if *function == name("f") && *object == asked && *named == asked
        ),
        "{error:?}"
    );
    fabric.deploy(stored(given)).await.unwrap();
}

/// `put` streams its input into an object in three parts and refers to it as `latest`; `tail` gives the last bytes of
/// what is referred to so, and all of it as a digest.
fn keeper() -> NativeFactory {
    NativeFactory::new()
        .with("put", |call, input| {
            Box::pin(async move {
                let objects = call.objects()?;
                let mut writer = objects.put().await?;
                for part in input.bytes.chunks(input.bytes.len().div_ceil(3).max(1)) {
                    writer.write(Bytes::copy_from_slice(part)).await?;
                }
                let stored = writer.finish().await?;
                objects.refer("latest", stored.object).await?;
                Ok(Payload::new(stored.object.to_string()))
            })
        })
        .unwrap()
        .with("tail", |call, _| {
            Box::pin(async move {
                let objects = call.objects()?;
                let Some(object) = objects.resolve("latest").await? else {
                    return Err(NativeError::refused("there is nothing"));
                };
                let size = read_object(&objects, object, ByteSize::from_mib(1)).await?.len() as u64;
                let mut reader = objects.get(object, size - 4..size).await?;
                let mut tail = Vec::new();
                while let Some(part) = reader.next().await? {
                    tail.extend_from_slice(&part);
                }
                Ok(Payload::new(tail))
            })
        })
        .unwrap()
}

async fn ask(fabric: &Fabric, function: &str, tenant: &str, input: impl Into<Payload>) -> Result<Bytes, InvokeError> {
    let invocation = Invocation::new(fabric.new_id(), name(function), input);
    let outcome = fabric.invoke(invocation.tenant(TenantName::new(tenant).unwrap())).await?;
    Ok(outcome.payload.bytes)
}

#[tokio::test]
async fn native_functions_put_and_read_objects_that_they_are_granted_and_tenants_refer_apart() {
    let store = memory();
    let fabric = fabric(keeper(), Some(Arc::clone(&store)));
    let native = |function: &str, objects: ObjectGrant| {
        let native = Function::native(name(function), Name::new(function).unwrap());
        native.grants(Grants { objects, ..Grants::default() })
    };
    fabric.deploy(native("put", ObjectGrant::Write)).await.unwrap();
    fabric.deploy(native("tail", ObjectGrant::Read)).await.unwrap();
    let object: ObjectId = {
        let digest = ask(&fabric, "put", "ann", noise(300_000)).await.unwrap();
        std::str::from_utf8(&digest).unwrap().parse().unwrap()
    };
    assert_eq!(object, ObjectId::of(&noise(300_000)));
    assert_eq!(ask(&fabric, "tail", "ann", "").await.unwrap(), noise(300_000)[299_996..]);
    assert_eq!(store.resolve("tenant/ann/latest").await.unwrap(), Some(object));
    assert!(matches!(ask(&fabric, "tail", "bob", "").await, Err(InvokeError::Refused { .. })));

    let denied =
        |error: InvokeError| matches!(error, InvokeError::Trapped { message, .. } if message.contains("not granted"));
    fabric.deploy(native("put", ObjectGrant::Read)).await.unwrap();
    assert!(denied(ask(&fabric, "put", "ann", "x").await.unwrap_err()), "who may read may not write");
    for function in ["put", "tail"] {
        fabric.deploy(native(function, ObjectGrant::None)).await.unwrap();
        assert!(denied(ask(&fabric, function, "ann", "x").await.unwrap_err()), "nothing is granted by default");
    }
    assert_eq!(store.usage().objects, 1);
}

#[tokio::test]
async fn a_grant_of_objects_where_there_are_none_is_refused_when_deployed() {
    let fabric = fabric(keeper(), None);
    let grants = Grants { objects: ObjectGrant::Read, ..Grants::default() };
    let tail = Function::native(name("tail"), Name::new("tail").unwrap());
    let error = fabric.deploy(tail.clone().grants(grants)).await.unwrap_err();
    assert!(matches!(error, DeployError::NoObjects { function } if function == name("tail")));
    fabric.deploy(tail).await.unwrap();
}

#[cfg(feature = "wasm")]
#[tokio::test]
async fn a_component_and_the_artefact_of_it_run_out_of_the_store() {
    use scf_runtime::{ArtefactSigner, WasmFactory};

    let signer = ArtefactSigner::new(&[7; 32]);
    let wasm = WasmFactory::builder().instances(4).trust(signer.verifying_key()).build().unwrap();
    let store = memory();
    let fabric = fabric(wasm, Some(Arc::clone(&store)));
    let Code::Component { bytes: component, export } = crate::wasm::guest("echo", "echo").code else {
        panic!("a component")
    };
    let artefact = signer.sign(&component).unwrap();
    for code in [component, artefact.into()] {
        let object = store.put_bytes(code).await.unwrap().object;
        fabric.deploy(Function::stored(name("f"), object, export.clone())).await.unwrap();
        assert_eq!(fabric.call(&name("f"), "hello").await.unwrap().payload.bytes, "hello");
    }
    let nonsense = store.put_bytes(Bytes::from_static(b"no component")).await.unwrap().object;
    let error = fabric.deploy(stored(nonsense)).await.unwrap_err();
    assert!(matches!(error, DeployError::Prepare { .. }), "what runs code holds it to what it holds any to: {error:?}");
}
