//! A server that answers as B2's S3 API does, for trials by hand:
//!
//!     cargo run --release -p agent-backup-testkit --example b2-server -- BODIES-DIR
//!
//! Bodies lie in the directory. Prints the settings of a client, then serves until it is killed. For
//! each line on standard input it prints the bytes it received and sent, and its requests by class; a line
//! that says `cut`, `cap`, `badkey`, `busy` or `heal` makes it fail so from then on, or no more.

use std::path::PathBuf;

use testkit::server::{Config, Fault, Request, Server};

#[allow(clippy::print_stdout, reason = "what it prints is what it is for")]
fn main() -> std::io::Result<()> {
    let bodies = std::env::args_os().nth(1).map(PathBuf::from);
    let server = Server::start(Config { bodies, ..Config::default() })?;
    let Config { bucket, region, key_id, secret, .. } = server.config();
    println!("export S3_TEST_ENDPOINT={}", server.url());
    println!("export S3_TEST_BUCKET={bucket} S3_TEST_REGION={region}");
    println!("export S3_TEST_KEY_ID={key_id} S3_TEST_SECRET={secret}");
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "cut" => server.on(|_| Some(Fault::Close)),
            "cap" => server
                .on(|request: &Request| (request.method == "PUT").then_some(Fault::CapExceeded)),
            "badkey" => server.on(|_| Some(Fault::BadKey)),
            "busy" => server.on(|_| Some(Fault::SlowDown(Some(1)))),
            "heal" => server.heal(),
            _ => {}
        }
        let counts = server.counts();
        println!(
            "in {} out {} a {} b {} c {}",
            counts.bytes_in, counts.bytes_out, counts.class_a, counts.class_b, counts.class_c
        );
    }
    loop {
        std::thread::park();
    }
}
