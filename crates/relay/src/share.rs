//! Answers that are shared: who may have whose, and how.
//!
//! A request with an `Idempotency-Key` has the answer of the caller's own request of that key: while
//! it is under way, and for some time after. A request for a model with `single_flight` has that of
//! an identical one of the same tenant, while it is under way. Whatever is shared, it is settled
//! first who calls and whether they may ask for the model; what is wrong with a request is told on
//! the ordinary way, which these requests take as well.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use policy::Plan;
use policy::directory::{Kind, Level};
use policy::key::Digest;
use tokio::time::Instant;

use crate::admit::admit_joined;
use crate::attempt::Ended;
use crate::begin::Incoming;
use crate::facts::Looked;
use crate::fault::{Code, Fault};
use crate::flight::{Head, Reader};
use crate::flights::{Flights, Mark, Taken};
use crate::headers::{IDEMPOTENCY_KEY, is_telling};
use crate::identify::Caller;
use crate::intake::Endpoint;
use crate::ports::Upstream;
use crate::prepare::Wish;
use crate::reading::{Reading, lost};
use crate::record::Outcome;
use crate::reply::ReplyBody;
use crate::respond::{OVERHEAD, stamp_attempts};
use crate::serve::{Answer, Context, Relay, refused};

mod lead;

/// Says that the answer is that of an earlier request with this key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Says that the answer is that of another request.
const SHARED: HeaderName = HeaderName::from_static("x-magpie-shared");
/// Characters of an `Idempotency-Key`.
const LONGEST_KEY: usize = 255;

/// What a worker has of the answers that are shared.
#[derive(Clone)]
pub(crate) struct Sharing {
    flights: Arc<Flights>,
    /// Calls under way that this worker leads.
    leading: Rc<Cell<usize>>,
}

impl Sharing {
    pub(crate) fn new(flights: Arc<Flights>) -> Self {
        Self { flights, leading: Rc::default() }
    }

    pub(crate) fn leading(&self) -> usize {
        self.leading.get()
    }
}

/// A request whose answer may be shared.
pub(crate) struct Wanted {
    mark: Mark,
    /// The model, as it is asked for.
    model: String,
    plan: Arc<Plan>,
}

impl Wanted {
    /// Whether only the caller itself asks for it.
    fn is_own(&self) -> bool {
        self.mark.keep.is_some()
    }
}

impl<U: Upstream> Relay<U> {
    /// Whether the answer to a request may be shared. What is wrong with it, but for its
    /// `Idempotency-Key`, is not told here.
    pub(crate) fn wanted(
        &self,
        incoming: Incoming<'_>,
        context: &Context,
    ) -> Result<Option<Wanted>, Fault> {
        let Incoming { endpoint, parts, body, .. } = incoming;
        let snapshot = &context.snapshot;
        let keyed = match snapshot.sharing.keep {
            Some(keep) => key(&parts.headers)?.map(|key| (key, keep)),
            None => None,
        };
        if keyed.is_none() && !snapshot.sharing.single_flight {
            return Ok(None);
        }
        let Ok(Wish { named: model, .. }) = Wish::read(body, endpoint.operation) else {
            return Ok(None);
        };
        let Ok(plan) = snapshot.plan(&model) else { return Ok(None) };
        if !context.caller.may_use(&model) {
            return Ok(None);
        }
        let query = parts.uri.query().unwrap_or_default();
        let question = [endpoint.rest.as_bytes(), query.as_bytes(), body];
        let (key, question, keep) = match keyed {
            Some((key, keep)) => {
                let key = self.key_of(&context.caller, key);
                (key, self.digest(&question), Some(keep))
            }
            None if plan.first_route().single_flight && plan.composed().is_none() => {
                let question = self.question(&question, &parts.headers, &plan, context);
                (question, question, None)
            }
            None => return Ok(None),
        };
        let mark = Mark { key, question, keep, size: snapshot.sharing.size };
        Ok(Some(Wanted { mark, model, plan }))
    }

    /// Answers a request along with another one, or leads for those to come. `None` if it has to be
    /// answered by itself.
    pub(crate) async fn shared(
        &self,
        wanted: &Wanted,
        incoming: Incoming<'_>,
        context: &mut Context,
    ) -> Option<Answer<U::Body>> {
        context.note_model(&wanted.model);
        match self.sharing().flights.take(&wanted.mark, Instant::now()) {
            Taken::Full => None,
            Taken::Reused => {
                let message = "This Idempotency-Key was sent before, with another request.";
                Some(Err(refused(Fault::new(Code::IdempotencyKeyReused, message))))
            }
            Taken::Lead(leader, reader) => {
                self.lead(leader, incoming, context);
                Some(first(reader, context).await)
            }
            Taken::Join(reader) => {
                if let Err(fault) = context.admit_joined(wanted) {
                    return Some(Err(refused(fault)));
                }
                let Ok(head) = poll_fn(|cx| reader.poll_head(cx)).await else {
                    return Some(Err(failed()));
                };
                if !context.may_have(&head, wanted, incoming) {
                    context.settlement.uncount();
                    return None;
                }
                Some(Ok(context.joined(reader, &head, wanted)))
            }
        }
    }

    fn digest(&self, texts: &[&[u8]]) -> Digest {
        self.callers().gate.pepper.digest_of(texts)
    }

