//! How fast is `verify` of all data? `verify DIR WORK [ROUNDS]` pushes DIR into a new repository below
//! WORK and compares, in alternating rounds, a verify of everything with zstd alone.
//!
//! In: a tree of agent state. Out: Markdown on standard output. The other side is what `zstd -d` does, on
//! all cores: every block's plaintext, compressed at the repository's level with a checksum, is decoded and
//! its checksum compared; nothing is read from a disk for it, nothing is opened, no id is computed. That is the
//! harder comparison: the bar of 0.8 is for the command, `benches/verify_zstd.py`.

#![allow(clippy::print_stdout, reason = "a benchmark prints its tables")]
#![allow(clippy::cast_precision_loss, reason = "ratios and speeds are printed with two digits")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use engine::push::{PushOptions, PushRoot, push};
use engine::scan::{Filter, ScanRoot, Verdict};
use engine::verify::{Level, Options, verify};
use engine::{Dirs, InitOptions, Machine, PARAMS, Session, Silent, SystemClock};
use repo::keys::Kdf;
use repo::{BlockId, Reader};
use store::LocalStore;

const MIB: f64 = 1_048_576.0;
const ROUNDS: usize = 5;

#[derive(Debug)]
struct Everything;

impl Filter for Everything {
    fn decide(&self, _: &[u8], _: bool) -> Verdict {
        Verdict::Include
    }

    fn max_file_size(&self) -> Option<u64> {
        None
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let usage = "verify DIR WORK [ROUNDS]";
    let dir = PathBuf::from(args.next().context(usage)?);
    let work = PathBuf::from(args.next().context(usage)?);
    let rounds = match args.next() {
        Some(text) => text.to_string_lossy().parse()?,
        None => ROUNDS,
    };
    let session = repository(&dir, &work)?;
    let (frames, content_bytes) = frames(&session)?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    println!("{:.0} MiB of content, {threads} threads\n", content_bytes as f64 / MIB);
    println!("| round | verify, MiB/s | zstd -d, MiB/s | ratio |\n|---|---|---|---|");
    for round in 1..=rounds {
        let began = Instant::now();
        let options = Options { threads, ..Options::new(Level::All) };
        let report = verify(&session, &options, &|_, _| {}, &AtomicBool::new(false))?;
        ensure!(!report.is_damaged(), "the repository is damaged: {:?}", report.findings);
        let ours = content_bytes as f64 / MIB / began.elapsed().as_secs_f64();
        let began = Instant::now();
        decode(&frames, threads)?;
        let theirs = content_bytes as f64 / MIB / began.elapsed().as_secs_f64();
        println!("| {round} | {ours:.0} | {theirs:.0} | {:.2} |", ours / theirs);
    }
    Ok(())
}

/// A new repository with one snapshot of the tree.
fn repository(dir: &Path, work: &Path) -> Result<Session> {
    let store = Arc::new(LocalStore::create(&work.join("repository"))?);
    let dirs = Dirs { state: work.join("state"), cache: work.join("cache") };
    let machine = Machine {
        host: "bench".into(),
        user: "bench".into(),
        home: dir.to_owned(),
        os: std::env::consts::OS.into(),
    };
    let init =
        InitOptions { passphrase: None, label: "bench".into(), kdf: Kdf::DEFAULT, keys_of: None };
    let (session, _) = Session::init(store, &init, &dirs, machine, Arc::new(SystemClock))?;
    let scan = ScanRoot {
        label: "files".into(),
        dir: dir.to_owned(),
        files: None,
        filter: Arc::new(Everything),
    };
    let root = PushRoot { scan, agent: None };
    push(&session, &[root], &PushOptions::default(), &Silent, &AtomicBool::new(false))?;
    Ok(session)
}

/// Every block's plaintext as zstd alone would keep it; and how much there is.
fn frames(session: &Session) -> Result<(Vec<Vec<u8>>, u64)> {
    let index = session.repo().load_index(None, false)?;
    let ids: Vec<BlockId> = index.blocks().iter().map(|at| at.row.id).collect();
    let reader = Reader::new(session.repo(), None, index);
    let mut compressor = zstd::bulk::Compressor::new(PARAMS.zstd_level)?;
    compressor.include_checksum(true)?;
    let (mut frames, mut bytes) = (Vec::new(), 0);
    for id in ids {
        let plain = reader.read(&id)?;
        bytes += plain.len() as u64;
        frames.push(compressor.compress(&plain)?);
    }
    Ok((frames, bytes))
}

/// Decodes all frames on all cores.
fn decode(frames: &[Vec<u8>], threads: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        let mut decompressor = zstd::bulk::Decompressor::new()?;
        let mut plain = Vec::with_capacity(repo::limits::BLOCK_PLAIN_BYTES_MAX as usize);
        while let Some(frame) = frames.get(next.fetch_add(1, Ordering::Relaxed)) {
            decompressor.decompress_to_buffer(frame, &mut plain)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })
}
