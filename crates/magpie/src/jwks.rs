//! The keys that issuers of tokens publish (JWKS): fetched, kept, and fetched again.
//!
//! Workers only read. One task fetches: every ten minutes, and sooner when a token names a key that
//! is not there, but never at the pace of whoever sends such tokens. While an issuer does not
//! answer, its last keys serve on for a day.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use policy::jwt::{Issuer, KeyRing, Remote};
use relay::{Call, Outgoing, Upstream as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::log::note;
use crate::upstream::{Network, whole};
use crate::version::USER_AGENT;

/// The largest key set, in bytes. The usual ones have less than 10 KiB.
const MAX_BYTES: usize = 1 << 20;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a fetch may take in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often keys are fetched.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// After a fetch that succeeded.
    fresh: Duration,
    /// After the first of the fetches that failed; twice as long after each further one, up to
    /// `fresh`.
    retry: Duration,
    /// After any fetch, before a token can cause the next.
    cooldown: Duration,
    /// For how long the keys of a fetch are used at most.
    stale: Duration,
}

const PACE: Pace = Pace {
    fresh: Duration::from_secs(600),
    retry: Duration::from_secs(2),
    cooldown: Duration::from_secs(30),
    stale: Duration::from_secs(24 * 3600),
};

/// The published keys of every issuer that publishes them.
pub(crate) struct Jwks {
    sources: ArcSwap<HashMap<Box<str>, Arc<Source>>>,
    /// Wakes the fetching task after a change of sources.
    changed: Notify,
    generation: AtomicU64,
    pace: Pace,
}

/// One place where keys are published.
struct Source {
    issuer: Arc<Issuer>,
    kept: ArcSwapOption<Kept>,
    /// Wakes the fetching task for a key that is not there.
    wanted: Notify,
}

/// What a fetch brought.
struct Kept {
    at: Instant,
    body: Bytes,
    ring: Arc<KeyRing>,
}

impl Jwks {
    /// No issuers, no keys.
    pub(crate) fn new() -> Self {
        Self::with_pace(PACE)
    }

    fn with_pace(pace: Pace) -> Self {
        let (sources, changed) = (ArcSwap::default(), Notify::new());
        Self { sources, changed, generation: AtomicU64::new(0), pace }
    }

    /// Takes over the issuers of a configuration. Keys of those that were there already stay.
    pub(crate) fn set(&self, issuers: &[Arc<Issuer>]) {
        let before = self.sources.load();
        let source = |issuer: &Arc<Issuer>| {
            let id = &issuer.remote()?.id;
            let source = before.get(id).cloned().unwrap_or_else(|| {
                let (kept, wanted) = (ArcSwapOption::empty(), Notify::new());
                Arc::new(Source { issuer: Arc::clone(issuer), kept, wanted })
            });
            Some((id.clone(), source))
        };
        self.sources.store(Arc::new(issuers.iter().filter_map(source).collect()));
        self.generation.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }

    /// The keys of an issuer, as they were last fetched; `None` before that, and when that was too
    /// long ago.
    pub(crate) fn ring(&self, issuer: &Issuer) -> Option<Arc<KeyRing>> {
        let sources = self.sources.load();
        let kept = sources.get(&issuer.remote()?.id)?.kept.load();
        let kept = kept.as_ref().filter(|kept| kept.at.elapsed() < self.pace.stale)?;
        Some(Arc::clone(&kept.ring))
    }

    /// A token names a key that is not there: fetch soon. Costs nothing, however often.
    pub(crate) fn wanted(&self, issuer: &Issuer) {
        if let Some(source) =
            issuer.remote().and_then(|it| self.sources.load().get(&it.id).cloned())
        {
            source.wanted.notify_one();
        }
    }

    /// Changes whenever keys have changed: what was verified under another number may not be
    /// verifiable any more.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Fetches for ever. Wants a runtime that runs tasks of its own thread only.
    pub(crate) async fn run(self: Arc<Self>, network: Rc<Network>) {
        loop {
            let mut fetching = JoinSet::new();
            for source in self.sources.load().values() {
                let (jwks, source) = (Arc::clone(&self), Arc::clone(source));
                let network = Rc::clone(&network);
                fetching.spawn_local(async move { jwks.keep(&source, &network).await });
            }
            // The tasks for what there was before end with their set.
            self.changed.notified().await;
        }
    }

