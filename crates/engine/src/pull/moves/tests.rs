//! Paths and names, by table: what a map does to them, and what it leaves alone.

use std::collections::BTreeSet;

use adapters::Encoding;

use super::names::{Verdict, name_of, rename};
use super::path::{Maps, path_in};
use super::{PathMap, Tally, text};

fn maps(all: &[&str]) -> Maps {
    let all: Vec<PathMap> = all.iter().map(|text| PathMap::parse(text).unwrap()).collect();
    PathMap::check_all(&all).unwrap();
    Maps::new(&all)
}

/// Each value with what becomes of it; the same for what stays.
fn moves(all: &[&str], values: &[(&str, &str)]) {
    let maps = maps(all);
    for (old, new) in values {
        let wanted = (old != new).then(|| (*new).to_owned());
        assert_eq!(maps.apply(old), wanted, "{old} by {all:?}");
    }
}

#[test]
fn only_whole_names_at_the_beginning_are_mapped() {
    moves(
        &["/Users/a=/home/b"],
        &[
            ("/Users/a", "/home/b"),
            ("/Users/a/", "/home/b/"),
            ("/Users/a/x y/.z", "/home/b/x y/.z"),
            ("/Users/abc", "/Users/abc"),
            ("/Users/a.b", "/Users/a.b"),
            ("/Users", "/Users"),
            ("/data/Users/a", "/data/Users/a"),
            ("Users/a", "Users/a"),
            ("see /Users/a", "see /Users/a"),
            ("/users/a", "/users/a"),
            ("//Users/a", "/home/b"),
            ("/Users/a/../c", "/Users/a/../c"),
            ("/Users/a/..x", "/home/b/..x"),
            ("", ""),
            ("~", "~"),
        ],
    );
}

#[test]
fn the_longest_directory_counts_and_nothing_is_mapped_twice() {
    moves(
        &["/Users/a=/home/b", "/Users/a/code=/srv/code", "/Users/a/code/keep=/Users/a/code/keep"],
        &[
            ("/Users/a/x", "/home/b/x"),
            ("/Users/a/code/x", "/srv/code/x"),
            ("/Users/a/codebase", "/home/b/codebase"),
            ("/Users/a/code/keep/x", "/Users/a/code/keep/x"),
        ],
    );
    // what one writes is not for another
    moves(&["/a=/b", "/b=/c"], &[("/a/x", "/b/x"), ("/b/x", "/c/x")]);
    // the new directory lies in the old one, or holds it
    moves(&["/home/a=/home/a/old"], &[("/home/a/x", "/home/a/old/x")]);
    moves(&["/home/a/old=/home/a"], &[("/home/a/old/x", "/home/a/x"), ("/home/a/x", "/home/a/x")]);
    // two that change places
    moves(&["/x/a=/x/b", "/x/b=/x/a"], &[("/x/a/1", "/x/b/1"), ("/x/b/1", "/x/a/1")]);
}

#[test]
fn addresses_keep_their_percent_signs() {
    moves(
        &["/Users/a b=/home/\u{fc}", "/Users/c=/home/d"],
        &[
            ("file:///Users/a%20b/my%20x", "file:///home/%C3%BC/my%20x"),
            ("file://localhost/Users/c/x", "file:///home/d/x"),
            ("file:///Users/%63/x", "file:///home/d/x"),
            ("file:///Users/cd", "file:///Users/cd"),
            ("file:///Users/c/%2e%2e/x", "file:///Users/c/%2e%2e/x"),
            ("file://server/Users/c", "file://server/Users/c"),
            ("vscode-remote://ssh/Users/c", "vscode-remote://ssh/Users/c"),
        ],
    );
}

