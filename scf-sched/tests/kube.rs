//! The nodes of a cluster in the inventory. No cluster was there: the API is a stand-in that answers in the form which the
//! API documents for K3s and KubeEdge, from files under `data/kube`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{Accelerator, ByteSize, Clock, MilliCpu, Name, Tier, Timestamp};
use scf_sched::{
    fleet::Fleet,
    inventory::{Intent, Inventory, Standing},
    kube::{KubeApi, KubeError, KubeNews, NodeMirror},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

const NODES: &str = include_str!("data/kube/nodes.json");
const CHANGES: &str = include_str!("data/kube/changes.jsonl");
const GONE: &str = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;

/// A clock on which rests are over at once, and nobody runs out of patience.
#[derive(Debug)]
struct Restless;

#[async_trait]
impl Clock for Restless {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    async fn sleep(&self, wait: Duration) {
        if wait > Duration::from_secs(5) {
            std::future::pending::<()>().await;
        }
    }
}

/// Answers one request after the other with what it was given, and tells what was asked; after the last one it says
/// nothing any more. What has several parts is sent in chunks that end where lines do not.
async fn stand_in(answers: Vec<(u16, String)>) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            // It fails once the test is over.
            let _ = told.send(String::from_utf8(request).unwrap());
            let Some((status, body)) = answers.next() else {
                open.push(stream);
                continue;
            };
            let head =
                format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            for chunk in body.as_bytes().chunks(700) {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
                stream.write_all(&[chunk, b"\r\n"].concat()).await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    });
    (port, asked)
}

