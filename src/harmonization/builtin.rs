//! The fields of IntelMQ 3.5.0, for a node whose IntelMQ has no `harmonization.conf` that the relay may read.

/// One field, as `harmonization.conf` has it.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) length: Option<usize>,
    pub(super) regex: Option<&'static str>,
    pub(super) iregex: Option<&'static str>,
}

const fn field(name: &'static str, kind: &'static str) -> Field {
    Field { name, kind, length: None, regex: None, iregex: None }
}

impl Field {
    const fn length(mut self, most: usize) -> Field {
        self.length = Some(most);
        self
    }

    const fn regex(mut self, pattern: &'static str) -> Field {
        self.regex = Some(pattern);
        self
    }

    const fn iregex(mut self, pattern: &'static str) -> Field {
        self.iregex = Some(pattern);
        self
    }
}

const PRINTABLE: &str = "^[ -~]+$";
const NO_DOT_AT_THE_END: &str = r"^.*[^\.]$";
const COUNTRY: &str = "^[a-zA-Z0-9]{2}$";
const UUID: &str = "^[a-z0-9]{8}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{12}$";
/// The names of protocols on IP; some are patterns there, and stay so.
const TRANSPORTS: &str = concat!(
    "^(",
    "ip|icmp|igmp|ggp|ipencap|st2|tcp|cbt|egp|igp|bbn-rcc|nvp(-ii)?|pup|argus|emcon|xnet|chaos|udp|mux",
    "|dcn|hmp|prm|xns-idp|trunk-1|trunk-2|leaf-1|leaf-2|rdp|irtp|iso-tp4|netblt|mfe-nsp|merit-inp|sep|3pc",
    r"|idpr|xtp|ddp|idpr-cmtp|tp\+\+|il|ipv6|sdrp|ipv6-route|ipv6-frag|idrp|rsvp|gre|mhrp|bna|esp|ah",
    "|i-nlsp|swipe|narp|mobile|tlsp|skip|ipv6-icmp|ipv6-nonxt|ipv6-opts|cftp|sat-expak|kryptolan|rvd|ippc",
    "|sat-mon|visa|ipcv|cpnx|cphb|wsn|pvp|br-sat-mon|sun-nd|wb-mon|wb-expak|iso-ip|vmtp|secure-vmtp|vines",
    "|ttp|nsfnet-igp|dgp|tcf|eigrp|ospf|sprite-rpc|larp|mtp|ax.25|ipip|micp|scc-sp|etherip|encap|gmtp",
    "|ifmp|pnni|pim|aris|scps|qnx|a/n|ipcomp|snp|compaq-peer|ipx-in-ip|vrrp|pgm|l2tp|ddx|iatp|st|srp|uti",
    "|smp|sm|ptp|isis|fire|crtp|crdup|sscopmce|iplt|sps|pipe|sctp|fc|divert",
    ")$",
);

