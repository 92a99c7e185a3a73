//! Bombs: inputs that are small, or no larger than they may be, and would make a careless decoder take all memory or all
//! of the stack. Each is decoded by a process of its own that may not have more memory than [`MOST`], counted by the system:
//! so what zstd takes, which is C, counts too.

use std::path::Path;
use std::process::Command;

use intelmq_relay::link::{Answer, Batch, Frame, Offer, Want};
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::targets::{TARGETS, Target};
use super::{alone, seeds};

/// KiB of address space: the program itself, its stacks, and a hundred MiB or so.
const MOST: usize = 256 << 10;
const MIB: usize = 1 << 20;

/// A target, what the bomb is, and its bytes.
type Bomb = (&'static str, &'static str, Vec<u8>);

/// A zstd frame of so many blocks of 128 KiB, each of four bytes.
pub fn zstd(says: Option<u64>, blocks: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, if says.is_some() { 0xc0 } else { 0 }, 0x50];
    frame.extend(says.map(u64::to_le_bytes).into_iter().flatten());
    for block in 1..=blocks {
        let head = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// Envelopes that unpack to a GiB, however that is said.
fn packed() -> Vec<(&'static str, Vec<u8>)> {
    let honest = zstd(Some(1 << 30), 8192);
    let inner = zstd::bulk::compress(&honest, 1).unwrap();
    vec![
        ("a GiB, and says so", honest),
        // Where memory cannot be had, zstd's caller is told so; this much can be had.
        ("what there is room for, and not for this", zstd(Some(80 << 20), 640)),
        ("a GiB, and does not say so", zstd(None, 8192)),
        ("a GiB, and says a KiB", zstd(Some(1 << 10), 8192)),
        ("says the most that a number can", zstd(Some(u64::MAX), 1)),
        ("many frames in a row", zstd(Some(128 << 10), 1).repeat(8192)),
        ("packed twice", inner),
        (
            "a million entries of nothing",
            zstd::bulk::compress(&[&[0x9a, 0, 15, 0xff, 0xff][..], &[0x80; MIB - 8]].concat(), 1).unwrap(),
        ),
    ]
}

fn links() -> Vec<Bomb> {
    let batch = |offers, whole: Vec<u8>| {
        Frame::Batch(Batch { no: 1, offers, whole: whole.into(), token: ByteBuf::from([7; 64]) }).encode()
    };
    let offer = Offer(0, "a".parse().unwrap(), Uuid::nil(), u32::MAX, 0);
    let whole = packed().into_iter().map(|(what, packed)| ("link", what, batch(Vec::new(), packed)));
    let bodies = packed().into_iter().map(|(what, packed)| ("bodies", what, [&[0], &packed[..]].concat()));
    let more = [
        ("frame", "as many offers as there is room for", batch(vec![offer; 20_000], Vec::new())),
        ("frame", "as many answers", Frame::Want(Want { no: 1, answers: vec![(0, Answer::Want); 90_000] }).encode()),
        ("frame", "as many notices", Frame::Notices(vec![ByteBuf::new(); MIB - 64]).encode()),
        ("frame", "says the most that a length can", vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 4]),
    ];
    whole.chain(bodies).chain(more).collect()
}

/// Deep and long in CBOR, for whoever reads that.
fn cbor() -> Vec<Bomb> {
    let targets = ["envelope", "header", "decrypted", "frame", "roster", "notice", "join", "invitation", "bodies"];
    let bombs = [
        ("deep lists", vec![0x81; MIB - 64]),
        ("deep lists without an end", vec![0x9f; MIB - 64]),
        ("deep maps", [0xa1, 0x60].repeat(MIB / 2 - 64)),
        ("deep tags", vec![0xc1; MIB - 64]),
        ("a list that says to be endless", [&[0x85, 0x9b][..], &[0xff; 8], &[0x60; 64]].concat()),
        ("a text that says to be endless", [&[0x85, 0x7b][..], &[0xff; 8], &[0x60; 64]].concat()),
        ("bytes that say to be endless", [&[0x85, 0x5b][..], &[0xff; 8], &[0x60; 64]].concat()),
        ("a map that says to be endless", [&[0xbb][..], &[0xff; 8], &[0x60; 64]].concat()),
        ("a list of nothing", [&[0x9a, 0, 15, 0xff, 0x00][..], &[0x80; MIB - 256]].concat()),
    ];
    let framed = |target: &str, bytes: &[u8]| match target {
        // A batch, in which it stands for everything.
        "frame" => [&[0x80, 0x80, 0x40, 4], bytes, &vec![0; MIB - 1 - bytes.len()]].concat(),
        "bodies" => [&[1], bytes].concat(),
        _ => bytes.to_vec(),
    };
    let each = |target| bombs.iter().map(move |(what, bytes)| (target, *what, framed(target, bytes)));
    let mut bombs: Vec<Bomb> = targets.into_iter().flat_map(each).collect();
    // What is as it should be up to there, and then long.
    let tags = |key: &str, count: usize, items: &[u8]| {
        let head = seeds::headers().remove(0);
        let mut header = vec![head[0] + 1];
        // Before the number of fields, the last key.
        header.extend_from_slice(&head[1..head.len() - 3]);
        header.extend_from_slice(&serde_cbor::to_vec(&key).unwrap());
        header.extend_from_slice(&[&[0x9a][..], &(count as u32).to_be_bytes(), items, b"\x61n\x01"].concat());
        header
    };
    bombs.push(("header", "a million tags", tags("tags", MIB - 1024, &vec![0x60; MIB - 1024])));
    bombs.push(("header", "recipients without end", tags("to", 300_000, &b"\x61a".repeat(300_000))));
    let fields =
        [b"\xa1\x66fields\x9a".as_slice(), &300_000_u32.to_be_bytes(), &b"\x82\x60\x60".repeat(300_000)].concat();
    bombs.push(("decrypted", "fields without end", fields));
    bombs
}

