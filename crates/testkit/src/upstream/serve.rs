//! Accepting connections and answering the requests on them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::answer::Action;
use super::ask::Ask;
use super::control::{control, decide};
use super::fast::{Cache, Template};
use super::peer::{Io, Peer};
use super::record::{Outcome, Received, State, Ticket};
use super::reply::{After, Reply, write};
use super::request::{Framing, Head, NoRequest, read_head, read_request};
use super::stream::play;

/// Accepts connections for ever.
pub(crate) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: let some connections end.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let number = state.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let (state, tls) = (Arc::clone(&state), tls.clone());
        tokio::spawn(async move {
            state.open.fetch_add(1, Ordering::Relaxed);
            connection(stream, tls, Arc::clone(&state), number).await;
            state.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>, number: u64) {
    let _ = stream.set_nodelay(true);
    let io = match tls {
        None => Io::Plain(stream),
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => Io::Tls(Box::new(stream)),
            Err(_) => return,
        },
    };
    let mut peer = Peer::new(io, state);
    let mut cache = Cache::default();
    loop {
        match exchange(peer, &mut cache, number).await {
            Ok(Some(next)) => peer = next,
            Ok(None) => return,
            Err((mut peer, NoRequest::Bad(problem))) => {
                let reply = Reply::json(400, &json!({"error": {"message": problem}}));
                let head = super::reply::head_bytes(400, &reply.headers, Some(reply.body.len()));
                let _ = peer.send(&[&head[..], &reply.body[..]].concat()).await;
                peer.close(true).await;
                return;
            }
            Err((_, NoRequest::Closed)) => return,
        }
    }
}

/// Takes one request and answers it. The peer comes back when it can take another.
async fn exchange(
    mut peer: Peer,
    cache: &mut Cache,
    number: u64,
) -> Result<Option<Peer>, (Peer, NoRequest)> {
    let head = match read_head(&mut peer).await {
        Ok(head) => head,
        Err(problem) => return Err((peer, problem)),
    };
    if !peer.state.record && head.chat {
        match quick(&mut peer, cache, head).await {
            Ok(Some(true)) => return Ok(head.keep_alive.then_some(peer)),
            Ok(Some(false)) => return Ok(None),
            Ok(None) => {}
            Err(problem) => return Err((peer, problem)),
        }
    }
    // The slow path is big; boxed, it does not weigh on the connections of the quick one.
    Box::pin(full(peer, head, number)).await
}

/// Answers with a ready-made reply: whether the connection goes on, `None` when there is none.
async fn quick(peer: &mut Peer, cache: &mut Cache, head: Head) -> Result<Option<bool>, NoRequest> {
    let Framing::Length(length) = head.framing else {
        return Ok(None);
    };
    if head.expects {
        return Ok(None);
    }
    let whole = head.length + length;
    while peer.buf.len() < whole {
        peer.fill(whole - peer.buf.len()).await?;
    }
    let template = match cache.find(peer, &peer.buf[head.length..whole]) {
        Some(template) if !matches!(*template, Template::Unfit) => template,
        _ => return Ok(None),
    };
    if peer.buf.len() == whole {
        peer.buf.clear();
    } else {
        let _ = peer.buf.split_to(whole);
    }
    Ok(Some(template.send(peer).await.is_ok() && head.keep_alive))
}

/// Reads the whole request, records it and plays its script.
async fn full(mut peer: Peer, head: Head, number: u64) -> Result<Option<Peer>, (Peer, NoRequest)> {
    let request = match read_request(&mut peer, head).await {
        Ok(request) => request,
        Err(problem) => return Err((peer, problem)),
    };
    let after = if head.keep_alive { After::KeepAlive } else { After::Close };
    let state = Arc::clone(&peer.state);
    if let Some(reply) = control(&state, &request.method, request.path(), &request.body) {
        let ticket = Ticket { state, order: u64::MAX };
        return Ok(write(peer, &reply, &ticket, after).await);
    }
    let order = state.add(Received {
        method: request.method.clone(),
        target: request.target.clone(),
        headers: request.headers.clone(),
        body: request.body.clone(),
        connection: number,
        order: 0,
        at: std::time::Instant::now(),
        outcome: Outcome::default(),
    });
    let ask = Ask::new(request);
    let ticket = Ticket { state, order };
    let action = decide(&ticket.state, &ask);
    Ok(perform(peer, action, &ticket, after).await)
}

async fn perform(
    mut peer: Peer,
    mut action: Action,
    ticket: &Ticket,
    after: After,
) -> Option<Peer> {
    while let Action::Later(delay, next) = action {
        if peer.wait(tokio::time::Instant::now() + delay).await.is_err() {
            ticket.left();
            return None;
        }
        action = *next;
    }
    match action {
        Action::Reply(reply) => write(peer, &reply, ticket, after).await,
        Action::Stream(plan) => play(peer, &plan, ticket, after).await,
        Action::Later(..) | Action::Hang => {
            peer.until_left().await;
            ticket.left();
            None
        }
    }
}
