//! The configuration as an operator meets it: the shipped example, and what is said about every kind of mistake.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use intelmq_relay::config::{
    Config, ConfigError, Events, FirstContact, KeySource, Limits, Matcher, Mistake, Net, Policy, Scalar, Share, Store,
    Truncate,
};
use intelmq_relay::envelope::{Shape, Tlp};

const EXAMPLE: &str = include_str!("../examples/relay.toml");
const A: &str = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5";
const B: &str = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq";

const ENC_A: &str = "X25YqKydC6PhPoPH6FeykJmzV5NgSqnthBFZKbQscoBjgumt5F9st";
const ENC_B: &str = "X25YUuRYeLvypRYH5ft54qksSDt8TdkuopeXQmVGU6VRAp5N4mefc";

fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
    let text = text.replace("KEY-A", A).replace("KEY-B", B).replace("ENC-A", ENC_A).replace("ENC-B", ENC_B);
    Config::parse(&text, Path::new("/etc/relay")).map_err(|mistakes| mistakes.0)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes:?}"))
}

#[test]
fn the_least_configuration() {
    let config = good("[node]\nname = \"cert-at\"");
    assert_eq!(config.node.key_source(), KeySource::File(Path::new("/etc/relay/node.key")));
    assert_eq!(config.node.data, Path::new("/etc/relay/data"));
    assert!(config.peers.is_empty() && config.take.redis.is_empty() && config.give.files.is_empty());
    assert_eq!(config.net, Net::default());
}

#[test]
fn paths_are_meant_from_the_folder_of_the_file() {
    let config = good(
        "[node]\nname = \"us\"\nkey = \"/run/node.key\"\ndata = \"./deep/data\"\n\
         [[take.files]]\nname = \"in\"\ndirectory = \"in\"\ntaken = \"../taken\"\n\
         [[give.files]]\nname = \"out\"\ndirectory = \"/var/out\"",
    );
    assert_eq!(config.node.key_source(), KeySource::File(Path::new("/run/node.key")));
    assert_eq!(config.node.data, Path::new("/etc/relay/deep/data"));
    assert_eq!(config.take.files[0].directory, Path::new("/etc/relay/in"));
    assert_eq!(config.take.files[0].taken.as_deref(), Some(Path::new("/etc/relay/../taken")));
    assert_eq!(config.give.files[0].directory, Path::new("/var/out"));
}

#[test]
fn values_have_their_forms() {
    let config = good(
        "[node]\nname = \"us\"\n[net]\ndial_min_seconds = 2\nwindow_bytes = 16777216\n[store]\nlog_bytes = \"3 GiB\"\n\
         [policy]\ndefault_tlp = \"tlp:amber+strict\"\n\
         [[peer]]\nname = \"a\"\nkey = \"KEY-A\"\nfirst_contact = \"2026-01-31T12:00:00+01:00\"\ngive = \"community\"\n\
         addresses = [\"/dns/a.example/tcp/4747/p2p/KEY-A\"]\n\
         [[peer]]\nname = \"b\"\nkey = \"KEY-B\"\n\
         [[origin]]\nname = \"b\"\nkey = \"KEY-B\"",
    );
    assert_eq!((config.net.dial_min_seconds, config.net.window_bytes), (2.0, 16 << 20));
    assert_eq!(config.store.log_bytes, 3 << 30);
    assert_eq!(config.peers[0].first_contact, FirstContact::Since("2026-01-31T11:00:00Z".parse().unwrap()));
    assert_eq!((&config.peers[0].give, &config.peers[1].give), (&Share::Community, &Share::None));
    assert_eq!(config.peers[1].first_contact, FirstContact::All);
}

#[test]
fn a_password_is_never_shown() {
    let door = "[node]\nname = \"us\"\n[[take.redis]]\nname = \"in\"\nqueue = \"q\"\n[take.redis.server]\npassword = ";
    let config = good(&format!("{door}\"hunter2\""));
    assert_eq!(config.take.redis[0].server.password.as_ref().unwrap().0, "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
    let mistakes = parse(&format!("{door}20202020")).unwrap_err();
    assert!(!format!("{mistakes:?}").contains("2020"), "{mistakes:?}");
    assert_eq!(mistakes[0].line, 7);
}

#[test]
fn a_file_that_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    let error = Config::read(&file).unwrap_err();
    assert!(matches!(&error, ConfigError::Read { .. }) && error.to_string().contains("intelmq-relay init"), "{error}");
    std::fs::write(&file, "[node]\nname = \"us\"\n\n[store]\nlog_days = 12\n[policy]\nhops = 99").unwrap();
    let error = Config::read(&file).unwrap_err().to_string();
    let file = file.display();
    assert!(error.starts_with(&format!("{file}:5:12: the log keeps 12 days")), "{error}");
    assert!(error.contains(&format!("\n{file}:7:8: 99 hops make a path longer")), "both mistakes are told: {error}");
}

// ---- The example cannot rot -----------------------------------------------------------------------------------------

