//! A heartbeat: one GET whose answer is only looked at for success.
//!
//! In: an address that somebody gave. Out: whether a server said yes to it. The address may hold a secret
//! (most services put one into its path), so no message repeats more of it than its host.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use url::Url;

use crate::http::{Counters, Wire};

/// Tries before it is given up: a heartbeat that is lost looks like a backup that is.
const TRIES: u32 = 3;
/// The pause after the first try; twice as long after the second.
const PAUSE: Duration = Duration::from_secs(2);

/// Reads an address; says what is wrong with it without repeating it.
pub fn check(url: &str) -> Result<(), String> {
    parse(url).map(drop)
}

/// Sends a GET and waits for an answer that says yes (2xx), for at most `time_max` a try.
pub fn ping(url: &str, time_max: Duration) -> Result<(), String> {
    ping_pausing(url, time_max, PAUSE)
}

fn ping_pausing(url: &str, time_max: Duration, pause: Duration) -> Result<(), String> {
    let url = parse(url)?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let said = |what: &str| format!("the heartbeat at {host} was not taken: {what}");
    let wire = Wire::new(Arc::<Counters>::default(), None, url.scheme() == "http")
        .map_err(|e| said(&e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| said(&e.to_string()))?;
    let mut last = String::new();
    for tried in 0..TRIES {
        if tried > 0 {
            runtime.block_on(async { tokio::time::sleep(pause * tried).await });
        }
        let asked = wire.ask(Method::GET, url.as_str(), None);
        match runtime.block_on(async { tokio::time::timeout(time_max, asked).await }) {
            Ok(Ok(answer)) if (200..300).contains(&answer.status) => return Ok(()),
            Ok(Ok(answer)) => last = format!("status {}", answer.status),
            Ok(Err(broken)) => last = broken.replace(url.as_str(), "the address"),
            Err(_) => last = format!("no answer in {} s", time_max.as_secs()),
        }
    }
    Err(said(&last))
}

fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("it is no address: {e}"))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err("write https://host/path".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers each connection with the next of these, and hands over what was asked.
    fn server(answers: Vec<&'static str>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut connection, _) = listener.accept().unwrap();
                let mut buffer = [0; 2048];
                let read = connection.read(&mut buffer).unwrap();
                asked.push(
                    String::from_utf8_lossy(&buffer[..read])
                        .lines()
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                );
                connection.write_all(answer.as_bytes()).unwrap();
            }
            asked
        };
        (port, std::thread::spawn(serve))
    }

    #[test]
    fn a_heartbeat_is_tried_again_until_it_is_taken() {
        let gone = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let fine = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nOK";
        let (port, asked) = server(vec![gone, fine]);
        let ping = |url: &str| ping_pausing(url, Duration::from_secs(5), Duration::ZERO);
        ping(&format!("http://127.0.0.1:{port}/ping/token?x=1")).unwrap();
        assert_eq!(asked.join().unwrap(), vec!["GET /ping/token?x=1 HTTP/1.1"; 2]);
    }

    #[test]
    fn a_heartbeat_that_is_not_taken_names_the_host_and_not_the_token() {
        let moved = "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let (port, asked) = server(vec![moved; 3]);
        let url = format!("http://127.0.0.1:{port}/hunter2");
        let error = ping_pausing(&url, Duration::from_secs(5), Duration::ZERO).unwrap_err();
        assert!(error.contains("127.0.0.1") && error.contains("302"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        asked.join().unwrap();
        let error = ping_pausing(&url, Duration::from_secs(5), Duration::ZERO).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        for odd in ["hunter2", "ftp://h/hunter2", "file:///hunter2"] {
            assert!(!check(odd).unwrap_err().contains("hunter2"));
        }
    }
}
