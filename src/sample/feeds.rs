//! What feeds there are, how often each brings an event, and what it says in it.

use super::draft::Draft;

/// Writes an event of a feed that chance picks.
pub(super) fn describe(draft: &mut Draft) {
    match draft.dice.below(100) {
        0..33 => open_service(draft),
        33..50 => infected_system(draft),
        50..55 => vulnerable_system(draft),
        55..66 => brute_force(draft),
        66..80 => blacklist(draft),
        80..86 => phishing(draft),
        86..90 => ddos(draft),
        90..96 => scanner(draft),
        96..98 => data_leak(draft),
        _ => c2_server(draft),
    }
}

fn feed(draft: &mut Draft, provider: &str, name: &str, url: &str, accuracy: &str) {
    draft.text("feed.provider", provider);
    draft.text("feed.name", name);
    if !url.is_empty() {
        draft.text("feed.url", url);
    }
    draft.json("feed.accuracy", accuracy);
    let read_at = draft.read_at;
    draft.time("time.observation", "", read_at);
    let age = draft.dice.below(86_400);
    draft.time("time.source", "timestamp", read_at - age);
}

fn class(draft: &mut Draft, taxonomy: &str, kind: &str, identifier: &str) {
    draft.text("classification.taxonomy", taxonomy);
    draft.text("classification.type", kind);
    draft.text("classification.identifier", identifier);
}

/// Where a host is, as reports and experts say.
fn source(draft: &mut Draft) {
    const PLACES: &[(&str, &str, &str, &str)] = &[
        ("AT", "WIEN", "VIENNA", "48.2085"),
        ("DE", "BAYERN", "MÜNCHEN", "48.1374"),
        ("CH", "ZÜRICH", "ZÜRICH", "47.3667"),
        ("PL", "ŁÓDZKIE", "ŁÓDŹ", "51.75"),
        ("EE", "HARJUMAA", "TALLINN", "59.437"),
        ("PT", "LISBOA", "LISBON", "38.7167"),
        ("GR", "ATTIKI", "ΑΘΗΝΑ", "37.9795"),
        ("CZ", "PRAHA, HLAVNÍ MĚSTO", "PRAGUE", "50.0"),
    ];
    let ip = draft.dice.address();
    draft.cell("source.ip", "ip", ip);
    let place = draft.dice.pick(PLACES);
    let asn = draft.dice.below(400_000) + 1;
    draft.number("source.asn", "asn", asn);
    draft.cell("source.geolocation.cc", "geo", place.0);
    if draft.dice.chance(20) {
        draft.cell("source.geolocation.region", "region", place.1);
        draft.cell("source.geolocation.city", "city", place.2);
    } else {
        draft.unread("region", place.1);
        draft.unread("city", place.2);
    }
    if draft.dice.chance(8) {
        draft.json("source.geolocation.latitude", place.3);
    }
    if draft.dice.chance(15) {
        draft.text("source.network", ip.network());
    }
    if draft.dice.chance(20) {
        let host = draft.dice.host();
        draft.cell("source.reverse_dns", "hostname", host);
    }
    if draft.dice.chance(15) {
        let host = draft.dice.host();
        draft.text("source.abuse_contact", format_args!("abuse@{host}"));
    }
}

/// Scans of services that need not be open, as of Shadowserver: many details, each an `extra.*`.
fn open_service(draft: &mut Draft) {
    #[rustfmt::skip]
    const SERVICES: &[(&str, &str, u64, &str, &str, &str)] = &[
        ("DNS-Open-Resolvers", "dns-open-resolver", 53, "udp", "dns", "openresolver"),
        ("NTP-Version", "ntp-version", 123, "udp", "ntp", "ntpversion"),
        ("Open-SNMP", "open-snmp", 161, "udp", "snmp", "snmp"),
        ("SSL-POODLE-Vulnerable-Servers", "ssl-poodle", 443, "tcp", "https", "ssl,poodle"),
        ("Accessible-RDP", "open-rdp", 3389, "tcp", "rdp", "rdp"),
        ("Accessible-SSH", "open-ssh", 22, "tcp", "ssh", "ssh"),
        ("Accessible-FTP", "accessible-ftp", 21, "tcp", "ftp", "ftp"),
        ("Open-Elasticsearch", "open-elasticsearch", 9200, "tcp", "elasticsearch", "elasticsearch"),
        ("Open-MQTT", "open-mqtt", 1883, "tcp", "mqtt", "iot,mqtt"),
        ("Device-Identification", "device-id", 8443, "tcp", "https", "iot,device"),
    ];
    let (name, identifier, port, transport, application, tag) = draft.dice.pick(SERVICES);
    feed(draft, "Shadowserver", name, "", "100.0");
    source(draft);
    draft.number("source.port", "port", port);
    draft.cell("protocol.transport", "protocol", transport);
    draft.text("protocol.application", application);
    class(draft, "vulnerable", "vulnerable-system", identifier);
    draft.unread("tag", tag);
    draft.unread("severity", "medium");
    if application == "https" {
        certificate(draft);
    }
    details(draft);
    rest(draft);
}

