//! The local IntelMQ's botnet: which bots there are, and which queues they read and write.
//!
//! Owns the reading of `runtime.yaml`, as far as a relay's place in it goes. It must never write it: the botnet is its
//! administrator's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::fit::intelmq_files;

/// Bots and their queues.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Botnet {
    bots: BTreeMap<String, Bot>,
    /// Queues of which `intelmqctl check` is told that no bot reads them.
    ignored: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bot {
    source: String,
    destinations: Vec<String>,
    enabled: bool,
}

/// A bot that reads a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader<'a> {
    /// Its id.
    pub bot: &'a str,
    /// Whether `intelmqctl start` starts it.
    pub enabled: bool,
}

impl Botnet {
    /// The botnet of the IntelMQ on this machine, with its file; `None` where there is none. An error is a file that
    /// cannot be read or understood.
    pub fn find() -> Option<(PathBuf, Result<Botnet, String>)> {
        let file = intelmq_files("runtime.yaml").into_iter().find(|file| file.exists())?;
        let botnet = Botnet::read(&file);
        Some((file, botnet))
    }

    fn read(file: &Path) -> Result<Botnet, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        Botnet::parse(&text)
    }

    /// Reads the text of a `runtime.yaml`.
    pub fn parse(text: &str) -> Result<Botnet, String> {
        let sections: BTreeMap<String, Section> = serde_saphyr::from_str(text)
            .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())?;
        let mut botnet = Botnet::default();
        for (id, section) in sections {
            if id == "global" {
                botnet.ignored = section.ignored.map(Texts::list).unwrap_or_default();
                continue;
            }
            let Parameters { source_queue, destination_queues } = section.parameters.unwrap_or_default();
            let bot = Bot {
                source: source_queue.unwrap_or_else(|| format!("{id}-queue")),
                destinations: destination_queues.map(Destinations::list).unwrap_or_default(),
                enabled: section.enabled.unwrap_or(true),
            };
            botnet.bots.insert(id, bot);
        }
        Ok(botnet)
    }

    /// The bot that reads this queue.
    pub fn reader(&self, queue: &str) -> Option<Reader<'_>> {
        let (bot, Bot { enabled, .. }) = self.bots.iter().find(|(_, bot)| bot.source == queue)?;
        Some(Reader { bot, enabled: *enabled })
    }

    /// The bots that write to this queue.
    pub fn writers(&self, queue: &str) -> Vec<&str> {
        let writes = |bot: &Bot| bot.destinations.iter().any(|destination| destination == queue);
        self.bots.iter().filter(|(_, bot)| writes(bot)).map(|(id, _)| &**id).collect()
    }

    /// Whether `intelmqctl check` is told not to call this queue orphaned.
    pub fn ignores(&self, queue: &str) -> bool {
        self.ignored.iter().any(|ignored| ignored == queue)
    }
}

/// A bot, or what holds for all; everything else that they have is not ours to know.
#[derive(Deserialize)]
struct Section {
    parameters: Option<Parameters>,
    enabled: Option<bool>,
    #[serde(rename = "intelmqctl_check_orphaned_queues_ignore")]
    ignored: Option<Texts>,
}

#[derive(Deserialize, Default)]
struct Parameters {
    source_queue: Option<String>,
    destination_queues: Option<Destinations>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    /// IntelMQ takes a text for a list with blanks or commas between.
    fn list(self) -> Vec<String> {
        match self {
            Texts::One(text) => text.split([' ', ',']).filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            Texts::Many(list) => list,
        }
    }
}

/// By path, as IntelMQ 3 has it; or without paths, as before.
#[derive(Deserialize)]
#[serde(untagged)]
enum Destinations {
    Plain(Texts),
    Paths(BTreeMap<String, Texts>),
}

impl Destinations {
    fn list(self) -> Vec<String> {
        match self {
            Destinations::Plain(queues) => queues.list(),
            Destinations::Paths(paths) => paths.into_values().flat_map(Texts::list).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNTIME: &str = "
global:
  logging_level: INFO
  intelmqctl_check_orphaned_queues_ignore: [relay-queue, relay-queue-internal]
taxonomy-expert:
  bot_id: taxonomy-expert
  enabled: true
  module: intelmq.bots.experts.taxonomy.expert
  parameters:
    destination_queues:
      _default: [relay-queue, file-output-queue]
      _on_error: errors-queue
file-output:
  enabled: false
  module: intelmq.bots.outputs.file.output
  parameters: {file: /var/lib/events.txt, source_queue: odd}
collector:
  module: intelmq.bots.collectors.file.collector_file
  parameters: {destination_queues: 'a-queue b-queue', rate_limit: 300}
lonely:
  module: x
";

    #[test]
    fn queues_are_found_in_every_form() {
        let botnet = Botnet::parse(RUNTIME).unwrap();
        assert_eq!(botnet.writers("relay-queue"), ["taxonomy-expert"]);
        assert_eq!(botnet.writers("errors-queue"), ["taxonomy-expert"]);
        assert_eq!(botnet.writers("b-queue"), ["collector"]);
        assert_eq!(botnet.writers("nobody-queue"), Vec::<&str>::new());
        assert_eq!(botnet.reader("odd"), Some(Reader { bot: "file-output", enabled: false }));
        assert_eq!(botnet.reader("file-output-queue"), None, "its source queue is another");
        assert_eq!(botnet.reader("lonely-queue"), Some(Reader { bot: "lonely", enabled: true }));
        assert!(botnet.ignores("relay-queue") && !botnet.ignores("file-output-queue"));
    }

    #[test]
    fn json_is_yaml_and_what_is_neither_is_said() {
        let botnet = Botnet::parse(r#"{"b": {"parameters": {"destination_queues": ["q"]}}}"#).unwrap();
        assert_eq!(botnet.writers("q"), ["b"]);
        assert!(Botnet::parse("b: [").is_err());
        assert!(Botnet::parse("b: 1").is_err());
    }
}
