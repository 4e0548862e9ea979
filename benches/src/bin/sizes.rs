//! Which chunk size, block size and zstd level? `sizes [DIR]` prints the tables that
//! `docs/decisions/0002-chunk-and-block-sizes.md` quotes.
//!
//! In: a directory, or nothing for the synthetic tree. Out: Markdown on standard output. Everything
//! runs on one thread and over several keys, because on text the gear table decides a good deal.

#![allow(clippy::print_stdout, reason = "a benchmark prints its tables")]
#![allow(clippy::cast_precision_loss, reason = "ratios and speeds are printed with two digits")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use agent_backup_benches::clock::CpuClock;
use agent_backup_benches::corpus::{self, File};
use agent_backup_benches::store::{Known, NewChunks, zstd_pieces};
use chunker::{Cutter, Gear, Sizes, SizesError};

const KEYS: u8 = 5;
/// Smallest, average and largest chunk in KiB: five averages in one shape, and 8 KiB in others.
const SIZES_KIB: [(u32, u32, u32); 8] = [
    (1, 4, 32),
    (2, 8, 64),
    (4, 16, 128),
    (8, 32, 256),
    (16, 64, 512),
    (1, 8, 64),
    (4, 8, 64),
    (2, 8, 32),
];
const BLOCK_KIB: [usize; 4] = [256, 1024, 2048, 4096];
const LEVELS: [i32; 4] = [1, 2, 3, 4];
/// The transcript of the growth tables.
const TRANSCRIPT_BYTES: usize = 50 << 20;
/// Where only the chunk size varies; a push of growth is one block at this level.
const LEVEL: i32 = 3;
const PUSHES: usize = 10;
const MIB: f64 = 1_048_576.0;

fn main() -> Result<(), Box<dyn Error>> {
    let files = match std::env::args_os().nth(1) {
        Some(dir) => corpus::load(Path::new(&dir))?,
        None => corpus::synthetic(),
    };
    totals(&files);
    chunk_table(&files)?;
    let (databases, texts): (Vec<&File>, Vec<&File>) = files.iter().partition(|f| f.is_database());
    block_table("files, default chunks", &texts)?;
    block_table("database pages", &databases)?;
    let steps = [8 << 10, 64 << 10, TRANSCRIPT_BYTES / 100];
    let grown = TRANSCRIPT_BYTES + PUSHES * steps[2];
    let transcript = corpus::long_transcript(&files, grown);
    transcript_table(&transcript[..TRANSCRIPT_BYTES])?;
    for step in steps {
        growth_table(&transcript, step)?;
    }
    insertion_table(&transcript[..TRANSCRIPT_BYTES])?;
    Ok(())
}

fn sizes((min, avg, max): (u32, u32, u32)) -> Result<Sizes, SizesError> {
    Sizes::new(min << 10, avg << 10, max << 10)
}

fn label((min, avg, max): (u32, u32, u32)) -> String {
    format!("{min} / {avg} / {max}")
}

fn cutter(sizes: Sizes, key: u8) -> Cutter {
    Cutter::new(sizes, Arc::new(Gear::derive(&[key; 32], &sizes)))
}

fn new_chunks(files: &[&File], cutter: &Cutter) -> io::Result<NewChunks> {
    let (mut new, mut known) = (NewChunks::default(), Known::default());
    for file in files {
        new.offer_file(file, cutter, &mut known)?;
    }
    Ok(new)
}

fn totals(files: &[File]) {
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for file in files {
        let (count, bytes) = kinds.entry(file.kind()).or_default();
        *count += 1;
        *bytes += file.bytes.len();
    }
    println!("## Data\n\n| kind | files | MB |\n|---|---|---|");
    for (kind, (count, bytes)) in kinds {
        println!("| {kind} | {count} | {:.1} |", bytes as f64 / 1e6);
    }
}

