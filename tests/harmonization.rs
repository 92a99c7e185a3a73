//! The room `harmonization` against IntelMQ itself: `tests/harmonization/oracle.py` runs it, from the virtual environment
//! that `tests/all` makes.
//!
//! For every value, IntelMQ's verdict and ours agree, and so does what becomes of the value; or the difference is in
//! [`DIFFERENCES`], with its reason. What we call fit must never raise an error in IntelMQ, be changed by it, or fail to be
//! written by it.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/intelmq.rs"]
mod intelmq;

#[path = "harmonization/hostile.rs"]
mod hostile;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use hostile::Dice;
use intelmq_relay::envelope::{Kind, Message};
use intelmq_relay::harmonization::Format;
use serde::{Deserialize, Serialize};

/// A message, and what became of it.
#[derive(Debug, Clone, Serialize)]
struct Case {
    /// As IntelMQ would read it.
    given: String,
    /// What we make of it; none: a misfit.
    ours: Option<String>,
    kind: &'static str,
    /// Against the format before 3.4.
    old: bool,
    #[serde(skip)]
    key: String,
    #[serde(skip)]
    value: String,
    #[serde(skip)]
    misfit: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    theirs: Option<String>,
    why: Option<String>,
    ours: Option<String>,
    trouble: Option<String>,
}

#[derive(Deserialize)]
struct Head {
    conf: String,
    events: Vec<String>,
    python: String,
}

/// The formats that cases are made with.
struct Formats {
    new: Format,
    old: Format,
}

impl Formats {
    fn of(conf: &str) -> Formats {
        let new: serde_json::Value = serde_json::from_str(conf).unwrap();
        let mut old = new.clone();
        let lacking = |name: &str| ["severity", "constituency"].contains(&name) || name.starts_with("product.");
        old["event"].as_object_mut().unwrap().retain(|name, _| !lacking(name));
        Formats { new: Format::parse(conf).unwrap(), old: Format::parse(&old.to_string()).unwrap() }
    }

    fn case(&self, kind: Kind, old: bool, fields: &[(String, String)]) -> Case {
        let object = |fields: &mut dyn Iterator<Item = (&str, &str)>| {
            let members: Vec<_> =
                fields.map(|(key, value)| format!("{}: {value}", serde_json::to_string(key).unwrap())).collect();
            format!("{{{}}}", members.join(", "))
        };
        let given = || fields.iter().map(|(key, value)| (&**key, &**value));
        let format = if old { &self.old } else { &self.new };
        let fitted = format.fit(kind, given());
        if !old {
            assert_eq!(Format::builtin().fit(kind, given()), fitted, "the built-in format differs: {fields:?}");
        }
        if let Ok(once) = &fitted {
            let again = format.fit(kind, once.iter().map(|(key, value)| (&**key, &**value)));
            assert_eq!(again.as_ref(), Ok(once), "what fits does not stay as it is: {fields:?}");
        }
        let (ours, misfit) = match &fitted {
            Ok(fitted) => (Some(object(&mut fitted.iter().map(|(key, value)| (&**key, &**value)))), String::new()),
            Err(misfit) => (None, misfit.to_string()),
        };
        let (key, value) = fields.first().cloned().unwrap_or_default();
        let kind = if kind == Kind::Report { "Report" } else { "Event" };
        Case { given: object(&mut given()), ours, kind, old, key, value, misfit }
    }
}

/// Starts IntelMQ, and asks about the cases that are made of what it says first.
fn ask(cases: impl FnOnce(Head) -> Vec<Case>) -> Vec<(Case, Answer)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harmonization/oracle.py");
    let mut python = Command::new(intelmq::python());
    python.arg(script).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut oracle = python.spawn().unwrap();
    let mut out = BufReader::new(oracle.stdout.take().unwrap()).lines();
    let head: Head = serde_json::from_str(&out.next().expect("IntelMQ starts").unwrap()).unwrap();
    // Some of what IntelMQ does is Python's, and changes with it: tried with 3.11.
    println!("Python {}", head.python);
    let cases = cases(head);
    let lines: Vec<String> = cases.iter().map(|case| serde_json::to_string(case).unwrap()).collect();
    let mut input = oracle.stdin.take().unwrap();
    let writer = std::thread::spawn(move || lines.iter().try_for_each(|line| writeln!(input, "{line}")));
    let answers: Vec<Answer> = out.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    writer.join().unwrap().unwrap();
    assert!(oracle.wait().unwrap().success());
    assert_eq!(answers.len(), cases.len(), "IntelMQ answers everything");
    cases.into_iter().zip(answers).collect()
}