/// What is said to an inventory, until `is_over`.
async fn follow(api: &KubeApi, is_over: impl Fn(&KubeNews<'_>) -> bool) -> (Inventory, Vec<String>) {
    let inventory = Mutex::new(Inventory::new(Arc::new(Fleet::new())));
    let (mut mirror, mut heard) = (NodeMirror::default(), Vec::new());
    let (over, mut is_done) = mpsc::unbounded_channel();
    let follows = api.follow(&Restless, |news| {
        let refused = mirror.hear(&news, &mut inventory.lock().unwrap(), Timestamp::default());
        assert_eq!(refused, []);
        heard.push(match &news {
            KubeNews::Listed(nodes) => format!("listed {}", nodes.len()),
            KubeNews::Lost(error) => format!("lost: {error}"),
            KubeNews::Heard => "heard".to_owned(),
            _ => "changed".to_owned(),
        });
        if is_over(&news) {
            over.send(()).unwrap();
        }
    });
    tokio::select! {
        never = follows => match never {},
        _ = is_done.recv() => {}
    }
    (inventory.into_inner().unwrap(), heard)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[tokio::test]
async fn a_list_of_nodes_is_what_the_inventory_has() {
    let (port, mut asked) = stand_in(vec![(200, NODES.to_owned())]).await;
    let (inventory, _) = follow(&KubeApi::proxy(port), |news| matches!(news, KubeNews::Listed(_))).await;
    assert!(asked.recv().await.unwrap().starts_with("GET /api/v1/nodes?limit=500 HTTP/1.1"));
    let units = inventory.units();
    let nodes: Vec<_> = units
        .iter()
        .map(|status| match &status.unit.kind {
            scf_sched::inventory::UnitKind::Node(node) => node,
            other => panic!("{other:?}"),
        })
        .collect();
    let [gateway, server] = &nodes[..] else { panic!("{nodes:?}") };
    assert_eq!((gateway.id.as_str(), gateway.tier), ("gateway-1", Tier::Edge));
    assert_eq!((gateway.resources.cpu, gateway.resources.memory), (MilliCpu::new(4000), ByteSize::from_kib(3_899_392)));
    assert_eq!((gateway.units_of(Accelerator::Npu), &gateway.labels), (1, &vec![name("arm64")]));
    assert_eq!(units[0].intent, Intent::Serve, "the taint of KubeEdge is tolerated");
    assert_eq!((server.id.as_str(), server.tier), ("k3s-server-plant-example", Tier::Cloud));
    assert_eq!(server.resources.cpu, MilliCpu::new(15_500));
    assert_eq!(server.units_of(Accelerator::Cuda), 2);
    assert_eq!((&server.site, &server.class), (&Some(name("plant-7")), &Some(name("k3s"))));
    assert_eq!(server.zone.as_ref().unwrap().as_str(), "eu-central");
    assert_eq!(server.labels, ["amd64", "avx2", "avx512f", "pci-10de-present"].map(name));
}

#[tokio::test]
async fn changes_are_followed_from_where_the_list_ended_and_again_from_where_they_were_heard() {
    let (port, mut asked) = stand_in(vec![(200, NODES.to_owned()), (200, CHANGES.to_owned())]).await;
    let times_heard = std::cell::Cell::new(0);
    let api = KubeApi::proxy(port);
    let watched_again = |news: &KubeNews<'_>| {
        if let KubeNews::Changed(_) = news {
            times_heard.set(times_heard.get() + 1);
        }
        times_heard.get() == 4
    };
    let (inventory, heard) = follow(&api, watched_again).await;
    assert_eq!(heard, ["listed 2", "heard", "changed", "changed", "changed", "changed"]);
    asked.recv().await.unwrap();
    assert!(
        asked
            .recv()
            .await
            .unwrap()
            .contains("watch=true&allowWatchBookmarks=true&timeoutSeconds=25&resourceVersion=4021")
    );
    let units: Vec<_> = inventory.units().into_iter().map(|unit| (unit.unit.id, unit.intent, unit.standing)).collect();
    // What the cluster does not hear of takes nothing new.
    assert_eq!(
        units,
        [(name("camera-9"), Intent::Cordon, Standing::Alive), (name("gateway-1"), Intent::Cordon, Standing::Alive)]
    );
}

#[tokio::test]
async fn a_watch_that_is_over_is_asked_for_again_and_what_is_forgotten_is_listed_again() {
    let first = CHANGES.lines().next().unwrap();
    let only = r#"{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":null}"#;
    let answers = [NODES.to_owned(), format!("{first}\n"), format!("{GONE}\n"), only.to_owned()];
    let (port, mut asked) = stand_in(answers.map(|answer| (200, answer)).into()).await;
    let empty = |news: &KubeNews<'_>| matches!(news, KubeNews::Listed(nodes) if nodes.is_empty());
    let (inventory, heard) = follow(&KubeApi::proxy(port), empty).await;
    assert_eq!(heard, ["listed 2", "heard", "changed", "heard", "listed 0"]);
    for part in ["limit=500", "resourceVersion=4021", "resourceVersion=4030", "limit=500"] {
        let request = asked.recv().await.unwrap();
        assert!(request.contains(part), "{request}");
    }
    assert_eq!(inventory.units(), []);
}

#[tokio::test]
async fn a_list_of_several_pages_is_one_and_the_token_is_shown_with_each_request() {
    let half = |next: &str, node: &str| {
        format!(
            r#"{{"metadata":{{"resourceVersion":"7","continue":"{next}"}},"items":[{{"metadata":{{"name":"{node}"}}}}]}}"#
        )
    };
    let (port, mut asked) = stand_in(vec![(200, half("abc_-.", "a")), (200, half("", "b"))]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret\n").unwrap();
    let api = KubeApi::proxy(port).token_file(file.path());
    let (inventory, heard) = follow(&api, |news| matches!(news, KubeNews::Listed(_))).await;
    assert_eq!((inventory.units().len(), heard), (2, vec!["listed 2".to_owned()]));
    let (first, second) = (asked.recv().await.unwrap(), asked.recv().await.unwrap());
    assert!(first.contains("authorization: Bearer secret") && second.contains("authorization: Bearer secret"));
    assert!(second.contains("limit=500&continue=abc_-."), "{second}");
}

#[tokio::test]
async fn who_may_not_list_nodes_is_told_so_and_asks_again() {
    let (port, _asked) = stand_in(vec![(403, "{}".to_owned()), (200, "[]".to_owned()), (200, NODES.to_owned())]).await;
    let (inventory, heard) = follow(&KubeApi::proxy(port), |news| matches!(news, KubeNews::Listed(_))).await;
    assert_eq!(
        heard,
        [
            "lost: the cluster's API answered 403 to /api/v1/nodes?limit=500",
            "lost: the cluster's API said something else than nodes",
            "listed 2"
        ]
    );
    assert_eq!(inventory.units().len(), 2);
}

#[tokio::test]
async fn without_a_service_account_and_certificates_there_is_nothing_to_ask() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let none = KubeApi::at("kubernetes.default.svc", 443).root_certificates(file.path());
    assert!(matches!(none, Err(KubeError::File { path, .. }) if path == file.path()));
}
