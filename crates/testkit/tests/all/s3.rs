//! The bucket store against a server that answers as B2 does: every answer becomes the error that
//! says what the user can do, and what time can heal is tried again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{Cancel, Endpoint, Error, Retry, S3Config, S3Store, Secret, Store, Time};
use testkit::server::{self, Fault, Server};
use testkit::{ManualTime, Verb};

const BUDGET: Duration = Duration::from_secs(300);

struct Bench {
    server: Server,
    time: Arc<ManualTime>,
}

impl Bench {
    fn new() -> Self {
        Self::with(server::Config::default())
    }

    fn with(config: server::Config) -> Self {
        Self { server: Server::start(config).expect("a free port"), time: Arc::default() }
    }

    fn config(&self) -> S3Config {
        let config = self.server.config();
        let time: Arc<dyn Time> = Arc::<ManualTime>::clone(&self.time);
        S3Config {
            endpoint: Endpoint::Url(self.server.url()),
            bucket: config.bucket.clone(),
            prefix: "agent".to_owned(),
            region: Some(config.region.clone()),
            key_id: config.key_id.clone(),
            secret: Secret::new(config.secret.clone()),
            upload_bytes_per_second: None,
            retry: Retry { time, ..Retry::with_budget(BUDGET) },
            cancel: Cancel::new(),
        }
    }

    fn store(&self) -> S3Store {
        S3Store::open(self.config()).expect("a good configuration")
    }

    fn requests(&self) -> usize {
        self.server.requests().len()
    }
}

fn put(store: &S3Store, name: &str) -> store::Result<()> {
    store.put(name, vec![Bytes::from_static(b"some bytes")])
}

/// Runs one verb on `packs/1`.
fn call(store: &S3Store, verb: Verb) -> store::Result<()> {
    match verb {
        Verb::Put => put(store, "packs/1"),
        Verb::Get => store.get("packs/1").map(|bytes| assert_eq!(bytes, "some bytes")),
        Verb::GetRange => store.get_range("packs/1", 5..10).map(|bytes| assert_eq!(bytes, "bytes")),
        Verb::List => store.list("packs/").map(|items| assert_eq!(items[0].name, "packs/1")),
        Verb::Delete => store.delete("packs/1"),
    }
}

const VERBS: [Verb; 5] = [Verb::Put, Verb::Get, Verb::GetRange, Verb::List, Verb::Delete];

#[test]
fn what_time_heals_is_tried_again_whatever_the_verb() {
    for fault in [
        Fault::SlowDown(None),
        Fault::SlowDown(Some(3)),
        Fault::TooMany(Some(1)),
        Fault::Status(500, "InternalError", "incident id"),
        Fault::Status(408, "RequestTimeout", ""),
        Fault::Status(400, "RequestTimeout", "not read from or written to"),
        Fault::Status(400, "IncompleteBody", "fewer bytes than the header said"),
        Fault::Status(409, "OperationAborted", ""),
        Fault::ErrorAfterDone,
        Fault::CloseAfterDone,
        Fault::Close,
        Fault::OkWithError,
        Fault::Portal,
    ] {
        let bench = Bench::new();
        let store = bench.store();
        for verb in VERBS {
            put(&store, "packs/1").expect("a healthy server");
            let before = bench.requests();
            // A GET cannot tell an error under status 200 from an object: seals do, above.
            let told = !(fault == Fault::OkWithError && matches!(verb, Verb::Get | Verb::GetRange));
            if told {
                bench.server.next(vec![fault.clone(), fault.clone()]);
            }
            let done = call(&store, verb);
            assert!(done.is_ok(), "{verb} through {fault:?}: {done:?}");
            let requests = bench.requests() - before;
            assert_eq!(requests, if told { 3 } else { 1 }, "{verb} through {fault:?}");
            bench.server.heal();
        }
    }
}

