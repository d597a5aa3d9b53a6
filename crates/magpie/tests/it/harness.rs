//! The built binary as a process: started with a configuration and an environment of its own,
//! listened to, signalled, and gone at the end of the test.

use std::fmt::Write as _;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Reply, Wire, request};
use crate::turn::Turn;

/// The provider's key in every configuration made here. It must never leave but to its origin.
pub(crate) const PROVIDER_KEY: &str = "sk-provider-canary-5b0c1f";
/// The owner's token for the admin API.
pub(crate) const ADMIN_TOKEN: &str = "admin-token-canary-7d41c8a2e6f05b93";
/// How long anything may take that is not measured: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a process is started with.
pub(crate) struct Setup {
    config: Option<String>,
    env: Vec<(String, String)>,
    folder: TempDir,
}

impl Setup {
    /// No file, and nothing in the environment but a free port to listen on.
    pub(crate) fn empty() -> Self {
        let env = vec![("MAGPIE_LISTEN".to_owned(), "127.0.0.1:0".to_owned())];
        Self { config: None, env, folder: TempDir::new().unwrap() }
    }

    /// A file with exactly this text.
    pub(crate) fn file(text: &str) -> Self {
        Self { config: Some(text.to_owned()), ..Self::empty() }
    }

    /// One provider, `up`, with these options.
    pub(crate) fn provider(options: &[&str]) -> Self {
        let mut text = format!("providers:\n  up:\n    api_key: {PROVIDER_KEY}\n");
        for option in options {
            writeln!(text, "    {option}").unwrap();
        }
        Self::file(&text)
    }

    /// One provider, `up`, at this base URL.
    pub(crate) fn of(base_url: &str) -> Self {
        Self::provider(&[&format!("base_url: \"{base_url}\"")])
    }

    /// More lines at the top level of the file.
    pub(crate) fn and(mut self, yaml: &str) -> Self {
        let config = self.config.get_or_insert_default();
        config.push_str(yaml);
        config.push('\n');
        self
    }

    /// A variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the admin API, on a free port.
    pub(crate) fn with_admin(self) -> Self {
        self.env("MAGPIE_ADMIN", "127.0.0.1:0").env("MAGPIE_ADMIN_TOKEN", ADMIN_TOKEN)
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("magpie.yaml")
    }

    /// Puts another file in the place of the one there is, in one step.
    pub(crate) fn replace(&self, config: &str) {
        let beside = self.path().with_extension("new");
        std::fs::write(&beside, config).unwrap();
        std::fs::rename(&beside, self.path()).unwrap();
    }

    /// The folder that the process runs in.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The command, with nothing in its environment but what was said, in a folder of its own.
    fn command(&self, arguments: &[&str]) -> Command {
        if let Some(config) = &self.config {
            std::fs::write(self.path(), config).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
        let data = self.folder.path().join("data");
        command.args(arguments).env_clear().env("MAGPIE_DATA", data).env("MAGPIE_ADMIN", "off");
        command.envs(self.env.iter().cloned());
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let _turn = Turn::take();
        let output = self.command(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.contains("panicked"), "{errors}");
        output
    }

    /// Starts a command whose output is read as it comes.
    pub(crate) fn spawn(self, arguments: &[&str]) -> Process {
        let turn = Turn::take();
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Text::gather(child.stdout.take().unwrap());
        let stderr = Text::gather(child.stderr.take().unwrap());
        Process { child, stdout, stderr, setup: self, _turn: turn }
    }

    /// Serves, and waits until it says where.
    pub(crate) fn start(self) -> Magpie {
        let process = self.spawn(&[]);
        let banner = process
            .stdout
            .wait_for("the banner", |text| text.ends_with("\n\n").then(|| text.to_owned()));
        let (_, address) = banner.split_once("://").unwrap();
        let address = address.split_whitespace().next().unwrap().parse().unwrap();
        Magpie { address, banner, process }
    }
}

/// What a process writes, as far as it has come.
#[derive(Clone, Default)]
pub(crate) struct Text {
    text: Arc<Mutex<String>>,
    reader: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Text {
    fn gather(mut from: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut piece = [0; 8192];
            while let Ok(count @ 1..) = from.read(&mut piece) {
                let piece = String::from_utf8_lossy(&piece[..count]);
                into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&piece);
            }
        });
        Self { text, reader: Arc::new(Mutex::new(Some(reader))) }
    }

    /// All of it so far.
    pub(crate) fn so_far(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until something can be found in it.
    pub(crate) fn wait_for<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.wait_long_for(PATIENCE, what, find)
    }

    /// The same for what takes others a while.
    pub(crate) fn wait_long_for<T>(
        &self,
        patience: Duration,
        what: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = find(&self.so_far()) {
                return found;
            }
            assert!(start.elapsed() < patience, "no sign of {what} in:\n{}", self.so_far());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// All of it, once the process has ended.
    fn to_end(&self) -> String {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reader) = reader {
            let _ = reader.join();
        }
        self.so_far()
    }
}

