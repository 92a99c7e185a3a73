//! The proof: a copy of the source, in which one defence after the other is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Attack, Edit};

/// What a test may take of memory, KiB: without a bound of ours it may take all that there is.
const MEMORY: u64 = 8 << 20;

/// A test that takes longer hangs: what it needs does not come about.
const PATIENCE: Duration = Duration::from_secs(180);

/// A copy of the files that git knows, with a target directory of its own. Both lie below cargo's.
pub struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// `binary` is one that cargo has built: its folder has the dependencies, which are not built again.
    pub fn make(top: &Path, binary: &Path) -> Copy {
        let built = binary.parent().unwrap();
        let place = built.parent().unwrap().join("attacks");
        let (tree, target) = (place.join("tree"), place.join("target"));
        let _ = fs::remove_dir_all(&tree);
        let listed = Command::new("git").arg("-C").arg(top).args(["ls-files", "-z"]).output().unwrap();
        assert!(listed.status.success(), "the proof copies the files that git knows: {listed:?}");
        for name in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
            let to = tree.join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            // What git knows may have been removed since.
            if top.join(name).exists() {
                fs::copy(top.join(name), to).unwrap();
            }
        }
        let debug = target.join("debug");
        if !debug.exists() {
            seed(built, &debug);
        }
        Copy { tree, target }
    }

    /// What does not hold, a line each.
    pub fn prove(&mut self, attacks: &[Attack]) -> Vec<String> {
        let mut wrong = Vec::new();
        // With every defence, all is well: else nothing is shown by what fails without one.
        let all: BTreeSet<(&str, &str)> = attacks.iter().flat_map(Attack::witnesses).collect();
        let built = self.build(all.iter().map(|(binary, _)| *binary)).expect("the copy as it is");
        for (binary, path) in &all {
            if let Outcome::Failed(how) = self.run(&built[*binary], path) {
                wrong.push(format!("{binary} {path}: fails with every defence in place ({how})"));
            }
        }
        println!("{} tests pass with every defence in place", all.len() - wrong.len());
        for (number, attack) in (1..).zip(attacks) {
            let begun = Instant::now();
            let shown = self.without(attack);
            let took = begun.elapsed().as_secs();
            match shown {
                Ok(how) => println!("{number}/{} {} ({took} s): {how}", attacks.len(), attack.name),
                Err(why) => {
                    println!("{number}/{} {} ({took} s): NOT SHOWN: {why}", attacks.len(), attack.name);
                    wrong.push(format!("{}: {why}", attack.name));
                }
            }
        }
        wrong
    }

    /// How the tests fail without this defence, or that they do not.
    fn without(&self, attack: &Attack) -> Result<String, String> {
        let before: BTreeMap<PathBuf, String> =
            attack.edits().into_iter().map(|Edit { file, .. }| (file.clone(), self.read(&file))).collect();
        let mut texts = before.clone();
        for Edit { file, defence, removed } in attack.edits() {
            let text = texts.get_mut(&file).unwrap();
            assert_eq!(text.matches(&*defence).count(), 1, "{}", attack.name);
            *text = text.replace(&*defence, &removed);
        }
        texts.iter().for_each(|(file, text)| self.write(file, text));
        let shown = self.build(attack.witnesses().map(|(binary, _)| binary)).and_then(|built| {
            let outcomes = attack.witnesses().map(|(binary, path)| match self.run(&built[binary], path) {
                Outcome::Failed(how) => Ok(how),
                Outcome::Passed => Err(format!("{binary} {path} passes all the same")),
            });
            outcomes.collect::<Result<Vec<String>, String>>().map(|how| how.join("; "))
        });
        before.iter().for_each(|(file, text)| self.write(file, text));
        shown
    }

    fn read(&self, file: &Path) -> String {
        fs::read_to_string(self.tree.join(file)).unwrap()
    }

    fn write(&self, file: &Path, text: &str) {
        fs::write(self.tree.join(file), text).unwrap();
    }

    /// Builds these test binaries; where each of them is. What does not compile is a fault of the table.
    fn build<'a>(&self, binaries: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, PathBuf>, String> {
        let binaries: BTreeSet<&str> = binaries.collect();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--no-run", "--offline", "--all-features"]);
        cargo.arg("--message-format=json-render-diagnostics").current_dir(&self.tree);
        for binary in &binaries {
            match *binary {
                "lib" => cargo.arg("--lib"),
                other => cargo.args(["--test", other]),
            };
        }
        cargo.env("CARGO_TARGET_DIR", &self.target).env("CARGO_INCREMENTAL", "1");
        // What cargo tells a test is about the package that is tested.
        std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")).for_each(|(name, _)| {
            cargo.env_remove(name);
        });
        let output = cargo.stdin(Stdio::null()).output().unwrap();
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let errors: Vec<&str> = text.split("\n\n").filter(|part| part.contains("error")).collect();
            return Err(format!("it does not compile: an error of the table\n{}", errors.join("\n\n")));
        }
        let mut built = BTreeMap::new();
        for line in output.stdout.split(|byte| *byte == b'\n') {
            let Ok(message) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
            if let (Some(path), true) = (message["executable"].as_str(), message["profile"]["test"] == true) {
                let kind = message["target"]["kind"][0].as_str().unwrap();
                let name = if kind == "lib" { "lib" } else { message["target"]["name"].as_str().unwrap() };
                built.insert(name.to_owned(), path.into());
            }
        }
        let missing: Vec<&&str> = binaries.iter().filter(|binary| !built.contains_key(**binary)).collect();
        if missing.is_empty() { Ok(built) } else { Err(format!("not built: {missing:?}")) }
    }

    /// One test. That there is none of this name is a fault of the table.
    fn run(&self, binary: &Path, path: &str) -> Outcome {
        let output = tempfile::NamedTempFile::new().unwrap();
        let write = || output.reopen().unwrap();
        let mut test = Command::new("sh")
            .args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"")])
            .arg(binary)
            .args(["--exact", path, "--include-ignored"])
            .stdin(Stdio::null())
            .stdout(write())
            .stderr(write())
            .current_dir(&self.tree)
            // With a group of its own: what it has started ends with it.
            .process_group(0)
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = test.try_wait().unwrap() {
                break Some(status);
            }
            if begun.elapsed() > PATIENCE {
                let _ = kill_process_group(Pid::from_child(&test), Signal::KILL);
                let _ = test.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let text = fs::read_to_string(output.path()).unwrap_or_default();
        assert!(text.contains("running 1 test"), "there is no test {path} in {}: {text}", binary.display());
        let panicked = text.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
        match status {
            Some(status) if status.success() => Outcome::Passed,
            Some(status) => Outcome::Failed(panicked.map_or_else(|| status.to_string(), short)),
            None => Outcome::Failed(format!("it hangs for more than {} s", PATIENCE.as_secs())),
        }
    }
}

enum Outcome {
    Passed,
    Failed(String),
}

fn short(line: &str) -> String {
    line.chars().take(120).collect()
}

/// Gives the copy the dependencies that are built: their libraries as further links to the same files, which cargo does
/// not write to again, and what it notes about them as copies with the same times. Of the relay itself nothing, whose
/// files would have the same names.
fn seed(built: &Path, debug: &Path) {
    let ours = |name: &str| name.contains("intelmq_relay") || name.contains("intelmq-relay");
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(built.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| !ours(name)).collect()
    };
    fs::create_dir_all(debug.join("deps")).unwrap();
    for name in names("deps") {
        if [".rlib", ".rmeta", ".so"].iter().any(|end| name.ends_with(end)) {
            let (from, to) = (built.join("deps").join(&name), debug.join("deps").join(&name));
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).unwrap();
        }
    }
    for folder in [".fingerprint", "build"] {
        fs::create_dir_all(debug.join(folder)).unwrap();
        for names in names(folder).chunks(100) {
            let from = names.iter().map(|name| built.join(folder).join(name));
            let status = Command::new("cp").arg("-a").args(from).arg(debug.join(folder)).status().unwrap();
            assert!(status.success(), "cp: {status}");
        }
    }
}
