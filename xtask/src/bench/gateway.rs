//! The upstream and the gateways that are measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Places;
use super::process::{Process, Start, rss};

/// The cores: one for the gateway, one for upstream and load.
pub(crate) const GATEWAY_CORE: usize = 0;
pub(crate) const LOAD_CORE: usize = 1;
/// The upstream's models that are asked for.
const ASKED: [&str; 4] = ["ok", "events:64:0", "timed:20:100", "timed:20:250"];
/// How long a program may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Direct,
    Nginx,
    /// Open: no key, no limit, no ledger.
    Magpie,
    /// With a key, limits, budgets and the ledger.
    Team,
    /// Open, with 10,000 models, and asked for one of 100 targets.
    Wide,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Direct, Self::Nginx, Self::Magpie, Self::Team, Self::Wide];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Magpie => "magpie",
            Self::Team => "team",
            Self::Wide => "wide",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name by which requests reach the upstream's model `model`.
    pub(crate) fn model(self, model: &str) -> String {
        match self {
            Self::Magpie | Self::Team | Self::Wide => format!("bench/{model}"),
            Self::Direct | Self::Nginx => model.to_owned(),
        }
    }

    /// What to do when its program is missing.
    pub(crate) fn missing(self, places: &Places) -> Option<String> {
        match self {
            Self::Direct => None,
            Self::Nginx if nginx().is_some() => None,
            Self::Nginx => Some("install it with `apt-get install nginx-light`".to_owned()),
            Self::Magpie | Self::Team | Self::Wide => {
                let program = places.programs.join("magpie");
                let hint = || format!("{} is missing; leave out --no-build", program.display());
                (!program.is_file()).then(hint)
            }
        }
    }
}

fn nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    dirs.map(|dir| dir.join("nginx")).find(|program| program.is_file())
}

/// A port of 127.0.0.1 that was free a moment ago.
fn free_port() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    listener.and_then(|listener| listener.local_addr()).map_err(|error| error.to_string())
}

/// The scripted upstream.
#[derive(Debug)]
pub(crate) struct Mock {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Mock {
    pub(crate) fn start(places: &Places) -> Result<Self, String> {
        let program = places.programs.join("scripted-upstream");
        let mut process = Process::start(&Start {
            core: LOAD_CORE,
            program: &program,
            args: &["--no-record".to_owned()],
            dir: &places.scratch,
            log: "upstream.log",
            piped: true,
        })?;
        let mut line = String::new();
        if let Some(output) = process.child().stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
        }
        let address = line
            .trim()
            .strip_prefix("http://")
            .and_then(|rest| rest.strip_suffix("/v1").and_then(|address| address.parse().ok()));
        match address {
            Some(address) => Ok(Self { address, _process: process }),
            None => Err(format!("{} did not tell its address", program.display())),
        }
    }
}

/// A gateway that answers.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) process: Option<Process>,
    /// From its start to its first reply of status 200.
    pub(crate) start_time: Duration,
}

