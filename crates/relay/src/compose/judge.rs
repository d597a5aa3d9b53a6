//! What a judge is asked, and what its answer means.

use bytes::Bytes;
use policy::plan::Judge;
use serde_json::{Value, json};
use wire::{Edit, Envelope, splice};

use super::{Collected, Relay, Upstream};
use crate::begin::{Answering, Incoming};
use crate::course::Course;
use crate::serve::Context;

/// Bytes of the conversation that a judge is shown: its end.
const SHOWN: usize = 64 << 10;

const VERDICT: &str = "You check the work of an AI assistant. Below are a conversation and the \
assistant's answer to its last message. Does the answer do what was asked, correctly and completely? \
Reply with one word: yes or no.";

const CHOICE: &str = "Below are a conversation and several answers to its last message, by \
different AI assistants. Which answer is the best? Reply with its number alone.";

const MERGE: &str = "Several AI assistants have answered the conversation above. Their answers to \
its last message are below. Write the one best answer to that message, in its language: keep what is \
right, mend what is wrong, and do not mention that there were several answers.";

/// One answer made of several, as far as it has begun.
pub(super) struct Merged<B> {
    pub(super) answering: Answering<B>,
    /// What the judge was asked.
    pub(super) body: Bytes,
    pub(super) course: Course,
    pub(super) context: Context,
}

/// Whether a request asks for JSON.
pub(super) fn wants_json(body: &Bytes) -> bool {
    let format = Envelope::scan(body).ok().and_then(|envelope| {
        let format = envelope.get("response_format").ok().flatten()?;
        serde_json::from_slice::<Value>(format.raw()).ok()
    });
    let kind = format.as_ref().and_then(|format| format["type"].as_str());
    matches!(kind, Some("json_object" | "json_schema"))
}

impl<U: Upstream> Relay<U> {
    /// Whether a judge lets an answer pass. One that cannot be asked does not.
    pub(super) async fn passes(
        &self,
        incoming: Incoming<'_>,
        judge: Option<&Judge>,
        answer: &Collected,
        context: &mut Context,
    ) -> bool {
        let Some(judge) = judge.filter(|_| !answer.heard.calls) else { return true };
        let body = question(incoming.body, judge, VERDICT, &[&answer.heard.text]);
        let told = self.told(incoming, judge, body.as_ref(), context).await;
        told.is_some_and(|told| told.to_lowercase().contains("yes"))
    }

    /// The number of the best of several answers, from 0.
    pub(super) async fn chosen(
        &self,
        incoming: Incoming<'_>,
        judge: &Judge,
        answers: &[Collected],
        context: &mut Context,
    ) -> Option<usize> {
        let body = question(incoming.body, judge, CHOICE, &texts(answers));
        let told = self.told(incoming, judge, body.as_ref(), context).await?;
        let numbers = told.split(|letter: char| !letter.is_ascii_digit());
        let number = numbers.filter_map(|digits| digits.parse::<usize>().ok()).next_back()?;
        number.checked_sub(1).filter(|index| *index < answers.len())
    }

    /// One answer made of several, as far as it has begun; `None` if the judge does not answer.
    pub(super) async fn merged(
        &self,
        incoming: Incoming<'_>,
        judge: &Judge,
        answers: &[Collected],
        context: &mut Context,
    ) -> Option<Merged<U::Body>> {
        let body = merge(incoming.body, judge, &texts(answers))?;
        let (mut branch, mut course) = (context.contender(), Course::through(&judge.plan));
        let incoming = Incoming { body: &body, ..incoming };
        match self.answering(incoming, &mut course, &mut branch).await {
            Ok(answering) => Some(Merged { answering, body, course, context: branch }),
            Err(_) => {
                branch.settlement.retire();
                None
            }
        }
    }

    /// What a judge says.
    async fn told(
        &self,
        incoming: Incoming<'_>,
        judge: &Judge,
        body: Option<&Bytes>,
        context: &mut Context,
    ) -> Option<String> {
        let incoming = Incoming { body: body?, ..incoming };
        match self.collected(incoming, &judge.plan, context.contender()).await {
            Ok(mut verdict) => {
                let text = std::mem::take(&mut verdict.heard.text);
                verdict.retire();
                Some(text)
            }
            Err(left) => {
                left.retire();
                None
            }
        }
    }
}

fn texts(answers: &[Collected]) -> Vec<&str> {
    answers.iter().map(|answer| answer.heard.text.as_str()).collect()
}

/// A request of its own, for a judge to say something of answers.
fn question(body: &Bytes, judge: &Judge, words: &str, answers: &[&str]) -> Option<Bytes> {
    let envelope = Envelope::scan(body).ok()?;
    let messages = String::from_utf8_lossy(envelope.get("messages").ok()??.raw()).into_owned();
    let from = messages.len().saturating_sub(SHOWN);
    let from = (from..messages.len()).find(|at| messages.is_char_boundary(*at)).unwrap_or(0);
    let words =
        judge.instructions.as_deref().map_or(words.to_owned(), |more| format!("{words}\n\n{more}"));
    let conversation = format!("<conversation>\n{}\n</conversation>", &messages[from..]);
    let text = format!("{words}\n\n{conversation}\n\n{}", numbered(answers));
    let mut request = json!({ "messages": [{ "role": "user", "content": text }] });
    // For the same model as the request, as far as limits and records go.
    if let Some(model) = envelope.get("model").ok().flatten() {
        request["model"] = serde_json::from_slice(model.raw()).ok()?;
    }
    Some(Bytes::from(request.to_string()))
}

/// The request, with the answers behind its messages. The judge writes to the client, so all else
/// stays as it was asked; but it calls no tools, and answers once.
fn merge(body: &Bytes, judge: &Judge, answers: &[&str]) -> Option<Bytes> {
    let envelope = Envelope::scan(body).ok()?;
    let messages = std::str::from_utf8(envelope.get("messages").ok()??.raw()).ok()?;
    let words = judge.instructions.as_deref().unwrap_or(MERGE);
    let more = json!({ "role": "user", "content": format!("{words}\n\n{}", numbered(answers)) });
    let messages = format!("{},{more}]", messages.trim_end().strip_suffix(']')?);
    let mut edits = vec![Edit::set("messages", messages)];
    edits.extend(["tools", "tool_choice", "parallel_tool_calls", "n"].map(Edit::remove));
    Some(Bytes::from(splice(&envelope, &edits)))
}

fn numbered(answers: &[&str]) -> String {
    let one = |(number, text)| format!("<answer number=\"{number}\">\n{text}\n</answer>");
    (1..).zip(answers).map(one).collect::<Vec<String>>().join("\n\n")
}
