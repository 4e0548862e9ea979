//! What does a push of a changed database upload? `databases --binary PATH` prints, for each step,
//! the bytes against the limit L and against restic; `--days N` measures N daily pushes instead.
//!
//! In: databases built as `agent_backup_benches::databases` says. Out: Markdown tables on standard
//! output, or one JSON document. The product's bars stand beside the ratios.

#![allow(clippy::print_stdout, reason = "a benchmark prints its tables")]
#![allow(clippy::print_stderr, reason = "and says what it is doing")]
#![allow(clippy::cast_precision_loss, reason = "ratios and speeds are printed with two digits")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use agent_backup_benches::child;
use agent_backup_benches::databases::{Database, Kind, Step, path_below};
use agent_backup_benches::images::{self, Change, Image};
use agent_backup_benches::repository::{Ours, Place, Pulled, Pushed, Restic};
use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde::Serialize;

/// Measures what pushes of databases upload.
#[derive(Debug, Parser)]
struct Args {
    /// The program to measure
    #[arg(long, default_value = "target/release/agent-backup")]
    binary: PathBuf,
    /// Where databases are kept between runs, and where this run works
    #[arg(long)]
    work: PathBuf,
    /// The shape
    #[arg(long, value_enum, default_value = "mixed")]
    kind: Kind,
    /// MiB of the database before the steps
    #[arg(long, default_value_t = 64)]
    size: u64,
    /// Everything follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Push once a day for so many days, instead of the steps
    #[arg(long)]
    days: Option<u32>,
    /// Where our repository is; requests are counted in a bucket only
    #[arg(long, value_enum, default_value = "local")]
    place: Place,
    /// Leave restic out
    #[arg(long)]
    no_restic: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Leave what this run made
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    if let Some(code) = child::intercept() {
        return code;
    }
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("databases: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One push of both programs.
#[derive(Debug, Serialize)]
struct Row {
    step: String,
    change: Change,
    ours: Pushed,
    /// Uploaded bytes as a multiple of the limit.
    ratio: f64,
    /// Multiple of the limit, and bytes on top, that are allowed.
    bar: Option<(f64, u64)>,
    restic: Option<Pushed>,
    /// CPU seconds of hashing the file on one thread.
    hash_cpu_secs: f64,
}

impl Row {
    fn is_within_bar(&self) -> Option<bool> {
        let (times, bytes) = self.bar?;
        let allowed = self.change.limit_bytes as f64 * times + bytes as f64;
        Some(self.ours.uploaded_bytes as f64 <= allowed)
    }
}

#[derive(Debug, Serialize)]
struct Report {
    kind: Kind,
    file_bytes: u64,
    /// By how much zstd-3 shrinks it before the steps: by 1, 16 and 256 pages.
    ratios: [f64; 3],
    rows: Vec<Row>,
    restore: Pulled,
    /// zstd-3 over the pages of the newest image, 16 at a time.
    live_bytes: u64,
    repository_bytes: u64,
    /// First push and the limits of all later ones.
    repository_limit_bytes: u64,
    restic_repository_bytes: Option<u64>,
}

/// One run: the database, what it looked like, and the programs.
struct Bench {
    database: Database,
    image: Image,
    dir: PathBuf,
    ours: Ours,
    restic: Option<Restic>,
}

fn run(args: &Args) -> Result<()> {
    let work = args.work.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(work.join("source")).with_context(|| work.display().to_string())?;
    let report = measure(args, &work);
    if !args.keep {
        fs::remove_dir_all(&work)?;
    }
    let report = report?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(args, &report);
    }
    Ok(())
}

fn measure(args: &Args, work: &Path) -> Result<Report> {
    let dir = fs::canonicalize(work.join("source"))?;
    let path = path_below(&dir);
    let begin = Instant::now();
    let cache = args.work.join("databases");
    let database = Database::copy_of(args.kind, args.size, args.seed, &cache, &path)?;
    eprintln!("database there after {:.1} s", begin.elapsed().as_secs_f64());
    let [page, group, large] = [1, 16, 256].map(|pages| images::ratio_by(&path, pages));
    let ratios = [page?, group?, large?];
    let ours = Ours::init(&args.binary, work, args.place)?;
    let restic = if args.no_restic { None } else { Restic::init(work)? };
    let mut bench = Bench { database, image: Image::default(), dir, ours, restic };

    let mut rows = vec![bench.push("first", None)?];
    let file_bytes = fs::metadata(&path)?.len();
    let steps = match args.days {
        Some(days) => (1..=days).map(Step::Day).collect(),
        None => Step::all(args.kind),
    };
    for step in steps {
        bench.database.apply(step)?;
        rows.push(bench.push(&step.name(), step.bar(args.kind))?);
    }
    ensure!(bench.database.is_whole()?, "the benchmark damaged its database");
    let (restore, live_bytes) = bench.restore(&rows, work)?;
    let limits = rows[1..].iter().map(|row| row.change.limit_bytes).sum::<u64>();
    Ok(Report {
        kind: args.kind,
        file_bytes,
        ratios,
        restore,
        live_bytes,
        repository_bytes: bench.ours.bytes()?,
        repository_limit_bytes: rows[0].ours.uploaded_bytes + limits,
        restic_repository_bytes: bench.restic.as_ref().map(Restic::bytes).transpose()?,
        rows,
    })
}

impl Bench {
    fn push(&mut self, name: &str, bar: Option<(f64, u64)>) -> Result<Row> {
        eprintln!("{name}");
        let path = path_below(&self.dir);
        // The comparison reads the file, so both programs find it in the page cache.
        let change = self.image.advance(&path)?;
        let ours = self.ours.push(&self.dir)?;
        for line in &ours.said {
            eprintln!("  {line}");
        }
        let restic = self.restic.as_ref().map(|restic| restic.push(&self.dir)).transpose()?;
        Ok(Row {
            step: name.to_owned(),
            ratio: ours.uploaded_bytes as f64 / change.limit_bytes.max(1) as f64,
            change,
            ours,
            bar,
            restic,
            hash_cpu_secs: images::hash_cpu_secs(&path)?,
        })
    }