/// The fields of an event.
#[rustfmt::skip]
pub(super) const EVENT: &[Field] = &[
    field("classification.identifier", "String"),
    field("classification.taxonomy", "ClassificationTaxonomy").length(100),
    field("classification.type", "ClassificationType"),
    field("comment", "String"),
    field("constituency", "String"),
    field("destination.abuse_contact", "LowercaseString"),
    field("destination.account", "String"),
    field("destination.allocated", "DateTime"),
    field("destination.as_name", "String"),
    field("destination.asn", "ASN"),
    field("destination.domain_suffix", "FQDN"),
    field("destination.fqdn", "FQDN").regex(NO_DOT_AT_THE_END),
    field("destination.geolocation.cc", "UppercaseString").length(2).regex(COUNTRY),
    field("destination.geolocation.city", "String"),
    field("destination.geolocation.country", "String"),
    field("destination.geolocation.latitude", "Float"),
    field("destination.geolocation.longitude", "Float"),
    field("destination.geolocation.region", "String"),
    field("destination.geolocation.state", "String"),
    field("destination.ip", "IPAddress"),
    field("destination.local_hostname", "String"),
    field("destination.local_ip", "IPAddress"),
    field("destination.network", "IPNetwork"),
    field("destination.port", "Integer"),
    field("destination.registry", "Registry").length(7),
    field("destination.reverse_dns", "FQDN").regex(NO_DOT_AT_THE_END),
    field("destination.tor_node", "Boolean"),
    field("destination.url", "URL"),
    field("destination.urlpath", "String"),
    field("event_description.target", "String"),
    field("event_description.text", "String"),
    field("event_description.url", "URL"),
    field("event_hash", "UppercaseString").length(40).regex("^[A-F0-9./]+$"),
    field("extra", "JSONDict"),
    field("feed.accuracy", "Accuracy"),
    field("feed.code", "String").length(100),
    field("feed.documentation", "String"),
    field("feed.name", "String"),
    field("feed.provider", "String"),
    field("feed.url", "URL"),
    field("malware.hash.md5", "String").length(200).regex(PRINTABLE),
    field("malware.hash.sha1", "String").length(200).regex(PRINTABLE),
    field("malware.hash.sha256", "String").length(200).regex(PRINTABLE),
    field("malware.name", "LowercaseString").regex(PRINTABLE),
    field("malware.version", "String").regex(PRINTABLE),
    field("misp.attribute_uuid", "LowercaseString").length(36).regex(UUID),
    field("misp.event_uuid", "LowercaseString").length(36).regex(UUID),
    field("output", "JSON"),
    field("product.full_name", "String"),
    field("product.name", "LowercaseString"),
    field("product.vendor", "LowercaseString"),
    field("product.version", "LowercaseString"),
    field("product.vulnerabilities", "LowercaseString"),
    field("protocol.application", "LowercaseString").length(100).regex(PRINTABLE),
    field("protocol.transport", "LowercaseString").length(11).iregex(TRANSPORTS),
    field("raw", "Base64"),
    field("rtir_id", "Integer"),
    field("screenshot_url", "URL"),
    field("severity", "LowercaseString").length(10).regex("^(critical|high|medium|low|info|undefined)$"),
    field("source.abuse_contact", "LowercaseString"),
    field("source.account", "String"),
    field("source.allocated", "DateTime"),
    field("source.as_name", "String"),
    field("source.asn", "ASN"),
    field("source.domain_suffix", "FQDN"),
    field("source.fqdn", "FQDN").regex(NO_DOT_AT_THE_END),
    field("source.geolocation.cc", "UppercaseString").length(2).regex(COUNTRY),
    field("source.geolocation.city", "String"),
    field("source.geolocation.country", "String"),
    field("source.geolocation.cymru_cc", "UppercaseString").length(2).regex(COUNTRY),
    field("source.geolocation.geoip_cc", "UppercaseString").length(2).regex(COUNTRY),
    field("source.geolocation.latitude", "Float"),
    field("source.geolocation.longitude", "Float"),
    field("source.geolocation.region", "String"),
    field("source.geolocation.state", "String"),
    field("source.ip", "IPAddress"),
    field("source.local_hostname", "String"),
    field("source.local_ip", "IPAddress"),
    field("source.network", "IPNetwork"),
    field("source.port", "Integer").length(5),
    field("source.registry", "Registry").length(7),
    field("source.reverse_dns", "FQDN").regex(NO_DOT_AT_THE_END),
    field("source.tor_node", "Boolean"),
    field("source.url", "URL"),
    field("source.urlpath", "String"),
    field("status", "String"),
    field("time.observation", "DateTime"),
    field("time.source", "DateTime"),
    field("tlp", "TLP"),
];

/// The fields of a report.
#[rustfmt::skip]
pub(super) const REPORT: &[Field] = &[
    field("extra", "JSONDict"),
    field("feed.accuracy", "Accuracy"),
    field("feed.code", "String").length(100),
    field("feed.documentation", "String"),
    field("feed.name", "String"),
    field("feed.provider", "String"),
    field("feed.url", "URL"),
    field("raw", "Base64"),
    field("rtir_id", "Integer"),
    field("time.observation", "DateTime"),
];
