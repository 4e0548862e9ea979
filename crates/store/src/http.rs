//! The layer between `object_store` and the wire: it sees every request and every answer.
//!
//! It counts requests by price class, holds uploads to a rate, bounds how long a transfer may take,
//! and keeps what `object_store` drops and the retry policy needs: `Retry-After` and the body of an
//! error. It also refuses answers that look like success and are not: a captive portal's page, an
//! error under status 200, a listing that was cut.
//!
//! A call's answer travels in a task-local [`SEEN`]: `object_store` sends each request in the task that
//! asked for it.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};

use crate::answer::{Answer, check_listing};
use crate::limit::{FRAME_BYTES, Line};

/// Longest wait for an answer to a request without a body, and the least for one with.
const ANSWER_TIME_MIN: Duration = Duration::from_secs(120);
/// Uploads slower than this are given up (256 kbit/s).
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 32 << 10;
/// A download that brings no byte for this long is given up.
const READ_IDLE_MAX: Duration = Duration::from_secs(60);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);
/// Longest body of an error that is read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Longest page of a listing: 1,000 keys take about 400 KiB.
const LISTING_BYTES_MAX: usize = 16 << 20;
/// Longest `Retry-After` believed.
const RETRY_AFTER_SECS_MAX: u64 = 24 * 3600;

tokio::task_local! {
    /// What the wire said to the call that runs in this task.
    pub(crate) static SEEN: Arc<Mutex<Option<Seen>>>;
}

/// How the last request of a call ended, if not well.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// The storage, or somebody in its place, answered.
    Answer(Answer),
    /// There was no answer; `lasting` if another try cannot bring one.
    Broken { detail: String, lasting: bool },
}

/// Requests and bytes so far, by Backblaze's price classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Class A, free: PUT and DELETE.
    pub class_a: u64,
    /// Class B: GET and HEAD of an object.
    pub class_b: u64,
    /// Class C: listings and requests about the bucket or the account.
    pub class_c: u64,
    /// Bytes of bodies sent, those of failed tries too.
    pub bytes_sent: u64,
    /// Bytes of bodies received.
    pub bytes_received: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    class_a: AtomicU64,
    class_b: AtomicU64,
    class_c: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Counters {
    pub(crate) fn usage(&self) -> Usage {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            class_a: read(&self.class_a),
            class_b: read(&self.class_b),
            class_c: read(&self.class_c),
            bytes_sent: read(&self.sent),
            bytes_received: read(&self.received),
        }
    }

    fn count(&self, method: &Method, kind: Kind) {
        let class = match (method, kind) {
            (&Method::PUT | &Method::DELETE, _) => &self.class_a,
            (_, Kind::Object) => &self.class_b,
            _ => &self.class_c,
        };
        class.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Listing,
    /// Sent by us around `object_store`: discovery.
    Other,
}

/// The wire. Clones share connections, counters and the rate.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    client: reqwest::Client,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    counters: Arc<Counters>,
    line: Option<Line>,
    start: Instant,
}

fn client(local: bool) -> Result<reqwest::Client, reqwest::Error> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("agent-backup/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .connect_timeout(CONNECT_TIME_MAX)
        .pool_max_idle_per_host(16)
        .https_only(!local)
        // A redirect would carry a signed request to another host.
        .redirect(reqwest::redirect::Policy::none());
    let builder = if local { builder.no_proxy() } else { builder };
    builder.build()
}

impl Wire {
    /// `local`: plain HTTP to this machine, which no proxy may see.
    pub(crate) fn new(
        counters: Arc<Counters>,
        upload_bytes_per_second: Option<u64>,
        local: bool,
    ) -> Result<Self, reqwest::Error> {
        let line = upload_bytes_per_second.map(Line::new);
        let shared = Arc::new(Shared { counters, line, start: Instant::now() });
        Ok(Self { client: client(local)?, shared })
    }

    /// The same, over connections of its own.
    pub(crate) fn renewed(&self, local: bool) -> Result<Self, reqwest::Error> {
        Ok(Self { client: client(local)?, shared: Arc::clone(&self.shared) })
    }