#[test]
fn paths_of_windows_go_to_unix_and_back() {
    moves(
        &[r"C:\Users\a=/home/b"],
        &[
            (r"C:\Users\a\x\y", "/home/b/x/y"),
            (r"c:\users\A\x", "/home/b/x"),
            ("C:/Users/a/x", "/home/b/x"),
            (r"D:\Users\a", r"D:\Users\a"),
            (r"C:\Users\abc", r"C:\Users\abc"),
            ("file:///c%3A/Users/a/x%20y", "file:///home/b/x%20y"),
            ("file:///C:/Users/a", "file:///home/b"),
        ],
    );
    moves(
        &["/home/b=D:/me"],
        &[
            ("/home/b/x/y", r"D:\me\x\y"),
            ("file:///home/b/x", "file:///d%3A/me/x"),
            (r"\home\b", r"\home\b"),
        ],
    );
    moves(&[r"C:\a=D:\b"], &[(r"C:\a\x/y", r"D:\b\x/y")]);
}

#[test]
fn a_map_that_could_mean_harm_or_nothing_is_refused() {
    for (text, words) in [
        ("", "no '='"),
        ("/a", "no '='"),
        ("=", "OLD is empty"),
        ("=/b", "OLD is empty"),
        ("/a=", "NEW is empty"),
        ("a=/b", "OLD is not absolute"),
        ("/a=b", "NEW is not absolute"),
        ("~/a=/b", "OLD is not absolute: write the home in full"),
        ("/a/../b=/c", "OLD has '.' or '..' in it"),
        ("/a=/c/./d", "NEW has '.' or '..' in it"),
        ("/=/b", "OLD is the root of a file system"),
        ("/a=/", "NEW is the root of a file system"),
        ("/a=C:\\", "NEW is the root"),
        ("/a=C:x", "NEW is not absolute"),
        (r"\\server\share=/b", "network path"),
        ("/a\n=/b", "control character"),
        ("/a=/b=/c", "more than one way"),
    ] {
        let error = PathMap::parse(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error:?}");
    }
    assert_eq!(PathMap::parse("/a//b/=/c/").unwrap().to_string(), "/a/b=/c");
    assert_eq!(PathMap::parse("/a=b=/c").unwrap().old(), "/a=b");
    assert_eq!(PathMap::parse("/a=/b=c").unwrap().new_path(), "/b=c");
    let two = |texts: [&str; 2]| {
        PathMap::check_all(&texts.map(|text| PathMap::parse(text).unwrap()))
            .map_err(|e| e.to_string())
    };
    assert!(two(["/a=/b", "/a/=/c"]).unwrap_err().contains("sends the same directory elsewhere"));
    assert_eq!(two(["/a=/b", "/a/=/b"]), Ok(()));
    assert_eq!(two(["/a=/c", "/b=/c"]), Ok(()));
}

fn named(encoding: Encoding, name: &str, known: &[&str], all: &[&str]) -> Verdict {
    let known: BTreeSet<String> = known.iter().map(|path| (*path).to_owned()).collect();
    rename(encoding, name, &known, &maps(all))
}

#[test]
fn encodings_are_those_of_the_guide() {
    let of = |encoding| name_of(encoding, "/home/a/x.y").unwrap();
    for (encoding, name) in [
        (Encoding::ClaudeCode, "-home-a-x-y"),
        (Encoding::Pi, "--home-a-x.y--"),
        (Encoding::Dashes, "-home-a-x.y"),
        (Encoding::Percent, "%2Fhome%2Fa%2Fx.y"),
        (Encoding::Base64, "L2hvbWUvYS94Lnk"),
    ] {
        assert_eq!(of(encoding), name);
    }
    // RFC 1321, FIPS 180-4
    assert_eq!(name_of(Encoding::Md5, "abc").unwrap(), "900150983cd24fb0d6963f7d28e17f72");
    let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(name_of(Encoding::Sha256, "abc").unwrap(), sha);
    assert_eq!(name_of(Encoding::Sha256Half, "abc").unwrap(), sha[..32]);
    assert_eq!(name_of(Encoding::ClaudeCode, "/\u{fc}/\u{1f600}").unwrap(), "-----");
    assert_eq!(name_of(Encoding::ClaudeCode, &format!("/{}", "x".repeat(200))), None);
    assert_eq!(name_of(Encoding::Pi, r"C:\a").unwrap(), "--C--a--");
}