/// The example with every commented-out key in force.
fn example_with_everything() -> String {
    let shown = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => key.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(shown).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_good() {
    let config = good(EXAMPLE);
    assert_eq!((config.peers.len(), config.origins.len()), (1, 1));
    good(&example_with_everything());
}

#[test]
fn the_example_shows_the_defaults() {
    let config = good(&example_with_everything());
    assert_eq!(config.net, Net { listen: config.net.listen.clone(), ..Net::default() });
    assert_eq!(config.store, Store::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.policy, Policy::default());

    // Where a table has keys without a default, what the file says with and without the commented-out keys is the same,
    // but for those keys whose default is none.
    let without = good(EXAMPLE);
    let mut with = config;
    assert!(with.node.organisation.take().is_some() && with.node.instance.take().is_some());
    assert!(with.take.redis[0].server.password.take().is_some());
    assert!(with.take.redis[0].seal.tlp.take().is_some());
    assert!(with.take.files[0].taken.take().is_some());
    assert!(with.take.tcp[0].separator.take().is_some());
    assert_eq!(with.give.redis[0].events.shape.take(), Some(Shape::Extra));
    assert_eq!(with.give.tcp[0].events.shape.take(), Some(Shape::Extra));
    assert_eq!(with.give.amqp[0].events.shape.take(), Some(Shape::Extra));
    assert_eq!(with.give.files[0].events.shape.take(), Some(Shape::Iep04));
    assert_eq!(with.peers[0].community.take(), Some(true));
    assert!(with.peers[0].origins.take().is_some());
    let rate = &mut with.peers[0].rate;
    assert!(rate.events_per_second.take().is_some() && rate.bytes_per_second.take().is_some());
    assert!(rate.events_per_day.take().is_some() && rate.bytes_per_day.take().is_some());
    assert!(with.rules.values_mut().flatten().all(|rule| rule.name.take().is_some() && rule.hide.take().is_some()));
    assert_eq!(with, without);
    assert_eq!((&with.give.redis[0].events, &with.give.files[0].events), (&Events::default(), &Events::default()));
}

/// Every table of the file, as the header that opens it; its keys are asked of the parser itself.
const TABLES: [&str; 21] = [
    "[roster]",
    "",
    "[rules]",
    "[[rules.members]]",
    "[node]",
    "[net]",
    "[store]",
    "[limits]",
    "[policy]",
    "[[peer]]",
    "[[origin]]",
    "[take]",
    "[give]",
    "[[take.redis]]",
    "[[take.files]]",
    "[[give.redis]]",
    "[[give.files]]",
    "[[take.tcp]]",
    "[[give.tcp]]",
    "[[take.amqp]]",
    "[[give.amqp]]",
];
const SUBTABLES: [(&str, &str); 19] = [
    ("[peer.rate]", "[[peer]]"),
    ("[rules.members.fields]", "[[rules.members]]"),
    ("[take.redis.server]", "[[take.redis]]"),
    ("[take.redis.seal]", "[[take.redis]]"),
    ("[take.redis.seal.truncate]", "[[take.redis]]"),
    ("[[take.redis.seal.rules]]", "[[take.redis]]"),
    ("[take.redis.seal.rules.when]", "[[take.redis]]\n[[take.redis.seal.rules]]"),
    ("[take.redis.seal.rules.when.fields]", "[[take.redis]]\n[[take.redis.seal.rules]]"),
    ("[take.redis.seal.rules.truncate]", "[[take.redis]]\n[[take.redis.seal.rules]]"),
    ("[take.files.seal]", "[[take.files]]"),
    ("[give.redis.server]", "[[give.redis]]"),
    ("[give.redis.events]", "[[give.redis]]"),
    ("[give.files.events]", "[[give.files]]"),
    ("[take.tcp.seal]", "[[take.tcp]]"),
    ("[give.tcp.events]", "[[give.tcp]]"),
    ("[take.amqp.server]", "[[take.amqp]]"),
    ("[take.amqp.seal]", "[[take.amqp]]"),
    ("[give.amqp.server]", "[[give.amqp]]"),
    ("[give.amqp.events]", "[[give.amqp]]"),
];
/// Tables of which the example shows the keys elsewhere, and says so.
/// Tables whose keys are an operator's own: names of sets, and of fields.
const NAMED_BY_OPERATORS: [&str; 3] = ["[rules]", "[rules.members.fields]", "[take.redis.seal.rules.when.fields]"];
const SHOWN_ELSEWHERE: [&str; 8] = [
    "[take.files.seal]",
    "[give.redis.server]",
    "[give.files.events]",
    "[take.tcp.seal]",
    "[give.tcp.events]",
    "[take.amqp.seal]",
    "[give.amqp.server]",
    "[give.amqp.events]",
];

/// What serde says it would have expected in this table.
fn keys_of(header: &str, parent: &str) -> BTreeSet<String> {
    let text = format!("{parent}\n{header}\nno-such-key = 1\n");
    let mistakes = parse(&text).unwrap_err();
    let (_, expected) = mistakes[0].reason.split_once("expected ").unwrap_or_else(|| panic!("{header}: {mistakes:?}"));
    let keys: BTreeSet<String> = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(!keys.is_empty(), "{header}: {mistakes:?}");
    keys
}

#[test]
fn the_example_has_every_key() {
    let shown: toml::Table = example_with_everything().parse().unwrap();
    let tables = TABLES.map(|header| (header, "")).into_iter().chain(SUBTABLES);
    for (header, parent) in
        tables.filter(|(header, _)| !SHOWN_ELSEWHERE.contains(header) && !NAMED_BY_OPERATORS.contains(header))
    {
        let mut table = &shown;
        for step in header.trim_matches(['[', ']']).split('.').filter(|step| !step.is_empty()) {
            let value = table.get(step).unwrap_or_else(|| panic!("the example has no {header}"));
            table = value.as_table().or_else(|| value.as_array()?.first()?.as_table()).unwrap();
        }
        let shown: BTreeSet<String> = table.keys().cloned().collect();
        assert_eq!(shown, keys_of(header, parent), "the keys of {header:?} in examples/relay.toml");
    }
}

#[test]
fn the_list_of_tables_is_whole() {
    // Whatever is a table or a list of tables in the example is listed above.
    fn walk(path: &str, table: &toml::Table, found: &mut BTreeSet<String>) {
        for (key, value) in table {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let list = value.as_array().and_then(|list| list.first()?.as_table());
            let (header, inner) = match (value.as_table(), list) {
                (Some(inner), _) => (format!("[{path}]"), inner),
                (None, Some(inner)) => (format!("[[{path}]]"), inner),
                (None, None) => continue,
            };
            let named_by_operators = NAMED_BY_OPERATORS.contains(&&*header);
            found.insert(header);
            // The names in [rules] are those of sets, with tables of ours under them.
            if !named_by_operators || path == "rules" {
                walk(&path, inner, found);
            }
        }
    }
    let mut found = BTreeSet::from([String::new()]);
    walk("", &example_with_everything().parse().unwrap(), &mut found);
    let listed = TABLES.into_iter().chain(SUBTABLES.map(|(header, _)| header)).map(str::to_owned).collect();
    assert_eq!(found, listed);
}

// ---- What is refused ------------------------------------------------------------------------------------------------

/// What stands before every text of the tables below: three lines.
const HEAD: &str = "[node]\nname = \"us\"\n\n";
const PEER_A: &str = "[[peer]]\nname = \"a\"\nkey = \"KEY-A\"\n";
const TAKE: &str = "[[take.redis]]\nname = \"in\"\nqueue = \"q\"\nserver = {}\n";

/// One mistake per text: after [`HEAD`], the text, the line, the column, and a part of reason and remedy.
fn refuses(head: &str, cases: &[(&str, usize, usize, &str)]) {
    for (text, line, column, part) in cases {
        let text = format!("{head}{text}");
        let mistakes = parse(&text).expect_err(&text);
        let told = format!("{}; {}", mistakes[0].reason, mistakes[0].remedy);
        assert_eq!(mistakes.len(), 1, "{text}\n{mistakes:?}");
        assert_eq!((mistakes[0].line, mistakes[0].column), (*line, *column), "{text}\n{told}");
        assert!(told.contains(part), "{text}\n{told}");
    }
}

#[test]
fn refuses_what_is_no_configuration() {
    refuses(
        "",
        &[
            ("", 1, 1, "missing field `node`; add it"),
            ("[node]", 1, 1, "missing field `name`; add it"),
            ("[node\nname = 1", 1, 6, "unclosed table"),
            ("[node]\nname = \"us\"\nname = \"us\"", 3, 1, "duplicate key"),
            ("[node]\nname = \"Cert AT\"", 2, 8, "letters a-z, the digits and '-'"),
            ("[node]\nname = \"us\"\norganisation = \"MISP\"", 3, 16, "UUID"),
            ("name = \"us\"\n[node]\nname = \"us\"", 1, 1, "unknown field `name`"),
        ],
    );
}

#[test]
fn refuses_unknown_keys_and_wrong_types() {
    refuses(
        HEAD,
        &[
            ("[sotre]\nlog_days = 1", 4, 2, "expected one of `node`, `net`, `store`"),
            ("[store]\nlog_days = 1\nlog_day = 2", 6, 1, "remove the key, or correct its name"),
            ("[store]\nlog_days = \"7\"", 5, 12, "invalid type: string"),
            ("[store]\nlog_days = -7", 5, 12, "-7"),
            ("[store]\nlog_days = 7.5", 5, 12, "floating point `7.5`"),
            ("[store]\nlog_bytes = \"20 GB\"", 5, 13, "MiB, GiB or TiB"),
            ("[store]\nlog_bytes = -1", 5, 13, "cannot be negative"),
            ("[net]\nlisten = \"/ip4/0.0.0.0/tcp/1\"", 5, 10, "expected a sequence"),
            ("peer = 3", 4, 1, "unknown field `peer`"),
            ("[[peer]]\nname = \"a\"", 4, 1, "missing field `key`"),
            ("[[peer]]\nname = \"a\"\nkey = \"rsa\"", 6, 7, "12D3KooW"),
            (
                "[[peer]]\nname = \"a\"\nkey = \"KEY-A\"\ngive = \"all\"",
                7,
                8,
                "write \"none\", \"community\", or a list",
            ),
            (
                "[[peer]]\nname = \"a\"\nkey = \"KEY-A\"\ntake = \"community\"",
                7,
                8,
                "write \"none\", \"all\", or a list",
            ),
            (
                "[[peer]]\nname = \"a\"\nkey = \"KEY-A\"\nfirst_contact = \"later\"",
                7,
                17,
                "write \"all\", \"now\" or a time",
            ),
            ("[[take.redis]]\nname = \"in\"\nqueue = \"q\"", 4, 1, "missing field `server`"),
            (
                "[[take.redis]]\nname = \"in\"\nqueue = \"q\"\nserver = { prot = 1 }",
                7,
                12,
                "expected one of `host`, `port`",
            ),
            ("[[give.files]]\nname = \"out\"\ndirectory = \"out\"\nevents.shape = \"xml\"", 7, 16, "`iep04`"),
            ("[take.files]\nname = \"in\"", 4, 1, "sequence"),
        ],
    );
}

#[test]
fn refuses_numbers_out_of_range_or_order() {
    refuses(
        HEAD,
        &[
            ("[store]\nlog_days = 0", 5, 12, "choose from 1 to 36500"),
            ("[store]\nlog_days = 11", 5, 12, "log_days <= age_days <= seen_days"),
            ("[store]\nseen_days = 9", 5, 13, "forgotten after seen_days = 9"),
            ("[store]\nage_days = 6\nlog_days = 6\nseen_days = 5", 5, 12, "they could loop"),
            ("[store]\nage_days = 6", 5, 12, "peers refuse what is older"),
            ("[store]\ncommit_events = 0", 5, 17, "out of range"),
            ("[store]\ncommit_millis = 60000", 5, 17, "choose from 0 to 1000"),
            ("[store]\nlog_bytes = 0", 5, 13, "out of range"),
            ("[store]\ncache_bytes = 1", 5, 15, "out of range"),
            ("[limits]\nframe_bytes = \"1 MiB\"", 5, 15, "larger than envelope_bytes by 64 KiB"),
            ("[limits]\nenvelope_bytes = \"4 MiB\"", 5, 18, "cannot carry an envelope"),
            ("[limits]\nfields = 70000", 5, 10, "65535"),
            ("[limits]\nenvelope_bytes = \"16 MiB\"\nframe_bytes = \"32 MiB\"", 5, 18, "out of range"),
            ("[limits]\npath = 0", 5, 8, "out of range"),
            ("[limits]\npath = 8", 5, 8, "longer than limits.path = 8"),
            ("[limits]\nfuture_seconds = 100000", 5, 18, "out of range"),
            ("[policy]\nhops = 32", 5, 8, "hops less than limits.path"),
            ("[net]\nmax_pending = 0", 5, 15, "out of range"),
            ("[net]\nping_seconds = 0", 5, 16, "out of range"),
            ("[net]\nping_seconds = nan", 5, 16, "ping_seconds = NaN is out of range"),
            ("[net]\nanswer_seconds = inf", 5, 18, "out of range"),
            ("[net]\ndial_min_seconds = -1.0", 5, 20, "out of range"),
            ("[net]\ndial_min_seconds = 90", 5, 20, "at most dial_max_seconds"),
            ("[net]\nwindow_bytes = \"2 MiB\"", 5, 16, "at least limits.frame_bytes"),
            ("[[give.files]]\nname = \"o\"\ndirectory = \"o\"\nrotate_bytes = 0", 7, 16, "out of range"),
            ("[[give.files]]\nname = \"o\"\ndirectory = \"o\"\nrotate_seconds = 0", 7, 18, "out of range"),
            ("[[give.redis]]\nname = \"o\"\nqueue = \"o\"\nserver = {}\nhigh_water = 0", 8, 14, "out of range"),
            ("[[give.redis]]\nname = \"o\"\nqueue = \"o\"\nserver = { port = 0 }", 7, 19, "out of range"),
            ("[[give.redis]]\nname = \"o\"\nqueue = \"o\"\nserver = { db = -1 }", 7, 17, "out of range"),
        ],
    );
}

#[test]
fn a_key_is_in_a_file_or_held_by_a_command() {
    let config = good("[node]\nname = \"us\"\nkey_command = [\"pass\", \"show\", \"./relay\"]");
    assert_eq!(config.node.key_source(), KeySource::Command(&["pass".into(), "show".into(), "./relay".into()]));
    assert_eq!(config.node.key, None);
    let config = good("[node]\nname = \"us\"\nkey_command = [\"bin/key\"]");
    assert_eq!(config.node.key_source(), KeySource::Command(&["/etc/relay/bin/key".into()]));
    refuses(
        "[node]\nname = \"us\"\n",
        &[
            ("key = \"a\"\nkey_command = [\"pass\"]", 4, 15, "not both; remove one of them"),
            ("key_command = [\"\"]", 3, 15, "no command; write a program and its arguments"),
            ("key_command = [\"a\", \"\\u0000\"]", 3, 15, "no command"),
            ("key_command = \"pass show\"", 3, 15, "a sequence"),
        ],
    );
}

#[test]
fn refuses_contradictions_among_nodes() {
    refuses(
        &format!("{HEAD}{PEER_A}"),
        &[
            ("[[peer]]\nname = \"a\"\nkey = \"KEY-B\"", 8, 8, "two peers with the name a"),
            ("[[peer]]\nname = \"b\"\nkey = \"KEY-A\"", 9, 7, "the peers a and b have the same key"),
            ("[[peer]]\nname = \"us\"\nkey = \"KEY-B\"", 8, 8, "no peer of itself"),
            ("[[origin]]\nname = \"us\"\nkey = \"KEY-B\"", 8, 8, "the name of this node"),
            ("[[origin]]\nname = \"a\"\nkey = \"KEY-B\"", 9, 7, "is a peer too, with another key"),
            ("[[origin]]\nname = \"b\"\nkey = \"KEY-A\"", 8, 8, "that of the peer a"),
            (
                "[[origin]]\nname = \"b\"\nkey = \"KEY-B\"\n[[origin]]\nname = \"c\"\nkey = \"KEY-B\"",
                12,
                7,
                "origins b and c",
            ),
            ("addresses = [\n  \"/dns/a.example/tcp/4747\",\n  \"a.example:4747\",\n]", 9, 3, "no address of a peer"),
            ("addresses = [\"/ip4/192.0.2.1/tcp/4747/p2p/KEY-B\"]", 7, 14, "not the peer's key"),
            ("encryption = \"X25YqKydC6\"", 7, 14, "no encryption key: expected the form X25…"),
            (
                "encryption = \"ENC-A\"\n[[peer]]\nname = \"b\"\nkey = \"KEY-B\"\nencryption = \"ENC-A\"",
                11,
                14,
                "the peers a and b have the same encryption key",
            ),
            (
                "encryption = \"ENC-A\"\n[[origin]]\nname = \"a\"\nkey = \"KEY-A\"\nencryption = \"ENC-B\"",
                11,
                14,
                "is a peer too, with another encryption key",
            ),
            ("[roster]\nauthorities = []", 8, 15, "nobody's word"),
            ("[roster]\nauthorities = [\"KEY-A\",\n\"KEY-A\"]", 9, 1, "stands here twice"),
            ("[roster]\nauthorities = [\"KEY-A\"]\nthreshold = 0", 9, 13, "choose from 1 to 1"),
            ("[roster]\nauthorities = [\"KEY-A\"]\nthreshold = 2", 9, 13, "2 signatures of 1 authorities"),
            ("[roster]\nauthorities = [\"relay\"]", 8, 15, "no Ed25519 PeerId"),
            ("origins = []", 7, 11, "may bring events of nobody; write take = \"none\""),
            ("origins = [\"a\", \"us\"]", 7, 17, "our own events are taken from no peer"),
            ("origins = [\"a\", \"b\"]", 7, 17, "b is neither a peer nor an [[origin]]"),
            ("origins = [\"a\",\n\"a\"]", 8, 1, "a stands here twice"),
            ("[net]\nlisten = [\"/dns/a.example/tcp/4747\"]", 8, 11, "write it as \"/ip4/0.0.0.0/tcp/4747\""),
        ],
    );
    let twice = "[[origin]]\nname = \"b\"\nkey = \"KEY-A\"\n[[origin]]\nname = \"b\"\nkey = \"KEY-B\"";
    refuses(HEAD, &[(twice, 8, 8, "two origins with the name b")]);
}

#[test]
fn refuses_limits_that_cannot_be_meant() {
    let rate = |text: &str| format!("{PEER_A}[peer.rate]\n{text}");
    let both =
        |what: &str, second: &str, day: &str| rate(&format!("{what}_per_second = {second}\n{what}_per_day = {day}"));
    let (events, bytes) = (both("events", "1", "86400"), both("bytes", "\"1 KiB\"", "\"1 GiB\""));
    let cases: &[(&str, usize, usize, &str)] = &[
        ("events_per_minute = 1", 8, 1, "unknown field `events_per_minute`"),
        ("events_per_second = 0", 8, 21, "everything would wait for ever; write take = \"none\""),
        ("bytes_per_day = 0", 8, 17, "nothing would ever come"),
        ("events_per_second = -1", 8, 21, "-1"),
        ("events_per_second = 0.5", 8, 21, "floating point"),
        ("bytes_per_second = \"1 MB\"", 8, 20, "MiB"),
        ("events_per_second = 2000000000", 8, 21, "choose from 1 to 1000000000"),
        ("burst_seconds = 20", 8, 17, "limits nothing"),
        ("events_per_second = 1\nburst_seconds = 0", 9, 17, "choose from 1 to 86400"),
    ];
    for (text, line, column, part) in cases {
        refuses(HEAD, &[(&rate(text), *line, *column, part)]);
    }
    refuses(HEAD, &[(&events, 9, 18, "never reached with events_per_second = 1; make it less than 86400")]);
    refuses(HEAD, &[(&bytes, 9, 17, "never reached with bytes_per_second = 1024")]);
    let config = good(&format!("{HEAD}{}", both("bytes", "\"1 MiB\"", "\"1 GiB\"")));
    assert_eq!((config.peers[0].rate.bytes_per_second, config.peers[0].rate.burst_seconds), (Some(1 << 20), 10));
}

#[test]
fn rules_are_read() {
    let config = good(
        "[node]\nname = \"us\"\n\
         [[peer]]\nname = \"a\"\nkey = \"KEY-A\"\ngive = [\"never\", \"community\"]\ntake = [\"ours\", \"all\"]\n\
         [[rules.never]]\nname = \"secret\"\ndo = \"poison\"\n\
         fields = { \"feed.name\" = \"secret\", \"source.ip\".cidr = [\"192.0.2.0/24\", \"2001:db8::1\"] }\n\
         [[rules.never]]\ndo = \"hide\"\nhide = \"raw\"\n\
         # Ours.\n[[rules.ours]]\ndo = \"deny\"\norigin = \"us\"\nfrom = [\"a\"]\ntype = \"report\"\n\
         tlp = [\"white\", \"GREEN\"]\nhops = [0, 2]\n\
         [rules.ours.fields]\n\"source.fqdn\" = { suffix = \".EE.\" }\n\"source.port\" = { range = [1, 1023] }\n\
         \"extra.n\" = [1, \"one\", true]\nraw = { present = false }",
    );
    let sets: Vec<(&str, Vec<usize>)> =
        config.rules.iter().map(|(set, rules)| (set.as_str(), rules.iter().map(|rule| rule.line).collect())).collect();
    assert_eq!(sets, [("never", vec![8, 12]), ("ours", vec![16])]);
    assert_eq!(config.peers[0].give.to_string(), "never+community");
    assert!(config.peers[0].is_community());
    let ours = &config.rules[&"ours".parse().unwrap()][0];
    assert_eq!((ours.hops, ours.tlp.as_deref()), (Some((0, 2)), Some(&[Tlp::Clear, Tlp::Green][..])));
    assert_eq!(ours.fields["source.fqdn"], Matcher::Suffix(vec!["ee".into()]));
    assert_eq!(ours.fields["source.port"], Matcher::Range(1.0, 1023.0));
    let scalars = vec![Scalar::Number(1.0), Scalar::Text("one".into()), Scalar::Bool(true)];
    assert_eq!(ours.fields["extra.n"], Matcher::Is(scalars));
    assert_eq!(ours.fields["raw"], Matcher::Present(false));
}

#[test]
fn refuses_rules_that_cannot_be_meant() {
    let rule = |text: &str| format!("[[rules.r]]\n{text}");
    let cases: &[(&str, usize, usize, &str)] = &[
        ("name = \"x\"", 7, 1, "missing field `do`"),
        ("do = \"allow\"\nfield = {}", 9, 1, "unknown field `field`"),
        ("do = \"drop\"", 8, 6, "expected one of `allow`, `deny`, `poison`, `hide`"),
        ("do = \"hide\"", 7, 1, "hides nothing"),
        ("do = \"deny\"\nhide = \"raw\"", 9, 8, "nothing to hide"),
        ("do = \"allow\"\nhide = \"classification.*\"", 9, 8, "cannot do without"),
        ("do = \"allow\"\nhide = [\"raw\", \"*\"]", 9, 16, "cannot do without"),
        ("do = \"allow\"\nhide = [\"\"]", 9, 9, "names no field"),
        ("do = \"allow\"\norigin = \"b\"", 9, 10, "b is neither this node, nor a peer"),
        ("do = \"allow\"\nfrom = [\"us\"]", 9, 8, "us is no peer"),
        ("do = \"allow\"\nhops = [3, 1]", 9, 8, "write [1, 3]"),
        ("do = \"allow\"\ntlp = \"PINK\"", 9, 7, "no TLP label"),
        ("do = \"allow\"\ntags = []", 9, 8, "an empty list matches nothing"),
        ("do = \"allow\"\ntags = 3", 9, 8, "a text in quotes"),
        ("do = \"allow\"\nfields = { x = { cidr = \"192.0.2.1/24\" } }", 9, 16, "192.0.2.0/24 or 192.0.2.1 is meant"),
        ("do = \"allow\"\nfields = { x = { cidr = \"example.org\" } }", 9, 16, "is no network"),
        ("do = \"allow\"\nfields = { x = { suffix = \"*.ee\" } }", 9, 16, "is no domain"),
        ("do = \"allow\"\nfields = { x = { range = [2, 1] } }", 9, 16, "[1, 2]"),
        ("do = \"allow\"\nfields = { x = { regex = \"a\" } }", 9, 16, "is no condition"),
        ("do = \"allow\"\nfields = { x = { prefix = \"a\", suffix = \"b\" } }", 9, 16, "one condition"),
        ("do = \"allow\"\nfields = { x = { prefix = \"\" } }", 9, 16, "present = true"),
        ("do = \"allow\"\nfields = { x = [] }", 9, 16, "an empty list"),
        ("do = \"allow\"\nfields = { x = 2026-01-01 }", 9, 16, "not with datetime"),
        ("do = \"allow\"\nfields = { \"extra.*\" = 1 }", 9, 10, "no name of a field"),
        ("do = \"deny\"\n[[rules.r]]\ndo = \"allow\"", 9, 1, "the one in line 7 matches everything"),
        ("do = \"deny\"\n[[rules.none]]\ndo = \"allow\"", 9, 1, "a word of its own"),
    ];
    for (text, line, column, part) in cases {
        refuses(&format!("{HEAD}{PEER_A}"), &[(&rule(text), *line, *column, part)]);
    }
    refuses(
        HEAD,
        &[
            (&format!("{PEER_A}give = [\"ours\"]"), 7, 9, "there is no set of rules ours"),
            (&format!("{PEER_A}give = [\"community\", \"r\"]\n{}", rule("do = \"deny\"")), 7, 22, "never asked"),
            (&format!("{PEER_A}take = [\"community\"]"), 7, 9, "there is no set of rules community"),
            (&format!("{PEER_A}take = [\"r\"]\n{}", rule("do = \"hide\"\nhide = \"raw\"")), 7, 9, "kept as it comes"),
            (&format!("{PEER_A}give = \"community\"\ncommunity = false"), 8, 13, "says that it is not"),
            // A poison behind a set that allows everything.
            (
                &format!(
                    "{PEER_A}give = [\"open\", \"r\"]\n{}\n[[rules.open]]\ndo = \"allow\"",
                    rule("do = \"poison\"\ntags = \"internal\"")
                ),
                7,
                17,
                "never asked: open before it",
            ),
        ],
    );
    let behind_a_deny = "[[rules.open]]\ndo = \"deny\"\ntags = \"x\"\n[[rules.open]]\ndo = \"allow\"\nhide = \"raw\"";
    good(&format!("{HEAD}{PEER_A}give = [\"open\", \"r\"]\n{behind_a_deny}\n{}", rule("do = \"allow\"")));
}

#[test]
fn refuses_doors_in_each_others_way() {
    refuses(
        &format!("{HEAD}{TAKE}"),
        &[
            ("[[take.redis]]\nname = \"in\"\nqueue = \"p\"\nserver = {}", 9, 8, "two doors with the name in"),
            ("[[give.files]]\nname = \"in\"\ndirectory = \"out\"", 9, 8, "two doors with the name in"),
            ("[[take.redis]]\nname = \"i2\"\nqueue = \"q\"\nserver = {}", 10, 9, "it has one consumer"),
            (
                "[[take.redis]]\nname = \"i2\"\nqueue = \"q\"\nserver = { host = \"Localhost\" }",
                10,
                9,
                "doors in and i2",
            ),
            ("[[give.redis]]\nname = \"out\"\nqueue = \"q\"\nserver = {}", 10, 9, "in circles"),
            ("[[take.amqp]]\nname = \"in\"\nqueue = \"x\"\nserver = {}", 9, 8, "two doors with the name in"),
            ("[[take.amqp]]\nname = \"a\"\nqueue = \"x\"\nserver = { port = 0 }", 11, 19, "out of range"),
            ("[[take.amqp]]\nname = \"a\"\nqueue = \"x\"\nserver = { vhost = \"\" }", 11, 20, "vhost has 0 bytes"),
            ("[[give.amqp]]\nname = \"a\"\nqueue = \"x-internal\"\nserver = {}", 10, 9, "internal queue of a bot"),
            ("[[take.amqp]]\nname = \"a\"\nqueue = \"x\"\nserver = { pasword = \"\" }", 11, 12, "unknown field"),
            (
                "[[take.amqp]]\nname = \"a\"\nqueue = \"x\"\nserver = {}\n\
                 [[give.amqp]]\nname = \"b\"\nqueue = \"x\"\nserver = { host = \"localhost\" }",
                14,
                9,
                "in circles",
            ),
            (
                "[[take.amqp]]\nname = \"a\"\nqueue = \"x\"\nserver = {}\n\
                 [[take.amqp]]\nname = \"b\"\nqueue = \"x\"\nserver = {}",
                14,
                9,
                "it has one consumer",
            ),
            (
                "[[give.amqp]]\nname = \"a\"\nqueue = \"x\"\nserver = {}\n\
                 [[give.amqp]]\nname = \"b\"\nqueue = \"x\"\nserver = {}",
                14,
                9,
                "every event would come twice",
            ),
            (
                "[[give.redis]]\nname = \"out\"\nqueue = \"b-queue-internal\"\nserver = {}",
                10,
                9,
                "without \"-internal\"",
            ),
            ("[[give.redis]]\nname = \"out\"\nqueue = \"\"\nserver = {}", 10, 9, "<bot-id>-queue"),
            ("[[give.redis]]\nname = \"out\"\nqueue = \"a b\"\nserver = {}", 10, 9, "<bot-id>-queue"),
            (
                "[[give.redis]]\nname = \"o1\"\nqueue = \"o\"\nserver = {}\n[[give.redis]]\nname = \"o2\"\nqueue = \"o\"\nserver = {}",
                14,
                9,
                "every event would come twice",
            ),
            (
                "[[take.files]]\nname = \"f\"\ndirectory = \"x\"\n[[give.files]]\nname = \"o\"\ndirectory = \"./x/\"",
                13,
                13,
                "its own directory",
            ),
            ("[[take.files]]\nname = \"f\"\ndirectory = \"x\"\ntaken = \"x\"", 11, 9, "files to take"),
            ("[[take.files]]\nname = \"f\"\ndirectory = \"data\"", 10, 13, "the node's data"),
            ("[take.redis.seal]\ntlp = \"PINK\"", 9, 7, "AMBER+STRICT or RED is allowed"),
            ("[policy]\ndefault_tlp = \"amber strict\"", 9, 15, "no TLP label"),
            ("[take.redis.seal]\nid_without = [\"feed.name\"]", 9, 14, "random ids do not depend"),
            (
                "[take.redis.seal]\nid = \"content\"\nid_without = [\"feed.name\", \"source.ip\"]",
                10,
                28,
                "only fields of the feed",
            ),
            ("[take.redis.seal]\nid = \"hash\"", 9, 6, "expected `random` or `content`"),
        ],
    );
    // The same queue name in another database or on another server is another queue.
    for server in ["{ db = 3 }", "{ port = 6380 }", "{ host = \"redis.example\" }", "{ host = \"/run/redis.sock\" }"] {
        good(&format!("{HEAD}{TAKE}[[give.redis]]\nname = \"out\"\nqueue = \"q\"\nserver = {server}"));
    }
}

#[test]
fn seals_are_read() {
    let text = format!(
        "{HEAD}{TAKE}[take.redis.seal]\ndrop = \"raw\"\npseudonym = [\"*.account\"]\n\
         [[take.redis.seal.rules]]\nwhen.type = \"report\"\ntags = \"r\"\n\n\
         [[take.redis.seal.rules]]\nwhen.fields.\"source.asn\" = 64496\nto = \"a\"\n\
         [take.redis.seal.rules.truncate]\nfields = \"source.ip\"\nipv6 = 32",
    );
    let config = good(&text);
    assert_eq!(config, good(&format!("# Moved.\n{text}")), "nothing to open a door anew for");
    let (door, place, seal) = config.take.seals().next().unwrap();
    assert_eq!((door.as_str(), &*place), ("in", "take.redis.0.seal"));
    assert_eq!((&*seal.drop, &*seal.pseudonym), (&["raw".to_owned()][..], &["*.account".to_owned()][..]));
    assert_eq!(seal.truncate, Truncate::default());
    assert_eq!(seal.rules.iter().map(|rule| rule.line.0).collect::<Vec<_>>(), [11, 15]);
    assert_eq!(seal.rules[1].truncate, Truncate { fields: vec!["source.ip".into()], ipv4: 24, ipv6: 32 });
    assert_eq!(seal.rules[1].when.fields["source.asn"], Matcher::Is(vec![Scalar::Number(64496.0)]));
}

#[test]
fn refuses_seals_that_cannot_be_meant() {
    let seal = |lines: &str| format!("[take.redis.seal]\n{lines}");
    let rule = |lines: &str| format!("[[take.redis.seal.rules]]\n{lines}");
    let cases: &[(String, usize, usize, &str)] = &[
        (seal("drop = [\"raw\", \"\"]"), 9, 16, "names no field"),
        (seal("drop = \"extra internal\""), 9, 8, "names no field"),
        (seal("drop = [\"classification.*\"]"), 9, 9, "cannot do without"),
        (seal("hide = \"*\""), 9, 8, "cannot do without"),
        (seal("hide = 3"), 9, 8, "a text in quotes"),
        (seal("drop = \"raw\"\npseudonym = \"*type\""), 10, 13, "cannot do without"),
        (seal("drop = \"raw\"\ntruncate.fields = \"*\""), 10, 19, "cannot do without"),
        (seal("truncate.fields = \"source.ip\""), 9, 1, "write drop = [\"raw\"] beside it"),
        (seal("drop = \"raw2\"\npseudonym = \"*.account\""), 10, 13, "raw has in full what pseudonym takes out"),
        (seal("drop = \"raw\"\npseudonym = \"source.*\""), 10, 13, "covers source.ip, and no IntelMQ"),
        (seal("drop = \"raw\"\ntruncate = { fields = \"source.ip\", ipv4 = 32 }"), 10, 43, "choose from 1 to 31"),
        (seal("drop = \"raw\"\ntruncate = { fields = \"source.ip\", ipv6 = 0 }"), 10, 43, "choose from 1 to 127"),
        (seal("truncate = { ipv4 = 16 }"), 9, 12, "truncates no field"),
        (seal("truncate = { field = \"source.ip\" }"), 9, 14, "expected one of `ipv4`, `ipv6`, `fields`"),
        (seal("truncate = [\"source.ip\"]"), 9, 13, "invalid type: string"),
        (seal("id = \"content\"\nhide = [\"raw\", \"extra.x\"]"), 10, 16, "can be guessed by it; drop the field"),
        (rule("when.type = \"report\""), 8, 1, "this rule does nothing"),
        (rule("tlp = [\"RED\"]"), 9, 7, "expected a"),
        (rule("tlp = \"PINK\""), 9, 7, "no TLP label"),
        (rule("to = \"Cert A\""), 9, 6, "no node name"),
        (rule("do = \"allow\""), 9, 1, "unknown field `do`, expected one of `name`, `when`, `tlp`"),
        (rule("tags = \"x\"\nwhen = { origin = \"us\" }"), 10, 10, "unknown field `origin`"),
        (rule("tags = \"x\"\nwhen = { tags = [] }"), 10, 17, "matches nothing"),
        (rule("tags = \"x\"\nwhen.fields = { \"a.*\" = 1 }"), 10, 15, "no name of a field"),
        (rule("tags = \"x\"\nwhen.fields = { a = { cidr = \"x\" } }"), 10, 21, "is no network"),
        (rule("drop = \"*cation.type\""), 9, 8, "cannot do without"),
        (rule("pseudonym = \"*.account\""), 9, 13, "in this rule, or in the door's seal"),
        (rule("truncate.fields = \"*.ip\"\n[[take.redis.seal.rules]]\ndrop = \"raw\""), 9, 1, "raw has in full"),
    ];
    for (text, line, column, part) in cases {
        refuses(&format!("{HEAD}{TAKE}"), &[(text, *line, *column, part)]);
    }
    // The same for every kind of door.
    for door in [
        "files]]\nname = \"f\"\ndirectory = \"f\"",
        "tcp]]\nname = \"f\"\n",
        "amqp]]\nname = \"f\"\nqueue = \"x\"\nserver = {}",
    ] {
        let text = format!("{HEAD}[[take.{door}\nseal.rules = [{{ hide = \"*\" }}]");
        let mistakes = parse(&text).expect_err(&text);
        assert!(mistakes.len() == 1 && mistakes[0].reason.contains("takes away"), "{text}\n{mistakes:?}");
    }
    good(&format!("{HEAD}{TAKE}{}", seal("hide = \"r*w\"\n[[take.redis.seal.rules]]\npseudonym = \"*.account\"")));
    good(&format!(
        "{HEAD}{TAKE}{}",
        seal("id = \"content\"\nid_without = [\"feed.name\"]\nhide = [\"raw\", \"feed.name\"]")
    ));
}

#[test]
fn refuses_tcp_doors_that_nobody_or_anybody_could_use() {
    const TAKE_TCP: &str = "[[take.tcp]]\nname = \"in\"\n";
    let take = |lines: &str| format!("{TAKE_TCP}{lines}");
    let give = |address: &str| format!("[[give.tcp]]\nname = \"out\"\naddress = \"{address}\"");
    let open = take("listen = [\"127.0.0.1:5000\", \"[::]:5000\"]");
    let circle = format!("{TAKE_TCP}{}", give("127.0.0.1:5000"));
    let twice = format!("{TAKE_TCP}[[take.tcp]]\nname = \"other\"");
    refuses(
        HEAD,
        &[
            (
                &open,
                6,
                10,
                "[::]:5000 can be reached from other machines, but none of them is allowed; write the networks",
            ),
            (&take("listen = \"192.0.2.1:5000\"\nallow = \"127.0.0.1\""), 7, 9, "none of them is allowed"),
            (&take("listen = \"127.0.0.1:0\""), 6, 10, "nobody can know the port"),
            (&take("listen = []"), 6, 10, "listens nowhere"),
            (&take("listen = \"localhost:5000\""), 6, 10, "write it as \"127.0.0.1:5000\""),
            (&take("allow = [\"192.0.2.0/33\"]"), 6, 9, "write it as \"192.0.2.0/24\""),
            (&take("allow = []"), 6, 9, "nobody is allowed"),
            (&take("max_connections = 0"), 6, 19, "out of range"),
            (&take("separator = \"\""), 6, 13, "separates nothing"),
            (&twice, 6, 1, "listens at 127.0.0.1:5000 as in does"),
            (&give("collector"), 6, 11, "write host and port"),
            (&circle, 8, 11, "events would go in circles"),
            (&format!("{}\nanswer_seconds = 0", give("[::1]:1")), 7, 18, "out of range"),
        ],
    );
    let config =
        good(&format!("{HEAD}{}", take("listen = \"0.0.0.0:5000\"\nallow = [\"192.0.2.0/24\", \"2001:db8::1\"]")));
    assert_eq!(
        config.take.tcp[0].allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.0/24", "2001:db8::1/128"]
    );
}
