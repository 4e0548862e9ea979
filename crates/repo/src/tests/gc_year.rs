//! A year of small pushes, one an hour, with a policy and a collection a week: few objects are left.

use store::Store;

use super::gc::{Push, bytes_of, options};
use super::{MACHINE, fresh, restore};
use crate::gc;
use crate::{Commit, OpId};

const PUSHES: u32 = 8_760;
const WEEK: u32 = 168;
/// Snapshots of the last days that a policy keeps, and one of each week.
const KEPT: u32 = 48;

fn id(kind: u8, n: u32) -> OpId {
    let mut id = [kind; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    OpId(id)
}

#[test]
fn a_year_of_hourly_pushes_leaves_few_packs_and_index_objects() {
    let (store, repo) = fresh();
    let content = |n: u32| {
        let mut content = bytes_of(7, 300);
        content[..4].copy_from_slice(&n.to_be_bytes());
        content
    };
    let (mut kept, mut most) = (Vec::new(), (0, 0));
    for n in 1..=PUSHES {
        // a transcript that is appended to for a day: the last 24 pieces are there
        let pieces: Vec<Vec<u8>> = (n.saturating_sub(23)..=n).map(content).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let (commit, files) = Push::begin_as(&repo, id(1, n)).end(&pieces).unwrap();
        assert!(matches!(commit, Commit::Acknowledged(_)));
        kept.push((n, files));
        if n.is_multiple_of(WEEK) || n == PUSHES {
            let is_kept = |made: u32| made + KEPT > n || made.is_multiple_of(WEEK);
            for (made, _) in kept.iter().filter(|(made, _)| !is_kept(*made)) {
                assert!(repo.forget(&id(1, *made)).unwrap());
            }
            kept.retain(|(made, _)| is_kept(*made));
            let collector = id(2, n);
            gc::collect(&repo, None, collector, MACHINE, &options(), &|| 0, &|_| {}).unwrap();
            let count = |prefix| store.list(prefix).unwrap().len();
            most = (count("packs/").max(most.0), count("index/").max(most.1));
            assert!(count("op/") <= 1 && count("end/") <= 1, "what ended is tidied away");
        }
    }
    assert!(most.0 <= 200 && most.1 <= 50, "packs and index objects after a collection: {most:?}");
    for (made, files) in &kept {
        assert_eq!(restore(&repo, None, &id(1, *made)).unwrap(), *files);
    }
}
