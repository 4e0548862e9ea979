//! How fast are transcripts scanned for secrets? `secrets [DIR]` prints MB/s of one core.
//!
//! In: nothing for a synthetic transcript, or a directory, whose text files become the bodies of a
//! transcript's messages, as when an agent reads them. Out: Markdown on standard output: speed of
//! the scan, of the scan of the same bodies as plain text, of redaction, and what they cost in
//! searches.

#![allow(clippy::print_stdout, reason = "a benchmark prints its tables")]
#![allow(clippy::cast_precision_loss, reason = "speeds are printed with one digit")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use agent_backup_benches::clock::CpuClock;
use agent_backup_benches::corpus;
use agent_backup_benches::draws::Draws;
use agent_backup_benches::prose::{Prose, json_string};
use secrets::{Finding, Form, Judge, Keys, Redactor, Rules, Scanner, Work};

const BYTES: usize = 64 << 20;
const ROUNDS: usize = 3;
const KEY: [u8; 32] = [1; 32];
/// What a file of an agent is read in.
const READ_BYTES: usize = 128 << 10;
/// Longest body of a message; what is longer goes into several.
const BODY_BYTES_MAX: usize = 16 << 10;

/// Replaces all.
struct All;

impl Judge for All {
    fn found(&mut self, _: &Finding<'_>) -> bool {
        true
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let clock = CpuClock::start();
    let rules = Rules::pinned();
    println!("rules: {} read in {:.1} ms\n", rules.ids().count(), clock.seconds() * 1e3);
    let bodies = match std::env::args_os().nth(1) {
        Some(dir) => of_files(Path::new(&dir))?,
        None => synthetic(),
    };
    let transcript = lines(&bodies);
    let plain = bodies.join("\n").into_bytes();
    println!("| input | MB | MB/s | literals/KB | searches/KB | searched bytes/byte | findings |");
    println!("|---|---|---|---|---|---|---|");
    row("transcript", &transcript, rules, "session.jsonl");
    row("plain text", &plain, rules, "notes.md");
    let seconds = fastest(|| {
        let mut out = Vec::with_capacity(2 * READ_BYTES);
        let keys = Keys { findings: &KEY, marks: &KEY };
        let mut redactor = Redactor::new(rules, "session.jsonl", Form::Json, keys);
        for piece in transcript.chunks(READ_BYTES) {
            out.clear();
            redactor.feed(piece, &mut out, &mut All);
        }
        redactor.finish(&mut out, &mut All);
    });
    println!("\nredaction of the transcript: {:.1} MB/s", speed(&transcript, seconds));
    counts(&transcript, rules);
    Ok(())
}

fn speed(text: &[u8], seconds: f64) -> f64 {
    text.len() as f64 / 1e6 / seconds
}

/// Seconds of the fastest of a few rounds.
fn fastest(mut run: impl FnMut()) -> f64 {
    let round = |_| {
        let clock = CpuClock::start();
        run();
        clock.seconds()
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn scan(text: &[u8], rules: &Rules, path: &str, tell: &mut impl FnMut(&Finding<'_>)) -> Work {
    let mut scanner = Scanner::new(rules, path, &KEY);
    let mut offset = 0;
    for piece in text.chunks(READ_BYTES) {
        scanner.feed(piece, offset, &mut |finding| tell(&finding));
        offset += piece.len() as u64;
    }
    scanner.finish(&mut |finding| tell(&finding));
    scanner.work()
}

fn row(name: &str, text: &[u8], rules: &Rules, path: &str) {
    let mut work = Work::default();
    let mut findings = 0;
    let seconds = fastest(|| {
        findings = 0;
        work = scan(text, rules, path, &mut |_| findings += 1);
    });
    let kib = text.len() as f64 / 1024.0;
    println!(
        "| {name} | {:.0} | {:.1} | {:.2} | {:.3} | {:.3} | {findings} |",
        text.len() as f64 / 1e6,
        speed(text, seconds),
        work.literals as f64 / kib,
        work.searches as f64 / kib,
        work.searched_bytes as f64 / text.len() as f64,
    );
}

fn counts(text: &[u8], rules: &Rules) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    scan(text, rules, "session.jsonl", &mut |finding| {
        *counts.entry(finding.rule.to_owned()).or_default() += 1;
    });
    let listed: Vec<String> =
        counts.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
    println!("\nfindings: {}", listed.join(", "));
}

/// Messages of prose, code, listings and records, with what real ones have that made-up words do
/// not: names of services, commands, hashes, base64.
fn synthetic() -> Vec<String> {
    let (prose, mut draws) = (Prose::new(7), Draws::named(7, "secrets"));
    let (mut bodies, mut bytes) = (Vec::new(), 0);
    while bytes < BYTES {
        let len = draws.between(200, 6_000);
        let mut body = prose.body(&mut draws, len);
        for _ in 0..draws.below(4) {
            body.push_str(&aside(&mut draws));
        }
        bytes += body.len();
        bodies.push(body);
    }
    bodies
}

fn aside(draws: &mut Draws) -> String {
    const ASIDES: [&str; 10] = [
        "\n$ curl -s https://api.github.com/repos/x/y/issues?state=open | jq '.[].title'\n",
        "\nThe Discord bot reads `DISCORD_TOKEN` from the environment; the Twitter API key is in Jira.\n",
        "\nthis.tasks.filter(t => t.skip).map(s => s.api_key ?? process.env.OPENAI_API_KEY)\n",
        "\nexport AWS_ACCESS_KEY_ID=$KEY && docker run --rm -e NPM_TOKEN=${NPM_TOKEN} app\n",
        "\nlet context_length = risk_factor * disk_size; // see docs/api-keys.md, facebook/react\n",
        "\nkind: Secret is what kubectl prints; data: is base64 and the eyJ prefix is a token.\n",
        "\nDropbox, Asana, Cloudflare, Datadog, Sentry and Heroku have plugins for it.\n",
        "\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\"}}\n",
        "\nfatal: Authentication failed; ask for -----BEGIN CERTIFICATE----- files instead\n",
        "\nC:\\Users\\me\\new\\token.txt and /home/me/.config/gcloud/application_default.json\n",
    ];
    match draws.below(13) {
        n if n < ASIDES.len() => ASIDES[n].to_owned(),
        10 => format!(
            "\ncommit {:016x}{:016x}{:08x}\n",
            draws.next(),
            draws.next(),
            draws.below(1 << 32)
        ),
        11 => format!(
            "\n\"uuid\": \"{:08x}-{:04x}-4{:03x}\"\n",
            draws.below(1 << 32),
            draws.below(1 << 16),
            draws.below(1 << 12)
        ),
        _ => {
            const DIGITS: &[u8] =
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let len = draws.between(100, 3_000);
            (0..len).map(|_| char::from(DIGITS[draws.below(DIGITS.len())])).collect()
        }
    }
}

/// The text files below `dir`, at most [`BYTES`] of them.
fn of_files(dir: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let (mut bodies, mut bytes) = (Vec::new(), 0);
    for file in corpus::load(dir)? {
        let Ok(text) = String::from_utf8(file.bytes) else { continue };
        let mut rest = text.as_str();
        while !rest.is_empty() && bytes < BYTES {
            let mut end = rest.len().min(BODY_BYTES_MAX);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            bodies.push(rest[..end].to_owned());
            bytes += end;
            rest = &rest[end..];
        }
    }
    Ok(bodies)
}

/// A transcript: a line of JSON a body, every third one JSON in JSON.
fn lines(bodies: &[String]) -> Vec<u8> {
    let mut draws = Draws::named(3, "lines");
    let mut text = String::new();
    for (n, body) in bodies.iter().enumerate() {
        let id = draws.next();
        let mut content = json_string(body);
        if n % 3 == 0 {
            content = json_string(&format!("{{\"stdout\":{content},\"code\":0}}"));
        }
        let _ = writeln!(
            text,
            "{{\"type\":\"message\",\"uuid\":\"{id:016x}\",\"message\":{{\"content\":{content}}}}}"
        );
    }
    text.into_bytes()
}
