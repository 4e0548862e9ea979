//! One connection: requests in, answers out, until one side has enough.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use super::bucket::{Body, Incoming};
use super::text::{decode, http_date, iso_date, query, xml};
use super::{Fault, Request, Shared, lock, sign};

/// Bytes moved at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Longest head of a request.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// An answer that is ready to be sent.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
    /// First byte and length of the body that are sent.
    part: (u64, u64),
}

/// The request's head, and what of its target the rules do not see.
struct Head {
    request: Request,
    path: String,
}

pub(super) fn serve(connection: &TcpStream, shared: &Shared) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 << 10, connection);
    while let Some(head) = read_head(&mut reader, &shared.config.bucket)? {
        if !answer_one(head, &mut reader, connection, shared)? {
            break;
        }
    }
    Ok(())
}

/// Handles one request; whether the connection goes on.
fn answer_one(
    mut head: Head,
    reader: &mut impl Read,
    connection: &TcpStream,
    shared: &Shared,
) -> io::Result<bool> {
    shared.note(&mut head.request);
    let refusal = refuse(&head, shared);
    let fault = if refusal.is_none() { shared.fault(&head.request) } else { None };
    if fault == Some(Fault::Close) {
        return Ok(false);
    }
    let (body, hash) = read_body(reader, &head.request, shared)?;
    let refusal = refusal.or_else(|| false_payload(&head.request, &hash));
    let answer = match (refusal, &fault) {
        (Some(refusal), _) => refusal,
        (None, Some(fault)) => match instead(fault, shared) {
            Some(answer) => answer,
            None => fulfil(&head, body, shared),
        },
        (None, None) => fulfil(&head, body, shared),
    };
    match fault {
        Some(Fault::ErrorAfterDone) => send(
            &error(500, "InternalError", "after the fact"),
            &head.request,
            None,
            connection,
            shared,
        ),
        Some(Fault::CloseAfterDone) => Ok(false),
        fault => send(&answer, &head.request, fault.as_ref(), connection, shared),
    }
}

/// Reads a request's head; `None` when the peer is done.
fn read_head(reader: &mut impl BufRead, bucket: &str) -> io::Result<Option<Head>> {
    let mut lines = Vec::new();
    let mut head = reader.take(HEAD_BYTES_MAX);
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let mut first = lines.first().ok_or_else(bad)?.split(' ');
    let method = first.next().ok_or_else(bad)?.to_owned();
    let target = first.next().ok_or_else(bad)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let key = decode(path, false);
    let key = key.strip_prefix(&format!("/{bucket}/")).unwrap_or("").to_owned();
    let mut request =
        Request { number: 0, method, key, query: query.to_owned(), headers, body_bytes: 0 };
    request.body_bytes = match request.header("content-length") {
        Some(len) => len.parse().map_err(|_| bad())?,
        None => 0,
    };
    Ok(Some(Head { path: path.to_owned(), request }))
}

/// What B2 refuses before it looks at the body.
fn refuse(head: &Head, shared: &Shared) -> Option<Answer> {
    let (request, config) = (&head.request, &shared.config);
    if head.path == "/b2api/v3/b2_authorize_account" {
        return None; // checked there, by another scheme
    }
    if request.method == "HEAD"
        && request.key.is_empty()
        && request.header("authorization").is_none()
    {
        let mut answer = error(403, "AccessDenied", "");
        if config.tells_region {
            answer.headers.push(("x-amz-bucket-region", config.region.clone()));
        }
        return Some(answer);
    }
    if let Err((code, message)) = sign::check(config, request, &head.path) {
        let status = if code == "AuthorizationHeaderMalformed" { 400 } else { 403 };
        let region = if status == 400 { config.region.as_str() } else { "" };
        return Some(error_in(status, code, &message, region));
    }
    let ours = decode(&head.path, false);
    let root = format!("/{}", config.bucket);
    if ours != root && !ours.starts_with(&format!("{root}/")) {
        return Some(error(404, "NoSuchBucket", "The specified bucket does not exist"));
    }
    let writes = matches!(request.method.as_str(), "PUT" | "POST");
    let has = |start: &str| request.headers.iter().any(|(name, _)| name.starts_with(start));
    if writes && (has("if-") || has("x-amz-tagging")) {
        let text = "A header you provided implies functionality that is not implemented";
        return Some(error(501, "NotImplemented", text));
    }
    if has("x-amz-checksum-") || has("x-amz-sdk-checksum-") {
        return Some(error(400, "InvalidArgument", "Unsupported header 'x-amz-checksum'"));
    }
    if has("transfer-encoding") || (writes && request.header("content-length").is_none()) {
        return Some(error(411, "MissingContentLength", "You must provide a length"));
    }
    None
}

