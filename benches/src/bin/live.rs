//! A push while somebody writes: `live --binary PATH --work DIR --rate 100`.
//!
//! A writer process (this program again) commits small transactions at a fixed rate. Measured: its
//! latency alone and during pushes, the time of a push against `cp` of the same file. Checked: every
//! snapshot, restored, is whole and a state between two commits (`agent_backup_benches::ledger`).
//! Exits with 1 if one is not, whatever the times are.

#![allow(clippy::print_stdout, reason = "a benchmark prints its tables")]
#![allow(clippy::print_stderr, reason = "and says what it is doing")]
#![allow(clippy::cast_precision_loss, reason = "ratios and speeds are printed with two digits")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_backup_benches::child::{self, Run, Used};
use agent_backup_benches::databases::{Database, Kind, path_below};
use agent_backup_benches::draws::Draws;
use agent_backup_benches::ledger::{self, Verdict, Written};
use agent_backup_benches::repository::{Ours, Place, Pushed};
use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

/// Copies to compare with.
const COPIES: usize = 5;
/// Bars: hold of a first push and wall of a later one in times of `cp`, writer's p99 in times of itself
/// alone.
const FIRST_BAR: f64 = 8.0;
const LATER_BAR: f64 = 3.5;
const LATENCY_BAR: f64 = 2.0;

/// Measures and checks pushes of a database that is being written.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// The program to measure
    #[arg(long, default_value = "target/release/agent-backup")]
    binary: PathBuf,
    /// Where databases are kept between runs, and where this run works
    #[arg(long, required = true)]
    work: Option<PathBuf>,
    /// MiB of the mixed database
    #[arg(long, default_value_t = 64)]
    size: u64,
    /// Everything follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    pace: Pace,
    /// Length of each of the two stretches without us; later pushes take at least as long together
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// At least so many later pushes
    #[arg(long, default_value_t = 3)]
    pushes: usize,
    /// Milliseconds between two later pushes
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// Where the repository is. On the same disk its fsyncs are in the writer's way
    #[arg(long, value_enum, default_value_t = Place::Local)]
    place: Place,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Leave what this run made
    #[arg(long)]
    keep: bool,
}

/// How the writer writes.
#[derive(Debug, Clone, Copy, clap::Args, Serialize)]
struct Pace {
    /// Transactions a second
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Milliseconds for which long transactions stay open; 0: there are none
    #[arg(long, default_value_t = 0)]
    hold: u64,
    /// Every so manyth transaction is a long one
    #[arg(long, default_value_t = 50)]
    hold_every: u64,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Writes until standard input ends, then prints what it saw
    #[command(hide = true)]
    Write {
        /// The database
        path: PathBuf,
        #[command(flatten)]
        pace: Pace,
    },
}

