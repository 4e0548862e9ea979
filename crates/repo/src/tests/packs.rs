//! Packs: any blocks come back, the trailer says what the index says, few reads serve many blocks.

use std::sync::Arc;

use proptest::prelude::*;
use store::Store;
use testkit::{Fault, FaultStore, RecordingStore, Verb};

use super::{Blocks, OP, fresh, open};
use crate::keys::BlockKind;
use crate::limits;
use crate::pack::{PackTable, seal_block};
use crate::{BlockId, Error, Index, PackId, PackWriter, Reader, Repository, read_trailer};

const KINDS: [BlockKind; 4] = [BlockKind::Data, BlockKind::Node, BlockKind::Map, BlockKind::Patch];

/// Some blocks: kind, a byte that fills them or noise, and a length.
fn arb_blocks() -> impl Strategy<Value = Vec<(BlockKind, Vec<u8>)>> {
    let block = (0..4_usize, any::<u64>(), 1..3_000_usize, any::<bool>()).prop_map(
        |(kind, seed, len, noise)| {
            let mut plain = vec![0; len];
            if noise {
                blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut plain);
            } else {
                plain.fill(seed.to_le_bytes()[0]);
            }
            (KINDS[kind], plain)
        },
    );
    proptest::collection::vec(block, 1..12)
}

fn put(repo: &Repository, blocks: &[(BlockKind, Vec<u8>)]) -> (PackTable, Vec<BlockId>) {
    let mut pack = Blocks::new(repo, OP, 0);
    let mut ids = Vec::new();
    for (kind, plain) in blocks {
        let lens: &[usize] = if *kind == BlockKind::Data { &[plain.len()] } else { &[] };
        ids.push(pack.add(*kind, plain, lens).unwrap());
    }
    (pack.put().unwrap(), ids)
}