    /// Keeps one source fresh.
    async fn keep(&self, source: &Source, network: &Network) {
        let name = source.issuer.name();
        let mut failures = 0_u32;
        loop {
            let result = self.refresh(source, network).await;
            match &result {
                Ok(()) if failures > 0 => note(&format!("the keys of {name} are there again")),
                // One line, not one for every try.
                Err(why) if failures == 0 => {
                    note(&format!("the keys of {name} could not be fetched: {why}"));
                }
                _ => {}
            }
            failures = if result.is_ok() { 0 } else { failures.saturating_add(1) };
            let pause = match failures {
                0 => self.pace.fresh,
                // Doubled ten times, two seconds are more than any `fresh`.
                _ => (self.pace.retry * (1 << (failures - 1).min(10))).min(self.pace.fresh),
            };
            let asked = async {
                sleep(self.pace.cooldown).await;
                source.wanted.notified().await;
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = asked => {}
            }
        }
    }

    /// Fetches once.
    async fn refresh(&self, source: &Source, network: &Network) -> Result<(), String> {
        let Some(remote) = source.issuer.remote() else { return Ok(()) };
        let body = match timeout(PATIENCE, fetch(network, remote)).await {
            Ok(body) => body?,
            Err(_) => return Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        let before = source.kept.load_full().filter(|kept| kept.body == body);
        let ring = match &before {
            Some(kept) => Arc::clone(&kept.ring),
            None => Arc::new(source.issuer.read_keys(&body)?),
        };
        source.kept.store(Some(Arc::new(Kept { at: Instant::now(), body, ring })));
        if before.is_none() {
            self.generation.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }
}

/// What is published. A redirect is not followed: where keys come from is written down.
async fn fetch(network: &Network, remote: &Remote) -> Result<Bytes, String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    // The next fetch is minutes away.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let call = Call {
        provider: Arc::clone(&remote.server),
        method: Method::GET,
        target: remote.target.clone(),
        headers,
        body: Outgoing::Whole(Bytes::new()),
        connect: CONNECT,
    };
    let response = network.send(call).await.map_err(|failure| failure.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answered {}", response.status()));
    }
    whole(response.into_body(), MAX_BYTES).await
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use policy::jwt::JwtConfig;
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::upstream::TlsConfigs;

    const QUICK: Pace = Pace {
        fresh: Duration::from_millis(100),
        retry: Duration::from_millis(5),
        cooldown: Duration::from_millis(1),
        stale: Duration::from_secs(60),
    };
    /// Long enough for what happens at once, on a busy machine too.
    const LONG: Duration = Duration::from_secs(20);

    /// Somebody who publishes what is set, and counts how often it was fetched.
    struct Publisher {
        url: String,
        reply: Arc<Mutex<Vec<u8>>>,
        fetched: Arc<AtomicUsize>,
        head: Arc<Mutex<String>>,
    }

