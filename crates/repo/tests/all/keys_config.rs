//! The config object: damage, forgery, newer formats and sizes that no client could work with.

use repo::config::{Config, Params};
use repo::keys::Keyring;
use repo::{Error, RepoId};

const PARAMS: Params = Params {
    chunk_bytes_min: 4 << 10,
    chunk_bytes_avg: 16 << 10,
    chunk_bytes_max: 64 << 10,
    block_bytes_data: 2 << 20,
    block_bytes_pages: 512 << 10,
    zstd_level: 2,
};

fn config() -> Config {
    Config::new(RepoId([7; 16]), PARAMS, 1_700_000_000).unwrap()
}

fn parse_and_verify(object: &[u8], keyring: &Keyring) -> repo::Result<Config> {
    let config = Config::parse(object)?;
    config.verify(keyring)?;
    Ok(config)
}

#[test]
fn what_was_written_comes_back() {
    let (keyring, mut config) = (Keyring::random(), config());
    config.features.compat.push("anything".to_owned());
    let back = parse_and_verify(&config.encode(&keyring), &keyring).unwrap();
    assert_eq!((back.repo, back.version, back.params), (config.repo, 1, PARAMS));
    assert_eq!((&back.features, back.created_secs), (&config.features, 1_700_000_000));
    back.writable().unwrap();
}

#[test]
fn every_changed_byte_is_found_and_all_but_the_mac_without_a_key() {
    let keyring = Keyring::random();
    let object = config().encode(&keyring);
    for at in 0..object.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bad = object.clone();
            bad[at] ^= mask;
            let parsed = Config::parse(&bad);
            if at < object.len() - 32 {
                let error = parsed.unwrap_err();
                let newer = at == 7 && matches!(error, Error::TooNew { .. });
                assert!(newer || matches!(error, Error::Corrupt { .. }), "byte {at}: {error}");
            } else {
                let error = parsed.unwrap().verify(&keyring).unwrap_err();
                assert!(matches!(error, Error::Corrupt { .. }), "byte {at}: {error}");
            }
        }
    }
}

#[test]
fn a_config_cut_short_or_grown_is_damage() {
    let keyring = Keyring::random();
    let object = config().encode(&keyring);
    for len in 0..object.len() {
        let error = Config::parse(&object[..len]).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{len}: {error}");
    }
    let mut longer = object;
    longer.push(0);
    assert!(matches!(Config::parse(&longer), Err(Error::Corrupt { .. })));
    assert!(matches!(Config::parse(&vec![0; 1 << 20]), Err(Error::Corrupt { .. })));
}

#[test]
fn bytes_smuggled_in_after_the_record_are_damage() {
    let object = config().encode(&Keyring::random());
    let mut forged = object[..object.len() - 48].to_vec();
    forged.push(0);
    let len = u32::from_le_bytes(forged[8..12].try_into().unwrap()) + 1;
    forged[8..12].copy_from_slice(&len.to_le_bytes());
    let checksum = blake3::hash(&forged);
    forged.extend_from_slice(&checksum.as_bytes()[..16]);
    forged.extend_from_slice(&object[object.len() - 32..]);
    let error = Config::parse(&forged).unwrap_err();
    assert!(error.to_string().contains("after its record"), "{error}");
}

#[test]
fn a_config_forged_without_the_key_parses_but_does_not_verify() {
    let (keyring, stranger) = (Keyring::random(), Keyring::random());
    let mut forged = config();
    forged.params.chunk_bytes_max = 128 << 10;
    let parsed = Config::parse(&forged.encode(&stranger)).unwrap();
    assert!(matches!(parsed.verify(&keyring), Err(Error::Corrupt { .. })));
    // a config that never was an object proves nothing
    assert!(config().verify(&keyring).is_err());
}

#[test]
fn a_newer_format_is_called_newer_and_named() {
    let keyring = Keyring::random();
    let mut newer = config();
    newer.version = 2;
    // sizes that this version would refuse must not hide the reason
    newer.params.chunk_bytes_avg = 3;
    let error = Config::parse(&newer.encode(&keyring)).unwrap_err();
    assert!(matches!(error, Error::TooNew { .. }));
    assert!(error.to_string().contains("version 2"), "{error}");

    let mut feature = config();
    feature.features.incompat.push("put-only\u{1b}[2J".to_owned());
    let error = Config::parse(&feature.encode(&keyring)).unwrap_err();
    assert!(matches!(error, Error::TooNew { .. }));
    assert!(error.to_string().contains("put-only") && !error.to_string().contains('\u{1b}'));
}

#[test]
fn an_unknown_ro_compat_feature_stops_writers_and_not_readers() {
    let keyring = Keyring::random();
    let mut config = config();
    config.features.ro_compat.push("index-filters".to_owned());
    let back = parse_and_verify(&config.encode(&keyring), &keyring).unwrap();
    let error = back.writable().unwrap_err();
    assert!(matches!(error, Error::TooNew { .. }));
    assert!(error.to_string().contains("index-filters"), "{error}");
}

#[test]
fn sizes_that_no_cutter_or_reader_can_work_with_are_refused() {
    let keyring = Keyring::random();
    let bad = [
        Params { chunk_bytes_min: 0, ..PARAMS },
        Params { chunk_bytes_min: 128, ..PARAMS },
        Params { chunk_bytes_min: 5_000, ..PARAMS },
        Params { chunk_bytes_min: 16 << 10, ..PARAMS },
        Params { chunk_bytes_avg: 64 << 10, ..PARAMS },
        Params { chunk_bytes_max: 4 << 20, ..PARAMS },
        Params { block_bytes_data: 16 << 20, ..PARAMS },
        Params { block_bytes_data: 3 << 20, ..PARAMS },
        Params { block_bytes_pages: 32 << 10, ..PARAMS },
        Params { block_bytes_pages: u32::MAX, ..PARAMS },
    ];
    for params in bad {
        let made = Config::new(RepoId([7; 16]), params, 0);
        assert!(matches!(made, Err(Error::Refused { .. })), "{params:?}");
        let mut stored = config();
        stored.params = params;
        let error = Config::parse(&stored.encode(&keyring)).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{params:?}: {error}");
    }
}