/// First push of everything for each average and key: one line per average, least to most over keys.
fn chunk_table(files: &[File]) -> Result<(), Box<dyn Error>> {
    println!(
        "\n## First push by chunk size (blocks of 2 MiB, level {LEVEL}; least to most over {KEYS} keys)\n"
    );
    println!(
        "| min / avg / max KiB | unique chunks | unique MB | stored MB | of it chunk index MB | cut and id MB/s of CPU time |"
    );
    println!("|---|---|---|---|---|---|");
    let all: Vec<&File> = files.iter().collect();
    let read: usize = files.iter().map(|f| f.bytes.len()).sum();
    for kib in SIZES_KIB {
        let (mut counts, mut unique, mut stored, mut speed) = (vec![], vec![], vec![], vec![]);
        for key in 0..KEYS {
            let cutter = cutter(sizes(kib)?, key);
            let begin = CpuClock::start();
            let new = new_chunks(&all, &cutter)?;
            speed.push(read as f64 / 1e6 / begin.seconds());
            counts.push(new.lengths.len() as f64);
            unique.push(new.bytes.len() as f64 / 1e6);
            stored.push(new.stored_bytes(2 << 20, LEVEL)? as f64 / 1e6);
        }
        let index = counts.iter().sum::<f64>() / f64::from(KEYS) * 18.0 / 1e6;
        println!(
            "| {} | {} | {} | {} | {index:.2} | {:.0} |",
            label(kib),
            spread(&counts, 0),
            spread(&unique, 1),
            spread(&stored, 2),
            speed.iter().copied().fold(0.0, f64::max),
        );
    }
    Ok(())
}

fn spread(values: &[f64], digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{least:.digits$} to {most:.digits$}")
}

/// Stored size and speed of compression, block by level, mean over keys.
fn block_table(what: &str, files: &[&File]) -> Result<(), Box<dyn Error>> {
    println!(
        "\n## First push by block and level: {what} (stored MB, zstd MB/s of CPU time; mean of {KEYS} keys)\n"
    );
    print!("| block KiB |");
    for level in LEVELS {
        print!(" level {level} |");
    }
    println!("\n|---{}|", "|---".repeat(LEVELS.len()));
    let pushes: Vec<NewChunks> = (0..KEYS)
        .map(|key| Ok(new_chunks(files, &cutter(Sizes::DEFAULT, key))?))
        .collect::<Result<_, Box<dyn Error>>>()?;
    for block_kib in BLOCK_KIB {
        print!("| {block_kib} |");
        for level in LEVELS {
            let (mut stored, mut best) = (0, 0.0_f64);
            for new in &pushes {
                let begin = CpuClock::start();
                stored += new.stored_bytes(block_kib << 10, level)?;
                best = best.max(new.bytes.len() as f64 / 1e6 / begin.seconds());
            }
            print!(" {:.2}, {best:.0} |", stored as f64 / 1e6 / f64::from(KEYS));
        }
        println!();
    }
    Ok(())
}

/// First push of the long transcript against the sum of zstd-3 over its 1 MiB pieces.
fn transcript_table(transcript: &[u8]) -> Result<(), Box<dyn Error>> {
    let yardstick = zstd_pieces(transcript, 1 << 20, 3)? as f64;
    println!(
        "\n## First push of a {:.0} MiB transcript, as a part of zstd-3 over its 1 MiB pieces ({:.2} MiB); worst of {KEYS} keys\n",
        transcript.len() as f64 / MIB,
        yardstick / MIB
    );
    print!("| avg KiB, level |");
    for block_kib in BLOCK_KIB {
        print!(" {block_kib} KiB |");
    }
    println!("\n|---|---|---|---|---|");
    for kib in [SIZES_KIB[1], SIZES_KIB[2], SIZES_KIB[3]] {
        let pushes: Vec<NewChunks> = (0..KEYS)
            .map(|key| {
                Ok(cut_new(&cutter(sizes(kib)?, key), transcript, 0, &mut Known::default()).0)
            })
            .collect::<Result<_, Box<dyn Error>>>()?;
        for level in LEVELS {
            print!("| {}, {level} |", kib.1);
            for block_kib in BLOCK_KIB {
                let mut worst = 0;
                for new in &pushes {
                    worst = worst.max(new.stored_bytes(block_kib << 10, level)?);
                }
                print!(" {:.3} |", worst as f64 / yardstick);
            }
            println!();
        }
    }
    Ok(())
}

/// The new chunks of `data` from `start` on, and the ranges of all of them.
fn cut_new(
    cutter: &Cutter,
    data: &[u8],
    mut start: usize,
    known: &mut Known,
) -> (NewChunks, Vec<Range<usize>>) {
    let (mut new, mut ranges) = (NewChunks::default(), Vec::new());
    while start < data.len() {
        let end = start + cutter.cut(&data[start..], true);
        new.offer(&data[start..end], known);
        ranges.push(start..end);
        start = end;
    }
    (new, ranges)
}

