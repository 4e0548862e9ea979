//! The cut points, as constants. They are format: a client that cuts otherwise finds none of the
//! chunks that are already in a repository. If one of these fails, do not edit the constants: either
//! the change is wrong, or it needs a new repository format.

use std::fmt::Write;
use std::sync::Arc;

use chunker::{Cutter, Gear, Sizes};

/// 2 MiB that look random.
fn noise() -> Vec<u8> {
    let mut bytes = vec![0; 2 << 20];
    blake3::Hasher::new().update(b"golden noise").finalize_xof().fill(&mut bytes);
    bytes
}

/// Some 2 MB of lines with long equal beginnings.
fn lines() -> Vec<u8> {
    let mut stream = blake3::Hasher::new().update(b"golden lines").finalize_xof();
    let mut text = String::new();
    for number in 0..12_000 {
        let mut draw = [0; 12];
        stream.fill(&mut draw);
        write!(text, "{{\"type\":\"message\",\"role\":\"assistant\",\"n\":{number},\"content\":[")
            .unwrap();
        for byte in draw {
            write!(text, "\"word {}\",", byte % 50).unwrap();
        }
        text.push_str("null]}\n");
    }
    text.into_bytes()
}

/// The number of chunks, the first six lengths, and a hash over all lengths.
fn cuts(key: &[u8; 32], sizes: Sizes, data: &[u8]) -> (usize, Vec<usize>, String) {
    let cutter = Cutter::new(sizes, Arc::new(Gear::derive(key, &sizes)));
    let (mut rest, mut lengths, mut hasher) = (data, Vec::new(), blake3::Hasher::new());
    while !rest.is_empty() {
        let length = cutter.cut(rest, true);
        hasher.update(&u32::try_from(length).unwrap().to_le_bytes());
        lengths.push(length);
        rest = &rest[length..];
    }
    let all = hasher.finalize().to_hex()[..16].to_owned();
    (lengths.len(), lengths[..6].to_vec(), all)
}

fn key(name: &str) -> [u8; 32] {
    *blake3::hash(name.as_bytes()).as_bytes()
}

fn sizes(min: u32, avg: u32, max: u32) -> Sizes {
    Sizes::new(min, avg, max).unwrap()
}

#[track_caller]
fn expect(found: &(usize, Vec<usize>, String), count: usize, first: [usize; 6], all: &str) {
    assert_eq!(*found, (count, first.to_vec(), all.to_owned()));
}

#[test]
fn noise_is_cut_where_every_earlier_version_cut_it() {
    let data = noise();
    expect(
        &cuts(&[0; 32], sizes(4 << 10, 16 << 10, 128 << 10), &data),
        104,
        [18_981, 17_616, 18_578, 18_927, 11_045, 9_857],
        "8272b33c774a5ecb",
    );
    expect(
        &cuts(&key("a"), sizes(4 << 10, 16 << 10, 128 << 10), &data),
        101,
        [5_700, 24_254, 12_191, 12_327, 35_285, 5_587],
        "7a5c59a121edb024",
    );
    expect(
        &cuts(&key("b"), sizes(2 << 10, 8 << 10, 64 << 10), &data),
        197,
        [9_661, 3_305, 7_691, 10_590, 8_363, 2_713],
        "496c594ab91158a6",
    );
    expect(
        &cuts(&key("c"), sizes(16 << 10, 64 << 10, 256 << 10), &data),
        29,
        [124_692, 79_686, 73_122, 25_387, 73_967, 66_732],
        "5e9df5c598107f0e",
    );
    expect(
        &cuts(&key("d"), sizes(256, 1 << 10, 8 << 10), &data),
        1680,
        [432, 1_272, 1_155, 1_798, 1_883, 420],
        "feb6582d94af4e24",
    );
}

#[test]
fn lines_are_cut_where_every_earlier_version_cut_them() {
    let data = lines();
    expect(
        &cuts(&[0; 32], sizes(4 << 10, 16 << 10, 128 << 10), &data),
        89,
        [50_210, 28_545, 22_540, 25_725, 25_667, 18_824],
        "33e028df939138c8",
    );
    expect(
        &cuts(&key("a"), sizes(4 << 10, 16 << 10, 128 << 10), &data),
        98,
        [20_518, 19_815, 44_683, 18_041, 14_835, 6_829],
        "84b2de4a9a0818f2",
    );
    expect(
        &cuts(&key("b"), sizes(2 << 10, 8 << 10, 64 << 10), &data),
        199,
        [18_011, 11_010, 6_649, 10_814, 9_966, 14_484],
        "cbe1379e55ca68a8",
    );
    expect(
        &cuts(&key("c"), sizes(16 << 10, 64 << 10, 256 << 10), &data),
        24,
        [75_374, 136_102, 42_065, 150_983, 131_713, 100_557],
        "18e15b5910f677d6",
    );
}

/// The first table of this key fails the self-check, so these cuts also pin that check.
#[test]
fn a_key_with_a_bad_first_table_gets_the_same_next_one_everywhere() {
    let bad = key("first table bad: 105");
    expect(
        &cuts(&bad, sizes(4 << 10, 16 << 10, 128 << 10), &lines()),
        117,
        [47_599, 17_470, 14_294, 18_778, 29_067, 5_558],
        "e43d5571ab565baf",
    );
}