    /// Restores the newest snapshot, compares it with the file, and says what that read.
    fn restore(&mut self, rows: &[Row], work: &Path) -> Result<(Pulled, u64)> {
        let to = work.join("restored");
        let newest = rows.last().context("no push")?;
        let pulled = self.ours.pull(&newest.ours.snapshot, &to)?;
        let restored = find(&to, &path_below(&self.dir)).context("the pull made no database")?;
        let mut image = Image::default();
        let live = image.advance(&path_below(&self.dir))?;
        let differs = image.advance(&restored)?;
        ensure!(
            differs.pages_changed == 0 && differs.pages_total == live.pages_total,
            "the restored database differs from the source: {differs:?}"
        );
        Ok((pulled, live.limit_bytes))
    }
}

/// A file of the same name, anywhere below `dir`.
fn find(dir: &Path, like: &Path) -> Option<PathBuf> {
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name() == like.file_name() {
                return Some(path);
            }
        }
    }
    None
}

fn kib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1024.0)
}

fn print(args: &Args, report: &Report) {
    println!(
        "## {} database, {:.1} MiB; zstd-3 shrinks it {:.2} times by page, {:.2} by 16, {:.2} by 256\n",
        args.kind.name(),
        report.file_bytes as f64 / 1_048_576.0,
        report.ratios[0],
        report.ratios[1],
        report.ratios[2]
    );
    println!(
        "| step | changed pages | runs | L KiB | uploaded KiB | told KiB | of L | bar | restic KiB | restic / ours |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for row in &report.rows {
        let restic = row.restic.as_ref().map(|restic| restic.uploaded_bytes);
        let times = restic.map(|bytes| bytes as f64 / row.ours.uploaded_bytes.max(1) as f64);
        println!(
            "| {} | {} | {} | {} | {} | {} | {:.3} | {} | {} | {} |",
            row.step,
            row.change.pages_changed,
            row.change.runs,
            kib(row.change.limit_bytes),
            kib(row.ours.uploaded_bytes),
            row.ours.told_bytes.map_or_else(String::new, kib),
            row.ratio,
            bar(row),
            restic.map_or_else(String::new, kib),
            times.map_or_else(String::new, |times| format!("{times:.1}")),
        );
    }
    print_costs(report);
    print_totals(report);
}

fn bar(row: &Row) -> String {
    let (Some((times, bytes)), Some(within)) = (row.bar, row.is_within_bar()) else {
        return String::new();
    };
    let more = if bytes > 0 { format!(" + {} KiB", bytes >> 10) } else { String::new() };
    format!("{times}{more}: {}", if within { "met" } else { "MISSED" })
}

fn print_costs(report: &Report) {
    println!(
        "\n| step | store calls | wall s | CPU s | of BLAKE3 on one thread | peak MiB | restic wall s | CPU s | peak MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in &report.rows {
        let restic = row.restic.as_ref().map_or_else(
            || "| |".to_owned(),
            |Pushed { used, .. }| {
                format!("{:.2} | {:.2} | {}", used.wall_secs, used.cpu_secs, used.peak_bytes >> 20)
            },
        );
        println!(
            "| {} | {} | {:.2} | {:.2} | {:.1} | {} | {restic} |",
            row.step,
            row.ours.calls.map_or_else(String::new, |calls| calls.to_string()),
            row.ours.used.wall_secs,
            row.ours.used.cpu_secs,
            row.ours.used.cpu_secs / row.hash_cpu_secs.max(1e-6),
            row.ours.used.peak_bytes >> 20,
        );
    }
    println!("\nBars: 4 times BLAKE3 for 100 scattered updates of 1 GB, 12 calls, 160 MiB.");
    if report.rows.iter().all(|row| row.ours.calls.is_none()) {
        println!("Store calls: the program does not tell; `--place bucket` counts requests.");
    }
}

fn print_totals(report: &Report) {
    println!(
        "\nRepository: {:.2} MiB, {:.3} of the first push and the sum of the later L (bar 1.05 after 30 days).",
        report.repository_bytes as f64 / 1_048_576.0,
        report.repository_bytes as f64 / report.repository_limit_bytes as f64
    );
    if let Some(bytes) = report.restic_repository_bytes {
        println!("restic's repository: {:.2} MiB.", bytes as f64 / 1_048_576.0);
    }
    let Pulled { used, told_bytes, read_bytes } = &report.restore;
    let told = told_bytes.map_or_else(|| "?".to_owned(), kib);
    println!(
        "Restore of the newest: {:.2} s, CPU {:.2} s, {} MiB; fetched {told} KiB of content.",
        used.wall_secs,
        used.cpu_secs,
        used.peak_bytes >> 20
    );
    match read_bytes {
        Some(bytes) => println!(
            "It read {} KiB, {:.3} of the live {} KiB (bar 1.5).",
            kib(*bytes),
            *bytes as f64 / report.live_bytes.max(1) as f64,
            kib(report.live_bytes)
        ),
        None => println!(
            "Live: {} KiB compressed; what it read is counted with `--place bucket`.",
            kib(report.live_bytes)
        ),
    }
}