#[test]
fn a_name_that_cannot_be_turned_back_follows_a_known_path_or_else_its_beginning() {
    let home = &["/Users/a=/home/b"][..];
    let claude = |name, known: &[&str]| named(Encoding::ClaudeCode, name, known, home);
    let new = |name: &str| Verdict::Known(name.to_owned());
    let guess = |name: &str| Verdict::Guess(name.to_owned());
    assert_eq!(claude("-Users-a-my-x", &["/Users/a/my.x"]), new("-home-b-my-x"));
    assert_eq!(claude("-Users-a-my-x", &["/Users/a/my.x", "/Users/a/my/x"]), new("-home-b-my-x"));
    assert_eq!(claude("-Users-a-my-x", &["/Users/a/other"]), guess("-home-b-my-x"));
    assert_eq!(claude("-Users-a", &[]), guess("-home-b"));
    assert_eq!(claude("-Users-abc-x", &[]), Verdict::Stays);
    // a file tells that it is another user's
    assert_eq!(claude("-Users-a-b-x", &["/Users/a-b/x"]), Verdict::Stays);
    // and here that it may be either
    let both = claude("-Users-a-b-x", &["/Users/a-b/x", "/Users/a/b/x"]);
    assert!(matches!(both, Verdict::Unclear(why) if why.contains("several paths")), "{both:?}");
    let two = &["/Users/a-b=/one", "/Users/a.b=/two"][..];
    let either = named(Encoding::ClaudeCode, "-Users-a-b-x", &[], two);
    assert!(matches!(either, Verdict::Unclear(_)), "{either:?}");
    // the longest directory counts
    let more = &["/Users/a=/home/b", "/Users/a/work=/srv"][..];
    assert_eq!(named(Encoding::ClaudeCode, "-Users-a-work-x", &[], more), guess("-srv-x"));
    // too long to be known how it is written
    let long = format!("-Users-a-{}", "x".repeat(190));
    let far = format!("/Users/a=/home/{}", "b".repeat(30));
    assert!(matches!(named(Encoding::ClaudeCode, &long, &[], &[&far]), Verdict::Unclear(_)));

    assert_eq!(named(Encoding::Pi, "--Users-a-x.y--", &[], home), guess("--home-b-x.y--"));
    assert_eq!(named(Encoding::Pi, "--Users-a--", &["/Users/a"], home), new("--home-b--"));
    assert_eq!(named(Encoding::Pi, "--Users-abc--", &[], home), Verdict::Stays);
    assert_eq!(named(Encoding::Dashes, "-Users-a-x.y", &[], home), guess("-home-b-x.y"));
}