    /// A plain GET or HEAD around `object_store`. `Err` says what broke.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: &str,
        authorization: Option<&str>,
    ) -> Result<Answer, String> {
        let mut request = http::Request::builder().method(method).uri(url);
        if let Some(value) = authorization {
            let mut value = http::HeaderValue::from_str(value).map_err(|e| e.to_string())?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(HttpRequestBody::empty()).map_err(|e| e.to_string())?;
        let response = self.exchange(request, Kind::Other).await.map_err(|e| root_cause(&e))?;
        let (parts, body) = response.into_parts();
        let body = read_up_to(body, ERROR_BYTES_MAX).await.map_err(|e| root_cause(&e))?;
        Ok(answer(parts.status, &parts.headers, &body))
    }

    /// Sends a request and waits for the head of its answer.
    async fn exchange(&self, request: HttpRequest, kind: Kind) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        self.shared.counters.count(&parts.method, kind);
        let url = parts.uri.to_string().parse().map_err(|e| broken(HttpErrorKind::Unknown, e))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let len = body.content_length() as u64;
        let waited = Arc::new(AtomicU64::new(0));
        if len > 0 {
            // The length goes ahead in a header of object_store's: no chunked encoding.
            *request.body_mut() = Some(self.upload(body, Arc::clone(&waited)));
        }
        let sending = self.client.execute(request);
        tokio::pin!(sending);
        let start = Instant::now();
        let answered = loop {
            let held_back = Duration::from_millis(waited.load(Ordering::Relaxed));
            let rest = (upload_time_max(len) + held_back).saturating_sub(start.elapsed());
            match tokio::time::timeout(rest, &mut sending).await {
                Ok(answered) => break answered.map_err(from_reqwest)?,
                Err(_) if Duration::from_millis(waited.load(Ordering::Relaxed)) > held_back => {}
                Err(e) => return Err(broken(HttpErrorKind::Timeout, e)),
            }
        };
        let (parts, body) = http::Response::<reqwest::Body>::from(answered).into_parts();
        Ok(HttpResponse::from_parts(parts, self.download(body)))
    }

    /// The body of a request, in frames that wait for the line. Adds the milliseconds to `waited`.
    fn upload(&self, body: HttpRequestBody, waited: Arc<AtomicU64>) -> reqwest::Body {
        let shared = Arc::clone(&self.shared);
        let frames = body.into_data_stream().flat_map(|part| stream::iter(frames(part)));
        let paced = frames.then(move |frame| {
            let (shared, waited) = (Arc::clone(&shared), Arc::clone(&waited));
            async move {
                if let (Ok(frame), Some(line)) = (&frame, &shared.line) {
                    let wait = line.take(frame.len(), shared.start.elapsed());
                    if !wait.is_zero() {
                        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                        waited.fetch_add(millis + 1, Ordering::Relaxed);
                        tokio::time::sleep(wait).await;
                    }
                }
                if let Ok(frame) = &frame {
                    shared.counters.sent.fetch_add(frame.len() as u64, Ordering::Relaxed);
                }
                frame
            }
        });
        reqwest::Body::wrap_stream(paced)
    }

    fn download(&self, body: reqwest::Body) -> HttpResponseBody {
        HttpResponseBody::new(Download {
            body,
            idle: Box::pin(tokio::time::sleep(READ_IDLE_MAX)),
            shared: Arc::clone(&self.shared),
        })
    }
}