/// Where we differ from IntelMQ on purpose.
struct Difference {
    reason: &'static str,
    is: fn(&Case, &Answer) -> bool,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        reason: "half of a surrogate pair passes IntelMQ's pipeline and fails in its outputs",
        is: |case, _| case.misfit.contains("surrogate"),
    },
    Difference {
        reason: "NaN and Infinity are no JSON: strict readers and databases refuse the event",
        is: |case, _| case.misfit.contains("NaN and Infinity"),
    },
    Difference {
        reason: "a text that IntelMQ reads as NaN or Infinity, which becomes the same",
        is: |case, answer| {
            let theirs = answer.theirs.as_deref().unwrap_or_default();
            case.misfit.contains("number is expected") && (theirs.contains("NaN") || theirs.contains("Infinity"))
        },
    },
    Difference { reason: "PostgreSQL refuses a NUL in a text", is: |case, _| case.misfit.contains("NUL") },
    Difference {
        reason: "databases refuse integers beyond 64 bits",
        is: |case, _| case.misfit.contains("64 bits") || case.misfit.contains("more digits"),
    },
    Difference {
        reason: "TLP 2.0: IntelMQ does not know CLEAR and AMBER+STRICT",
        is: |case, answer| {
            let label = case.value.to_uppercase();
            case.key == "tlp" && answer.theirs.is_none() && (label.contains("CLEAR") || label.contains("AMBER+STRICT"))
        },
    },
    Difference {
        reason: "IntelMQ refuses fields that its format lacks, and keys in upper case: they go to extra",
        is: |case, answer| case.ours.is_some() && answer.theirs.is_none() && answer.is_about_a_key(),
    },
    Difference {
        reason: "a field below one that is no dictionary crashes IntelMQ: it goes to extra",
        is: |case, answer| case.ours.is_some() && answer.says("is_valid_subitem"),
    },
    Difference {
        reason: "`$` lets a line end pass in keys, which no reader of the event expects",
        is: |case, _| case.given.contains("\\n\":") && case.misfit.contains("no key like this one"),
    },
    Difference {
        reason: "a text made of a list or an object would be in Python's notation, which nobody can read back",
        is: |case, answer| {
            answer.theirs.is_some() && case.value.starts_with(['[', '{']) && case.misfit.contains("is expected")
        },
    },
    Difference {
        reason: "times that are no ISO 8601 are guesses, some of them with today's date",
        is: |case, _| case.key.starts_with("time.") && case.misfit.contains("a time like"),
    },
    Difference {
        reason: "digits of other scripts are digits for Python",
        is: |case, answer| {
            let number = case.misfit.contains("number") || case.misfit.contains("integer");
            number && answer.theirs.is_some() && case.value.chars().any(|c| c.is_numeric() && !c.is_ascii())
        },
    },
    Difference {
        reason: "a scope in a network means nothing elsewhere, and PostgreSQL refuses it; IntelMQ refuses it in addresses only",
        is: |case, answer| case.key.ends_with(".network") && case.value.contains('%') && answer.theirs.is_some(),
    },
    Difference {
        reason: "hosts with brackets not around all of them are errors in newer Pythons, which stop the bot",
        is: |case, _| case.key.ends_with("url") && case.value.contains('[') && case.misfit.contains("a URL"),
    },
    Difference {
        reason: "names that the IDNA of today refuses, and that no registry has: Python has that of 2003",
        is: |case, answer| {
            ["source.fqdn", "source.domain_suffix"].contains(&&*case.key)
                && answer.theirs.is_some()
                && case.misfit.contains("a host's name is expected")
                && serde_json::from_str::<String>(&case.value).is_ok_and(|name| !name.is_ascii())
        },
    },
    Difference {
        reason: "IntelMQ crashes where the value as it is raises an error, before it tries to mend it",
        is: |case, answer| case.ours.is_some() && (answer.says("UnicodeError") || answer.says("UnicodeEncodeError")),
    },
    Difference {
        reason: "without a field that has a value there is nothing to give",
        is: |case, answer| answer.theirs.as_deref() == Some("{}") && case.misfit == "no field has a value",
    },
];

impl Answer {
    fn says(&self, part: &str) -> bool {
        self.why.as_deref().is_some_and(|why| why.contains(part))
    }

    fn is_about_a_key(&self) -> bool {
        self.says("InvalidKey")
    }
}

/// What is wrong with the answers; differences that were met are counted.
fn complaints(answers: &[(Case, Answer)], met: &mut BTreeMap<&'static str, usize>) -> Vec<String> {
    let mut found = Vec::new();
    for (case, answer) in answers {
        if let Some(trouble) = &answer.trouble {
            found.push(format!("{} becomes {}: {trouble}", case.given, case.ours.as_deref().unwrap_or("?")));
        } else if answer.theirs != answer.ours {
            match DIFFERENCES.iter().find(|difference| (difference.is)(case, answer)) {
                Some(difference) => *met.entry(difference.reason).or_default() += 1,
                None => found.push(format!(
                    "{}\n    IntelMQ: {:?} {}\n    we:      {:?} {}",
                    case.given,
                    answer.theirs,
                    answer.why.as_deref().unwrap_or_default(),
                    answer.ours,
                    case.misfit
                )),
            }
        }
    }
    found
}

#[track_caller]
fn assert_none(complaints: &[String], of: usize, seed: u64) {
    assert!(
        complaints.is_empty(),
        "{} of {of} (seed {seed}):\n{}",
        complaints.len(),
        complaints[..complaints.len().min(40)].join("\n")
    );
}