#[test]
fn f7_a_body_that_is_cut_is_read_again_and_never_short() {
    let bench = Bench::new();
    let store = bench.store();
    put(&store, "packs/1").expect("put");
    for verb in [Verb::Get, Verb::GetRange, Verb::List] {
        bench.server.next(vec![Fault::CutBody(4), Fault::CutBody(0)]);
        call(&store, verb).unwrap_or_else(|e| panic!("{verb}: {e}"));
    }
    assert_eq!(bench.time.sleeps().len(), 6);
}

#[test]
fn a_slow_body_arrives() {
    let bench = Bench::new();
    let store = bench.store();
    put(&store, "packs/1").expect("put");
    bench.server.next(vec![Fault::SlowBody(3, Duration::from_millis(1))]);
    call(&store, Verb::Get).expect("slow, not wrong");
}

#[test]
fn the_storage_says_how_long_to_wait() {
    let bench = Bench::new();
    bench.server.next(vec![Fault::SlowDown(Some(17)), Fault::TooMany(Some(29))]);
    put(&bench.store(), "packs/1").expect("put");
    assert_eq!(bench.time.sleeps(), [Duration::from_secs(17), Duration::from_secs(29)]);
}

#[test]
fn a_storage_that_stays_busy_is_unavailable_after_the_budget() {
    let bench = Bench::new();
    bench.server.on(|_| Some(Fault::SlowDown(None)));
    for verb in VERBS {
        let before: Duration = bench.time.sleeps().iter().sum();
        let e = call(&bench.store(), verb).expect_err("busy for ever");
        assert!(matches!(e, Error::Unavailable { .. }), "{verb}: {e:?}");
        assert!(e.to_string().contains("503 SlowDown no tomes available"), "{verb}: {e}");
        let waited = bench.time.sleeps().iter().sum::<Duration>().saturating_sub(before);
        assert!(waited <= BUDGET && waited > BUDGET / 2, "{verb} waited {waited:?}");
    }
}

#[test]
fn what_no_time_heals_fails_at_once_and_by_name() {
    type Is = fn(&Error) -> bool;
    let denied: Is = |e| matches!(e, Error::Denied { .. });
    let cap: Is = |e| matches!(e, Error::CapReached { .. });
    let rejected: Is = |e| matches!(e, Error::Rejected { .. });
    let no_store: Is = |e| matches!(e, Error::NoSuchStore { .. });
    for (fault, is) in [
        (Fault::BadKey, denied),
        (Fault::NoCapability, denied),
        (Fault::Status(401, "Unauthorized", ""), denied),
        (Fault::Status(403, "RequestTimeTooSkewed", "the clock"), denied),
        (Fault::CapExceeded, cap),
        (Fault::NoBucket, no_store),
        (Fault::Status(501, "NotImplemented", "A header"), rejected),
        (Fault::Status(400, "InvalidRequest", ""), rejected),
    ] {
        let bench = Bench::new();
        let store = bench.store();
        bench.server.on(move |_| Some(fault.clone()));
        for verb in VERBS {
            let e = call(&store, verb).expect_err("a fault");
            assert!(is(&e), "{verb}: {e:?}");
            let secret = &bench.server.config().secret;
            assert!(!format!("{e} {e:?}").contains(secret.as_str()), "{verb}: {e:?}");
        }
        assert_eq!(bench.requests(), VERBS.len(), "something was tried again");
        assert!(bench.time.sleeps().is_empty());
    }
}

#[test]
fn a_wrong_key_and_a_wrong_secret_are_refused_by_the_signature() {
    let bench = Bench::new();
    let key = S3Config { key_id: "someone-else".to_owned(), ..bench.config() };
    let secret = S3Config { secret: Secret::new("guess".to_owned()), ..bench.config() };
    for config in [key, secret] {
        let e = put(&S3Store::open(config).expect("opens"), "config").expect_err("refused");
        assert!(matches!(e, Error::Denied { .. }), "{e:?}");
    }
    let other = S3Config { bucket: "other-bucket".to_owned(), ..bench.config() };
    let e = put(&S3Store::open(other).expect("opens"), "config").expect_err("no bucket");
    assert!(matches!(e, Error::NoSuchStore { .. }), "{e:?}");
    assert_eq!(bench.server.keys(), [""; 0]);
}