fn main() -> ExitCode {
    if let Some(code) = child::intercept() {
        return code;
    }
    let args = Args::parse();
    let done = match &args.role {
        Some(Role::Write { path, pace }) => write(path, *pace).map(|()| true),
        None => run(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("live: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The writer. Its latency is noted between the first line of standard input and the second.
fn write(path: &Path, pace: Pace) -> Result<()> {
    let (stop, noting) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    std::thread::spawn({
        let (stop, noting) = (Arc::clone(&stop), Arc::clone(&noting));
        move || {
            for line in std::io::stdin().lines() {
                noting.store(line.is_ok_and(|line| line == NOTE), Ordering::SeqCst);
            }
            // Ends when the other process closes the pipe or is gone.
            stop.store(true, Ordering::SeqCst);
        }
    });
    let db = ledger::open(path)?;
    if pace.hold > 0 {
        // A long transaction's pages do not fit: they go to the WAL before it commits.
        db.execute_batch("PRAGMA cache_size=-256")?;
    }
    let mut draws = Draws::seeded(u64::from(std::process::id()));
    let mut written = Written::default();
    let step = Duration::from_secs(1) / pace.rate.max(1);
    let mut due = Instant::now();
    println!("writing");
    for n in 1_u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let is_noted = noting.load(Ordering::SeqCst);
        let is_long = pace.hold > 0 && n.is_multiple_of(pace.hold_every.max(1));
        let start = Instant::now();
        ledger::transact(&db, &mut draws, is_long.then_some(Duration::from_millis(pace.hold)))?;
        let micros = u64::try_from(start.elapsed().as_micros())?;
        due += step;
        match due.checked_duration_since(Instant::now()) {
            Some(early) => std::thread::sleep(early),
            // Who is late does not write faster afterwards.
            None => due = Instant::now(),
        }
        if is_noted {
            written.secs += start.elapsed().as_secs_f64();
            if is_long {
                written.long_count += 1;
            } else {
                written.micros.push(micros);
            }
        }
    }
    println!("{}", serde_json::to_string(&written)?);
    Ok(())
}

/// What a parent writes to its writer.
const NOTE: &str = "note";
const PASS: &str = "pass";
/// Before anything is measured the writer has its locks, its WAL and its rhythm.
const LEAD: Duration = Duration::from_secs(1);

/// The writer as its parent sees it.
struct Writer {
    process: Child,
    out: BufReader<ChildStdout>,
}

impl Writer {
    /// Starts it; returns when it is about to write.
    fn start(path: &Path, pace: Pace) -> Result<Writer> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("write").arg(path);
        command.args(["--rate", &pace.rate.to_string(), "--hold", &pace.hold.to_string()]);
        command.args(["--hold-every", &pace.hold_every.to_string()]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut out = BufReader::new(process.stdout.take().context("the writer's output")?);
        out.read_line(&mut String::new())?;
        Ok(Writer { process, out })
    }

    /// From now on its latency is noted, or no longer.
    fn tell(&mut self, word: &str) -> Result<()> {
        let mut pipe = self.process.stdin.as_ref().context("the writer's input")?;
        Ok(writeln!(pipe, "{word}")?)
    }

    /// Ends it. A writer that failed, by a lock we held too long or by damage, fails the run.
    fn finish(mut self) -> Result<Written> {
        drop(self.process.stdin.take());
        let mut said = String::new();
        self.out.read_to_string(&mut said)?;
        let status = self.process.wait()?;
        anyhow::ensure!(status.success(), "the writer failed ({status})");
        Ok(serde_json::from_str(&said)?)
    }
}

/// A push and what became of its snapshot.
#[derive(Debug, Serialize)]
struct Taken {
    pushed: Pushed,
    /// Bytes of the WAL when the push had ended.
    wal_bytes: u64,
    verdict: Verdict,
}

impl Taken {
    /// Seconds for which the push held its read transaction.
    fn held_secs(&self) -> f64 {
        self.pushed.held_ms.unwrap_or_default() as f64 / 1000.0
    }
}

/// A writer's latency.
#[derive(Debug, Clone, Copy, Serialize)]
struct Latency {
    count: usize,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    long_count: u64,
}

impl From<&Written> for Latency {
    fn from(written: &Written) -> Latency {
        Latency {
            count: written.micros.len(),
            per_second: (written.micros.len() as f64 + written.long_count as f64) / written.secs,
            p50_ms: written.percentile_ms(50),
            p99_ms: written.percentile_ms(99),
            max_ms: written.percentile_ms(100),
            long_count: written.long_count,
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    pace: Pace,
    file_bytes: u64,
    alone: Latency,
    during_first: Latency,
    during_later: Latency,
    during_idle_reader: Latency,
    during_copies: Latency,
    copies: Vec<Used>,
    first: Taken,
    later: Vec<Taken>,
}

fn run(args: &Args) -> Result<bool> {
    let base = args.work.as_deref().context("--work is missing")?;
    let work = base.join(format!("live-{}", std::process::id()));
    fs::create_dir_all(work.join("source")).with_context(|| work.display().to_string())?;
    let report = measure(args, base, &work);
    if !args.keep {
        fs::remove_dir_all(&work)?;
    }
    let report = report?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    let mut all = std::iter::once(&report.first).chain(&report.later);
    Ok(all.all(|taken| taken.verdict.faults.is_empty()))
}

fn measure(args: &Args, base: &Path, work: &Path) -> Result<Report> {
    let dir = fs::canonicalize(work.join("source"))?;
    let path = path_below(&dir);
    let cache = base.join("databases");
    drop(Database::copy_of(Kind::Mixed, args.size, args.seed, &cache, &path)?);
    ledger::prepare(&mut ledger::open(&path)?)?;
    let ours = Ours::init(&args.binary, work, args.place)?;
    let (stretch, pause) = (Duration::from_secs(args.seconds), Duration::from_millis(args.pause));

    let (before, ()) = written_while(&path, args.pace, "alone", || {
        std::thread::sleep(stretch);
        Ok(())
    })?;
    let (during_first, first) =
        written_while(&path, args.pace, "first push", || push(&ours, &dir))?;
    let (during_later, later) = written_while(&path, args.pace, "later pushes", || {
        let (begin, mut taken) = (Instant::now(), vec![]);
        while taken.len() < args.pushes || begin.elapsed() < stretch {
            let push = push(&ours, &dir)?;
            // Nothing to do between two commits of a slow writer: no snapshot, and no measure.
            if push.pushed.is_made {
                taken.push(push);
            }
            std::thread::sleep(pause);
        }
        Ok(taken)
    })?;
    // What any reader costs, whatever it reads: one that holds the database as long, as often, and does nothing.
    let held = median(later.iter().map(Taken::held_secs));
    let round = median(later.iter().map(|taken| taken.pushed.used.wall_secs));
    let rest = Duration::from_secs_f64((round - held).max(0.0)) + pause;
    let (during_idle_reader, ()) = written_while(&path, args.pace, "an idle reader", || {
        idle_reader(&path, Duration::from_secs_f64(held), rest, stretch)
    })?;
    let (during_copies, copies) = written_while(&path, args.pace, "copies", || {
        (0..COPIES).map(|_| copy(&path, work)).collect()
    })?;
    let (after, ()) = written_while(&path, args.pace, "alone again", || {
        std::thread::sleep(stretch);
        Ok(())
    })?;

    let mut report = Report {
        pace: args.pace,
        file_bytes: fs::metadata(&path)?.len(),
        alone: (&before.and(&after)).into(),
        during_first: (&during_first).into(),
        during_later: (&during_later).into(),
        during_idle_reader: (&during_idle_reader).into(),
        during_copies: (&during_copies).into(),
        copies,
        first,
        later,
    };
    for taken in std::iter::once(&mut report.first).chain(&mut report.later) {
        taken.verdict = restored(&ours, &taken.pushed, &work.join("restored"))?;
    }
    Ok(report)
}

/// Runs `what` while a writer writes.
fn written_while<T>(
    path: &Path,
    pace: Pace,
    name: &str,
    what: impl FnOnce() -> Result<T>,
) -> Result<(Written, T)> {
    eprintln!("{name}");
    let mut writer = Writer::start(path, pace)?;
    std::thread::sleep(LEAD);
    writer.tell(NOTE)?;
    let result = what();
    writer.tell(PASS)?;
    let written = writer.finish()?;
    Ok((written, result?))
}

fn push(ours: &Ours, dir: &Path) -> Result<Taken> {
    let pushed = ours.push(dir)?;
    for line in &pushed.said {
        eprintln!("  {line}");
    }
    let mut wal = path_below(dir).into_os_string();
    wal.push("-wal");
    let wal_bytes = fs::metadata(wal).map_or(0, |meta| meta.len());
    Ok(Taken { pushed, wal_bytes, verdict: Verdict::default() })
}

/// Read transactions that read one page each and stay open for `held`, `rest` apart, for at least `stretch`.
fn idle_reader(path: &Path, held: Duration, rest: Duration, stretch: Duration) -> Result<()> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let begin = Instant::now();
    while begin.elapsed() < stretch {
        db.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1")?;
        std::thread::sleep(held);
        db.execute_batch("COMMIT")?;
        std::thread::sleep(rest);
    }
    Ok(())
}

fn copy(path: &Path, work: &Path) -> Result<Used> {
    let to = work.join("copy");
    let run = Run::new("cp", work).arg("--reflink=never").arg(path).arg(&to);
    let (used, _) = run.measure(&[0])?;
    fs::remove_file(to)?;
    Ok(used)
}

/// Restores a snapshot and judges its database. One that was taken as a plain file is no good
/// either: that it came out whole was luck.
fn restored(ours: &Ours, pushed: &Pushed, to: &Path) -> Result<Verdict> {
    let name = path_below(Path::new("")).display().to_string();
    let entry = ours.entry(&pushed.snapshot, &name)?;
    let listed = entry["path"].as_str().context("an entry without a path")?;
    ours.pull(&pushed.snapshot, to)?;
    let mut path = to.join(listed);
    if !path.exists() {
        // One root is restored without its label.
        path = path_below(to);
    }
    let mut verdict = ledger::check(&path);
    if entry["sqlite"] != true {
        verdict.faults.push("was not taken as a database".to_owned());
    }
    // A database that was copied raw, or at a later attempt only, is a problem or a notice.
    let about = pushed.said.iter().filter(|line| line.contains(&name));
    verdict.faults.extend(about.map(|line| format!("the push said: {line}")));
    if entry["changed_while_read"] == true {
        verdict.faults.push("changed while it was read".to_owned());
    }
    fs::remove_dir_all(to)?;
    Ok(verdict)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn against(ratio: f64, bar: f64) -> String {
    format!("{ratio:.2} | {bar}: {}", if ratio <= bar { "met" } else { "MISSED" })
}

fn print(report: &Report) {
    let Pace { rate, hold, hold_every } = report.pace;
    println!(
        "## {rate} transactions a second, {:.0} MiB\n",
        report.file_bytes as f64 / 1_048_576.0
    );
    if hold > 0 {
        println!("Every {hold_every}th transaction stays open for {hold} ms.\n");
    }
    println!(
        "| the writer | transactions | a second | long ones | p50 ms | p99 ms | max ms | p99 / alone | bar |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, latency, bar) in [
        ("alone, before and after", &report.alone, None),
        ("during the first push", &report.during_first, Some(LATENCY_BAR)),
        ("during later pushes", &report.during_later, Some(LATENCY_BAR)),
        ("during an idle reader", &report.during_idle_reader, None),
        ("during `cp`", &report.during_copies, None),
    ] {
        let ratio = latency.p99_ms / report.alone.p99_ms.max(1e-3);
        println!(
            "| {name} | {} | {:.0} | {} | {:.2} | {:.2} | {:.1} | {} |",
            latency.count,
            latency.per_second,
            latency.long_count,
            latency.p50_ms,
            latency.p99_ms,
            latency.max_ms,
            bar.map_or_else(|| format!("{ratio:.2} |"), |bar| against(ratio, bar))
        );
    }
    let copy = median(report.copies.iter().map(|used| used.wall_secs));
    let later = median(report.later.iter().map(|taken| taken.pushed.used.wall_secs));
    let first = report.first.pushed.used.wall_secs;
    println!("\n| | wall s | times `cp` | bar |\n|---|---|---|---|");
    println!("| `cp --reflink=never`, median of {COPIES} | {copy:.2} | 1 | |");
    println!("| first push, whole | {first:.2} | {:.2} | |", first / copy);
    let capture = report.first.held_secs();
    println!(
        "| first push, the database held | {capture:.2} | {} |",
        against(capture / copy, FIRST_BAR)
    );
    println!(
        "| later push, whole, median of {} | {later:.2} | {} |",
        report.later.len(),
        against(later / copy, LATER_BAR)
    );
    let held = median(report.later.iter().map(Taken::held_secs));
    println!("| later push, the database held | {held:.2} | {:.2} | |", held / copy);
    print_pushes(report);
}

/// The first push, the later ones by their extremes, and each that went wrong.
fn print_pushes(report: &Report) {
    println!(
        "\n| push | wall s | CPU s | peak MiB | uploaded KiB | WAL MiB after | images whole and between two commits |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, pushes) in
        [("first", std::slice::from_ref(&report.first)), ("later", report.later.as_slice())]
    {
        let spread = |digits: usize, of: &dyn Fn(&Taken) -> f64| {
            let least = pushes.iter().map(of).fold(f64::INFINITY, f64::min);
            let most = pushes.iter().map(of).fold(0.0, f64::max);
            if pushes.len() == 1 {
                format!("{most:.digits$}")
            } else {
                format!("{least:.digits$} to {most:.digits$}")
            }
        };
        let good = pushes.iter().filter(|taken| taken.verdict.faults.is_empty()).count();
        println!(
            "| {name} | {} | {} | {} | {} | {} | {good} of {} |",
            spread(2, &|taken| taken.pushed.used.wall_secs),
            spread(2, &|taken| taken.pushed.used.cpu_secs),
            spread(0, &|taken| taken.pushed.used.peak_bytes as f64 / 1_048_576.0),
            spread(0, &|taken| taken.pushed.uploaded_bytes as f64 / 1024.0),
            spread(1, &|taken| taken.wal_bytes as f64 / 1_048_576.0),
            pushes.len(),
        );
        for taken in pushes.iter().filter(|taken| !taken.verdict.faults.is_empty()) {
            println!(
                "\nBAD, snapshot {}: {}",
                taken.pushed.snapshot,
                taken.verdict.faults.join("; ")
            );
        }
    }
}
