//! A server on this machine that answers as Backblaze B2's S3 API does, faults included.
//!
//! In: HTTP/1.1 requests to `127.0.0.1`. Out: what B2 would say: path-style objects, listings in pages,
//! deletes that only hide (versions are kept), 501 for conditional writes, 400 for checksum
//! headers, 403 in its three meanings. Signatures (SigV4) are checked in full, payloads against their
//! signed hash. A rule sees each request and may answer it with a [`Fault`] instead.
//!
//! Plain threads, one for each connection. Dropping the server stops it.

mod bucket;
mod exchange;
mod sign;
mod text;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bucket::Bucket;

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The only bucket.
    pub bucket: String,
    /// The region that requests must be signed for.
    pub region: String,
    /// The only key.
    pub key_id: String,
    /// Its secret.
    pub secret: String,
    /// Keys on one page of a listing.
    pub page_keys: usize,
    /// Where bodies live: in this directory, or in memory.
    pub bodies: Option<PathBuf>,
    /// Whether an unsigned HEAD of the bucket learns its region (Amazon says it, B2 does not).
    pub tells_region: bool,
    /// Seconds by which its clock is ahead.
    pub ahead_secs: i64,
    /// Rules of the bucket's lifecycle, as XML; none are set without.
    pub lifecycle: Option<String>,
    /// Object Lock, as XML.
    pub object_lock: Option<String>,
    /// What the key may do, as the native API tells it.
    pub capabilities: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bucket: "test-bucket".to_owned(),
            region: "us-west-004".to_owned(),
            key_id: "0044aaaabbbbccc0000000001".to_owned(),
            secret: "K004secretSECRETsecretSECRET".to_owned(),
            page_keys: 1_000,
            bodies: None,
            tells_region: false,
            ahead_secs: 0,
            lifecycle: None,
            object_lock: None,
            capabilities: ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"]
                .map(str::to_owned)
                .to_vec(),
        }
    }
}

/// One request, as a rule sees it and the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// 1 for the first, counting up.
    pub number: u64,
    /// `GET`, `PUT`, ...
    pub method: String,
    /// The key below the bucket; empty for requests about the bucket.
    pub key: String,
    /// The raw query.
    pub query: String,
    /// Names (lower case) and values.
    pub headers: Vec<(String, String)>,
    /// Length of its body.
    pub body_bytes: u64,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether this is a listing.
    pub fn is_list(&self) -> bool {
        self.method == "GET" && self.query.contains("list-type=2")
    }

    /// Whether this is a listing of versions.
    pub fn is_version_list(&self) -> bool {
        self.method == "GET" && self.query.split('&').any(|pair| pair == "versions=")
    }
}

/// What a rule answers in place of the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 503 SlowDown, with `Retry-After` in seconds.
    SlowDown(Option<u64>),
    /// 429, with `Retry-After` in seconds.
    TooMany(Option<u64>),
    /// Any status, S3 code and message.
    Status(u16, &'static str, &'static str),
    /// 403: no such key.
    BadKey,
    /// 403: the key may not do this.
    NoCapability,
    /// 403: an account's cap.
    CapExceeded,
    /// 404: no such bucket.
    NoBucket,
    /// Done, then 500.
    ErrorAfterDone,
    /// Done, then the connection is closed without an answer.
    CloseAfterDone,
    /// The connection is closed at once.
    Close,
    /// The right answer, cut after so many bytes of its body.
    CutBody(usize),
    /// The right answer, in pieces of so many bytes with a pause after each.
    SlowBody(usize, Duration),
    /// Status 200 with an error in the body.
    OkWithError,
    /// Status 200 with a web page.
    Portal,
    /// 400: signed for the wrong region; the body names the right one.
    WrongRegion(String),
}

/// Requests by price class, and bytes of bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUT and DELETE.
    pub class_a: u64,
    /// GET and HEAD of objects.
    pub class_b: u64,
    /// Everything about the bucket or account.
    pub class_c: u64,
    /// Bytes of bodies received.
    pub bytes_in: u64,
    /// Bytes of bodies sent.
    pub bytes_out: u64,
}