/// The body must be what was signed.
fn false_payload(request: &Request, hash: &str) -> Option<Answer> {
    let signed = request.header("x-amz-content-sha256")?;
    (signed != hash)
        .then(|| error(400, "XAmzContentSHA256Mismatch", "The provided hash does not match"))
}

fn read_body(
    reader: &mut impl Read,
    request: &Request,
    shared: &Shared,
) -> io::Result<(Body, String)> {
    let folder = lock(&shared.bucket).folder();
    let keep = if request.method == "PUT" { folder.as_ref() } else { None };
    let mut incoming = Incoming::new(keep, request.number)?;
    let mut hash = Sha256::new();
    let mut rest = request.body_bytes;
    let mut piece = vec![0; PIECE_BYTES];
    while rest > 0 {
        let want = usize::try_from(rest).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
        let got = reader.read(&mut piece[..want])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&piece[..got]);
        incoming.push(&piece[..got])?;
        rest -= got as u64;
    }
    Ok((incoming.finish(), HEXLOWER.encode(&hash.finalize())))
}

/// The answer of a fault that takes the place of the truth.
fn instead(fault: &Fault, shared: &Shared) -> Option<Answer> {
    let with_wait = |mut answer: Answer, wait: &Option<u64>| {
        answer.headers.extend(wait.map(|secs| ("Retry-After", secs.to_string())));
        answer
    };
    Some(match fault {
        Fault::SlowDown(wait) => with_wait(error(503, "SlowDown", "no tomes available"), wait),
        Fault::TooMany(wait) => with_wait(error(429, "TooManyRequests", "Slow down"), wait),
        Fault::Status(status, code, message) => error(*status, code, message),
        Fault::BadKey => error(403, "InvalidAccessKeyId", "The key is not valid"),
        Fault::NoCapability => error(403, "AccessDenied", "not entitled"),
        Fault::CapExceeded => {
            error(403, "AccessDenied", "Transaction cap exceeded, see the Caps & Alerts page")
        }
        Fault::NoBucket => error(404, "NoSuchBucket", "The specified bucket does not exist"),
        Fault::OkWithError => error(200, "InternalError", "We encountered an internal error"),
        Fault::Portal => {
            let page = "<!DOCTYPE html><html><body>Welcome to Hotel WiFi</body></html>";
            let mut answer = ready(200, page);
            answer.headers = vec![("Content-Type", "text/html; charset=utf-8".to_owned())];
            answer.headers.push(("ETag", "\"portal\"".to_owned()));
            answer
        }
        Fault::WrongRegion(region) => {
            let region = if region.is_empty() { &shared.config.region } else { region };
            error_in(400, "AuthorizationHeaderMalformed", "expecting another region", region)
        }
        _ => return None,
    })
}