fn trailer_of(repo: &Repository, pack: PackId) -> crate::Result<PackTable> {
    let object = repo.store().get(&pack.object_name())?;
    read_trailer(repo.keys(), repo.id(), &pack, object.len() as u64, |n| {
        Ok(object.slice(object.len() - usize::try_from(n).unwrap()..))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_pack_reads_back_in_any_order(blocks in arb_blocks(), order in any::<Vec<u8>>()) {
        let (_, repo) = fresh();
        let (table, ids) = put(&repo, &blocks);
        prop_assert_eq!(&trailer_of(&repo, table.pack()).unwrap(), &table);
        let mut index = Index::default();
        index.add(&table, true).unwrap();
        let reader = Reader::new(&repo, None, index);
        // any order, any repetition, all at once and one by one
        let wanted: Vec<usize> =
            order.iter().map(|n| usize::from(*n) % ids.len()).chain(0..ids.len()).collect();
        let together =
            reader.read_all(&wanted.iter().map(|n| ids[*n]).collect::<Vec<_>>()).unwrap();
        for (n, plain) in wanted.into_iter().zip(together) {
            prop_assert_eq!(&plain, &blocks[n].1);
            prop_assert_eq!(reader.read(&ids[n]).unwrap(), plain);
        }
    }

    #[test]
    fn a_packs_length_is_one_of_few(blocks in arb_blocks()) {
        let (store, repo) = fresh();
        let (table, _) = put(&repo, &blocks);
        let stored = store.get(&table.pack().object_name()).unwrap().len() as u64;
        prop_assert_eq!(stored, table.bytes);
        let padded = crate::padding::padded_len(stored, limits::PACK_BYTES_FLOOR);
        prop_assert_eq!(stored, padded);
    }
}

#[test]
fn neighbouring_blocks_are_one_read_and_a_chunk_is_found_where_it_lies() {
    let (store, repo) = fresh();
    let blocks: Vec<_> = (0..20_u8).map(|n| (BlockKind::Data, vec![n; 500])).collect();
    let (table, ids) = put(&repo, &blocks);
    let recorder = Arc::new(RecordingStore::new(Arc::new(store)));
    let counted = open(Arc::clone(&recorder) as Arc<dyn Store>).unwrap();
    let mut index = Index::default();
    index.add(&table, true).unwrap();
    index.sort();
    let (number, offset) = index.chunk(repo.keys().chunk_id(&[7; 500]), 500).next().unwrap();
    assert_eq!((index.blocks()[number as usize].row.id, offset), (ids[7], 0));
    recorder.take();
    Reader::new(&counted, None, index).read_all(&ids).unwrap();
    assert_eq!(recorder.count(Verb::GetRange), 1);
}

#[test]
fn a_store_that_answers_with_fewer_bytes_is_an_error_not_a_panic() {
    let (store, repo) = fresh();
    let mut noise = vec![0; 900];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let (table, ids) =
        put(&repo, &[(BlockKind::Data, noise.clone()), (BlockKind::Node, noise[..90].to_vec())]);
    for cut in [0, 1, 15, 30, 60, 100] {
        let faulty = FaultStore::new(Arc::new(store.clone()), move |call| {
            (call.verb == Verb::GetRange).then_some(Fault::CutTo(cut))
        });
        let cut_repo = open(Arc::new(faulty)).unwrap();
        let mut index = Index::default();
        index.add(&table, false).unwrap();
        let error = Reader::new(&cut_repo, None, index).read_all(&ids).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "cut to {cut}: {error}");
    }
}

#[test]
fn a_range_read_that_fails_spoils_only_what_it_must() {
    let (store, repo) = fresh();
    let (table, ids) =
        put(&repo, &[(BlockKind::Data, vec![1; 900]), (BlockKind::Node, vec![2; 90])]);
    // the first, joint read comes back with a flipped bit; reading again is enough
    let faulty = FaultStore::at(Arc::new(store), 2, Fault::FlipBit(3));
    let faulty = open(Arc::new(faulty)).unwrap();
    let mut index = Index::default();
    index.add(&table, false).unwrap();
    let plain = Reader::new(&faulty, None, index).read_all(&ids).unwrap();
    assert_eq!(plain, [vec![1; 900], vec![2; 90]]);
}

#[test]
fn blocks_that_are_gone_cost_few_listings() {
    let (store, repo) = fresh();
    let blocks: Vec<_> = (0..30_u8).map(|n| (BlockKind::Data, vec![n; 50])).collect();
    let (table, ids) = put(&repo, &blocks);
    let op = crate::Operation::announce(&repo, OP, crate::OpKind::Push, super::MACHINE, 0).unwrap();
    op.put_index(vec![table.clone()], None).unwrap();
    store.delete(&table.pack().object_name()).unwrap();
    let recorder = Arc::new(RecordingStore::new(Arc::new(store)));
    let counted = open(Arc::clone(&recorder) as Arc<dyn Store>).unwrap();
    let mut index = Index::default();
    index.add(&table, false).unwrap();
    let reader = Reader::new(&counted, None, index);
    for id in &ids {
        let error = reader.read(id).unwrap_err();
        assert!(error.to_string().contains(&table.pack().object_name()), "{error}");
    }
    assert!(recorder.count(Verb::List) <= 4, "{} listings", recorder.count(Verb::List));
}

#[test]
fn a_block_that_gc_moved_is_found_after_one_look_at_the_index() {
    let (store, repo) = fresh();
    let (old, ids) = put(&repo, &[(BlockKind::Data, vec![1; 900])]);
    let mut index = Index::default();
    index.add(&old, false).unwrap();
    // gc: the copy first, then the index, then the old pack
    let mut copy = PackWriter::new(PackId { op: crate::OpId([9; 16]), n: 0 });
    let object = store.get(&old.pack().object_name()).unwrap();
    let (offset, row) = old.placed().next().unwrap();
    let offset = usize::try_from(offset).unwrap();
    copy.push(row.clone(), &object[offset..offset + row.stored_len as usize]);
    let (new, parts) = copy.finish(repo.keys(), repo.id());
    store.put(&new.pack().object_name(), vec![parts]).unwrap();
    let gc = crate::Operation::announce(
        &repo,
        crate::OpId([9; 16]),
        crate::OpKind::Gc,
        super::MACHINE,
        0,
    );
    gc.unwrap().put_index(vec![new], None).unwrap();
    store.delete(&old.pack().object_name()).unwrap();
    assert_eq!(Reader::new(&repo, None, index).read(&ids[0]).unwrap(), vec![1; 900]);
}

#[test]
fn a_writer_refuses_chunks_that_are_not_the_blocks_bytes() {
    let (_, repo) = fresh();
    let (keys, plain) = (repo.keys(), b"some plain text".as_slice());
    let len = u32::try_from(plain.len()).unwrap();
    let seal = |chunks: &[_]| seal_block(keys, repo.id(), BlockKind::Data, plain, chunks, 3);
    assert!(seal(&[(keys.chunk_id(plain), len)]).is_ok());
    assert!(seal(&[(keys.chunk_id(b"another text!!!"), len)]).is_err(), "another id");
    assert!(seal(&[(keys.chunk_id(&plain[..4]), 4)]).is_err(), "bytes without a chunk");
    let empty = (keys.chunk_id(b""), 0);
    assert!(seal(&[empty, (keys.chunk_id(plain), len)]).is_err(), "a chunk of nothing");
    let many = vec![(keys.chunk_id(b"s"), 1); limits::CHUNKS_PER_BLOCK_MAX + 1];
    let plain = vec![b's'; many.len()];
    assert!(seal_block(keys, repo.id(), BlockKind::Data, &plain, &many, 3).is_err(), "too many");
}

#[test]
fn a_trailer_under_another_packs_name_is_refused() {
    let (store, repo) = fresh();
    let (table, _) = put(&repo, &[(BlockKind::Node, vec![2; 90])]);
    let object = store.get(&table.pack().object_name()).unwrap();
    for other in [PackId { op: OP, n: 1 }, PackId { op: crate::OpId([7; 16]), n: 0 }] {
        store.put(&other.object_name(), vec![object.clone()]).unwrap();
        assert!(matches!(trailer_of(&repo, other), Err(Error::Corrupt { .. })));
    }
}

#[test]
fn many_tiny_chunks_close_a_pack_before_its_table_is_larger_than_a_reader_takes() {
    let (_, repo) = fresh();
    let plain: Vec<u8> = (0..limits::CHUNKS_PER_BLOCK_MAX).map(|n| n.to_le_bytes()[0]).collect();
    let chunks: Vec<_> = plain.iter().map(|b| (repo.keys().chunk_id(&[*b]), 1)).collect();
    let block = seal_block(repo.keys(), repo.id(), BlockKind::Data, &plain, &chunks, 3).unwrap();
    let mut pack = PackWriter::new(PackId { op: OP, n: 0 });
    while pack.bytes() < limits::PACK_BYTES_TARGET {
        pack.push(block.row.clone(), &block.sealed);
    }
    let (table, parts) = pack.finish(repo.keys(), repo.id());
    let object = parts.to_vec();
    repo.store().put(&table.pack().object_name(), vec![object.into()]).unwrap();
    assert_eq!(trailer_of(&repo, table.pack()).unwrap(), table);
}
