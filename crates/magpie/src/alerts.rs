//! Alerts of budgets: told in the log, and posted to the webhook that the budget names.

use std::rc::Rc;
use std::time::Duration;

use policy::money::Money;
use relay::Alert;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::callers::now_ms;
use crate::log::note;
use crate::upstream::{Network, post_json};

/// Alerts that wait to be posted. There is one for each threshold of a budget and period, so that
/// more than this means a webhook that hangs; what comes on top is told in the log alone.
const QUEUE: usize = 256;
/// How long after each failure an alert is posted again, before it is given up.
const TRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// Where workers leave alerts.
#[derive(Clone)]
pub(crate) struct Alerts(mpsc::Sender<Posting>);

/// An alert on its way.
struct Posting {
    url: String,
    body: String,
}

/// The alerts that workers leave, and those to take them to where they are wanted.
pub(crate) struct Postman(mpsc::Receiver<Posting>);

/// A way for alerts.
pub(crate) fn alerts() -> (Alerts, Postman) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Alerts(sender), Postman(receiver))
}

impl Alerts {
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
        if self.0.try_send(Posting { url, body: body.to_string() }).is_err() {
            note("too many alerts wait to be posted: this one is not");
        }
    }
}

impl Postman {
    /// Posts alerts, one after the other, until there is nobody left to send any.
    pub(crate) async fn run(mut self, network: Rc<Network>) {
        while let Some(posting) = self.0.recv().await {
            let mut pauses = TRIES.into_iter();
            loop {
                let posted = post_json(&network, &posting.url, &posting.body).await;
                let Err(why) = posted else { break };
                note(&format!("an alert could not be posted to {}: {why}", posting.url));
                let Some(pause) = pauses.next() else { break };
                sleep(pause).await;
            }
        }
    }
}