/// Does what was asked.
fn fulfil(head: &Head, body: Body, shared: &Shared) -> Answer {
    let request = &head.request;
    if head.path == "/b2api/v3/b2_authorize_account" {
        return authorize(request, shared);
    }
    match (request.method.as_str(), request.key.as_str()) {
        ("GET", "") if request.is_list() => list(request, shared),
        ("GET", "") if request.is_version_list() => list_versions(request, shared),
        ("GET", "") if request.query == "lifecycle=" => {
            rules(shared.config.lifecycle.as_ref(), "NoSuchLifecycleConfiguration")
        }
        ("GET", "") if request.query == "object-lock=" => {
            rules(shared.config.object_lock.as_ref(), "ObjectLockConfigurationNotFoundError")
        }
        ("GET", "") if request.query == "versioning=" => xml_answer(
            200,
            "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        ),
        ("HEAD", "") => ready(200, ""),
        ("GET" | "HEAD", key) if !key.is_empty() => get(key, request, shared),
        ("PUT", key) if !key.is_empty() => {
            let id = lock(&shared.bucket).put(key, body);
            let mut answer = ready(200, "");
            answer.headers.push(("ETag", format!("\"v{id}\"")));
            answer
        }
        ("DELETE", key) if !key.is_empty() => {
            lock(&shared.bucket).hide(key);
            ready(204, "")
        }
        _ => error(501, "NotImplemented", "not in this server"),
    }
}

fn get(key: &str, request: &Request, shared: &Shared) -> Answer {
    let bucket = lock(&shared.bucket);
    let query = query(&request.query);
    let asked = query.iter().find(|(name, _)| name == "versionId").map(|(_, id)| id.parse::<u64>());
    let found = match asked {
        None => bucket.newest(key),
        Some(Ok(id)) => bucket.version(key, id),
        Some(Err(_)) => return error(400, "InvalidArgument", "Invalid version id specified"),
    };
    let Some((version, body)) = found else {
        return error(404, "NoSuchKey", "The specified key does not exist.");
    };
    let len = body.len();
    let headers = vec![
        ("ETag", format!("\"v{}\"", version.id)),
        ("Last-Modified", http_date(version.modified)),
        ("Content-Type", "application/octet-stream".to_owned()),
    ];
    let mut answer = Answer { status: 200, headers, body: body.clone(), part: (0, len) };
    let range = request.header("range").and_then(|range| {
        let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((start.parse::<u64>().ok()?, end.parse::<u64>().unwrap_or(u64::MAX)))
    });
    if let Some((start, last)) = range {
        if start >= len || last < start {
            return error(416, "InvalidRange", "The requested range is not satisfiable");
        }
        let last = last.min(len - 1);
        answer.status = 206;
        answer.part = (start, last - start + 1);
        answer.headers.push(("Content-Range", format!("bytes {start}-{last}/{len}")));
    }
    answer
}

fn list(request: &Request, shared: &Shared) -> Answer {
    let query = query(&request.query);
    let value = |name: &str| {
        query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let prefix = value("prefix");
    let page = value("max-keys").parse().unwrap_or(usize::MAX).min(shared.config.page_keys);
    // A token is the last key of the page before.
    let after = value("continuation-token").max(value("start-after"));
    let bucket = lock(&shared.bucket);
    let mut keys = bucket
        .live_from(prefix.max(after))
        .filter(|(key, ..)| *key > after)
        .take_while(|(key, ..)| key.starts_with(prefix))
        .peekable();
    let mut contents = String::new();
    let (mut count, mut last) = (0, "");
    while count < page
        && let Some((key, size, modified)) = keys.next()
    {
        let (key_xml, date) = (xml(key), iso_date(modified));
        let _ = write!(
            contents,
            "<Contents><Key>{key_xml}</Key><LastModified>{date}</LastModified><ETag>\"x\"</ETag>\
             <Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        );
        (count, last) = (count + 1, key);
    }
    let more = keys.peek().is_some();
    let token = if more {
        format!("<NextContinuationToken>{}</NextContinuationToken>", xml(last))
    } else {
        String::new()
    };
    let (name, prefix) = (xml(&shared.config.bucket), xml(prefix));
    xml_answer(
        200,
        &format!(
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{name}</Name>\
             <Prefix>{prefix}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>{page}</MaxKeys>\
             <IsTruncated>{more}</IsTruncated>{token}{contents}</ListBucketResult>"
        ),
    )
}

/// Versions and hide markers, in pages that begin after a key and one of its versions.
fn list_versions(request: &Request, shared: &Shared) -> Answer {
    let query = query(&request.query);
    let value = |name: &str| {
        query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let (prefix, after) = (value("prefix"), value("key-marker"));
    let after_id = value("version-id-marker").parse::<u64>().unwrap_or_default();
    let page = value("max-keys").parse().unwrap_or(usize::MAX).min(shared.config.page_keys);
    let bucket = lock(&shared.bucket);
    // a key's newer versions have higher ids and come first
    let is_left =
        |key: &str, id: u64| key > after || (key == after && after_id != 0 && id < after_id);
    let mut left =
        bucket.all_versions(prefix).filter(|(key, version, _)| is_left(key, version.id)).peekable();
    let (mut rows, mut next) = (String::new(), String::new());
    for (key, version, is_latest) in left.by_ref().take(page) {
        let (key, id, date) = (xml(key), version.id, iso_date(version.modified));
        let size = version.body.as_ref().map(Body::len);
        let tag = if size.is_some() { "Version" } else { "DeleteMarker" };
        let size = size.map(|size| format!("<Size>{size}</Size>")).unwrap_or_default();
        let _ = write!(
            rows,
            "<{tag}><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{is_latest}</IsLatest>\
             <LastModified>{date}</LastModified>{size}</{tag}>"
        );
        next = format!(
            "<NextKeyMarker>{key}</NextKeyMarker><NextVersionIdMarker>{id}</NextVersionIdMarker>"
        );
    }
    let more = left.peek().is_some();
    let next = if more { next } else { String::new() };
    xml_answer(
        200,
        &format!(
            "<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <IsTruncated>{more}</IsTruncated>{next}{rows}</ListVersionsResult>"
        ),
    )
}

/// What is set at the bucket, or S3's way of saying that nothing is.
fn rules(set: Option<&String>, nothing: &str) -> Answer {
    match set {
        Some(text) => xml_answer(200, text),
        None => error(404, nothing, "nothing of that kind is set"),
    }
}

/// The native API's one call: which S3 endpoint does this key belong to?
fn authorize(request: &Request, shared: &Shared) -> Answer {
    let config = &shared.config;
    let pair = format!("{}:{}", config.key_id, config.secret);
    let expected = format!("Basic {}", BASE64.encode(pair.as_bytes()));
    if request.header("authorization") != Some(&expected) {
        return ready(401, r#"{"code":"bad_auth_token","message":"invalid","status":401}"#);
    }
    let url = format!("http://{}", shared.address);
    let capabilities: Vec<String> =
        config.capabilities.iter().map(|one| format!("\"{one}\"")).collect();
    let capabilities = capabilities.join(",");
    let mut answer = ready(
        200,
        &format!(
            r#"{{"apiInfo":{{"storageApi":{{"s3ApiUrl":"{url}","capabilities":[{capabilities}]}}}}}}"#
        ),
    );
    answer.headers.push(("Content-Type", "application/json".to_owned()));
    answer
}

fn ready(status: u16, body: &str) -> Answer {
    let body = Body::Memory(body.as_bytes().to_vec().into());
    let part = (0, body.len());
    Answer { status, headers: Vec::new(), body, part }
}

fn xml_answer(status: u16, body: &str) -> Answer {
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}\n");
    let mut answer = ready(status, &text);
    answer.headers.push(("Content-Type", "application/xml".to_owned()));
    answer
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    error_in(status, code, message, "")
}

fn error_in(status: u16, code: &str, message: &str, region: &str) -> Answer {
    let message = xml(message);
    let region =
        if region.is_empty() { String::new() } else { format!("<Region>{region}</Region>") };
    let body = format!("<Error><Code>{code}</Code><Message>{message}</Message>{region}</Error>");
    xml_answer(status, &body)
}

/// Writes an answer; whether the connection goes on.
fn send(
    answer: &Answer,
    request: &Request,
    fault: Option<&Fault>,
    mut connection: &TcpStream,
    shared: &Shared,
) -> io::Result<bool> {
    let (start, len) = answer.part;
    let status = answer.status;
    #[expect(clippy::disallowed_methods, reason = "a server has its own clock")]
    let now = SystemTime::now();
    let now = now + Duration::from_secs(shared.config.ahead_secs.unsigned_abs());
    let behind = Duration::from_secs(shared.config.ahead_secs.unsigned_abs()) * 2;
    let now = if shared.config.ahead_secs < 0 { now - behind } else { now };
    let mut head = format!("HTTP/1.1 {status} -\r\nx-amz-request-id: {}\r\n", request.number);
    let _ = write!(head, "Date: {}\r\n", http_date(now));
    for (name, value) in &answer.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if status != 204 {
        let _ = write!(head, "Content-Length: {len}\r\n");
    }
    head.push_str("\r\n");
    connection.write_all(head.as_bytes())?;
    if request.method == "HEAD" || status == 204 {
        return Ok(true);
    }
    let (piece_max, pause) = match fault {
        Some(Fault::SlowBody(bytes, pause)) => ((*bytes).max(1), Some(*pause)),
        _ => (PIECE_BYTES, None),
    };
    let cut = match fault {
        Some(Fault::CutBody(bytes)) => len.min(*bytes as u64),
        _ => len,
    };
    let mut piece = vec![0; piece_max];
    let mut done = 0;
    while done < cut {
        let want = usize::try_from(cut - done).map_or(piece_max, |rest| rest.min(piece_max));
        answer.body.read_at(&mut piece[..want], start + done)?;
        connection.write_all(&piece[..want])?;
        done += want as u64;
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
    }
    shared.sent(done);
    Ok(cut == len)
}
