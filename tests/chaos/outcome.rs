//! What came of it: exactly once everywhere, explained, and nothing leaked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use rand::RngExt;
use serde_json::Value;

use super::chaos::{Chaos, NODES};
use super::clock;
use super::faults::Were;
use super::relay::wait_until;
use super::site::{EACH, Site, number_of, text_after};
use super::vitals::Vitals;

/// Events whose way is explained at every node.
const EXPLAINED: usize = 4;
/// Threads that wait for something to do may be so many more.
const THREADS: usize = 6;
/// In KiB. What a node fills as events come, and then has: the newest entries (16 MiB), pages of the
/// store, what allocators keep.
const GROWN: usize = 96 << 10;
/// With so many entries in the log, it has that.
const WARM: usize = 11_000;
/// From then on, in KiB, from the first third of the time to the last: what is filled only when a peer comes back from far behind
/// (its window, and chunks that are read from the disk for it, 8 MiB each; packs, 4 MiB), and the rest of sled's pages.
const GROWS: usize = 24 << 10;

/// An entry of a node's log.
struct Entry {
    id: String,
    /// Sealed so many seconds after 1970, by its origin's clock.
    sealed: u64,
}

impl Chaos {
    /// Fails unless all is as it must be; says what was seen.
    pub fn judge(&mut self) {
        let logs: Vec<HashMap<usize, Entry>> = self.sites.iter().map(log).collect();
        let ahead = self.ahead(&logs[self.wrong]);
        let missed = self.missed(&logs);
        self.exactly_once(&logs, &ahead, &missed);
        self.explained(&logs, &ahead, &missed);
        self.nothing_leaked();
        self.say_all(ahead.len(), missed.len());
        for site in &self.sites {
            let log = site.relay.log_text();
            assert!(!log.contains("panicked"), "{}:\n{log}", site.relay.name);
        }
    }

    /// What the node with the wrong clock sealed a day ahead: nobody else takes it.
    fn ahead(&self, log: &HashMap<usize, Entry>) -> BTreeSet<usize> {
        let now = clock::now();
        let own = log.iter().filter(|(number, _)| *number / EACH == self.wrong);
        own.filter(|(_, entry)| entry.sealed > now + 3_600).map(|(number, _)| *number).collect()
    }

    /// What that node refused while its clock was a day behind.
    fn missed(&self, logs: &[HashMap<usize, Entry>]) -> BTreeSet<usize> {
        let Some((_, until)) = self.behind.last() else { return BTreeSet::new() };
        let others = self.sites.iter().enumerate().filter(|(node, _)| *node != self.wrong);
        let numbers = others.flat_map(|(_, site)| site.numbers());
        let missing = numbers.filter(|number| !logs[self.wrong].contains_key(number));
        let tolerance = 300;
        let before = |number: &usize| logs[number / EACH].get(number).is_some_and(|e| e.sealed <= until + tolerance);
        missing.filter(before).collect()
    }

    /// In every log and every Redis, but for what was refused for a clock.
    fn exactly_once(&self, logs: &[HashMap<usize, Entry>], ahead: &BTreeSet<usize>, missed: &BTreeSet<usize>) {
        let (mut wrong, mut count) = (Vec::new(), 0);
        for (node, site) in self.sites.iter().enumerate() {
            for (origin, from) in self.sites.iter().enumerate() {
                for number in from.numbers() {
                    let refused = node != origin && ahead.contains(&number);
                    let excused = node == self.wrong && missed.contains(&number);
                    let expected = usize::from(!refused && !excused);
                    let logged = usize::from(logs[node].contains_key(&number));
                    let out = site.got(number) as usize;
                    let expected_out = if node == origin { 0 } else { expected };
                    count += expected_out;
                    if (logged, out) != (expected, expected_out) {
                        wrong.push(format!("{}: {number}: {logged} in the log, {out} came out", site.relay.name));
                    }
                }
            }
            assert!(site.redis.length("bot-queue") == 0);
        }
        assert!(
            wrong.is_empty(),
            "{} are not once where they should be: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(20)]
        );
        assert_eq!(count, self.counts()[1]);
    }

    /// `why` has a word for every reader, and none waits.
    fn explained(&mut self, logs: &[HashMap<usize, Entry>], ahead: &BTreeSet<usize>, missed: &BTreeSet<usize>) {
        for _ in 0..EXPLAINED {
            let origin = self.rng.random_range(0..NODES);
            let numbers = self.sites[origin].numbers();
            let number = self.rng.random_range(numbers);
            if ahead.contains(&number) || missed.contains(&number) {
                continue;
            }
            let id = &logs[origin][&number].id;
            for (node, site) in self.sites.iter().enumerate() {
                let fates = fates(site, id);
                let text = format!("{}: {number}: {fates:?}", site.relay.name);
                assert!(fates.len() > 1 && fates.iter().all(|fate| self.is_well(fate, node)), "{text}");
                let door = fates.iter().find(|fate| fate["reader"] == "door").expect(&text);
                let expected = if node == origin { "not-for-it" } else { "delivered" };
                assert!(door["fate"] == expected || door["fate"] == "not-recorded", "{text}");
            }
        }
        self.refusals_explained(logs, ahead, "given");
        self.refusals_explained(logs, missed, "refused");
    }