#[test]
fn a_delete_hides_and_a_lost_acknowledgement_does_no_harm() {
    let bench = Bench::new();
    let store = bench.store();
    bench.server.next(vec![Fault::CloseAfterDone]);
    put(&store, "packs/1").expect("put");
    assert_eq!(bench.server.versions("agent/packs/1"), 2, "the same bytes twice");
    store.delete("packs/1").expect("delete");
    assert_eq!(bench.server.versions("agent/packs/1"), 3, "hidden, not gone");
    assert!(matches!(store.get("packs/1"), Err(Error::NotFound { .. })));
    store.delete("packs/1").expect("delete is idempotent");
}

#[test]
fn requests_are_counted_by_what_they_cost() {
    let bench = Bench::with(server::Config { page_keys: 2, ..server::Config::default() });
    let store = bench.store();
    for name in ["packs/1", "packs/2", "packs/3"] {
        put(&store, name).expect("put");
    }
    call(&store, Verb::Get).expect("get");
    call(&store, Verb::List).expect("list");
    store.delete("packs/3").expect("delete");
    let (ours, theirs) = (store.usage(), bench.server.counts());
    assert_eq!((ours.class_a, ours.class_b, ours.class_c), (4, 1, 2));
    assert_eq!((theirs.class_a, theirs.class_b, theirs.class_c), (4, 1, 2));
    assert_eq!(ours.bytes_sent, 30);
    assert_eq!(theirs.bytes_in, 30);
    assert_eq!(ours.bytes_received, theirs.bytes_out);
}

#[test]
fn no_conditional_checksum_or_tag_header_is_ever_sent() {
    let bench = Bench::new();
    let store = bench.store();
    for verb in VERBS {
        call(&store, verb).expect("done");
    }
    for request in bench.server.requests() {
        for (name, _) in &request.headers {
            let bad = ["if-", "x-amz-checksum", "x-amz-tagging", "transfer-encoding", "expect"];
            assert!(!bad.iter().any(|bad| name.starts_with(bad)), "{name} in {request:?}");
        }
        let signed = request.header("x-amz-content-sha256").expect("a signed payload");
        assert_eq!(signed.len(), 64, "{request:?}");
    }
}

#[test]
fn a_region_is_asked_for_or_learnt_from_an_error() {
    let tells = server::Config { tells_region: true, ..server::Config::default() };
    for (config, discovery) in [(tells, 1), (server::Config::default(), 2)] {
        let bench = Bench::with(config);
        let store = S3Store::open(S3Config { region: None, ..bench.config() }).expect("opens");
        put(&store, "packs/1").expect("put");
        assert_eq!(bench.requests(), discovery + 1, "HEAD, perhaps one refused try, PUT");
        call(&store, Verb::Get).expect("get");
        assert_eq!(bench.requests(), discovery + 2, "found once, then known");
    }
}

#[test]
fn a_storage_that_wants_ever_other_regions_is_given_up() {
    let bench = Bench::new();
    let mut n = 0;
    bench.server.on(move |_| {
        n += 1;
        Some(Fault::WrongRegion(format!("region-{n}")))
    });
    let e = put(&bench.store(), "packs/1").expect_err("no right region");
    assert!(matches!(e, Error::BadAddress(_) | Error::Denied { .. }), "{e:?}");
    assert!(bench.requests() <= 4);
}

