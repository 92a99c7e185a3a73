//! The ground that the nodes stand on: each in a network of its own, with a cable for each pair of peers; and what can be
//! done to a cable.
//!
//! A space is a namespace for network and mounts, and it has no name: a process holds it (`unshare … cat`), which ends
//! with the test, however that ends, since its input does. So nothing is ever left behind, and two runs cannot meet.
//! Where spaces are not permitted, nodes have addresses of the loopback network, and a cable is a [`Wire`].

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::wire::Wire;

/// Where every node listens in its space.
pub const LISTEN: &str = "/ip4/0.0.0.0/tcp/4747";

/// What becomes of a cable. `end`: at which of its ends, 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The interface is down.
    Down { end: usize },
    /// What this end sends is lost, and nobody is told; at both ends, with `both`.
    Silent { end: usize, both: bool },
    /// Late, and some of it lost.
    Slow,
}

/// Cables between nodes.
pub struct Ground {
    cables: Vec<(usize, usize)>,
    kind: Kind,
    /// Whether the kernel can delay packets.
    pub slows: bool,
}

enum Kind {
    Spaces(Vec<Space>),
    /// By cable: as the one reaches the other, and back.
    Loopback(Vec<[Wire; 2]>),
}

impl Ground {
    /// Spaces for so many nodes; or why not.
    pub fn spaces(nodes: usize, cables: &[(usize, usize)]) -> Result<Ground, String> {
        let spaces = (0..nodes).map(|_| Space::new()).collect::<Result<Vec<_>, _>>()?;
        let mut up = vec!["link set lo up\n".to_owned(); nodes];
        for (number, (a, b)) in cables.iter().enumerate() {
            let other = spaces[*b].holder.id();
            spaces[*a].ip(&format!("link add name c{number} type veth peer name c{number} netns {other}\n"))?;
            for (end, node) in [a, b].into_iter().enumerate() {
                let address = address(number, end);
                up[*node] += &format!("addr add {address}/30 dev c{number}\nlink set c{number} up\n");
            }
        }
        for (space, up) in spaces.iter().zip(up) {
            space.ip(&up)?;
        }
        let ground = Ground { cables: cables.to_vec(), kind: Kind::Spaces(spaces), slows: false };
        let slows = ground.run(0, 0, "tc", &slow("add", 0)).is_ok();
        ground.break_cable(0, Break::Slow, false);
        Ok(Ground { slows, ..ground })
    }

    /// Nodes on the loopback network; `addresses` are where they listen.
    pub fn loopback(addresses: &[String], cables: &[(usize, usize)]) -> Ground {
        let wires = cables.iter().map(|(a, b)| Wire::pair(&addresses[*a], &addresses[*b])).collect();
        Ground { cables: cables.to_vec(), kind: Kind::Loopback(wires), slows: false }
    }

    /// How many there are.
    pub fn cables(&self) -> usize {
        self.cables.len()
    }

    /// Whether nodes have spaces of their own.
    pub fn has_spaces(&self) -> bool {
        matches!(self.kind, Kind::Spaces(_))
    }

    /// Words before a command that is to run where this node is.
    pub fn around(&self, node: usize, folder: &Path) -> Vec<String> {
        match &self.kind {
            Kind::Spaces(spaces) => {
                let chdir = format!("--chdir={}", folder.display());
                [spaces[node].enter(), vec!["env".to_owned(), chdir]].concat()
            }
            Kind::Loopback(_) => Vec::new(),
        }
    }

    /// Where a file of the node is, seen from here.
    pub fn seen(&self, node: usize, path: &Path) -> PathBuf {
        match &self.kind {
            Kind::Spaces(spaces) => {
                let root = PathBuf::from(format!("/proc/{}/root", spaces[node].holder.id()));
                root.join(path.strip_prefix("/").unwrap())
            }
            Kind::Loopback(_) => path.to_owned(),
        }
    }

    /// The peers of a node, and where it reaches them.
    pub fn peers(&self, node: usize) -> Vec<(usize, String)> {
        let mut peers = Vec::new();
        for (number, (a, b)) in self.cables.iter().enumerate() {
            for (end, (from, to)) in [(a, b), (b, a)].into_iter().enumerate() {
                if *from == node {
                    peers.push((*to, self.reaches(number, end)));
                }
            }
        }
        peers
    }