#[test]
fn a_name_that_can_be_turned_back_needs_no_help_and_keeps_its_spelling() {
    let home = &["/Users/a=/home/b c"][..];
    let new = |encoding, name: &str| match named(encoding, name, &[], home) {
        Verdict::Known(new) => new,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(new(Encoding::Percent, "%2FUsers%2Fa%2Fx%20y"), "%2Fhome%2Fb%20c%2Fx%20y");
    assert_eq!(new(Encoding::Percent, "%2FUsers%2Fa%2F(1)!"), "%2Fhome%2Fb%20c%2F(1)!");
    assert_eq!(named(Encoding::Percent, "%2FUsers%2Fabc", &[], home), Verdict::Stays);
    let odd = named(Encoding::Percent, "%2fUsers%2Fa", &[], home);
    assert!(matches!(odd, Verdict::Unclear(_)), "{odd:?}");
    assert_eq!(new(Encoding::Base64, "L1VzZXJzL2E="), "L2hvbWUvYiBj"); // nothing to pad
    assert_eq!(new(Encoding::Base64, "L1VzZXJzL2E"), "L2hvbWUvYiBj");
    assert_eq!(new(Encoding::Base64, "L1VzZXJzL2EveA=="), "L2hvbWUvYiBjL3g=");
    assert_eq!(new(Encoding::Base64, "L1VzZXJzL2EveA"), "L2hvbWUvYiBjL3g");
    assert_eq!(named(Encoding::Base64, "config", &[], home), Verdict::Stays);
}

#[test]
fn a_hash_is_made_anew_from_a_known_path_or_stays_and_is_told() {
    let home = &["/Users/a=/home/b"][..];
    for encoding in [Encoding::Md5, Encoding::Sha256, Encoding::Sha256Half] {
        let name = name_of(encoding, "/Users/a/x").unwrap();
        let new = name_of(encoding, "/home/b/x").unwrap();
        assert_eq!(named(encoding, &name, &["/Users/a/x"], home), Verdict::Known(new));
        assert!(matches!(named(encoding, &name, &[], home), Verdict::Unclear(_)));
        // of a path that does not move
        let other = name_of(encoding, "/opt/x").unwrap();
        assert_eq!(named(encoding, &other, &["/opt/x"], home), Verdict::Stays);
        assert_eq!(named(encoding, "shop", &[], home), Verdict::Stays);
    }
}

#[test]
fn a_line_that_holds_an_old_path_is_never_passed_over() {
    let maps_of = maps;
    let maps = maps_of(&["/Users/a/Proj=/home/b"]);
    for line in [
        r#"{"cwd":"/Users/a/Proj"}"#,
        r#"{"cwd":"\/Users\/a\/Proj"}"#,
        r#"{"cwd":"/Users/a/\u0050roj"}"#,
        r#"{"cwd":"file:///Users/a/Proj/x"}"#,
    ] {
        assert!(maps.may_be_in(line), "{line}");
    }
    assert!(!maps.may_be_in(r#"{"cwd":"/Users/a/other"}"#));
    assert!(maps_of(&["/Users/\u{fc}=/b"]).may_be_in(r#"{"cwd":"/Users/\u00fc"}"#));
    assert!(maps_of(&[r"C:\a=/b"]).may_be_in(r#"{"cwd":"c:\\A"}"#));
}

#[test]
fn what_is_no_absolute_path_tells_none() {
    for (value, path) in [
        ("/a/b/", Some("/a/b")),
        ("file:///a%20b", Some("/a b")),
        ("file:///c%3A/x", Some(r"c:\x")),
        ("a/b", None),
        ("/", None),
        ("TRUST_FOLDER", None),
        ("", None),
    ] {
        assert_eq!(path_in(value).as_deref(), path, "{value}");
    }
}

#[test]
fn a_long_transcript_goes_line_by_line_and_odd_lines_stay() {
    use adapters::{BindFormat, FileBind};
    let bind = FileBind {
        format: BindFormat::Jsonl,
        paths: vec!["cwd".into()],
        keys: Vec::new(),
        transcript: true,
    };
    let bound = super::Bound { texts: vec![bind], tables: Vec::new() };
    let lines: [&[u8]; 7] = [
        b"{\"cwd\":\"/Users/a/x\",\"text\":\"/Users/a\"}\r\n",
        b"\n",
        b"{\"cwd\":\"/Users/abc\"}\n",
        b"{\"cwd\":\"/Users/a/\xff\"}\n",
        b"{\"cwd\":\"/Users/a\"} trailing\n",
        b"{\"other\":{\"cwd\":\"/Users/a\"}}\n",
        b"{\"cwd\":\"/Users/a\"",
    ];
    let (mut out, mut tally) = (Vec::new(), Tally::default());
    let maps = maps(&["/Users/a=/home/b"]);
    let changed = text::rewrite(&bound, &maps, &lines.concat()[..], &mut out, &mut tally).unwrap();
    assert!(changed);
    let mut wanted = lines.to_vec();
    wanted[0] = b"{\"cwd\":\"/home/b/x\",\"text\":\"/Users/a\"}\r\n";
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&wanted.concat()));
    let told = tally.finish(b"t");
    assert_eq!((told.count, told.changes.len()), (1, 1));
    assert!(told.left[0].starts_with("3 of its lines"), "{:?}", told.left);
}
