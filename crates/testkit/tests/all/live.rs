//! The contract against a server that we did not write. Run it through `tests/moto/run.sh`.

use std::sync::Arc;
use std::time::Duration;

use store::{Address, Credentials, Options, Retry, Secret};
use testkit::conformance;

fn setting(name: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "tests/moto/run.sh tells us through them")]
    let value = std::env::var(name);
    value.expect("set by tests/moto/run.sh; run this test through it")
}

fn address(prefix: &str) -> Address {
    let (endpoint, bucket) = (setting("S3_TEST_ENDPOINT"), setting("S3_TEST_BUCKET"));
    Address::parse(&format!("s3:{endpoint}/{bucket}/{prefix}")).expect("an address")
}

fn options() -> Options {
    let credentials = Credentials {
        key_id: setting("S3_TEST_KEY_ID"),
        secret: Secret::new(setting("S3_TEST_SECRET")),
    };
    Options {
        credentials: Some(credentials),
        region: Some(setting("S3_TEST_REGION")),
        retry: Retry::with_budget(Duration::from_secs(10)),
        ..Options::default()
    }
}

#[test]
#[ignore = "needs an S3 server, which this starts: tests/moto/run.sh cargo test -p agent-backup-testkit --test all live:: -- --ignored"]
fn a_foreign_server_keeps_the_contract() {
    let count = std::cell::Cell::new(0);
    conformance(|| {
        count.set(count.get() + 1);
        address(&format!("run-{}/{}", std::process::id(), count.get()))
            .open(options())
            .expect("opens")
    });
}

#[test]
#[ignore = "needs an S3 server, which this starts: tests/moto/run.sh cargo test -p agent-backup-testkit --test all live:: -- --ignored"]
fn a_missing_bucket_is_named() {
    let endpoint = setting("S3_TEST_ENDPOINT");
    let address = Address::parse(&format!("s3:{endpoint}/no-such-bucket")).expect("an address");
    let store: Arc<dyn store::Store> =
        address.open(Options { region: None, ..options() }).expect("opens");
    let e = store.list("").expect_err("no such bucket");
    assert!(matches!(e, store::Error::NoSuchStore { .. }), "{e:?}");
}
