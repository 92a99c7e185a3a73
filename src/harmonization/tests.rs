//! What becomes of whole messages. Single values are compared with IntelMQ itself in `tests/harmonization.rs`.

use proptest::prelude::*;

use super::*;

fn fit_with(format: &Format, kind: Kind, text: &str) -> Result<String, Misfit> {
    let members = json::members(text).unwrap().unwrap();
    let fitted = format.fit(kind, members.iter().map(|(key, value)| (&**key, *value)))?;
    Ok(fitted.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "))
}

fn fit(text: &str) -> Result<String, Misfit> {
    fit_with(Format::builtin(), Kind::Event, text)
}

#[track_caller]
fn assert_misfit(text: &str, key: &str, reason: &str) {
    let misfit = fit(text).unwrap_err();
    assert!(misfit.key == key && misfit.reason.contains(reason), "{text}: {misfit:?}");
}

#[test]
fn the_events_that_we_make_are_ones_of_intelmqs() {
    for text in crate::sample::Events::new(7).take(3_000) {
        let members = json::members(&text).unwrap().unwrap();
        let members = members.iter().map(|(key, value)| (&**key, *value)).filter(|(key, _)| *key != "__type");
        let fitted = Format::builtin().fit(Kind::Event, members.clone()).unwrap();
        assert!(fitted.iter().map(|(key, value)| (&**key, &**value)).eq(members), "{text}\n{fitted:?}");
    }
}

/// The format with some fields only.
fn small(fields: &str) -> Result<Format, FormatError> {
    Format::parse(&format!(r#"{{"event": {{{fields}}}, "report": {{"raw": {{"type": "Base64"}}}}}}"#))
}

#[test]
fn what_is_valid_keeps_its_text() {
    let text = r#"{"source.ip": "192.0.2.1", "malware.name": "caf\u0065", "extra.x": {"b" : 1.0,"a":[]},
        "feed.accuracy": 1e1, "classification.type": "c2-server", "raw": "eA==", "extra._1": 18446744073709551616}"#;
    let expected = r#"source.ip="192.0.2.1" malware.name="caf\u0065" extra.x={"b" : 1.0,"a":[]} feed.accuracy=1e1 classification.type="c2-server" raw="eA==" extra._1=18446744073709551616"#;
    assert_eq!(fit(text).unwrap(), expected);
}

#[test]
fn what_can_be_mended_is_mended() {
    for (value, mended) in [
        (r#""source.port": "80""#, "source.port=80"),
        (r#""classification.type": "C&C""#, r#"classification.type="c2-server""#),
        (r#""malware.name": "Zeus""#, r#"malware.name="zeus""#),
        (r#""time.source": "2026-11-24T10:00:00+01:00""#, r#"time.source="2026-11-24T09:00:00+00:00""#),
        (r#""source.asn": "AS64496""#, "source.asn=64496"),
        (r#""source.ip": 3221225985"#, r#"source.ip="192.0.2.1""#),
        (r#""source.fqdn": "Bücher.Example.""#, r#"source.fqdn="xn--bcher-kva.example""#),
        (r#""source.tor_node": "True""#, "source.tor_node=true"),
        (r#""comment": 5"#, r#"comment="5""#),
        (r#""output": {"b": 1, "a": 2}"#, r#"output="{\"a\": 2, \"b\": 1}""#),
        (r#""source.registry": "ripencc""#, r#"source.registry="RIPE""#),
        (r#""tlp": "tlp:yellow""#, r#"tlp="AMBER""#),
        (r#""extra": {"a": 1, "b": {}, "c": ""}"#, "extra.a=1 extra.b={}"),
        (r#""extra": "{\"a\": [1]}""#, "extra.a=[1]"),
        (r#""source.fqdn": "-.", "feed.code": "x""#, r#"feed.code="x""#),
        (r#""comment": "-", "status": null, "extra.a": "", "feed.name": "N\/A", "feed.code": "x""#, r#"feed.code="x""#),
    ] {
        assert_eq!(fit(&format!("{{{value}}}")).unwrap(), mended);
    }
}

#[test]
fn labels_never_widen() {
    assert_eq!(fit(r#"{"tlp": "TLP:CLEAR"}"#).unwrap(), r#"tlp="WHITE""#);
    assert_eq!(fit(r#"{"tlp": "amber+strict"}"#).unwrap(), r#"tlp="AMBER" extra.tlp="AMBER+STRICT""#);
    assert_misfit(r#"{"tlp": "AMBER+STRICT", "extra.tlp": "x"}"#, "extra.tlp", "two fields");
    assert_misfit(r#"{"tlp": "PUCE"}"#, "tlp", "a TLP label is expected, this is a text of 4 characters");
}

#[test]
fn what_the_local_format_lacks_goes_to_extra() {
    let old = small(r#""comment": {"type": "String"}, "extra": {"type": "JSON"}"#).unwrap();
    let text =
        r#"{"severity": "high", "product.name": "x", "comment": "y", "Foo": [1], "comment.z": 1, "tlp": "CLEAR"}"#;
    let expected =
        r#"extra.severity="high" extra.product.name="x" comment="y" extra.foo=[1] extra.comment.z=1 extra.tlp="CLEAR""#;
    assert_eq!(fit_with(&old, Kind::Event, text).unwrap(), expected);
    assert_eq!(fit(r#"{"extra.Foo": 1, "extra.bar": 2}"#).unwrap(), "extra.foo=1 extra.bar=2");
    assert_misfit(r#"{"meta": 1, "extra.meta": 1}"#, "extra.meta", "two fields");
    assert_misfit(r#"{"extra.Foo": 1, "extra.foo": 2}"#, "extra.foo", "two fields");
    for key in ["foo-bar", "extra.", "extra.ä", "extra.a b", "", "a..b"] {
        assert_misfit(&format!("{{{key:?}: 1}}"), key, "IntelMQ takes no key like this one");
    }
    let without = small(r#""comment": {"type": "String"}"#).unwrap();
    assert!(fit_with(&without, Kind::Event, r#"{"a": 1}"#).unwrap_err().reason.contains("nor extra"));
}

#[test]
fn what_stops_bots_is_a_misfit() {
    for (text, key, reason) in [
        (r#"{"raw": "x"}"#, "raw", "Base64 with its padding is expected"),
        (r#"{"source.fqdn": "a..b"}"#, "source.fqdn", "a host's name is expected"),
        (r#"{"source.url": "http://[::1"}"#, "source.url", "a URL with a host is expected"),
        (r#"{"source.asn": 0}"#, "source.asn", "an integer of 1 digits"),
        (r#"{"comment": "\ud800"}"#, "comment", "half of a surrogate pair"),
        (r#"{"extra.a": [{"\udc00": 1}]}"#, "extra.a", "half of a surrogate pair"),
        (r#"{"extra": "{\"a\": \"\\ud800\"}"}"#, "extra.a", "half of a surrogate pair"),
        (r#"{"comment": "a\u0000b"}"#, "comment", "NUL"),
        (r#"{"source.geolocation.latitude": NaN}"#, "source.geolocation.latitude", "NaN"),
        (r#"{"source.geolocation.latitude": "nan"}"#, "source.geolocation.latitude", "a number is expected"),
        (r#"{"extra.a": [1e999]}"#, "extra.a", "Infinity"),
        (r#"{"rtir_id": 9223372036854775808}"#, "rtir_id", "64 bits"),
        (r#"{"output": "[NaN]"}"#, "output", "NaN"),
        (r#"{"output": "{\"\\ud800\": 1}"}"#, "output", "half of a surrogate pair"),
        (r#"{"extra": {}}"#, "extra", "an object with members"),
        (r#"{"extra": {"a": 1}, "extra.a": 1}"#, "extra.a", "two fields"),
        (r#"{"source.geolocation.cc": "AUT"}"#, "source.geolocation.cc", "3 characters are too long"),
        (r#"{"comment": ""}"#, "", "no field has a value"),
        ("{}", "", "no field has a value"),
    ] {
        assert_misfit(text, key, reason);
    }
    assert_misfit(&format!(r#"{{"extra.a": 1{}}}"#, "0".repeat(4300)), "extra.a", "more digits");
    assert_misfit(&format!(r#"{{"output": "{}{}"}}"#, "[".repeat(200), "]".repeat(200)), "output", "JSON is expected");
    let long = fit(&format!(r#"{{"{}-": 1}}"#, "a".repeat(1000))).unwrap_err();
    assert_eq!(long.key.len(), KEY_SHOWN);
    assert!(Format::builtin().fit(Kind::Withdrawal, std::iter::empty()).is_err());
}

#[test]
fn no_object_is_asked_to_hold_two_things_at_once() {
    assert_eq!(fit(r#"{"extra.a": 1, "raw": "eA==", "extra.a.b": 2}"#).unwrap(), r#"raw="eA==" extra.a.b=2 extra.a=1"#);
}

#[test]
fn reports_have_fields_of_their_own() {
    let fit = |text| fit_with(Format::builtin(), Kind::Report, text);
    assert_eq!(fit(r#"{"raw": "eA==", "source.ip": "x"}"#).unwrap(), r#"raw="eA==" extra.source.ip="x""#);
}

#[test]
fn limits_of_the_local_format_hold_in_extra_too() {
    let format = small(r#""extra": {"type": "JSONDict", "length": 8, "iregex": "^[^!]+$"}"#).unwrap();
    let fit = |text| fit_with(&format, Kind::Event, text);
    assert_eq!(fit(r#"{"extra.a": "12345678"}"#).unwrap(), r#"extra.a="12345678""#);
    for text in [r#"{"extra.a": "123456789"}"#, r#"{"extra.a": "!"}"#, r#"{"extra.a": []}"#, r#"{"extra": {"abc": 1}}"#]
    {
        assert!(fit(text).is_err(), "{text}");
    }
    assert_eq!(fit(r#"{"extra": {"a": 1}}"#).unwrap(), "extra.a=1");
}

#[test]
fn a_format_that_cannot_be_used_says_where() {
    for (text, field, reason) in [
        ("{", "", "not JSON"),
        (r#"{"event": {}}"#, "report", "missing"),
        (r#"{"event": [], "report": {}}"#, "event", "missing"),
    ] {
        let error = Format::parse(text).unwrap_err();
        assert!(error.field == field && error.reason.contains(reason), "{error}");
    }
    for (field, reason) in [
        (r#""A": {"type": "String"}"#, "IntelMQ takes no key"),
        (r#""aa": {}"#, "its type is missing"),
        (r#""aa": []"#, "an object with its type"),
        (r#""aa": {"type": "Foo"}"#, r#"there is no type "Foo""#),
        (r#""aa": {"type": 1}"#, "type: a text is expected"),
        (r#""aa": {"type": "String", "length": "5"}"#, "length: a whole number"),
        (r#""aa": {"type": "String", "regex": "(?=x)"}"#, "regex: the relay cannot use this pattern (look-around"),
        (r#""aa": {"type": "String", "iregex": "("}"#, "iregex: the relay cannot use"),
    ] {
        let error = small(field).unwrap_err().to_string();
        assert!(error.starts_with("event: ") && error.contains(reason), "{error}");
    }
}

fn json_values() -> impl Strategy<Value = String> {
    let plain = prop_oneof![
        "[ -~äßΣ\u{1f}\u{a0}]{0,12}".prop_map(|text| Value::Text(text.into()).json()),
        prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1",
            "80",
            "1.0",
            "-1.5e3",
            "1e-7",
            "4294967296",
            "\"80\"",
            "\" 1_0 \"",
            "\"AS1\"",
            "\"192.0.2.1/32\"",
            "\"192.0.2.9/24\"",
            "\"HTTP://A\"",
            "\"file:x\"",
            "\"Ä.b.\"",
            "\"clear\"",
            "\"tlp: red\"",
            "\"Amber+Strict\"",
            "\"2026-11-24 10:00\"",
            "\"C&C\"",
            "\"malicious code\"",
            "\"TRUE\"",
            "\"ripe-ncc\"",
            "\"eA==\"",
            "\"{\\\"a\\\": 1}\"",
            "\"at\\n\"",
            "\"-\"",
            "\"\\u002d\"",
        ])
        .prop_map(str::to_owned),
    ];
    plain.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|all| format!("[{}]", all.join(", "))),
            prop::collection::vec(("[a-cA.\u{20}_-]{0,3}", inner), 0..3).prop_map(|all| {
                let all: Vec<_> = all.iter().map(|(key, value)| format!("{key:?}: {value}")).collect();
                format!("{{{}}}", all.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_fits_stays_as_it_is(
        fields in prop::collection::vec((any::<prop::sample::Index>(), "[a-c.A]{0,4}", json_values()), 1..5)
    ) {
        let mut names: Vec<&str> = Format::builtin().event.keys().map(|key| &**key).collect();
        names.sort_unstable();
        names.extend(["extra.", "extra.a", "severe", "extra"]);
        let fields: Vec<(String, String)> = fields
            .into_iter()
            .map(|(at, tail, value)| {
                let name = names[at.index(names.len())];
                (if name.starts_with("extra.") { format!("{name}{tail}") } else { name.to_owned() }, value)
            })
            .collect();
        let fields = fields.iter().map(|(key, value)| (&**key, &**value));
        if let Ok(once) = Format::builtin().fit(Kind::Event, fields) {
            let again = Format::builtin().fit(Kind::Event, once.iter().map(|(key, value)| (&**key, &**value)));
            prop_assert_eq!(again.as_ref(), Ok(&once));
        }
    }
}