    /// Under what an `Idempotency-Key` of this caller is found.
    fn key_of(&self, caller: &Caller, key: &[u8]) -> Digest {
        match caller.chain().levels().next() {
            Some(Level { holder, .. }) => {
                self.digest(&[b"key", holder.kind.word().as_bytes(), holder.id.as_bytes(), key])
            }
            None => {
                let address = caller.address().map(|address| address.to_canonical().to_string());
                self.digest(&[b"key", b"address", address.unwrap_or_default().as_bytes(), key])
            }
        }
    }

    /// What has to be the same for two requests to be identical: the tenant, the question, and
    /// whatever else a provider or a client might tell them apart by.
    fn question(
        &self,
        question: &[&[u8]],
        headers: &HeaderMap,
        plan: &Plan,
        context: &Context,
    ) -> Digest {
        let chain = context.caller.chain();
        let tenant = chain.level(Kind::Team).or_else(|| chain.levels().next());
        let (kind, id) = match tenant {
            Some(Level { holder, .. }) => (holder.kind.word(), holder.id.as_bytes()),
            None => ("everyone", &b""[..]),
        };
        let language = [context.language as u8];
        let mut texts = vec![&b"single_flight"[..], kind.as_bytes(), id, &language[..]];
        texts.extend(question);
        let tells = |name: &HeaderName| {
            plan.targets().iter().any(|to| is_telling(name.as_str(), &to.route.provider))
        };
        let mut telling: Vec<_> = headers.iter().filter(|(name, _)| tells(name)).collect();
        // Stable: values of one name stay in their order.
        telling.sort_by_key(|(name, _)| name.as_str());
        texts.extend(telling.iter().flat_map(|(name, value)| [name.as_ref(), value.as_bytes()]));
        self.digest(&texts)
    }
}

/// The one `Idempotency-Key` of a request.
fn key(headers: &HeaderMap) -> Result<Option<&[u8]>, Fault> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.as_bytes();
    let is_one = headers.get_all(IDEMPOTENCY_KEY).iter().nth(1).is_none();
    let is_fit = (1..=LONGEST_KEY).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    match is_one && is_fit {
        true => Ok(Some(key)),
        false => {
            let message =
                "The Idempotency-Key is empty, too long, sent twice, or has odd characters.";
            Err(Fault::new(Code::InvalidIdempotencyKey, message))
        }
    }
}

/// The response for the one whose call it is: its record is made by the leader.
async fn first<B>(reader: Reader, context: &mut Context) -> Answer<B> {
    let head = poll_fn(|cx| reader.poll_head(cx)).await.map_err(|_| failed())?;
    Ok(response(reader, &head, context))
}

fn response<B>(reader: Reader, head: &Head, context: &mut Context) -> Response<ReplyBody<B>> {
    let reading = Reading::new(reader, head, context.language, context.take_settlement());
    let mut response = Response::new(ReplyBody::shared(reading));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers.clone();
    response
}

/// The leader is gone before there was a head.
fn failed() -> Ended {
    Ended { outcome: Outcome::Failed, fault: lost(), cause: None }
}

impl Context {
    /// Takes the limits that count for a request which is answered along with another one.
    fn admit_joined(&mut self, wanted: &Wanted) -> Result<(), Fault> {
        let (route, snapshot) = (wanted.plan.first_route(), &self.snapshot);
        let admission = admit_joined(&self.caller, &wanted.model, route, snapshot, self.now)?;
        self.settlement.hold(admission);
        Ok(())
    }

    /// Whether an answer may be given to this caller: it may ask for the model that gave it, and,
    /// if the answer was another caller's, the plan would have let this request come to the same
    /// target. What was refused to another caller says nothing for this one.
    fn may_have(&self, head: &Head, wanted: &Wanted, incoming: Incoming<'_>) -> bool {
        if wanted.is_own() {
            return self.caller.may_use(&head.model);
        }
        let (Some(route), Some(record)) = (&head.route, self.settlement.record()) else {
            return false;
        };
        let Incoming { endpoint: Endpoint { operation, .. }, parts, body, .. } = incoming;
        let Ok(wish) = Wish::read(body, *operation) else { return false };
        let plan = &wanted.plan;
        let looked = Looked::at(&wish.envelope, body, plan.needs());
        let metadata = looked.metadata(&self.caller);
        let facts = looked.facts(*operation, &parts.headers, &self.caller, &metadata, self.now.ms);
        !head.is_refusal
            && head.model == record.model
            && plan.leads_to(route, &facts, self.settlement.now_ms())
    }

    /// The response for one who has joined.
    fn joined<B>(
        &mut self,
        reader: Reader,
        head: &Head,
        wanted: &Wanted,
    ) -> Response<ReplyBody<B>> {
        self.settlement.note(|record| {
            record.shared = true;
            record.status = head.status.as_u16();
            record.stream = head.stream;
            record.model.clone_from(&head.model);
            record.route.clone_from(&head.route);
        });
        let mut response = response(reader, head, self);
        let headers = response.headers_mut();
        headers.remove(OVERHEAD);
        // Where the answer begins is told as it was to the first.
        if head.route.is_some() {
            stamp_attempts(headers, 0);
        }
        let tally = wanted.plan.tally();
        let (name, value, count) = match wanted.is_own() {
            true => (REPLAYED, "true", &tally.replayed),
            false => (SHARED, "joined", &tally.joined),
        };
        headers.insert(name, HeaderValue::from_static(value));
        count.count();
        response
    }
}