/// Text in the forms of IntelMQ and of operators.
fn texts() -> Vec<Bomb> {
    let deep =
        |open: &str, close: &str, times: usize| format!("{}1{}", open.repeat(times), close.repeat(times)).into_bytes();
    let members: String = (0..60_000).map(|n| format!("\"a{n}\":0,")).collect();
    let nested = (0..7).fold("1".to_owned(), |value, _| format!("{{\"{}\":{value},\"b\":1}}", "a".repeat(100_000)));
    let laughs: String =
        (0..9).map(|n| format!("a{}: &a{} [{}]\n", n + 1, n + 1, format!("*a{n},").repeat(10))).collect();
    let merges: String = (1..400).map(|n| format!("a{n}: &a{n}\n  <<: *a{}\n  k{n}: 1\n", n - 1)).collect();
    let pattern = r#""regex": "\\w{99}[^a]{99}""#;
    let patterns: String = (0..2_000).map(|n| format!("\"a{n}\": {{\"type\": \"String\", {pattern}}},")).collect();
    let conf =
        |fields: &str| format!("{{\"event\": {{{fields} \"raw\": {{\"type\": \"Base64\"}}}}, \"report\": {{}}}}");
    let pattern =
        |regex: &str| conf(&format!("\"aa\": {{\"type\": \"String\", \"regex\": \"{regex}\"}},")).into_bytes();
    let event = |value: &[u8]| [b"{\"extra.a\": ", value, b"}"].concat();
    let mut bombs = vec![
        ("event", "deep lists", event(&deep("[", "]", 500_000))),
        ("event", "deep objects", event(&deep("{\"a\":", "}", 200_000))),
        ("event", "deep lists in an IEP04 message", [b"{\"meta\": ", &deep("[", "]", 500_000)[..], b"}"].concat()),
        ("event", "objects with long names in each other", format!("{{\"a\": {nested}}}").into_bytes()),
        ("event", "members without end", format!("{{{members} \"a\": 1}}").into_bytes()),
        ("event", "a member again and again", format!("{{{}\"a\": 1}}", "\"a\":0,".repeat(170_000)).into_bytes()),
        ("event", "a number without end", event(&[b'9'; MIB - 64])),
        (
            "event",
            "links without end",
            format!("{{\"meta\": {{\"uuid\": {{\"links\": [{}0]}}}}, \"payload\": 1}}", "{},".repeat(300_000))
                .into_bytes(),
        ),
        ("question", "deep", [b"{\"ask\": {\"settle\": ", &deep("[", "]", 500_000)[..], b"}}"].concat()),
        (
            "question",
            "numbers without end",
            format!("{{\"ask\": {{\"settle\": {{\"numbers\": [{}0], \"act\": \"drop\"}}}}}}", "0,".repeat(MIB))
                .into_bytes(),
        ),
        ("config", "deep lists", [b"a = ", &deep("[", "]", 100_000)[..]].concat()),
        ("config", "deep tables", [b"a = ", &deep("{a = ", "}", 100_000)[..]].concat()),
        ("config", "a deep name", format!("{}a = 1", "a.".repeat(100_000)).into_bytes()),
        ("config", "tables without end", "[[peer]]\n".repeat(20_000).into_bytes()),
        ("harmonization", "deep", deep("{\"a\":", "}", 200_000)),
        ("harmonization", "patterns of megabytes, many of them", conf(&patterns).into_bytes()),
        ("harmonization", "a pattern of petabytes", pattern(r"(((\\w{1000}){1000}){1000}){1000}")),
        ("harmonization", "a deep pattern", pattern(&"(".repeat(200_000))),
        ("harmonization", "a pattern of stars", pattern(&format!("{}{}", "(a?".repeat(100), ")*".repeat(100)))),
        ("runtime", "an alias bomb", format!("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n{laughs}").into_bytes()),
        ("runtime", "a merge bomb", format!("a0: &a0 {{}}\n{merges}").into_bytes()),
        ("runtime", "deep lists", [b"a: ", &deep("[", "]", 100_000)[..]].concat()),
        (
            "runtime",
            "deep blocks",
            (0..1000).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>().into_bytes(),
        ),
        ("runtime", "bots without end", (0..20_000).map(|n| format!("b{n}: {{}}\n")).collect::<String>().into_bytes()),
        ("invitation", "a line of megabytes", [b"relay-invite:", &[b'A'; 8 * MIB][..]].concat()),
        ("invitation", "a line of blanks", vec![b' '; 8 * MIB]),
        ("key-file", "comments without end", b"#\n".repeat(MIB)),
    ];
    for how in 0..3 {
        bombs.push(("tcp", "a length of 4 GiB", [&[how, 1][..], &[0xff; 4], &[b'x'; 4096]].concat()));
        bombs.push(("tcp", "a text without end", [&[how, 255][..], &[b'{'; MIB]].concat()));
    }
    bombs
}

