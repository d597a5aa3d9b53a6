//! From one request on a connection to its response: let in, then the API or a page.

use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Request, Response, header};
use hyper::body::Incoming;
use policy::Snapshot;
use relay::{Fault, Language, Latch, Relay, ReplyBody, RequestId, access};
use tokio::time::Instant;

use crate::listener::Peer;
use crate::measure::Shard;
use crate::pages;
use crate::upstream::{Network, NetworkBody};

/// The body of every response.
pub(crate) type Body = ReplyBody<NetworkBody>;

/// What one worker answers with.
pub(crate) struct Service {
    snapshot: Arc<ArcSwap<Snapshot>>,
    relay: Relay<Network>,
    state: Arc<pages::State>,
    /// Set when running streams have to end.
    shed: Rc<Latch>,
    shard: Rc<Shard>,
}

impl Service {
    pub(crate) fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        relay: Relay<Network>,
        state: Arc<pages::State>,
        shed: Rc<Latch>,
        shard: Rc<Shard>,
    ) -> Self {
        Self { snapshot, relay, state, shed, shard }
    }

    /// How many calls are under way whose answers may be shared.
    pub(crate) fn leading(&self) -> usize {
        self.relay.leading()
    }

    /// Answers a request of a client.
    pub(crate) async fn answer(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let mut response = self.respond(request, peer).await;
        // The API has given its own already, which is also in the log.
        if !response.headers().contains_key("x-request-id") {
            let id = RequestId::new().to_header();
            response.headers_mut().insert("x-request-id", id);
        }
        response
    }

    async fn respond(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let start = Instant::now();
        let snapshot = self.snapshot.load_full();
        let (parts, body) = request.into_parts();
        let visitor = match access::admit(&parts, &snapshot.access) {
            Ok(visitor) => visitor,
            Err(fault) => return refused(&fault, Language::of(&parts.headers)),
        };
        if let Some(preflight) = visitor.preflight(&parts, &snapshot.access) {
            return preflight.map(|()| ReplyBody::whole(""));
        }
        let mut response = match access::is_api(parts.uri.path()) {
            true => {
                self.shard.begun();
                let shed = Rc::clone(&self.shed);
                let address = Some(peer.address.ip());
                let id = RequestId::new();
                let request = relay::Request { id, parts, body, snapshot, start, address, shed };
                // A box of its own: the connection would keep the room for it as long as it lives,
                // and the request is done with it once its head is out.
                Box::pin(self.relay.serve(request)).await
            }
            false => match pages::answer(&parts, &snapshot, &self.state) {
                Ok(page) => page,
                Err(fault) => refused(&fault, Language::of(&parts.headers)),
            },
        };
        visitor.stamp(response.headers_mut());
        response
    }
}

fn refused(fault: &Fault, language: Language) -> Response<Body> {
    let mut response = Response::new(ReplyBody::whole(fault.to_json(language)));
    *response.status_mut() = fault.code.status();
    let headers = response.headers_mut();
    fault.stamp(headers);
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