#[test]
fn verdicts_and_values_are_those_of_intelmq() {
    let seed = hostile::seed();
    println!("seed {seed}");
    let answers = ask(|head| {
        let formats = Formats::of(&head.conf);
        let values = hostile::values(&mut Dice::new(seed));
        let mut cases = Vec::new();
        for key in hostile::KEYS {
            for value in &values {
                cases.push(formats.case(Kind::Event, false, &[((*key).to_owned(), value.clone())]));
            }
        }
        for key in hostile::STRANGE_KEYS {
            for old in [false, true] {
                cases.push(formats.case(Kind::Event, old, &[((*key).to_owned(), "\"x\"".to_owned())]));
            }
        }
        cases
    });
    let mut met = BTreeMap::new();
    assert_none(&complaints(&answers, &mut met), answers.len(), seed);
    let both = answers.iter().filter(|(_, answer)| answer.theirs.is_some() && answer.theirs == answer.ours).count();
    println!("{} values, {both} of them fit for both", answers.len());
    assert!(both > 1000, "most values are no nonsense");
    for difference in DIFFERENCES {
        let times = met.get(difference.reason).copied().unwrap_or_default();
        println!("{times} × {}", difference.reason);
        assert!(times > 0, "no longer a difference: {}", difference.reason);
    }
}

#[test]
fn what_intelmqs_parsers_make_stays_as_it_is() {
    let answers = ask(|head| {
        let formats = Formats::of(&head.conf);
        assert!(head.events.len() > 200, "the test-suite of IntelMQ has only {} events", head.events.len());
        let read = |event: &String| {
            let message = Message::read(event.as_bytes()).unwrap();
            [false, true].map(|old| formats.case(message.kind, old, &message.fields))
        };
        head.events.iter().flat_map(read).collect()
    });
    let mut wrong = complaints(&answers, &mut BTreeMap::new());
    for (case, answer) in answers.iter().filter(|(case, answer)| !case.old && answer.theirs.is_some()) {
        if case.ours.is_none() {
            wrong.push(format!("{}: {} ({:?})", case.given, case.misfit, answer.why));
        }
    }
    println!("{} events", answers.len() / 2);
    assert_none(&wrong, answers.len(), 0);
}

#[test]
fn hostile_messages_that_fit_stop_no_bot() {
    let seed = hostile::seed();
    println!("seed {seed}");
    let answers = ask(|head| {
        let formats = Formats::of(&head.conf);
        let mut dice = Dice::new(seed);
        let values = hostile::values(&mut dice);
        let message = |_| {
            let kind = if dice.one_in(8) { Kind::Report } else { Kind::Event };
            let old = dice.one_in(4);
            formats.case(kind, old, &hostile::message(&mut dice, &values))
        };
        (0..20_000).map(message).collect()
    });
    let trouble = |(case, answer): &(Case, Answer)| {
        answer.trouble.as_ref().map(|trouble| format!("{} becomes {:?}: {trouble}", case.given, case.ours))
    };
    let wrong: Vec<String> = answers.iter().filter_map(trouble).collect();
    assert_none(&wrong, answers.len(), seed);
    let fit = answers.iter().filter(|(case, _)| case.ours.is_some()).count();
    let refused = answers.iter().filter(|(_, answer)| answer.theirs.is_none()).count();
    println!("{} messages, {fit} of them fit; IntelMQ would have refused {refused}", answers.len());
    assert!(fit > 1000 && refused > 1000);
}

/// Events per second on one core: `cargo test --release --test harmonization -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn how_fast() {
    let text = r#"{"classification.identifier": "open-rdp", "classification.taxonomy": "vulnerable", "classification.type": "vulnerable-system",
        "extra.tag": "rdp", "extra.naics": 541690, "extra.sector": "Communications", "feed.name": "Accessible-RDP",
        "feed.provider": "Shadowserver", "protocol.application": "rdp", "protocol.transport": "tcp", "raw": "ImEiLCJiIiwiYyIsImQiCg==",
        "source.asn": 64496, "source.geolocation.cc": "AT", "source.geolocation.city": "Vienna", "source.ip": "192.0.2.17",
        "source.port": 3389, "source.reverse_dns": "host-17.example.net", "source.url": "https://host-17.example.net/x",
        "time.observation": "2026-11-24T10:00:00+00:00", "time.source": "2026-11-24T09:11:12+00:00"}"#;
    let message = Message::read(text.as_bytes()).unwrap();
    let fields = || message.fields.iter().map(|(key, value)| (&**key, &**value));
    let format = Format::builtin();
    assert_eq!(format.fit(Kind::Event, fields()).unwrap().len(), 20);
    let begun = Instant::now();
    let rounds = 200_000;
    for _ in 0..rounds {
        std::hint::black_box(format.fit(Kind::Event, fields()).unwrap());
    }
    println!("{:.0} events/s", f64::from(rounds) / begun.elapsed().as_secs_f64());
}