    /// Where the node at this end of a cable reaches the other.
    fn reaches(&self, cable: usize, end: usize) -> String {
        match &self.kind {
            Kind::Spaces(_) => format!("/ip4/{}/tcp/4747", address(cable, 1 - end)),
            Kind::Loopback(wires) => wires[cable][end].address(),
        }
    }

    /// Gives the node a disk of this size; or why not.
    pub fn small_disk(&self, node: usize, at: &Path, bytes: u64) -> Result<(), String> {
        let Kind::Spaces(spaces) = &self.kind else { return Err("no spaces".into()) };
        let size = format!("size={bytes}");
        let at = at.to_str().unwrap();
        run(&spaces[node].enter(), "mount", &["-t", "tmpfs", "-o", &size, "tmpfs", at], "")
    }

    /// Breaks a cable, or mends what was broken so.
    pub fn break_cable(&self, cable: usize, how: Break, broken: bool) {
        let Kind::Spaces(_) = &self.kind else {
            let Kind::Loopback(wires) = &self.kind else { unreachable!() };
            return wires[cable].iter().for_each(|wire| wire.set(broken.then_some(how)));
        };
        match how {
            Break::Down { end } => {
                let state = if broken { "down" } else { "up" };
                self.must(cable, end, &["link", "set", &format!("c{cable}"), state]);
            }
            // To an address of hardware that nobody has.
            Break::Silent { end, both } => {
                for end in (0..2).filter(|other| both || *other == end) {
                    let (device, there) = (format!("c{cable}"), address(cable, 1 - end));
                    if broken {
                        let nobody = ["lladdr", "02:00:00:00:00:01", "nud", "permanent"];
                        self.must(cable, end, &[&["neigh", "replace", &there, "dev", &device], &nobody[..]].concat());
                    } else {
                        self.must(cable, end, &["neigh", "del", &there, "dev", &device]);
                    }
                }
            }
            Break::Slow => {
                for end in 0..2 {
                    let what = if broken { "add" } else { "del" };
                    // Where it cannot be added, there is nothing to delete.
                    let _ = self.run(cable, end, "tc", &slow(what, cable));
                }
            }
        }
    }

    fn must(&self, cable: usize, end: usize, arguments: &[&str]) {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        self.run(cable, end, "ip", &arguments).unwrap();
    }

    fn run(&self, cable: usize, end: usize, program: &str, arguments: &[String]) -> Result<(), String> {
        let Kind::Spaces(spaces) = &self.kind else { return Err("no spaces".into()) };
        let (a, b) = self.cables[cable];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&spaces[[a, b][end]].enter(), program, &arguments, "")
    }
}

fn slow(what: &str, cable: usize) -> Vec<String> {
    format!("qdisc {what} dev c{cable} root netem delay 120ms 40ms loss 5%").split(' ').map(str::to_owned).collect()
}

fn address(cable: usize, end: usize) -> String {
    format!("10.77.{cable}.{}", 1 + end)
}

/// With shared memory of its own too: libfaketime leaves some of it behind.
const HOLD: &str = "mount -t tmpfs tmpfs /dev/shm && echo ready && exec cat";

/// A namespace for network and mounts.
struct Space {
    holder: Child,
}

impl Space {
    fn new() -> Result<Space, String> {
        let holder = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "sh", "-c", HOLD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("unshare: {e}"))?;
        let mut space = Space { holder };
        let mut line = String::new();
        let stdout = space.holder.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).map_err(|e| format!("unshare: {e}"))?;
        if line == "ready\n" {
            return Ok(space);
        }
        let mut why = String::new();
        let stderr = space.holder.stderr.take().unwrap();
        BufReader::new(stderr).read_line(&mut why).map_err(|e| format!("unshare: {e}"))?;
        Err(why.trim().to_owned())
    }

    /// Words before a command in it.
    fn enter(&self) -> Vec<String> {
        let of = |kind: &str, file: &str| format!("--{kind}=/proc/{}/ns/{file}", self.holder.id());
        vec!["nsenter".into(), of("net", "net"), of("mount", "mnt")]
    }

    fn ip(&self, lines: &str) -> Result<(), String> {
        run(&self.enter(), "ip", &["-batch", "-"], lines)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn run(around: &[String], program: &str, arguments: &[&str], input: &str) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("{program} {}: {why}", arguments.join(" "));
    let mut command = Command::new(&around[0]);
    command.args(&around[1..]).arg(program).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(|e| failed(&e))?;
    // One that ends without reading it says why.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    let output = process.wait_with_output().map_err(|e| failed(&e))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(failed(&said.trim())) }
}