/// What a damaged disk could bring.
fn chunks() -> Vec<Bomb> {
    let log = |count: u32, says: u32, packed: &[u8]| {
        let head = [&count.to_be_bytes()[..], &7_u64.to_be_bytes(), &says.to_be_bytes()].concat();
        [&[0][..], &1_u64.to_be_bytes(), &head, packed].concat()
    };
    vec![
        ("log-chunk", "says GiBs, and unpacks to one", log(u32::MAX, u32::MAX, &zstd(Some(1 << 30), 8192))),
        ("log-chunk", "does not say, and unpacks to a GiB", log(u32::MAX, u32::MAX, &zstd(None, 8192))),
        ("log-chunk", "entries without end", log(u32::MAX, 128 << 10, &zstd(Some(128 << 10), 1))),
        ("journal-chunk", "fates without end", [b"\x02\x08\0\0\0".repeat(4000), b"\0\0\x01a".repeat(1000)].concat()),
    ]
}

fn all() -> Vec<Bomb> {
    [links(), cbor(), texts(), chunks()].concat()
}

/// A process of its own that decodes what is in this folder, each before the next.
fn decoded(target: &str, folder: &Path) -> (bool, String) {
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MOST}; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "bombs::a_process_of_its_own", "--nocapture"])
        .env("BOMBS", folder)
        .env("BOMBS_TARGET", target)
        // Each would have 64 MiB of address space at once.
        .env("MALLOC_ARENA_MAX", "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn no_bomb_takes_more_memory_than_there_is() {
    let _alone = alone();
    let bombs = all();
    for target in TARGETS.iter().filter(|target| target.name != "token") {
        let folder = tempfile::tempdir().unwrap();
        let mut count = 0;
        for (_, what, bytes) in bombs.iter().filter(|(name, ..)| *name == target.name) {
            count += 1;
            std::fs::write(folder.path().join(format!("{count:02} {what}")), bytes).unwrap();
        }
        let (good, said) = decoded(target.name, folder.path());
        println!("{}:\n{said}", target.name);
        assert!(good, "a bomb for {}, the last one named above", target.name);
        assert!(count > 0 && said.matches("\n= ").count() == count, "not every bomb for {} was tried", target.name);
    }
}

/// Else the test above could not fail.
#[test]
fn what_takes_more_fails() {
    let _alone = alone();
    let (good, said) = decoded("memory", Path::new("/"));
    assert!(!good && said.contains("memory allocation of"), "{said}");
}

#[test]
#[ignore = "is run by the tests above, within a limit"]
fn a_process_of_its_own() {
    let target = std::env::var("BOMBS_TARGET").expect("the tests above run this");
    if target == "memory" {
        let much = vec![1_u8; MOST << 10];
        panic!("there was room for {} bytes", much.iter().map(|byte| usize::from(*byte)).sum::<usize>());
    }
    let target = Target::of_name(&target);
    target.warm_up();
    let mut files: Vec<_> =
        std::fs::read_dir(std::env::var_os("BOMBS").unwrap()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in files {
        println!("{}", file.file_name().unwrap().to_string_lossy());
        let (words, cost) = target.decode(&std::fs::read(file).unwrap());
        println!("\n= {words}; {} KiB, {:?}", cost.bytes >> 10, cost.time);
    }
}
