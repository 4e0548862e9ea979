//! The files a benchmark works on: a directory somebody gives, or a small synthetic agent state.

use std::fs;
use std::io;
use std::path::Path;

use crate::draws::Draws;

/// One file in memory.
#[derive(Debug)]
pub struct File {
    /// Path below the directory; files are sorted by it.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl File {
    /// Whether this is a SQLite database, by its first bytes.
    pub fn is_database(&self) -> bool {
        self.bytes.starts_with(b"SQLite format 3\0")
    }

    /// What the path and content say it is, for totals by kind.
    pub fn kind(&self) -> &'static str {
        let ends = |ext: &str| Path::new(&self.path).extension().is_some_and(|e| e == ext);
        if self.is_database() {
            "databases"
        } else if ends("jsonl") {
            "transcripts"
        } else if ends("png") || ends("jpg") {
            "images"
        } else if self.path.contains("objects/") {
            "git objects"
        } else {
            "small files"
        }
    }
}

/// All regular files below `dir`, sorted by path. Links are left out.
pub fn load(dir: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                let below = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
                files.push(File { path: below, bytes: fs::read(&path)? });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Transcripts of `files` one after the other, at least `bytes` long: made longer by synthetic
/// lines when there are too few.
pub fn long_transcript(files: &[File], bytes: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for file in files.iter().filter(|file| file.kind() == "transcripts") {
        text.extend_from_slice(&file.bytes);
        if text.len() >= bytes {
            break;
        }
    }
    if text.len() < bytes {
        text.extend(transcript(&mut Draws::seeded(77), bytes - text.len()));
    }
    text
}

/// A small agent state, always the same: 24 MB of transcripts, JSON files, git-like objects,
/// images and a file in the shape of a database.
pub fn synthetic() -> Vec<File> {
    let mut draws = Draws::seeded(1);
    let mut files = Vec::new();
    let mut add = |path: String, bytes| files.push(File { path, bytes });
    for n in 0..40 {
        let bytes = transcript(&mut draws, 100_000 << (n % 4));
        add(format!("projects/{n:03}.jsonl"), bytes);
    }
    for n in 0..400 {
        let bytes = draws.text(600).into_bytes();
        add(format!("todos/{n:03}.json"), [b"{\"todos\":\"".as_slice(), &bytes, b"\"}"].concat());
    }
    for n in 0..600 {
        let len = 200 + draws.below(6_000);
        add(format!("objects/{n:03}"), draws.noise(len));
    }
    for n in 0..8 {
        add(format!("images/{n}.png"), draws.noise(250_000));
    }
    add("state.db".to_owned(), database(&mut draws, 2_000));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// JSON lines of prose and of listings, some seen before, as agents read the same file again.
fn transcript(draws: &mut Draws, bytes: usize) -> Vec<u8> {
    let listings: Vec<String> = (0..12).map(|_| draws.text(4_000)).collect();
    let mut text = String::new();
    while text.len() < bytes {
        let id = format!("{:016x}", draws.next());
        let body = if draws.below(5) == 0 {
            listings[draws.below(listings.len())].clone()
        } else {
            let len = 100 + draws.below(1_500);
            draws.text(len)
        };
        for part in [
            r#"{"isSidechain":false,"userType":"external","cwd":"/home/user/work","uuid":""#,
            &id,
            r#"","type":"message","message":{"content":""#,
            &body,
            "\"}}\n",
        ] {
            text.push_str(part);
        }
    }
    text.truncate(bytes);
    text.into_bytes()
}

/// A header, then pages of 4 KiB with text at their end.
fn database(draws: &mut Draws, pages: usize) -> Vec<u8> {
    let mut image = b"SQLite format 3\0\x10\x00".to_vec();
    image.resize(4096, 0);
    for _ in 1..pages {
        let cells = draws.text(3_000);
        let mut page = vec![0x0d, 0, 0, 0, 9];
        page.extend(draws.noise(40));
        page.resize(4096 - cells.len().min(3_900), 0);
        page.extend_from_slice(&cells.as_bytes()[..cells.len().min(3_900)]);
        image.extend(page);
    }
    image
}
