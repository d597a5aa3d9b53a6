//! From one request on a connection to its response: let in, then the API or a page.

use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::request::Parts;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use policy::Snapshot;
use relay::{Code, Fault, Language, Latch, Relay, ReplyBody, RequestId, Visitor, access};
use tokio::time::Instant;

use crate::listener::Peer;
use crate::measure::Shard;
use crate::pages;
use crate::unread::Upload;
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
    /// Requests of the API that may be under way.
    most: usize,
}

impl Service {
    pub(crate) fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        relay: Relay<Network>,
        state: Arc<pages::State>,
        shed: Rc<Latch>,
        shard: Rc<Shard>,
        most: usize,
    ) -> Self {
        Self { snapshot, relay, state, shed, shard, most }
    }

    /// How many calls are under way whose answers may be shared.
    pub(crate) fn leading(&self) -> usize {
        self.relay.leading()
    }

    /// Answers a request of a client.
    pub(crate) async fn answer(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let (body, unread) = Upload::new(&parts, body);
        let (mut response, visitor) = match self.receive(parts, body, peer) {
            // A box of its own: the connection would keep the room for it as long as it lives, and
            // the request is done with it once its head is out.
            Received::Call(request, visitor) => {
                (Box::pin(self.relay.serve(request)).await, visitor)
            }
            Received::Answered(response, visitor) => (response, visitor),
        };
        if let Some(unread) = unread {
            unread.forget();
        }
        visitor.stamp(response.headers_mut());
        // The API has given its own already, which is also in the log.
        if !response.headers().contains_key("x-request-id") {
            let id = RequestId::new().to_header();
            response.headers_mut().insert("x-request-id", id);
        }
        response
    }

    /// Lets a request in, and answers it unless it is a call of the API.
    fn receive(&self, parts: Parts, body: Upload, peer: &Peer) -> Received {
        let start = Instant::now();
        let snapshot = self.snapshot.load_full();
        let visitor = access::admit(&parts, &snapshot.access);
        if let Ok(visitor) = &visitor {
            if let Some(preflight) = visitor.preflight(&parts, &snapshot.access) {
                let answer = preflight.map(|()| ReplyBody::whole(""));
                return Received::Answered(answer, Visitor::default());
            }
            if !access::is_api(parts.uri.path()) {
                let page = pages::answer(&parts, &snapshot, &self.state);
                let page =
                    page.unwrap_or_else(|fault| refused(&fault, Language::of(&parts.headers)));
                return Received::Answered(page, visitor.clone());
            }
        }
        let (id, address) = (RequestId::new(), Some(peer.address.ip()));
        let shed = Rc::clone(&self.shed);
        let request = relay::Request { id, parts, body, snapshot, start, address, shed };
        let is_one_too_many = self.shard.under_way() >= self.most;
        self.shard.begun();
        match visitor {
            Ok(visitor) if is_one_too_many => {
                let fault = Fault::new(Code::TooManyAtOnce, "Too many requests are under way.");
                let fault = fault.header(header::RETRY_AFTER, HeaderValue::from_static("1"));
                Received::Answered(self.relay.refuse(&request, &fault), visitor)
            }
            Ok(visitor) => Received::Call(request, visitor),
            // What is refused at the door is in the log as well, whatever it asked for.
            Err(fault) => {
                Received::Answered(self.relay.refuse(&request, &fault), Visitor::default())
            }
        }
    }
}

/// What becomes of a request at the door, and of whom it is.
enum Received {
    /// A call of the API.
    Call(relay::Request<Upload>, Visitor),
    /// Anything else has its answer.
    Answered(Response<Body>, Visitor),
}

fn refused(fault: &Fault, language: Language) -> Response<Body> {
    let mut response = Response::new(ReplyBody::whole(fault.to_json(language)));
    *response.status_mut() = fault.code.status();
    let headers = response.headers_mut();
    fault.stamp(headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