#[test]
fn a_b2_key_finds_its_own_endpoint() {
    let bench = Bench::new();
    let b2 = |secret: &str| {
        let endpoint = Endpoint::B2 { api: bench.server.url() };
        let secret = Secret::new(secret.to_owned());
        S3Store::open(S3Config { endpoint, region: None, secret, ..bench.config() }).expect("opens")
    };
    let store = b2(&bench.server.config().secret);
    put(&store, "packs/1").expect("put");
    assert_eq!(store.address(), "b2:test-bucket/agent");
    assert_eq!(bench.server.keys(), ["agent/packs/1"]);
    let e = put(&b2("wrong"), "packs/1").expect_err("a wrong key");
    assert!(matches!(&e, Error::Denied { .. }), "{e:?}");
}

#[test]
fn an_upload_limit_changes_nothing_but_the_time() {
    let bench = Bench::new();
    let config = S3Config { upload_bytes_per_second: Some(4 << 20), ..bench.config() };
    let store = S3Store::open(config).expect("opens");
    let parts = vec![Bytes::from(vec![7; 100_001]), Bytes::new(), Bytes::from(vec![8; 33])];
    store.put("packs/1", parts.clone()).expect("put");
    assert!(store.get("packs/1").expect("get") == parts.concat());
}

#[test]
fn a_cancelled_run_stops_waiting_for_a_busy_storage() {
    let bench = Bench::new();
    let cancel = Cancel::new();
    let hand = cancel.clone();
    bench.server.on(move |_| {
        hand.cancel();
        Some(Fault::SlowDown(Some(1)))
    });
    let store = S3Store::open(S3Config { cancel, ..bench.config() }).expect("opens");
    assert!(matches!(put(&store, "packs/1"), Err(Error::Cancelled)));
    assert!(bench.requests() <= 2);
}

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    let bench = Bench::new();
    let config = bench.config();
    drop(bench);
    let e = put(&S3Store::open(config).expect("opens"), "packs/1").expect_err("nobody there");
    assert!(matches!(e, Error::Unavailable { .. }), "{e:?}");
}

/// Runs this test again in a child whose environment is full of somebody else's keys.
#[test]
fn somebody_elses_aws_environment_is_ignored() {
    const MARK: &str = "TESTKIT_CHILD";
    let test = "s3::somebody_elses_aws_environment_is_ignored";
    #[expect(clippy::disallowed_methods, reason = "this test is about the environment")]
    let child = std::env::var_os(MARK).is_some();
    if child {
        let bench = Bench::new();
        put(&bench.store(), "packs/1").expect("our own key, endpoint and bucket");
        assert_eq!(bench.server.keys(), ["agent/packs/1"]);
        return;
    }
    let status = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test])
        .env(MARK, "1")
        .env("AWS_ACCESS_KEY_ID", "evil")
        .env("AWS_SECRET_ACCESS_KEY", "evil")
        .env("AWS_SESSION_TOKEN", "evil")
        .env("AWS_REGION", "evil-1")
        .env("AWS_DEFAULT_REGION", "evil-1")
        .env("AWS_ENDPOINT", "http://127.0.0.1:9")
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        .env("AWS_BUCKET", "evil")
        .env("AWS_SKIP_SIGNATURE", "true")
        .env("AWS_CHECKSUM_ALGORITHM", "sha256")
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .env("http_proxy", "http://127.0.0.1:9")
        .output()
        .expect("the child runs");
    let out = String::from_utf8_lossy(&status.stdout);
    assert!(status.status.success() && out.contains("1 passed"), "{out}");
}