    impl Publisher {
        fn start(reply: &[u8]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/keys?v=1", listener.local_addr().unwrap());
            let reply = Arc::new(Mutex::new(reply.to_vec()));
            let (fetched, head) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<String>>::default());
            let publisher = Self { url, reply, fetched, head };
            let (reply, fetched) = (Arc::clone(&publisher.reply), Arc::clone(&publisher.fetched));
            let head = Arc::clone(&publisher.head);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let mut asked = Vec::new();
                    while !asked.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        stream.read_exact(&mut byte).unwrap();
                        asked.push(byte[0]);
                    }
                    *head.lock().unwrap() = String::from_utf8(asked).unwrap();
                    let _ = stream.write_all(&reply.lock().unwrap());
                    fetched.fetch_add(1, Ordering::SeqCst);
                }
            });
            publisher
        }

        fn say(&self, reply: &[u8]) {
            *self.reply.lock().unwrap() = reply.to_vec();
        }

        fn fetched(&self) -> usize {
            self.fetched.load(Ordering::SeqCst)
        }

        fn issuer(&self) -> Arc<Issuer> {
            let config: JwtConfig = serde_json::from_value(serde_json::json!({
                "issuer": "https://login.example.com",
                "audience": "magpie",
                "algorithm": "EdDSA",
                "jwks_url": self.url,
            }))
            .unwrap();
            Arc::new(Issuer::new(&config).unwrap_or_else(|problem| panic!("{problem}")))
        }
    }

    fn ok(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    /// A set of this many keys.
    fn set(count: usize) -> Vec<u8> {
        let keys: Vec<String> = (0..count)
            .map(|id| {
                format!(
                    "{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"{id}\",\
                     \"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}}"
                )
            })
            .collect();
        ok(&format!("{{\"keys\":[{}]}}", keys.join(",")))
    }

    /// Runs a test beside the fetching task.
    fn with(pace: Pace, test: impl AsyncFnOnce(Arc<Jwks>)) {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        runtime.unwrap().block_on(async {
            let jwks = Arc::new(Jwks::with_pace(pace));
            let network = Rc::new(Network::new(Arc::new(TlsConfigs::default()), Arc::default()));
            let fetching = tokio::task::spawn_local(Arc::clone(&jwks).run(network));
            timeout(LONG, test(jwks)).await.unwrap();
            assert!(!fetching.is_finished());
        });
    }

    async fn until(is_so: impl Fn() -> bool) {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn count(jwks: &Jwks, issuer: &Issuer) -> usize {
        jwks.ring(issuer).map_or(0, |ring| ring.len())
    }

    #[test]
    fn keys_are_fetched_and_fetched_again() {
        with(QUICK, async |jwks| {
            let publisher = Publisher::start(&set(1));
            let issuer = publisher.issuer();
            assert!(jwks.ring(&issuer).is_none());
            jwks.wanted(&issuer);
            jwks.set(&[Arc::clone(&issuer)]);
            until(|| count(&jwks, &issuer) == 1).await;
            let head = publisher.head.lock().unwrap().to_lowercase();
            assert!(head.starts_with("get /keys?v=1 http/1.1\r\n"), "{head}");
            assert!(head.contains("\r\naccept: application/json\r\n"), "{head}");
            let (generation, fetched) = (jwks.generation(), publisher.fetched());
            until(|| publisher.fetched() > fetched + 1).await;
            assert_eq!(jwks.generation(), generation, "the same keys are no news");
            publisher.say(&set(2));
            until(|| count(&jwks, &issuer) == 2).await;
            assert!(jwks.generation() > generation);
        });
    }

    /// Whatever an issuer answers that is no key set, its last one serves on.
    #[test]
    fn bad_answers_change_nothing() {
        let large = format!("{{\"more\":\"{}\"}}", "x".repeat(MAX_BYTES));
        let chunked = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
            large.len()
        );
        let answers: [&[u8]; 8] = [
            b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            b"",
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\":",
            &ok("{\"keys\":[]}"),
            &ok("<html>"),
            &ok(&large),
            chunked.as_bytes(),
        ];
        for answer in answers {
            with(QUICK, async |jwks| {
                let publisher = Publisher::start(&set(1));
                let issuer = publisher.issuer();
                jwks.set(&[Arc::clone(&issuer)]);
                until(|| count(&jwks, &issuer) == 1).await;
                publisher.say(answer);
                let fetched = publisher.fetched();
                until(|| publisher.fetched() > fetched + 2).await;
                assert_eq!(count(&jwks, &issuer), 1, "{:.60?}", String::from_utf8_lossy(answer));
                publisher.say(&set(3));
                until(|| count(&jwks, &issuer) == 3).await;
            });
        }
    }

    #[test]
    fn keys_that_are_too_old_are_not_used() {
        with(Pace { stale: Duration::from_millis(200), ..QUICK }, async |jwks| {
            let publisher = Publisher::start(&set(1));
            let issuer = publisher.issuer();
            jwks.set(&[Arc::clone(&issuer)]);
            until(|| count(&jwks, &issuer) == 1).await;
            publisher.say(b"");
            until(|| jwks.ring(&issuer).is_none()).await;
            publisher.say(&set(2));
            until(|| count(&jwks, &issuer) == 2).await;
        });
    }

    #[test]
    fn an_unknown_key_is_looked_for_at_once_and_then_not_too_often() {
        let cooldown = Duration::from_millis(300);
        with(Pace { fresh: LONG, cooldown, ..QUICK }, async |jwks| {
            let publisher = Publisher::start(&set(1));
            let issuer = publisher.issuer();
            jwks.set(&[Arc::clone(&issuer)]);
            until(|| count(&jwks, &issuer) == 1).await;
            publisher.say(&set(2));
            let start = Instant::now();
            while start.elapsed() < cooldown * 4 {
                jwks.wanted(&issuer);
                sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(count(&jwks, &issuer), 2);
            let most = usize::try_from(start.elapsed().as_millis() / 300).unwrap() + 1;
            assert!((2..=most + 1).contains(&publisher.fetched()), "{}", publisher.fetched());
        });
    }

    #[test]
    fn a_reload_keeps_what_it_still_names() {
        with(Pace { fresh: LONG, ..QUICK }, async |jwks| {
            let (stays, goes) = (Publisher::start(&set(1)), Publisher::start(&set(2)));
            let (first, second) = (stays.issuer(), goes.issuer());
            jwks.set(&[Arc::clone(&first), Arc::clone(&second)]);
            until(|| count(&jwks, &first) == 1 && count(&jwks, &second) == 2).await;
            stays.say(b"");
            let generation = jwks.generation();
            // Another issuer of the same configuration, as a reload makes it.
            let again = stays.issuer();
            jwks.set(&[Arc::clone(&again)]);
            assert_eq!((count(&jwks, &again), count(&jwks, &second)), (1, 0));
            assert!(jwks.generation() > generation);
            jwks.set(&[]);
            assert!(jwks.ring(&again).is_none());
        });
    }
}