    /// What a wrong clock has kept from others, or them from it, has that for a reason.
    fn refusals_explained(&self, logs: &[HashMap<usize, Entry>], numbers: &BTreeSet<usize>, fate: &str) {
        let mut said = numbers.is_empty();
        for number in numbers.iter().step_by(numbers.len() / 20 + 1) {
            let fates = fates(&self.sites[self.wrong], &logs[number / EACH][number].id);
            let fits = |told: &&Value| told["fate"] == fate && told["verdict"] == "from-the-future";
            said |= fates.iter().any(|told| fits(&told));
            // A crash loses the last second of such words, and a link that ends, an answer.
            let others = ["withheld", "not-for-it", "not-recorded"];
            let unanswered = |told: &Value| told["fate"] == "given" && told["verdict"].is_null();
            let is_other = |told: &Value| others.contains(&told["fate"].as_str().unwrap());
            let fine = fates.iter().all(|told| fits(&told) || unanswered(told) || is_other(told));
            assert!(fine, "{number}: {fates:?}");
        }
        assert!(said, "nobody knows why {numbers:?} did not pass");
    }

    /// Of an event that everybody has.
    fn is_well(&self, fate: &Value, node: usize) -> bool {
        let verdict = fate["verdict"].as_str().unwrap_or_default();
        match fate["fate"].as_str().unwrap() {
            "had" | "withheld" | "delivered" | "not-for-it" | "not-recorded" => true,
            // A link may have ended before the answer; and one with a wrong clock refuses, and may take it later.
            "given" => matches!(verdict, "accepted" | "duplicate" | "" | "from-the-future"),
            "refused" => node == self.wrong && verdict == "from-the-future",
            _ => false,
        }
    }

    /// As many descriptors, threads and tasks as before, and not ever more memory.
    fn nothing_leaked(&mut self) {
        let mut last = Vec::new();
        wait_until("descriptors, threads and tasks are as many as before", || {
            last = self.vitals();
            let fine = (0..NODES).all(|node| self.is_as_before(node, last[node]));
            if !fine {
                println!("before {:?}\nnow    {last:?}", self.before);
                std::thread::sleep(Duration::from_secs(1));
            }
            fine
        });
        for node in 0..NODES {
            let (before, now) = (self.before[node].0.memory, self.vitals()[node].0.memory);
            assert!(now <= before + GROWN, "cert-{node}: {before} KiB before, {now} KiB now");
        }
        for node in &self.elders {
            let thirds = self.memory[*node].parts(3, WARM);
            if let [first, _, last] = thirds[..] {
                assert!(last <= first + GROWS, "cert-{node}: its memory grows: {:?}", self.memory[*node]);
            }
        }
    }

    /// Of connections there may be one or two with each peer, and each has tasks of its own; all else is the same.
    fn is_as_before(&self, node: usize, (now, tasks): (Vitals, usize)) -> bool {
        let (before, tasks_before) = self.before[node];
        now.files <= before.files + 1
            && now.sockets <= before.sockets + self.peers(node)
            && tasks + before.sockets <= tasks_before + now.sockets + 1
            && now.threads <= before.threads + THREADS
    }

    fn say_all(&self, ahead: usize, missed: usize) {
        println!("\n{:<26}{:>6}{:>10}", "fault", "times", "seconds");
        for (kind, Were { count, time }) in &self.faults.were {
            println!("{kind:<26}{count:>6}{:>10.1}", time.as_secs_f64());
        }
        let after = self.vitals();
        println!("\n{:<10}{:>8}{:>10}{:>10}   before → after", "node", "starts", "put in", "came out");
        for (node, site) in self.sites.iter().enumerate() {
            let (pushed, got, starts) = (site.numbers().len(), site.got_all(), self.starts[node]);
            let ((b, before), (a, after)) = (&self.before[node], &after[node]);
            let trend = ["", ", never killed"][usize::from(self.elders.contains(&node))];
            println!(
                "{:<10}{starts:>8}{pushed:>10}{got:>10}   {b}, {before} tasks → {a}, {after} tasks{trend}",
                site.relay.name
            );
        }
        for node in &self.elders {
            let memory = &self.memory[*node];
            println!("memory of cert-{node} by tenths of the time, KiB: {:?}", memory.parts(10, 0));
            println!("  by thirds of the time with {WARM} entries: {:?}", memory.parts(3, WARM));
        }
        let [pushed, got] = self.counts();
        println!(
            "{pushed} events put in, {got} came out, each once at each of the others, {:.1} s after all was mended; {ahead} that \
             were sealed a day ahead were refused by all, {missed} by cert-{} while its clock was a day behind; nodes gave \
             up on a disk without a byte {} times",
            self.healed.as_secs_f64(),
            self.wrong,
            self.gave_up
        );
        let words: BTreeMap<String, usize> =
            self.sites.iter().flat_map(complaints).fold(BTreeMap::new(), |mut all, word| {
                *all.entry(word).or_default() += 1;
                all
            });
        println!("errors in the logs since the last starts: {words:#?}");
    }
}

/// What a node's log has; nothing twice.
fn log(site: &Site) -> HashMap<usize, Entry> {
    let mut entries = HashMap::new();
    for line in site.relay.expect(0, &["export", "--shape", "extra"]).lines() {
        let number = number_of(line).unwrap_or_else(|| panic!("{}: {line}", site.relay.name));
        let id = text_after(line, "\"extra.relay.uuid\":").unwrap().to_owned();
        let time: jiff::Timestamp = text_after(line, "\"extra.relay.time\":").unwrap().parse().unwrap();
        let entry = Entry { id, sealed: time.as_second().try_into().unwrap() };
        assert!(entries.insert(number, entry).is_none(), "{}: {number} is twice in the log", site.relay.name);
    }
    entries
}

fn fates(site: &Site, id: &str) -> Vec<Value> {
    let output = site.relay.command(&["why", "--json", id]);
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn complaints(site: &Site) -> Vec<String> {
    let log = site.relay.log_text();
    let errors = log.lines().filter(|line| line.contains("\"ERROR\""));
    let message = |line: &str| text_after(line, "\"message\":").unwrap_or(line).split(':').next().unwrap().to_owned();
    errors.map(message).collect()
}
