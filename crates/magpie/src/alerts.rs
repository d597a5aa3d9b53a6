//! Alerts of budgets: told in the log, and posted to the webhook that the budget names.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use console::store::now_ms;
use policy::money::Money;
use relay::Alert;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::sleep;

use crate::log::note;
use crate::upstream::{Network, post_json};

/// Alerts that wait to be posted. There is one for each threshold of a budget and period, so that
/// more than this means a webhook that hangs; what comes on top is told in the log alone.
const QUEUE: usize = 256;
/// Alerts that wait for one host: one that is dead must not fill the room of the others.
const LANE: usize = 64;
/// Hosts that are posted to at once.
const AT_ONCE: usize = 16;
/// How long after each failure an alert is posted again, before it is given up.
const TRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// Where workers leave alerts.
#[derive(Clone)]
pub(crate) struct Alerts {
    queue: mpsc::Sender<Posting>,
    waiting: Arc<Waiting>,
}

/// How posting keeps up.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    taken: AtomicU64,
    posted: AtomicU64,
    dropped: AtomicU64,
}

impl Waiting {
    /// Alerts that wait to be posted or are being posted.
    pub(crate) fn waiting(&self) -> u64 {
        let over = self.posted.load(Relaxed).saturating_add(self.dropped());
        self.taken.load(Relaxed).saturating_sub(over)
    }

    /// Alerts that were not posted.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

/// An alert on its way.
struct Posting {
    url: String,
    body: String,
}

/// The alerts that workers leave, and those to take them to where they are wanted.
pub(crate) struct Postman {
    queue: mpsc::Receiver<Posting>,
    waiting: Arc<Waiting>,
}

/// A way for alerts.
pub(crate) fn alerts() -> (Alerts, Postman) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let waiting = Arc::<Waiting>::default();
    (Alerts { queue: sender, waiting: Arc::clone(&waiting) }, Postman { queue: receiver, waiting })
}

impl Alerts {
    /// What says how many wait.
    pub(crate) fn waiting(&self) -> Arc<Waiting> {
        Arc::clone(&self.waiting)
    }

    /// Tells an alert. Never waits.
    pub(crate) fn send(&self, alert: &Alert) {
        let Alert { holder, account, percent } = alert;
        let budget = account.budget();
        let now_ms = now_ms();
        let standing = account.standing(now_ms);
        let money = |nanos| Money { nanos, currency: budget.amount.currency }.to_string();
        let (kind, name) = (holder.kind.word(), &holder.name);
        let (spent, limit) = (money(standing.spent), money(standing.limit));
        note(&format!("the budget of {kind} `{name}` has reached {percent} %: {spent} of {limit}"));
        let Some(url) = budget.webhook.clone() else { return };
        let body = json!({
            "type": "budget.alert",
            "at_ms": now_ms,
            "holder": { "kind": kind, "id": &*holder.id, "name": &**name },
            "percent": percent,
            "spent": spent,
            "reserved": money(standing.reserved),
            "amount": limit,
            "period": budget.period.to_string(),
            "resets_at_ms": standing.resets_at_ms,
        });
        self.waiting.taken.fetch_add(1, Relaxed);
        if self.queue.try_send(Posting { url, body: body.to_string() }).is_err() {
            self.waiting.dropped.fetch_add(1, Relaxed);
            note("too many alerts wait to be posted: this one is not");
        }
    }
}

impl Postman {
    /// Posts alerts until there is nobody left to send any: to a host one after the other, to
    /// several at once, so that none waits for another's webhook that is dead.
    pub(crate) async fn run(mut self, network: Rc<Network>) {
        let mut round = Round { waiting: self.waiting, ..Round::default() };
        let mut open = true;
        loop {
            round.set_out(&network);
            tokio::select! {
                posting = self.queue.recv(), if open => match posting {
                    Some(posting) => round.take(posting),
                    None => open = false,
                },
                Some(ended) = round.running.join_next_with_id() => {
                    round.back(ended.map_or_else(|fault| fault.id(), |(id, ())| id));
                }
                else => return,
            }
        }
    }
}

/// What the postman has with him: alerts by the host that they go to, of which each is posted to by
/// one task at a time.
#[derive(Default)]
struct Round {
    /// Those that wait; a host is here as long as one waits for it or is under way.
    lanes: HashMap<String, VecDeque<Posting>>,
    /// Hosts whose next alert can be posted, in the order of their turns.
    ready: VecDeque<String>,
    running: JoinSet<()>,
    waiting: Arc<Waiting>,
    /// Where the running ones go.
    hosts: HashMap<Id, String>,
}

impl Round {
    /// Takes an alert, if there is room.
    fn take(&mut self, posting: Posting) {
        let host = host(&posting.url);
        let waiting: usize = self.lanes.values().map(VecDeque::len).sum();
        if waiting >= QUEUE || self.lanes.get(&host).is_some_and(|lane| lane.len() >= LANE) {
            self.waiting.dropped.fetch_add(1, Relaxed);
            note(&format!("too many alerts wait to be posted: one to {host} is not"));
            return;
        }
        let lane = self.lanes.entry(host.clone()).or_insert_with(|| {
            self.ready.push_back(host);
            VecDeque::new()
        });
        lane.push_back(posting);
    }

    /// Sends out as many as can go.
    fn set_out(&mut self, network: &Rc<Network>) {
        while self.running.len() < AT_ONCE {
            let Some(host) = self.ready.pop_front() else { return };
            let Some(posting) = self.lanes.get_mut(&host).and_then(VecDeque::pop_front) else {
                self.lanes.remove(&host);
                continue;
            };
            let (network, waiting) = (Rc::clone(network), Arc::clone(&self.waiting));
            let under_way = self.running.spawn_local(async move {
                let is_posted = post(&network, &posting).await;
                let count = if is_posted { &waiting.posted } else { &waiting.dropped };
                count.fetch_add(1, Relaxed);
            });
            self.hosts.insert(under_way.id(), host);
        }
    }

    /// One has come back, however it went: it is the next one's turn.
    fn back(&mut self, id: Id) {
        self.ready.extend(self.hosts.remove(&id));
    }
}

/// Posts an alert, several times if need be. Says whether it was taken.
async fn post(network: &Network, posting: &Posting) -> bool {
    let mut pauses = TRIES.into_iter();
    loop {
        let posted = post_json(network, &posting.url, &posting.body).await;
        let Err(why) = posted else { return true };
        note(&format!("an alert could not be posted to {}: {why}", posting.url));
        let Some(pause) = pauses.next() else { return false };
        sleep(pause).await;
    }
}

/// The host and port of a URL: what is dead is dead for every path.
fn host(url: &str) -> String {
    let parsed = url.parse::<http::Uri>().ok();
    let authority = parsed.and_then(|url| url.into_parts().authority);
    let text = authority.as_ref().map_or(url, |authority| authority.as_str());
    // A name and password in front of it are no part of the host, and not for the log.
    text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned()
}
