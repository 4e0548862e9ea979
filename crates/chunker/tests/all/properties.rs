//! What must hold for every input: nothing lost, nothing out of bounds, the same cuts however the
//! bytes arrive, and cuts that stay where they are when something else changes.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, OnceLock};

use chunker::{Chunks, Cutter, Gear, Policy, Sizes};
use proptest::prelude::*;

/// Small chunks, so that short inputs have many.
fn cutter() -> Cutter {
    static GEAR: OnceLock<Arc<Gear>> = OnceLock::new();
    let sizes = Sizes::new(256, 1024, 4096).unwrap();
    Cutter::new(sizes, GEAR.get_or_init(|| Arc::new(Gear::derive(&[42; 32], &sizes))).clone())
}

fn slice_cuts(cutter: &Cutter, data: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut chunks) = (data, Vec::new());
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(cutter.cut(rest, true));
        chunks.push(chunk.to_vec());
        rest = after;
    }
    chunks
}

fn drain<R: Read>(mut chunks: Chunks<R>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().unwrap() {
        all.push(chunk.to_vec());
    }
    assert!(chunks.next().unwrap().is_none(), "the end must stay the end");
    all
}

/// A reader that gives as many bytes a call as its plan says, round and round; 0 is an interrupt.
struct Stutter<'a> {
    data: &'a [u8],
    plan: Vec<usize>,
    calls: usize,
}

impl Read for Stutter<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let give = self.plan[self.calls % self.plan.len()];
        self.calls += 1;
        if give == 0 {
            return Err(ErrorKind::Interrupted.into());
        }
        let end = buffer.len().min(give);
        self.data.read(&mut buffer[..end])
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Noise, text of few words, runs of one byte, and mixtures.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let piece = (0..3_u8, any::<u64>(), 0..30_000_usize).prop_map(|(kind, seed, len)| match kind {
        0 => noise(seed, len),
        1 => noise(seed, len / 6)
            .iter()
            .flat_map(|b| format!("\"w{:03}\"", b % 20).into_bytes())
            .collect(),
        _ => vec![seed.to_le_bytes()[0]; len],
    });
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chunks_are_the_input_and_keep_to_the_bounds(data in input()) {
        let chunks = slice_cuts(&cutter(), &data);
        prop_assert_eq!(chunks.concat(), data);
        for (n, chunk) in chunks.iter().enumerate() {
            prop_assert!(chunk.len() <= 4096);
            prop_assert!(chunk.len() >= 256 || n + 1 == chunks.len());
        }
    }

    #[test]
    fn a_pipe_that_stutters_is_cut_like_a_file_read_at_once(
        data in input(),
        mut plan in prop::collection::vec(0..5000_usize, 1..6),
        last in 1..3000_usize,
    ) {
        plan.push(last);
        let reader = Stutter { data: &data, plan, calls: 0 };
        prop_assert_eq!(drain(Chunks::new(reader, Policy::Content(cutter()))), slice_cuts(&cutter(), &data));
    }

    #[test]
    fn a_cut_needs_no_more_than_the_longest_chunk_in_sight(data in input()) {
        prop_assume!(data.len() > 4096);
        prop_assert_eq!(cutter().cut(&data[..4096], false), cutter().cut(&data, true));
    }

    #[test]
    fn an_insertion_moves_only_the_cuts_near_it(
        seed in any::<u64>(),
        at in 0..150_000_usize,
        insert in prop::collection::vec(any::<u8>(), 1..2000),
    ) {
        let data = noise(seed, 150_000);
        let edited = [&data[..at], &insert, &data[at..]].concat();
        let known: HashSet<_> = slice_cuts(&cutter(), &data).into_iter().collect();
        let new: usize =
            slice_cuts(&cutter(), &edited).iter().filter(|c| !known.contains(*c)).map(Vec::len).sum();
        // The chunk it falls in, and those until old and new cuts meet again.
        prop_assert!(new <= insert.len() + 12 * 4096, "{new} new bytes for {} inserted", insert.len());
    }

    #[test]
    fn pages_are_exact_for_every_page_size_and_length(
        len in 0..300_000_usize,
        page in prop::sample::select(vec![512_usize, 1024, 4096, 8192, 65536]),
        give in 1..9000_usize,
    ) {
        let data = noise(1, len);
        let reader = Stutter { data: &data, plan: vec![give], calls: 0 };
        let expected: Vec<_> = data.chunks(page.max(4096)).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(drain(Chunks::pages(reader, page)), expected);
    }
}

#[test]
fn a_file_larger_than_the_buffer_is_cut_like_a_slice() {
    let data = noise(7, 5 << 20);
    assert_eq!(
        drain(Chunks::new(&data[..], Policy::Content(cutter()))),
        slice_cuts(&cutter(), &data)
    );
}

#[test]
fn one_byte_at_a_time_gives_the_same_cuts() {
    let data = noise(8, 100_000);
    let reader = Stutter { data: &data, plan: vec![1, 0], calls: 0 };
    assert_eq!(drain(Chunks::new(reader, Policy::Content(cutter()))), slice_cuts(&cutter(), &data));
}

#[test]
fn a_big_file_takes_a_read_call_per_megabyte_not_one_per_chunk() {
    let data = noise(9, 8 << 20);
    let reader = Stutter { data: &data, plan: vec![usize::MAX], calls: 0 };
    let mut chunks = Chunks::new(reader, Policy::Content(cutter()));
    while chunks.next().unwrap().is_some() {}
    let calls = chunks.restart(Stutter { data: &[], plan: vec![1], calls: 0 }).calls;
    assert!(calls <= 10, "{calls} reads for 8 MiB");
}

#[test]
fn a_second_file_through_the_same_buffer_has_nothing_of_the_first() {
    let (first, second) = (noise(10, 50_000), noise(11, 9_000));
    let mut chunks = Chunks::new(&first[..], Policy::Content(cutter()));
    chunks.next().unwrap();
    chunks.restart(&second);
    assert_eq!(drain(chunks), slice_cuts(&cutter(), &second));
}

/// Fails once in the middle, as a network file system does.
struct FailsOnce<'a>(&'a [u8], bool);

impl Read for FailsOnce<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.len() < 60_000 && !std::mem::replace(&mut self.1, true) {
            return Err(ErrorKind::TimedOut.into());
        }
        let end = buffer.len().min(7_000);
        self.0.read(&mut buffer[..end])
    }
}

#[test]
fn a_read_error_reaches_the_caller_and_loses_no_byte_if_it_tries_again() {
    let data = noise(12, 100_000);
    let mut chunks = Chunks::new(FailsOnce(&data, false), Policy::Content(cutter()));
    let (mut all, mut errors) = (Vec::new(), 0);
    loop {
        match chunks.next() {
            Ok(Some(chunk)) => all.push(chunk.to_vec()),
            Ok(None) => break,
            Err(err) => {
                assert_eq!(err.kind(), ErrorKind::TimedOut);
                errors += 1;
            }
        }
    }
    assert_eq!(errors, 1);
    assert_eq!(all, slice_cuts(&cutter(), &data));
}

#[test]
fn a_page_size_from_a_damaged_header_does_not_decide_the_buffer() {
    let data = noise(13, 200_000);
    let lengths = |page| -> Vec<usize> {
        drain(Chunks::pages(&data[..], page)).iter().map(Vec::len).collect()
    };
    assert_eq!(lengths(0)[0], 4096);
    assert_eq!(lengths(usize::MAX), [65_536, 65_536, 65_536, 3_392]);
}