/// Some of what a scan finds, of every JSON type.
fn details(draft: &mut Draft) {
    const VENDORS: &[&str] = &["Synology", "MikroTik", "Hikvision", "D-Link", "AVM", "Ubiquiti", "QNAP", "ZyXEL"];
    const TITLES: &[&str] = &["Anmeldung – Büro", "Web Interface", "🔥 Camera 🔥", "Κάμερα", "Index of /", "\"Admin\""];
    const SECTORS: &[&str] =
        &["Communications, Service Provider, and Hosting Service", "Education", "Health", "Retail"];
    let (naics, sector) = (510_000 + draft.dice.below(9_999), draft.dice.pick(SECTORS));
    if draft.dice.chance(20) {
        draft.number("extra.source.naics", "naics", naics);
        draft.cell("extra.source.sector", "sector", sector);
    } else {
        draft.unread("naics", naics);
        draft.unread("sector", sector);
    }
    if draft.dice.chance(30) {
        let vendor = draft.dice.pick(VENDORS);
        draft.cell("extra.device_vendor", "device_vendor", vendor);
        draft.cell("extra.device_type", "device_type", "network attached storage");
        let (major, minor) = (draft.dice.below(9), draft.dice.below(30));
        draft.cell("extra.device_version", "device_version", format_args!("{major}.{minor}"));
    }
    if draft.dice.chance(30) {
        let (size, factor) = (draft.dice.below(4096), draft.dice.below(900));
        draft.number("extra.response_size", "response_size", size);
        draft.number("extra.amplification", "amplification", format_args!("{}.{}", factor / 10, factor % 10));
    }
    if draft.dice.chance(20) {
        let title = draft.dice.pick(TITLES);
        draft.cell("extra.http_title", "http_title", title);
        draft.number("extra.http_code", "http_code", 200);
        draft.cell("extra.content_type", "content_type", "text/html; charset=utf-8");
    }
    if draft.dice.chance(20) {
        let hex = draft.dice.hex(62);
        draft.cell("extra.jarm", "jarm", hex);
    }
    if draft.dice.chance(15) {
        let up = draft.dice.next() >> 20;
        let (load, known) = (draft.dice.below(100), draft.dice.chance(50));
        let value = format_args!(
            "{{\"uptime\": {up}, \"load\": [0.{load:02}, 1.0, 0.5], \"auth\": {{\"required\": {known}, \"realm\": null}}}}"
        )
        .to_string();
        draft.json("extra.device_state", value);
    }
}

/// What Shadowserver's reports have beside, and the parser leaves in `raw`.
fn rest(draft: &mut Draft) {
    let (packets, payload, request) = (draft.dice.below(9) + 1, draft.dice.hex(64), draft.dice.hex(32));
    draft.unread("packets", packets);
    draft.unread("payload_sha256", payload);
    draft.unread("request_id", request);
    draft.unread("sic", 0);
    draft.unread("source_set", "IPV4,INTERNET-WIDE,DAILY");
    draft.unread("hostname_source", "ptr");
    draft.unread("asn_name", "EXAMPLE-AS Example Telecommunications Ges.m.b.H. & Co KG");
    draft.raw();
}