/// The body of an answer: counted, and given up when nothing comes.
struct Download {
    body: reqwest::Body,
    idle: Pin<Box<tokio::time::Sleep>>,
    shared: Arc<Shared>,
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.shared.counters.received.fetch_add(len, Ordering::Relaxed);
                self.idle.as_mut().reset(tokio::time::Instant::now() + READ_IDLE_MAX);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(e))) => Poll::Ready(Some(Err(from_reqwest(e)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.idle.as_mut().poll(cx).map(|()| {
                let e = io::Error::new(io::ErrorKind::TimedOut, "the answer stopped coming");
                Some(Err(broken(HttpErrorKind::Timeout, e)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let method = request.method().clone();
        let of_listings = |pair: &str| pair == "list-type=2" || pair == "versions=";
        let listing = request.uri().query().is_some_and(|q| q.split('&').any(of_listings));
        let kind = if listing { Kind::Listing } else { Kind::Object };
        let response = self.exchange(request, kind).await.inspect_err(|e| {
            let detail = root_cause(e);
            let lasting = detail.contains("certificate");
            note(Seen::Broken { detail, lasting });
        })?;
        inspect(&method, kind, response).await
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// Notes an answer that is no success, or only looks like one, and passes it on.
async fn inspect(
    method: &Method,
    kind: Kind,
    response: HttpResponse,
) -> Result<HttpResponse, HttpError> {
    let (mut parts, body) = response.into_parts();
    let good = parts.status.is_success();
    let object = good && method == Method::GET && kind == Kind::Object;
    if object && !is_html(&parts.headers) {
        return Ok(HttpResponse::from_parts(parts, body));
    }
    let max = if good && kind == Kind::Listing { LISTING_BYTES_MAX } else { ERROR_BYTES_MAX };
    let body = read_up_to(body, max).await.inspect_err(|e| {
        note(Seen::Broken { detail: root_cause(e), lasting: false });
    })?;
    let mut seen = answer(parts.status, &parts.headers, &body);
    // Nobody stores our objects as HTML, and only the start of this one was read.
    seen.web_page |= object;
    let wrong = if !good || seen.web_page {
        None
    } else if kind == Kind::Listing {
        check_listing(&seen.body).err()
    } else {
        // An error that came under status 200; a good PUT or DELETE says nothing.
        seen.body.trim_start().starts_with('<').then_some("success with an error in its body")
    };
    if let Some(detail) = wrong {
        let mut detail = detail.to_owned();
        if seen.code().is_some() {
            detail = format!("{detail}: {}", seen.detail());
        }
        note(Seen::Broken { detail: detail.clone(), lasting: false });
        return Err(broken(HttpErrorKind::Decode, io::Error::other(detail)));
    }
    if seen.web_page && good {
        // `object_store` would believe it.
        parts.status = StatusCode::BAD_GATEWAY;
    }
    if !parts.status.is_success() {
        note(Seen::Answer(seen));
    }
    Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(body)))
}

fn note(seen: Seen) {
    // Outside of a call nobody wants to know.
    let _ = SEEN.try_with(|slot| {
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    });
}

fn answer(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Answer {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // The other form of Retry-After is a date; no storage sends it.
    let secs = text("retry-after").and_then(|value| value.trim().parse::<u64>().ok());
    Answer {
        status: status.as_u16(),
        retry_after: secs.map(|secs| Duration::from_secs(secs.min(RETRY_AFTER_SECS_MAX))),
        region: text("x-amz-bucket-region").map(str::to_owned),
        web_page: is_html(headers) && holds_html(body),
        body: String::from_utf8_lossy(body).into_owned(),
    }
}

fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
}

/// Some storages call every answer HTML, empty ones too.
fn holds_html(body: &Bytes) -> bool {
    let start = String::from_utf8_lossy(&body[..body.len().min(1024)]).to_ascii_lowercase();
    start.contains("<html") || start.contains("<!doctype html")
}

/// Reads a body; a longer one is an error for a listing and cut for an error's text.
async fn read_up_to(body: HttpResponseBody, max: usize) -> Result<Bytes, HttpError> {
    let mut stream = body.bytes_stream();
    let mut bytes = BytesMut::new();
    while let Some(part) = stream.next().await {
        bytes.extend_from_slice(&part?);
        if bytes.len() > max {
            bytes.truncate(max);
            break;
        }
    }
    Ok(bytes.freeze())
}

/// The text of a listing.
pub(crate) async fn text_of(response: HttpResponse) -> Result<String, HttpError> {
    let body = read_up_to(response.into_body(), LISTING_BYTES_MAX).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// An answer, read to its end: also one that is no success.
pub(crate) async fn answer_of(response: HttpResponse) -> Result<Answer, HttpError> {
    let (parts, body) = response.into_parts();
    let body = read_up_to(body, ERROR_BYTES_MAX).await?;
    Ok(answer(parts.status, &parts.headers, &body))
}

/// The frames of one part; an error stays one.
fn frames(part: Result<Bytes, HttpError>) -> Vec<Result<Bytes, HttpError>> {
    match part {
        Ok(mut rest) => {
            let mut frames = Vec::with_capacity(rest.len().div_ceil(FRAME_BYTES));
            while !rest.is_empty() {
                frames.push(Ok(rest.split_to(rest.len().min(FRAME_BYTES))));
            }
            frames
        }
        Err(e) => vec![Err(e)],
    }
}

/// How long a request with a body of `len` bytes may take until its answer begins.
fn upload_time_max(len: u64) -> Duration {
    Duration::from_secs(len / UPLOAD_BYTES_PER_SECOND_MIN).max(ANSWER_TIME_MIN)
}

fn broken(kind: HttpErrorKind, e: impl Error + Send + Sync + 'static) -> HttpError {
    HttpError::new(kind, e)
}

fn from_reqwest(e: reqwest::Error) -> HttpError {
    let kind = if e.is_timeout() {
        HttpErrorKind::Timeout
    } else if e.is_connect() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, e.without_url())
}

/// The innermost words of an error: what happened, without addresses.
pub(crate) fn root_cause(e: &(dyn Error + 'static)) -> String {
    let mut deepest = e;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_answer_labelled_html_is_no_web_page() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html"));
        let page = |body: &'static str| {
            answer(StatusCode::OK, &headers, &Bytes::from_static(body.as_bytes())).web_page
        };
        assert!(!page(""), "moto says this of every answer");
        assert!(!page("<Error><Code>SlowDown</Code></Error>"));
        assert!(page("\n<!DOCTYPE html><p>Welcome"));
        assert!(page("<HTML>"));
    }

    #[test]
    fn f1_a_slow_but_steady_upload_is_not_cut() {
        assert_eq!(upload_time_max(1), Duration::from_secs(120));
        // 64 MiB at 1 Mbit/s take 537 s.
        assert!(upload_time_max(64 << 20) > Duration::from_secs(2_000));
    }
}