/// Bytes per push of a transcript that grows by `step`: cut again, or only the tail.
fn growth_table(transcript: &[u8], step: usize) -> Result<(), Box<dyn Error>> {
    let mut limit = 0;
    for push in 0..PUSHES {
        let from = TRANSCRIPT_BYTES + push * step;
        limit += zstd_pieces(&transcript[from..from + step], step, 3)?;
    }
    println!(
        "\n## Growth of {} KiB a push: zstd-3 of the appended bytes is {:.1} KiB a push; mean of {PUSHES} pushes and {KEYS} keys\n",
        step >> 10,
        limit as f64 / 1024.0 / PUSHES as f64
    );
    println!(
        "| min / avg / max KiB | cut again: KiB a push | of the limit | tail only: KiB a push | of the limit |"
    );
    println!("|---|---|---|---|---|");
    for kib in SIZES_KIB {
        let (mut again, mut tail) = (0, 0);
        for key in 0..KEYS {
            let cutter = cutter(sizes(kib)?, key);
            again += growth_cut_again(&cutter, transcript, step)?;
            tail += growth_tails(&cutter, transcript, step)?;
        }
        let pushes = PUSHES as f64 * f64::from(KEYS);
        let mean_kib = |sum: usize| sum as f64 / 1024.0 / pushes;
        let ratio = |sum: usize| sum as f64 / f64::from(KEYS) / limit as f64;
        println!(
            "| {} | {:.1} | {:.2} | {:.1} | {:.2} |",
            label(kib),
            mean_kib(again),
            ratio(again),
            mean_kib(tail),
            ratio(tail)
        );
    }
    Ok(())
}

/// Cutting again need not begin at the start: a cut depends on nothing before its chunk, so all
/// chunks that end a longest chunk before the old end are cut as before.
fn growth_cut_again(cutter: &Cutter, transcript: &[u8], step: usize) -> io::Result<usize> {
    let (mut known, mut stored) = (Known::default(), 0);
    let (_, mut ranges) = cut_new(cutter, &transcript[..TRANSCRIPT_BYTES], 0, &mut known);
    for push in 0..PUSHES {
        let old_end = TRANSCRIPT_BYTES + push * step;
        let max = cutter.sizes().max as usize;
        ranges.retain(|range| range.start + max <= old_end);
        let start = ranges.last().map_or(0, |range| range.end);
        let (new, more) = cut_new(cutter, &transcript[..old_end + step], start, &mut known);
        stored += new.stored_bytes(usize::MAX, LEVEL)?;
        ranges.extend(more);
    }
    Ok(stored)
}

fn growth_tails(cutter: &Cutter, transcript: &[u8], step: usize) -> io::Result<usize> {
    let (mut known, mut stored) = (Known::default(), 0);
    for push in 0..PUSHES {
        let from = TRANSCRIPT_BYTES + push * step;
        let (new, _) = cut_new(cutter, &transcript[from..from + step], 0, &mut known);
        stored += new.stored_bytes(usize::MAX, LEVEL)?;
    }
    Ok(stored)
}

/// 1 KiB put in at eight places around the middle.
fn insertion_table(transcript: &[u8]) -> Result<(), Box<dyn Error>> {
    println!("\n## 1 KiB inserted near the middle: mean over 8 places and {KEYS} keys\n");
    println!("| min / avg / max KiB | new chunks | new KiB | stored KiB |\n|---|---|---|---|");
    for kib in SIZES_KIB {
        let (mut chunks, mut bytes, mut stored) = (0, 0, 0);
        for key in 0..KEYS {
            let cutter = cutter(sizes(kib)?, key);
            for place in 0..8 {
                let at = transcript.len() / 2 + place * 40_009;
                // Two MiB around the place stand for the file: the cuts meet again well before.
                let (from, to) = (at - (1 << 20), at + (1 << 20));
                let start = first_cut_after(&cutter, transcript, from);
                let insert = &transcript[place * 1024..][..1024];
                let edited = [&transcript[start..at], insert, &transcript[at..to]].concat();
                let mut copy = Known::default();
                cut_new(&cutter, &transcript[start..to], 0, &mut copy);
                let (new, _) = cut_new(&cutter, &edited, 0, &mut copy);
                chunks += new.lengths.len();
                bytes += new.bytes.len();
                stored += new.stored_bytes(usize::MAX, LEVEL)?;
            }
        }
        let runs = f64::from(KEYS) * 8.0;
        println!(
            "| {} | {:.1} | {:.1} | {:.1} |",
            label(kib),
            chunks as f64 / runs,
            bytes as f64 / 1024.0 / runs,
            stored as f64 / 1024.0 / runs
        );
    }
    Ok(())
}

/// A cut at or after `from`: where cutting from there settles on the file's own cuts.
fn first_cut_after(cutter: &Cutter, data: &[u8], from: usize) -> usize {
    from + cutter.cut(&data[from..], true)
}