impl Gateway {
    pub(crate) fn start(kind: Kind, places: &Places, mock: &Mock) -> Result<Self, String> {
        if kind == Kind::Direct {
            let (address, start_time) = (mock.address, Duration::ZERO);
            return Ok(Self { kind, address, process: None, start_time });
        }
        let address = free_port()?;
        let dir = places.scratch.join(kind.name());
        std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        let (program, args) = if kind == Kind::Nginx {
            let file = write(&dir, "nginx.conf", &nginx_conf(&dir, address, mock.address))?;
            let flags =
                ["-e", "error.log", "-p", &dir.to_string_lossy(), "-c", &file].map(str::to_owned);
            (nginx().ok_or("nginx is missing")?, flags.to_vec())
        } else {
            let text = magpie_yaml(kind, &dir, address, mock.address);
            let file = write(&dir, "magpie.yaml", &text)?;
            let flags = ["run", "--config", &file].map(str::to_owned);
            (places.programs.join("magpie"), flags.to_vec())
        };
        let begin = Instant::now();
        let mut process = Process::start(&Start {
            core: GATEWAY_CORE,
            program: &program,
            args: &args,
            dir: &dir,
            log: "gateway.log",
            piped: false,
        })?;
        let model = kind.model("ok");
        loop {
            if answers(address, &model).unwrap_or(false) {
                let start_time = begin.elapsed();
                return Ok(Self { kind, address, process: Some(process), start_time });
            }
            if process.ended() || begin.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(dir.join("gateway.log")).unwrap_or_default();
                return Err(format!("{} does not answer; it says:\n{log}", kind.name()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The CPU time used so far; 0 without a gateway.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.process.as_ref().map_or(0, Process::cpu_ns)
    }

    /// Its processes; none without a gateway.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.process.as_ref().map_or_else(Vec::new, Process::tree)
    }

    /// The resident memory; 0 without a gateway.
    pub(crate) fn rss(&self) -> u64 {
        rss(&self.pids())
    }
}

fn write(dir: &Path, name: &str, text: &str) -> Result<String, String> {
    let file = dir.join(name);
    std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file.to_string_lossy().into_owned())
}

/// Makes one request; whether it is answered with status 200.
fn answers(address: SocketAddr, model: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let body = format!(
        "{{\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}],\"model\":\"{model}\"}}"
    );
    let length = body.len();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer sk-bench\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    Ok(&start[9..] == b"200")
}

/// A plain reverse proxy of one worker that passes on what comes at once.
fn nginx_conf(dir: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        "worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
user root;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000;
    client_max_body_size 64m;
    client_body_buffer_size 128k;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    upstream mock {{
        server {upstream};
        keepalive 256;
        keepalive_requests 1000000;
    }}
    server {{
        listen {address} backlog=4096;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
            proxy_read_timeout 120s;
        }}
    }}
}}
"
    )
}

fn magpie_yaml(kind: Kind, dir: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let (dir, ledger) = (dir.display(), kind == Kind::Team);
    let common = format!(
        "listen: {address}
data: {dir}/data
admin: {{ enabled: false }}
ledger: {{ enabled: {ledger} }}
providers:
"
    );
    let provider = |id: &str| {
        let base_url = format!("http://{upstream}/v1");
        format!(
            "  {id}: {{ profile: openai-compatible, base_url: \"{base_url}\", api_key: sk-bench }}\n"
        )
    };
    match kind {
        Kind::Team => common + &provider("bench") + TEAM,
        Kind::Wide => common + &wide(provider),
        _ => common + &provider("bench"),
    }
}

/// Models of 100 targets each for all that is asked for, among 10,000 others.
fn wide(provider: impl Fn(&str) -> String) -> String {
    let ids: Vec<String> = (0..100).map(|number| format!("p{number:02}")).collect();
    let mut text: String = ids.iter().map(|id| provider(id)).collect();
    text += "models:\n";
    for model in ASKED {
        let targets: Vec<String> = ids.iter().map(|id| format!("\"{id}/{model}\"")).collect();
        text += &format!("  \"bench/{model}\": {{ balance: [{}] }}\n", targets.join(", "));
    }
    let others = (0..10_000).map(|number| format!("  other-{number}: p{:02}/ok\n", number % 100));
    text.extend(others);
    text
}

/// A key as a team has it: everything is counted and nothing is ever reached. The hash is that of
/// the key that the load sends.
const TEAM: &str = "
prices:
  \"bench/*\": { currency: USD, input: \"0.25\", output: \"2\", max_output: 4096 }
teams:
  bench: { limits: { rpm: 1000M, tpm: 1000000M }, budget: \"$1000000/month\" }
keys:
  - name: bench
    hash: sha256:c00397de4384b5bbaf14c02fe1ec7020d28d1eeab6a722c576c84b6678c41c29
    team: bench
    models: [\"bench/*\"]
    limits: { rpm: 1000M, tpm: 1000000M, concurrency: 100000 }
    budget: \"$1000000/day\"
";
