//! Watch: a running node's log and state, read by the command line.
//!
//! A node holds its store alone, so `tail`, `show`, `export` and the like ask it over a unix socket in its data folder
//! (mode 0600: whoever may read the folder may ask). Without a running node the same questions are put to the store
//! itself. It must never change anything itself: what a question asks to be done is handed to the node.
//!
//! A question is one line of JSON. The answer is lines, each with a mark before it: `=` a line of output, `%` how far
//! a long answer is, `!` an error; the end of the stream ends it.

mod invited;
mod line;
mod question;
mod way;
mod why;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

use crate::config::{Config, KeyFileError, KeySource, StoredKey, former_secrets};
use crate::envelope::{EncryptionSecret, Name, Recipient, Secret};
use crate::store::{Reader, Store};

pub use invited::{Host, Invited};
pub use question::{Act, Ask, Filter, Form, Invite, Question, Recall, Seen};
pub use way::Known;

use question::{Asked, AtRest};

/// Longest question: it may hold an event, escaped, or a roster.
const MOST: u64 = 4 << 20;
/// Questions that are answered at once.
const AT_ONCE: usize = 32;

/// A running node, as questions see it.
pub trait Node: Send + Sync + 'static {
    /// How it stands, as JSON.
    fn report(&self) -> serde_json::Value;

    /// By whose keys it verifies hops now.
    fn known(&self) -> Known;

    /// It, as one that events are encrypted to.
    fn recipient(&self) -> &Recipient;

    /// Gives a peer again what was stored at this time (ms since 1970) or later; what follows, or why not, for a person.
    fn resend(&self, peer: &Name, since: u64) -> Result<String, String>;

    /// Writes what became of entries until now into the journal, or says why it cannot.
    fn write_notes(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;

    /// Takes a signed roster, whose bytes these are; what follows, a line each, or why not, for a person.
    fn publish(&self, roster: Vec<u8>) -> Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send + '_>>;

    /// Takes a signed notice, whose bytes these are; with `at_once`, this node goes over to its next key without waiting.
    /// What follows, a line each, or why not, for a person.
    fn notice(
        &self,
        notice: Vec<u8>,
        at_once: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send + '_>>;

    /// Withdraws an event; what follows, or why not, for a person.
    fn recall<'a>(&'a self, recall: &'a Recall) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

    /// Opens, shows, withdraws or waits for an invitation; a line each, or why not, for a person.
    fn invite<'a>(
        &'a self,
        invite: &'a Invite,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send + 'a>>;

    /// Reads the configuration again; or why the old one stays.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;

    /// Does something with an item of the quarantine; what came of it, or why not, for a person.
    fn quarantine(&self, number: u64, act: Act) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>>;
}

/// Where the socket of the node with this data folder is.
pub fn socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// The control socket of a running node; closed and removed when dropped.
pub struct Control {
    path: PathBuf,
    _stop: DropGuard,
}

impl Control {
    /// Listens in this folder, whose store we hold: a socket that is there is left over.
    pub fn open(data: &Path, store: Store, node: impl Node) -> Result<Control, (String, io::Error)> {
        let path = socket(data);
        let listener = listen(&path).map_err(|error| (path.display().to_string(), error))?;
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, store, Arc::new(node), stop.clone()).in_current_span());
        Ok(Control { path, _stop: stop.drop_guard() })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Left over, it is removed at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whoever can write to the socket can ask for all that is in the log, and withdraw in this node's name.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(listener: UnixListener, store: Store, node: Arc<dyn Node>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: the next try is after those that are being answered.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let (store, node, stop) = (store.clone(), node.clone(), stop.clone());
            let conversation = async move {
                // An error here is a client that went away.
                let _ = stop.run_until_cancelled(converse(stream, store, node)).await;
                drop(place);
            };
            tokio::spawn(conversation.in_current_span());
        }
    };
    stop.run_until_cancelled(accepting).await;
}

async fn converse(stream: UnixStream, store: Store, node: Arc<dyn Node>) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader);
    (&mut reader).take(MOST).read_line(&mut line).await?;
    let mut writer = BufWriter::new(writer);
    // `tail` waits for the log, and must not outlive whoever asked.
    let gone = async {
        let mut rest = [0; 1];
        while reader.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    };
    let answer = async {
        match serde_json::from_str::<Question>(&line) {
            Ok(question) => question::answer(&question, &store, Asked::Running(&*node), &mut writer).await?,
            Err(error) => writer.write_all(format!("!not a question of this version: {error}\n").as_bytes()).await?,
        }
        writer.flush().await
    };
    tokio::select! {
        result = answer => result,
        () = gone => Ok(()),
    }
}

