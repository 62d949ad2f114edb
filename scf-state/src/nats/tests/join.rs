//! What stands against joining a broker, each with an error of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    thread,
};

use async_nats::jetstream::{self, stream};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::*;

/// From the documentation of NATS: a user's key and the seed that it belongs to.
const NKEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

#[tokio::test]
async fn only_accepted_credentials_join() {
    let users = format!("authorization {{ users: [ {{user: edge, password: secret}}, {{nkey: {NKEY}}} ] }}");
    let Some(server) = NatsServer::start(&format!("{}{users}", nats_server::DURABLE)) else { return };
    let join = |credentials: Option<NatsCredentials>| {
        let options = options(&server);
        match credentials {
            Some(credentials) => options.credentials(credentials),
            None => options,
        }
        .connect()
    };
    let password = |password: &str| NatsCredentials::UserPassword { user: "edge".into(), password: password.into() };
    let nkey = |seed: &str| NatsCredentials::NKey { seed: seed.into() };
    for wrong in [None, Some(password("wrong")), Some(NatsCredentials::Token("secret".into()))] {
        let refused = join(wrong).await;
        assert!(matches!(refused, Err(NatsError::Refused(_))), "{refused:?}");
    }
    let missing = NatsCredentials::CredsFile(server.folder().join("missing.creds"));
    for none in [missing, NatsCredentials::Creds("no credentials".into()), nkey("SUNO")] {
        let refused = join(Some(none)).await;
        assert!(matches!(refused, Err(NatsError::Credentials(_))), "{refused:?}");
    }
    for right in [password("secret"), nkey(SEED)] {
        let state = NatsState::at(join(Some(right)).await.unwrap()).shards(1).open().await.unwrap();
        assert_eq!(state.caps().durability, Durability::Durable);
    }
}

/// A certificate authority, and what it has signed, in files.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("root.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// Files of a certificate for `localhost` and of its key.
    fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let file = |kind: &str| self.folder.path().join(format!("{name}.{kind}"));
        fs::write(file("pem"), certificate.pem()).unwrap();
        fs::write(file("key"), key.serialize_pem()).unwrap();
        (file("pem"), file("key"))
    }
}

#[tokio::test]
async fn only_mutual_trust_makes_a_tls_connection() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.sign("server");
    let show = |path: &Path| format!("{:?}", path.display().to_string());
    let tls = format!(
        "tls {{ cert_file: {}, key_file: {}, ca_file: {}, verify: true }}",
        show(&certificate),
        show(&key),
        show(&ours.root())
    );
    let Some(server) = NatsServer::start(&format!("{}{tls}", nats_server::DURABLE)) else { return };
    let encrypted = |port: u16, root: PathBuf| {
        NatsOptions::new([format!("tls://localhost:{port}")]).root_certificates(root).monitor(server.monitor())
    };
    let (certificate, key) = ours.sign("node");
    let joined = encrypted(server.port(), ours.root()).client_certificate(&certificate, &key).connect().await;
    NatsState::at(joined.unwrap()).shards(1).open().await.unwrap();

    let untrusted = encrypted(server.port(), theirs.root()).client_certificate(&certificate, &key).connect().await;
    assert!(matches!(untrusted, Err(NatsError::Tls(_))), "{untrusted:?}");
    let (foreign, foreign_key) = theirs.sign("node");
    for stranger in [None, Some((foreign, foreign_key))] {
        let options = encrypted(server.port(), ours.root());
        let options = match stranger {
            Some((certificate, key)) => options.client_certificate(certificate, key),
            None => options,
        };
        let refused = options.connect().await;
        assert!(matches!(refused, Err(NatsError::Tls(_))), "{refused:?}");
    }
    let open = NatsServer::durable().unwrap();
    let refused = encrypted(open.port(), ours.root()).connect().await;
    assert!(matches!(refused, Err(NatsError::Tls(_))), "{refused:?}");
}

#[tokio::test]
async fn a_name_that_would_reach_other_subjects_is_refused() {
    for name in ["a.b", "*", ">", "", "a b", "a\tb", "x\r\nPUB y 1\r\nz", "\u{0}", "$JS", "A"] {
        let refused = NatsOptions::new(["nats://127.0.0.1:1"]).fabric(name).connect().await;
        assert!(matches!(refused, Err(NatsError::Fabric(_))), "{name:?}: {refused:?}");
    }
}

