//! A provider that speaks HTTP/2 with prior knowledge.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::raw::COMPLETION;

/// How it behaves.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// Streams at once on one connection.
    pub(crate) streams: u32,
    /// Before an answer, and between the events of a stream.
    pub(crate) delay: Duration,
    /// Requests after which a connection is given up in good order (GOAWAY).
    pub(crate) requests: usize,
    /// A connection ends without a word this long after its first request.
    pub(crate) cut: Option<Duration>,
    /// It falls silent this long after its first request: nothing is read or answered any more.
    pub(crate) freeze: Option<Duration>,
}

impl Default for Manner {
    fn default() -> Self {
        Self { streams: 100, delay: Duration::ZERO, requests: usize::MAX, cut: None, freeze: None }
    }
}

/// What it has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    /// Streams whose answer was dropped before its end.
    pub(crate) given_up: AtomicUsize,
    open: AtomicUsize,
    /// The most requests at once.
    pub(crate) most: AtomicUsize,
    pub(crate) last: Mutex<Option<(http::request::Parts, Value)>>,
}

pub(crate) struct Http2Upstream {
    address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Http2Upstream {
    pub(crate) fn start(manner: Manner) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (stop, stopped) = oneshot::channel();
        let seeing = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, manner, seeing) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, seen, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, manner: Manner, seen: Arc<Seen>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        seen.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(connection(stream, manner, Arc::clone(&seen)));
    }
}

async fn connection(stream: TcpStream, manner: Manner, seen: Arc<Seen>) {
    let here = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&here);
    let service = service_fn(move |request| {
        counting.fetch_add(1, Ordering::SeqCst);
        answer(request, manner, Arc::clone(&seen))
    });
    let serving = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(manner.streams)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let mut leaving = false;
    let mut first = None;
    loop {
        tokio::select! {
            _ = serving.as_mut() => return,
            () = sleep(Duration::from_millis(2)) => {}
        }
        let count = here.load(Ordering::SeqCst);
        if count > 0 {
            let since = first.get_or_insert_with(tokio::time::Instant::now).elapsed();
            if manner.cut.is_some_and(|cut| since > cut) {
                return;
            }
            if manner.freeze.is_some_and(|freeze| since > freeze) {
                // Held, and never looked at again.
                std::future::pending::<()>().await;
            }
        }
        if count >= manner.requests && !leaving {
            leaving = true;
            serving.as_mut().graceful_shutdown();
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    manner: Manner,
    seen: Arc<Seen>,
) -> Result<Response<Events>, Infallible> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most.fetch_max(open, Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let ask: Value = serde_json::from_slice(&body).unwrap_or_default();
    *seen.last.lock().unwrap() = Some((parts, ask.clone()));
    sleep(manner.delay).await;
    let (kind, events) = match ask["stream"] == true {
        false => ("application/json", vec![COMPLETION.to_owned()]),
        true => {
            let count =
                ask["model"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap_or(3);
            let delta = |n: usize| {
                format!(
                    "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"w{n} \"}}}}]}}\n\n"
                )
            };
            let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
                       data: [DONE]\n\n";
            ("text/event-stream", (1..=count).map(delta).chain([end.to_owned()]).collect())
        }
    };
    let body = Events { left: events.into(), delay: manner.delay, pause: None, seen };
    Ok(Response::builder().header("content-type", kind).body(body).unwrap())
}

/// An answer in pieces, with a pause before each but the first.
struct Events {
    left: VecDeque<String>,
    delay: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    seen: Arc<Seen>,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
        }
        self.pause = (!self.delay.is_zero()).then(|| Box::pin(sleep(self.delay)));
        Poll::Ready(self.left.pop_front().map(|event| Ok(Frame::data(event.into()))))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.seen.open.fetch_sub(1, Ordering::SeqCst);
        if !self.left.is_empty() {
            self.seen.given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}