#[test]
fn what_was_deleted_or_overwritten_is_there_in_old_versions() {
    // two on a page: a key's versions lie on several
    let bench = Bench::with(server::Config { page_keys: 2, ..server::Config::default() });
    let store = bench.store();
    let put = |name: &str, bytes: &'static str| store.put(name, vec![bytes.into()]).unwrap();
    put("packs/1", "first");
    put("packs/1", "second");
    put("packs/1", "third");
    put("packs/2", "current");
    put("snap/1", "a snapshot");
    store.delete("packs/1").unwrap();
    store.delete("snap/1").unwrap();
    let found = |prefix: &str| -> Vec<(String, String)> {
        let versions = store.old_versions(prefix).unwrap().expect("a bucket keeps them");
        let read = |v: &store::Version| {
            let bytes = store.get_version(v).unwrap();
            assert_eq!(bytes.len() as u64, v.size);
            (v.name.clone(), String::from_utf8(bytes.to_vec()).unwrap())
        };
        versions.iter().map(read).collect()
    };
    let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let packs = ["third", "second", "first"].map(|text| pair("packs/1", text));
    assert_eq!(found("packs/"), packs);
    assert_eq!(found("snap/"), [pair("snap/1", "a snapshot")]);
    assert_eq!(found("packs/2"), []);
    assert_eq!(found("no such/"), []);
    let gone = store::Version { name: "packs/1".into(), id: "99".into(), size: 1 };
    assert!(matches!(store.get_version(&gone), Err(Error::NotFound { .. })));
    // what time heals is tried again here too, and a listing that was cut is none
    bench.server.next(vec![Fault::SlowDown(None), Fault::CutBody(90), Fault::Portal]);
    assert_eq!(found("packs/").len(), 3);
    bench.server.next(vec![Fault::NoCapability]);
    assert!(matches!(store.old_versions("packs/"), Err(Error::Denied { .. })));
    assert!(store::MemoryStore::new().old_versions("").unwrap().is_none());
}

#[test]
fn a_bucket_of_another_program_is_read_with_keys_of_any_form_and_never_written() {
    use store::{Address, Credentials, Options};
    let bench = Bench::with(server::Config { page_keys: 2, ..server::Config::default() });
    let keys =
        ["p/2026-01-01T00-00-00Z/home/\u{e9} #1 +%41.json", "p/A/b&c", "p/..x/=", "p//double"];
    for (number, key) in keys.iter().enumerate() {
        bench.server.plant(key, format!("{number}123456789").as_bytes());
    }
    bench.server.plant("p/up/../out", b"hostile");
    bench.server.plant("px/not-below", b"no");
    let config = bench.server.config();
    let time: Arc<dyn Time> = Arc::<ManualTime>::clone(&bench.time);
    let address = format!("s3:{}/{}/p", bench.server.url(), config.bucket);
    let foreign = Address::parse(&address).unwrap().open_foreign(Options {
        credentials: Some(Credentials {
            key_id: config.key_id.clone(),
            secret: Secret::new(config.secret.clone()),
        }),
        region: Some(config.region.clone()),
        retry: Retry { time, ..Retry::with_budget(BUDGET) },
        ..Options::default()
    });
    let foreign = foreign.unwrap();
    bench.server.next(vec![Fault::SlowDown(None), Fault::CutBody(90), Fault::Portal]);
    let found: Vec<_> = foreign.objects().unwrap().into_iter().map(|o| (o.key, o.size)).collect();
    let mut wanted: Vec<_> = keys.iter().map(|key| (key[2..].to_owned(), 10)).collect();
    wanted.push(("up/../out".to_owned(), 7));
    wanted.sort();
    assert_eq!(found, wanted);
    for (number, key) in keys[..3].iter().enumerate() {
        let whole = foreign.read(&key[2..], 0..10).unwrap();
        assert_eq!(whole, format!("{number}123456789"), "{key}");
        assert_eq!(foreign.read(&key[2..], 3..6).unwrap(), "345");
        assert!(matches!(foreign.read(&key[2..], 3..11), Err(Error::Short { .. })));
    }
    for key in ["up/../out", "/double", "none"] {
        assert!(matches!(foreign.read(key, 0..1), Err(Error::NotFound { .. })), "{key}");
    }
    assert!(bench.server.requests().iter().all(|request| request.method == "GET"));
    bench.server.next(vec![Fault::NoCapability]);
    assert!(matches!(foreign.objects(), Err(Error::Denied { .. })));
}