#[tokio::test]
async fn the_way_to_another_machine_is_encrypted_or_allowed_not_to_be() {
    let refused = NatsOptions::new(["nats://127.0.0.1:1", "nats://192.0.2.1:4222"]).connect().await;
    assert!(matches!(&refused, Err(NatsError::Plaintext { host }) if host == "192.0.2.1"), "{refused:?}");
    assert!(matches!(NatsOptions::new(Vec::<String>::new()).connect().await, Err(NatsError::NoAddress)));
    let nobody = NatsOptions::new(["nats://127.0.0.1:1"]).connect().await;
    assert!(matches!(nobody, Err(NatsError::Unreachable(_))), "{nobody:?}");
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let old = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let info =
            r#"INFO {"server_id":"S","server_name":"old","version":"2.12.9","max_payload":1048576,"headers":true}"#;
        stream.write_all(format!("{info}\r\n").as_bytes()).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| line != "PING")) {}
        stream.write_all(b"PONG\r\n").unwrap();
    });
    let refused = NatsOptions::new([url]).connect().await;
    old.join().unwrap();
    let is_told = |server: &str, found: &str| (server, found) == ("old", "2.12.9");
    assert!(matches!(&refused, Err(NatsError::TooOld { server, found, .. }) if is_told(server, found)), "{refused:?}");
}

#[tokio::test]
async fn what_is_not_synced_is_never_called_durable() {
    let Some(server) = NatsServer::start("max_payload: 8MB\njetstream { max_file_store: 100MB }") else { return };
    let refused = NatsState::at(options(&server).connect().await.unwrap()).open().await;
    let two_minutes = Duration::from_secs(120);
    assert!(
        matches!(&refused, Err(NatsError::SyncInterval { interval, .. }) if *interval == two_minutes),
        "{refused:?}"
    );
    let unknown = NatsState::at(NatsOptions::new([server.url()]).connect().await.unwrap()).open().await;
    assert!(matches!(unknown, Err(NatsError::SyncUnknown)), "{unknown:?}");

    let broker = options(&server).connect().await.unwrap();
    let state = NatsState::at(broker).shards(1).durability(Durability::OsBuffered).open().await.unwrap();
    assert_eq!(state.caps().durability, Durability::OsBuffered);
    let refused = state.commit(Batch::new(scope("s")).put("k", "1")).await;
    let (asked, given) = (Durability::Durable, Durability::OsBuffered);
    assert_eq!(refused, Err(StateError::Durability { asked, given }));
    let nobody = NatsOptions::new([server.url()]).monitor("http://127.0.0.1:1").connect().await;
    assert!(matches!(nobody, Err(NatsError::Monitor { .. })), "{nobody:?}");
}

#[tokio::test]
async fn streams_that_are_kept_otherwise_are_refused() {
    let Some(server) = NatsServer::durable() else { return };
    let broker = options(&server).connect().await.unwrap();
    NatsState::at(broker.clone()).shards(1).open().await.unwrap();
    let other = NatsState::at(broker.clone()).shards(1).results_per_scope(8).open().await;
    assert!(matches!(&other, Err(NatsError::Stream { what: "results per scope", .. })), "{other:?}");

    // Acknowledges before it syncs, also with `sync_interval: always`.
    let config = stream::Config {
        name: "SCF_HEAD_lax_0".to_owned(),
        subjects: vec!["lax.state.0.>".to_owned()],
        max_messages_per_subject: 1,
        discard: stream::DiscardPolicy::New,
        allow_message_ttl: true,
        metadata: [("scf.results".to_owned(), "256".to_owned())].into(),
        persist_mode: Some(stream::PersistenceMode::Async),
        ..stream::Config::default()
    };
    jetstream::new(broker.client()).create_stream(config).await.unwrap();
    let lax = NatsState::at(options(&server).fabric("lax").connect().await.unwrap()).shards(1).open().await;
    assert!(matches!(&lax, Err(NatsError::Stream { .. })), "{lax:?}");
}

#[tokio::test]
async fn a_broker_that_stores_nothing_is_an_error() {
    let Some(server) = NatsServer::start("max_payload: 8MB") else { return };
    let broker = NatsOptions::new([server.url()]).connect().await.unwrap();
    let refused = NatsState::at(broker).durability(Durability::OsBuffered).open().await;
    assert!(matches!(refused, Err(NatsError::NoStore(_))), "{refused:?}");
}