/// A running command. At the end of the test it is killed, and must not have panicked.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Text,
    pub(crate) stderr: Text,
    pub(crate) setup: Setup,
    _turn: Turn,
}

impl Process {
    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let sent = kill.args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        while self.is_running() {
            let late = start.elapsed() > limit;
            assert!(!late, "still running after {limit:?}:\n{}", self.stderr.so_far());
            thread::sleep(Duration::from_millis(1));
        }
        self.child.wait().unwrap()
    }

    /// Whether it runs. What the kernel still has to clear away when it has exited, which takes
    /// seconds on a busy machine, does not count.
    pub(crate) fn is_running(&mut self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let errors = self.stderr.to_end();
        let panicked = errors.contains("panicked");
        if thread::panicking() {
            eprintln!("--- standard error of the process\n{errors}---");
        } else {
            assert!(!panicked, "the process has panicked:\n{errors}");
        }
    }
}

/// A Magpie that serves.
pub(crate) struct Magpie {
    pub(crate) address: SocketAddr,
    pub(crate) banner: String,
    pub(crate) process: Process,
}

impl Magpie {
    pub(crate) fn connect(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// Kills it, as a machine without memory would. What is left is the folder.
    pub(crate) fn kill(mut self) -> Setup {
        self.process.signal("KILL");
        self.process.wait(PATIENCE);
        std::mem::replace(&mut self.process.setup, Setup::empty())
    }

    /// Stops it in good order. What is left is the folder.
    pub(crate) fn stop(mut self) -> Setup {
        self.process.signal("TERM");
        let status = self.process.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", self.process.stderr.so_far());
        std::mem::replace(&mut self.process.setup, Setup::empty())
    }

    /// Reads from the admin API, as the owner; see [`Setup::with_admin`].
    pub(crate) fn admin(&self, path: &str) -> Reply {
        self.admin_by(ADMIN_TOKEN, path)
    }

    /// The same with another token.
    pub(crate) fn admin_by(&self, token: &str, path: &str) -> Reply {
        self.admin_call(token, "GET", path, "")
    }

    /// Posts JSON to the admin API, as the owner.
    pub(crate) fn admin_post(&self, path: &str, body: &Value) -> Reply {
        self.admin_call(ADMIN_TOKEN, "POST", path, &body.to_string())
    }

    fn admin_call(&self, token: &str, method: &str, path: &str, body: &str) -> Reply {
        let mut wire = Wire::connect(self.admin_address().parse().unwrap());
        let token = format!("Bearer {token}");
        let path = format!("/admin/v1/{path}");
        let headers = [("authorization", &*token), ("content-type", "application/json")];
        wire.send(&request(method, &path, &headers, body.as_bytes()));
        wire.reply_to(method)
    }

    /// Where the admin API listens.
    pub(crate) fn admin_address(&self) -> &str {
        let (_, rest) = self.banner.split_once("admin API").unwrap();
        let (_, rest) = rest.split_once("://").unwrap();
        rest.split_once('/').unwrap().0
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let mut wire = self.connect();
        wire.send(&request(method, path, headers, body.as_bytes()));
        wire.reply_to(method)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        self.call("POST", path, &[("content-type", "application/json")], body)
    }

    /// Asks a model of the provider `up`, whose name is its script.
    pub(crate) fn ask(&self, script: &str, stream: bool) -> Reply {
        self.post(CHAT, &chat(&format!("up/{script}"), stream))
    }

    /// Sends a chat request on a connection of its own, to be read later.
    pub(crate) fn begin(&self, script: &str, stream: bool) -> Wire {
        let mut wire = self.connect();
        wire.chat(&format!("up/{script}"), stream);
        wire
    }

    /// The lines of the request log so far, once there are `count` of them.
    pub(crate) fn log(&self, count: usize) -> Vec<Value> {
        self.process.stderr.wait_for("the log lines", |text| {
            let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
            let lines: Vec<Value> = lines.filter(|line: &Value| line.is_object()).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// Reads the configuration again from this text, and waits until it is used: a model of its
    /// own says so.
    pub(crate) fn reload(&self, config: &str) {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let mark = format!("reload-{}", TURN.fetch_add(1, Ordering::Relaxed));
        let marked = match config.contains("models: {") {
            true => config.replacen("models: {", &format!("models: {{ {mark}: echo/echo,"), 1),
            false => format!("{config}models: {{ {mark}: echo/echo }}\n"),
        };
        self.process.setup.replace(&marked);
        self.process.signal("HUP");
        let start = Instant::now();
        while self.get(&format!("/v1/models/{mark}")).status() != 200 {
            assert!(start.elapsed() < PATIENCE, "not read:\n{}", self.process.stderr.so_far());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// How often a new configuration was taken.
    pub(crate) fn reloads(&self) -> usize {
        self.process.stderr.so_far().matches("configuration read: ").count()
    }
}

pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A chat request.
pub(crate) fn chat(model: &str, stream: bool) -> String {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    json!({ "model": model, "messages": messages, "stream": stream }).to_string()
}