type Rule = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    config: Config,
    address: SocketAddr,
    stop: AtomicBool,
    bucket: Mutex<Bucket>,
    rule: Mutex<Option<Rule>>,
    log: Mutex<Log>,
    connections: Mutex<Vec<TcpStream>>,
}

#[derive(Default)]
struct Log {
    number: u64,
    counts: Counts,
    requests: Vec<Request>,
}

/// A long run should not fill memory with its log.
const LOGGED_REQUESTS_MAX: usize = 20_000;

impl Server {
    /// Starts a server on a free port.
    pub fn start(config: Config) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        if let Some(folder) = &config.bodies {
            std::fs::create_dir_all(folder)?;
        }
        let shared = Arc::new(Shared {
            bucket: Mutex::new(Bucket::new(config.bodies.clone())),
            config,
            address: listener.local_addr()?,
            stop: AtomicBool::new(false),
            rule: Mutex::new(None),
            log: Mutex::default(),
            connections: Mutex::default(),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { shared, accepting: Some(accepting) })
    }

    /// `http://127.0.0.1:port`: the endpoint, and the base of the native API.
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// How it was set up.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// From now on `rule` sees each request that is properly signed, before anything is done.
    pub fn on(&self, rule: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        *lock(&self.shared.rule) = Some(Box::new(rule));
    }

    /// Answers the next requests with these faults, one each, then truly again.
    pub fn next(&self, faults: Vec<Fault>) {
        let mut faults = faults.into_iter();
        self.on(move |_| faults.next());
    }

    /// No more faults.
    pub fn heal(&self) {
        *lock(&self.shared.rule) = None;
    }

    /// Requests and bytes so far.
    pub fn counts(&self) -> Counts {
        lock(&self.shared.log).counts
    }

    /// The requests so far (the first 20,000), refused ones too.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.log).requests.clone()
    }

    /// Puts an object of somebody else there, without a request.
    pub fn plant(&self, key: &str, bytes: &[u8]) {
        let body = bucket::Body::Memory(Arc::new(bytes.to_vec()));
        lock(&self.shared.bucket).put(key, body);
    }

    /// Keys that a listing shows.
    pub fn keys(&self) -> Vec<String> {
        lock(&self.shared.bucket).live().map(|(key, ..)| key.to_owned()).collect()
    }

    /// How many versions of a key are stored, hide markers included.
    pub fn versions(&self, key: &str) -> usize {
        lock(&self.shared.bucket).versions(key)
    }

    /// Bytes that the live objects hold together.
    pub fn live_bytes(&self) -> u64 {
        lock(&self.shared.bucket).live().map(|(_, size, _)| size).sum()
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, then ends the connections' threads.
        let _ = TcpStream::connect(self.shared.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
        for connection in lock(&self.shared.connections).drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(connection) = connection else { continue };
        if let Ok(clone) = connection.try_clone() {
            let mut open = lock(&shared.connections);
            // Forget those whose peer is gone.
            open.retain(|connection| connection.peer_addr().is_ok());
            open.push(clone);
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A peer that goes away ends its connection, not the server.
            let _ = exchange::serve(&connection, &shared);
            let _ = connection.shutdown(std::net::Shutdown::Both);
        });
    }
}

impl Shared {
    /// Numbers, counts and logs a request.
    fn note(&self, request: &mut Request) {
        let mut log = lock(&self.log);
        log.number += 1;
        request.number = log.number;
        match request.method.as_str() {
            "PUT" | "DELETE" => log.counts.class_a += 1,
            "GET" | "HEAD" if !request.key.is_empty() => log.counts.class_b += 1,
            _ => log.counts.class_c += 1,
        }
        log.counts.bytes_in += request.body_bytes;
        if log.requests.len() < LOGGED_REQUESTS_MAX {
            log.requests.push(request.clone());
        }
    }

    fn sent(&self, bytes: u64) {
        lock(&self.log).counts.bytes_out += bytes;
    }

    fn fault(&self, request: &Request) -> Option<Fault> {
        lock(&self.rule).as_mut().and_then(|rule| rule(request))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