/// What a question brings, piece by piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A line of output.
    Line(String),
    /// So much of so much is done.
    Progress(u64, u64),
    /// It failed.
    Error(String),
}

/// Whether a node runs in this data folder, as far as its socket tells.
pub fn is_running(data: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket(data)).is_ok()
}

/// Asks the node with this data folder, running or not, and hands over each piece of the answer as it comes. Ends
/// early when `piece` returns false.
pub async fn ask(config: &Config, question: &Question, piece: impl FnMut(Piece) -> bool) -> Result<(), String> {
    match UnixStream::connect(socket(&config.node.data)).await {
        Ok(stream) => ask_running(stream, question, piece).await.map_err(|e| format!("the node went away: {e}")),
        // No node: the store is free. If there is one that holds it and does not answer, opening says so.
        Err(_) => ask_store(config, question, piece).await,
    }
}

async fn ask_running(stream: UnixStream, question: &Question, piece: impl FnMut(Piece) -> bool) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let line = serde_json::to_string(question)? + "\n";
    writer.write_all(line.as_bytes()).await?;
    read_pieces(reader, piece).await
}

async fn ask_store(config: &Config, question: &Question, piece: impl FnMut(Piece) -> bool) -> Result<(), String> {
    let data = &config.node.data;
    if !data.exists() {
        return Err(format!("there is no data folder {}: has the node ever run?", data.display()));
    }
    // The store says nothing about it, and a node that starts just now must not find it in use.
    let asks_a_node = matches!(
        question.ask,
        Ask::Status
            | Ask::Resend { .. }
            | Ask::Publish(_)
            | Ask::Notice { .. }
            | Ask::Recall(_)
            | Ask::Invite(_)
            | Ask::Reload
    );
    if asks_a_node {
        return Err(question::NOT_RUNNING.into());
    }
    let store = Store::open(data, &config.store).await.map_err(|error| error.to_string())?;
    // Nothing comes to a store that we hold, and while we hold it the node cannot start.
    let mut question = question.clone();
    if let Ask::Log { follow, .. } = &mut question.ask {
        *follow = false;
    }
    let (reader, mut writer) = tokio::io::duplex(64 << 10);
    let known = match Known::at_rest(config, &store).await {
        Ok(known) => known,
        Err(error) => {
            store.close().await;
            return Err(error.to_string());
        }
    };
    let rest = AtRest { readers: readers(config), recipient: recipient(config), known };
    let answer = async {
        let result = question::answer(&question, &store, Asked::AtRest(&rest), &mut writer).await;
        drop(writer);
        result
    };
    let (answered, read) = tokio::join!(answer, read_pieces(reader, piece));
    store.close().await;
    // Who stops reading breaks the pipe: not an error.
    let _ = answered;
    read.map_err(|error| error.to_string())
}

/// The node as a recipient, where its key is a file that needs no passphrase: nobody is asked, and no command is run, for a
/// look into the log.
fn recipient(config: &Config) -> Option<Recipient> {
    let source @ KeySource::File(file) = config.node.key_source() else { return None };
    let secret = StoredKey::read(source).ok()?.open(|| Err(KeyFileError::Wrong(String::new()))).ok()?;
    let derive = |secret: &Secret| EncryptionSecret::derive(secret.expose_seed());
    let former = former_secrets(file, None).0.iter().map(derive).collect();
    Some(Recipient::new(config.node.name.clone(), derive(&secret), former))
}

/// Who reads the log, by the configuration.
fn readers(config: &Config) -> Vec<Reader> {
    let give = &config.give;
    let redis = give.redis.iter().map(|door| &door.name);
    let files = give.files.iter().map(|door| &door.name);
    let tcp = give.tcp.iter().map(|door| &door.name);
    let doors = redis.chain(files).chain(tcp).chain(give.amqp.iter().map(|door| &door.name));
    let peers = config.peers.iter().map(|peer| Reader::Peer(peer.name.clone()));
    peers.chain(doors.cloned().map(Reader::Door)).collect()
}

async fn read_pieces(
    reader: impl tokio::io::AsyncRead + Unpin,
    mut piece: impl FnMut(Piece) -> bool,
) -> io::Result<()> {
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let Some((mark, text)) = line.split_at_checked(1) else { continue };
        let next = match mark {
            "=" => Piece::Line(text.to_owned()),
            "%" => match text.split_once('/').and_then(|(done, all)| Some((done.parse().ok()?, all.parse().ok()?))) {
                Some((done, all)) => Piece::Progress(done, all),
                None => continue,
            },
            _ => Piece::Error(text.to_owned()),
        };
        if !piece(next) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_else_may_ask() {
        let data = tempfile::tempdir().unwrap();
        let path = socket(data.path());
        // Twice: one that was left over is replaced.
        for _ in 0..2 {
            let _listener = listen(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