fn certificate(draft: &mut Draft) {
    let (host, print) = (draft.dice.host(), draft.dice.hex(40));
    draft.cell("extra.subject_common_name", "subject_common_name", host);
    draft.cell("extra.cert_fingerprint", "cert_fingerprint", print);
    let (high, low) = (draft.dice.next() | 1 << 63, draft.dice.next());
    draft.number("extra.cert_serial", "cert_serial", (u128::from(high) << 64) | u128::from(low));
    let until = draft.read_at + draft.dice.below(300) * 86_400;
    draft.time("extra.cert_expiration_date", "cert_expiration_date", until);
    draft.unread("cipher_suite", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
    if draft.dice.chance(30) {
        draft.number("extra.self_signed", "self_signed", true);
    }
}

/// Hosts that called a sinkhole.
fn infected_system(draft: &mut Draft) {
    const FAMILIES: &[&str] =
        &["avalanche-andromeda", "conficker", "mirai", "gamut", "necurs", "qakbot", "zeus", "sality-p2p", "nymaim"];
    feed(draft, "Shadowserver", "Sinkhole-Events-HTTP", "", "100.0");
    source(draft);
    let port = 1024 + draft.dice.below(64_000);
    draft.number("source.port", "src_port", port);
    let (sinkhole, host) = (draft.dice.address(), draft.dice.host());
    draft.cell("destination.ip", "dst_ip", sinkhole);
    draft.number("destination.port", "dst_port", 80);
    draft.cell("destination.fqdn", "http_host", &host);
    if draft.dice.chance(60) {
        let hex = draft.dice.hex(24);
        draft.cell("destination.url", "http_url", format_args!("http://{host}/gate.php?id={hex}&v=%2B1"));
    }
    let family = draft.dice.pick(FAMILIES);
    draft.cell("malware.name", "infection", family);
    draft.cell("protocol.transport", "protocol", "tcp");
    class(draft, "malicious-code", "infected-system", family);
    if draft.dice.chance(40) {
        let browser = "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; SLCC2; .NET CLR 2.0.50727)";
        draft.cell("extra.user_agent", "http_agent", browser);
    }
    let bytes = draft.dice.below(1 << 20);
    draft.unread("bytes", bytes);
    if draft.dice.chance(20) {
        let hex = draft.dice.hex(32);
        draft.cell("malware.hash.md5", "md5_hash", hex);
    }
    rest(draft);
}

/// Known holes; now and then with the whole page that showed them.
fn vulnerable_system(draft: &mut Draft) {
    feed(draft, "Shadowserver", "Vulnerable-HTTP", "", "95.5");
    source(draft);
    draft.number("source.port", "port", 443);
    class(draft, "vulnerable", "vulnerable-system", "vulnerable-http");
    draft.cell("severity", "severity", "high");
    let mut list = String::from("[");
    for i in 0..=draft.dice.below(6) {
        let (year, number, score) = (2016 + draft.dice.below(10), draft.dice.below(40_000), draft.dice.below(100));
        let comma = if i == 0 { "" } else { ", " };
        let score = format_args!("{}.{}", score / 10, score % 10).to_string();
        list += &format!("{comma}{{\"id\": \"CVE-{year}-{number:04}\", \"cvss\": {score}, \"exploited\": true}}");
    }
    list.push(']');
    draft.json("extra.vulnerabilities", &list);
    draft.json("extra.tags", r#"["http", "cve", "b\u00fcro"]"#);
    draft.unread("version", list.replace('"', "'"));
    if draft.dice.chance(15) {
        let mut page = String::from("<!DOCTYPE html>\r\n<html lang=\"de\">\r\n");
        for _ in 0..8 + draft.dice.below(12) {
            let (host, hex) = (draft.dice.host(), draft.dice.hex(32));
            page += &format!("<p class=\"größe\">\t<a href=\"https://{host}/{hex}\">→ {host}</a></p>\r\n");
        }
        draft.text("extra.http_body", &page);
        draft.unread("body", page.replace('"', "'"));
    }
    certificate(draft);
    details(draft);
    rest(draft);
}

fn brute_force(draft: &mut Draft) {
    const LISTS: &[(&str, &str, u64)] = &[("ssh", "sshpwauth", 22), ("smtp", "mail", 25), ("sip", "sip", 5060)];
    let (application, list, port) = draft.dice.pick(LISTS);
    feed(draft, "DataPlane", "SSH Password Authentication", "https://dataplane.example/sshpwauth.txt", "90.0");
    source(draft);
    draft.cell("protocol.application", "", application);
    draft.number("destination.port", "", port);
    class(draft, "intrusion-attempts", "brute-force", list);
    let attempts = draft.dice.below(5_000);
    draft.json("extra.attempts", attempts);
    draft.unread("category", list);
    draft.raw();
}

/// The shortest: an address and that it is listed.
fn blacklist(draft: &mut Draft) {
    let read_at = draft.read_at;
    draft.text("feed.provider", "Blocklist.de");
    draft.text("feed.name", "All");
    draft.json("feed.accuracy", "80.0");
    draft.time("time.observation", "", read_at);
    let ip = draft.dice.address();
    draft.text("source.ip", ip);
    draft.text("classification.type", "blacklist");
    if draft.dice.chance(40) {
        draft.text("classification.taxonomy", "other");
        let count = draft.dice.below(50);
        draft.json("extra.blocklists", count);
    }
}

fn phishing(draft: &mut Draft) {
    const PATHS: &[&str] = &["wp-includes/login", "anmeldung/büro", "signin?continue=", "~user/.well-known/bank"];
    feed(draft, "OpenPhish", "Public feed", "https://openphish.example/feed.txt", "85.0");
    source(draft);
    let (host, path, hex) = (draft.dice.host(), draft.dice.pick(PATHS), draft.dice.hex(40));
    draft.cell("source.fqdn", "host", &host);
    draft.cell("source.url", "url", format_args!("https://{host}/{path}/{hex}"));
    class(draft, "fraud", "phishing", "phishing");
    draft.cell("extra.target", "target", "Österreichische Musterbank AG");
    let up = draft.dice.chance(70);
    draft.json("extra.online", up);
    if draft.dice.chance(40) {
        draft.json("extra.screenshots", "[]");
    }
    draft.raw();
}

fn ddos(draft: &mut Draft) {
    feed(draft, "Shadowserver", "Amplification-DDoS-Victim", "", "100.0");
    source(draft);
    let (target, port) = (draft.dice.address(), draft.dice.below(65_535) + 1);
    draft.cell("destination.ip", "dst_ip", target);
    draft.number("destination.port", "dst_port", port);
    class(draft, "availability", "ddos", "amplification-ddos-victim");
    let (packets, end) = (draft.dice.next() >> 24, draft.read_at);
    draft.number("extra.packets", "count", packets);
    draft.number("extra.bytes_total", "bytes", u128::from(packets) * 41_000_000);
    draft.time("extra.end_time", "end_time", end);
    draft.cell("extra.request", "request", "ntp monlist \\x17\\x00\\x03\\x2a");
    rest(draft);
}

fn scanner(draft: &mut Draft) {
    feed(draft, "Turris", "Greylist", "https://view.sentinel.example/greylist-data/greylist-latest.csv", "100.0");
    source(draft);
    class(draft, "information-gathering", "scanner", "telnet,haas");
    let mut ports = String::from("[");
    for i in 0..=draft.dice.below(12) {
        let (comma, port) = (if i == 0 { "" } else { ", " }, draft.dice.below(65_535) + 1);
        ports += &format!("{comma}{port}");
    }
    ports.push(']');
    draft.number("extra.ports", "ports", ports);
    draft.raw();
}

fn data_leak(draft: &mut Draft) {
    feed(draft, "CERT.PL", "N6 Stomp Stream", "", "70.0");
    source(draft);
    let (host, hex) = (draft.dice.host(), draft.dice.hex(64));
    draft.cell("source.url", "url", format_args!("http://{host}/panel/logs/{hex}.zip"));
    draft.cell("malware.hash.sha256", "sha256", hex);
    class(draft, "information-content-security", "data-leak", "credential dump");
    draft.text("comment", "Upload from stealer, first line: C:\\Users\\Jürgen\\AppData");
    draft.raw();
}

fn c2_server(draft: &mut Draft) {
    feed(draft, "abuse.ch", "Feodo Tracker", "https://feodotracker.example/downloads/ipblocklist.json", "100.0");
    source(draft);
    draft.number("source.port", "dst_port", 447);
    draft.cell("malware.name", "malware", "emotet");
    draft.cell("status", "status", "online");
    class(draft, "malicious-code", "c2-server", "emotet");
    draft.raw();
}
