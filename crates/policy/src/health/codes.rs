//! What providers' error codes mean: the words that all of them share, a few messages without a
//! code, and what a provider's own data adds to that.
//!
//! Words are compared without regard to case: one provider writes `DataInspectionFailed` and
//! `data_inspection_failed` for the same thing.

use std::collections::BTreeMap;

use super::cause::Cause;
use super::cause::Cause::{
    BadCredential, Billing, CallersFault, ContentPolicy, ContextTooLong, ModelMissing, Throttled,
    Transient,
};

/// Words that mean the same wherever they stand, and more than the status beside them: a 429 may be
/// a full minute or an empty account.
///
/// OpenAI's are from developers.openai.com/api/docs/guides/error-codes, Anthropic's from
/// docs.anthropic.com/en/api/errors, Google's from cloud.google.com/apis/design/errors, all of them
/// read 2026-11-22; others say whose they are.
const CODES: [(&str, Cause); 48] = [
    ("context_length_exceeded", ContextTooLong),
    ("string_above_max_length", ContextTooLong),
    // The body is too large: bytes, but whoever takes more tokens takes more bytes.
    ("request_too_large", ContextTooLong),
    // llama.cpp (github.com/ggml-org/llama.cpp/pull/15780).
    ("exceed_context_size_error", ContextTooLong),
    // OpenRouter (openrouter.ai/docs/api/reference/errors-and-debugging).
    ("token_limit_exceeded", ContextTooLong),
    ("insufficient_quota", Billing),
    ("billing_hard_limit_reached", Billing),
    ("billing_not_active", Billing),
    ("credit_balance_exhausted", Billing),
    ("organization_spend_limit_exceeded", Billing),
    ("organization_usage_limit_exceeded", Billing),
    ("project_spend_limit_exceeded", Billing),
    ("billing_error", Billing),
    // Moonshot (platform.kimi.ai), and those that follow it.
    ("exceeded_current_quota_error", Billing),
    ("invalid_api_key", BadCredential),
    ("invalid_organization", BadCredential),
    ("account_deactivated", BadCredential),
    ("authentication_error", BadCredential),
    ("permission_error", BadCredential),
    ("invalid_authentication_error", BadCredential),
    ("incorrect_api_key_error", BadCredential),
    // DashScope and others, in one spelling or another.
    ("InvalidApiKey", BadCredential),
    ("UNAUTHENTICATED", BadCredential),
    ("PERMISSION_DENIED", BadCredential),
    // Gemini says so under status 400.
    ("API_KEY_INVALID", BadCredential),
    ("rate_limit_exceeded", Throttled),
    ("rate_limit_error", Throttled),
    ("rate_limit_reached_error", Throttled),
    ("slow_down", Throttled),
    ("too_many_requests", Throttled),
    ("RESOURCE_EXHAUSTED", Throttled),
    ("content_filter", ContentPolicy),
    ("content_policy_violation", ContentPolicy),
    ("moderation_blocked", ContentPolicy),
    // Azure, inside (learn.microsoft.com/azure/ai-services/openai/concepts/content-filter).
    ("ResponsibleAIPolicyViolation", ContentPolicy),
    ("model_not_found", ModelMissing),
    // Azure and DashScope.
    ("DeploymentNotFound", ModelMissing),
    ("ModelNotFound", ModelMissing),
    ("overloaded_error", Transient),
    ("timeout_error", Transient),
    ("server_is_overloaded", Transient),
    ("service_unavailable_error", Transient),
    // Moonshot, under 429: it is its own machines that have too much to do, not the caller.
    ("engine_overloaded_error", Transient),
    // DeepSeek (api-docs.deepseek.com).
    ("insufficient_system_resource", Transient),
    ("UNAVAILABLE", Transient),
    ("DEADLINE_EXCEEDED", Transient),
    ("INTERNAL", Transient),
    ("ABORTED", Transient),
];

/// Words that stand over errors of many kinds, and say less than a status does: OpenAI writes
/// `invalid_request_error` over a 401, Ollama `api_error` over a 429. They count where the status is
/// none of the provider's, because the error came under status 200.
const KINDS: [(&str, Cause); 11] = [
    ("invalid_request_error", CallersFault),
    ("invalid_request", CallersFault),
    ("BadRequestError", CallersFault),
    ("not_found_error", CallersFault),
    ("INVALID_ARGUMENT", CallersFault),
    ("FAILED_PRECONDITION", CallersFault),
    ("OUT_OF_RANGE", CallersFault),
    ("api_error", Transient),
    ("server_error", Transient),
    ("internal_error", Transient),
    ("InternalServerError", Transient),
];

/// The status of an error that came under status 200 and has no better one: it is ours.
const OWN_STATUS: u16 = 502;

/// A message that means something at these statuses, if it holds both parts, in lower case.
struct Message {
    statuses: &'static [u16],
    holds: [&'static str; 2],
    cause: Cause,
}

const fn message(statuses: &'static [u16], holds: [&'static str; 2], cause: Cause) -> Message {
    Message { statuses, holds, cause }
}

/// Bytes of a message that are looked at. Those that quote the request are long, and begin with what
/// is wrong.
const MESSAGE_READ: usize = 2_000;

/// Statuses of a request that is wrong.
const WRONG: &[u16] = &[400, 413, 422];

/// Messages of those who have no code for it. Read 2026-11-22 where they are written: the sources
/// of vLLM, SGLang, llama.cpp and Ollama, the pages named in the providers' files.
#[rustfmt::skip] // a table
const MESSAGES: [Message; 20] = [
    // vLLM, Mistral, OpenAI where the code is missing; SGLang and LM Studio have the second.
    message(WRONG, ["maximum context length", ""], ContextTooLong),
    message(WRONG, ["context length", "longer than"], ContextTooLong),
    message(WRONG, ["context length", "exceed"], ContextTooLong),
    message(WRONG, ["context length", "greater than"], ContextTooLong),
    message(WRONG, ["exceeds the available context size", ""], ContextTooLong),
    message(WRONG, ["exceed", "context window"], ContextTooLong),
    // DashScope: "Range of input length should be [1, 98304]".
    message(WRONG, ["input length should be", ""], ContextTooLong),
    message(WRONG, ["prompt is too long", ""], ContextTooLong),
    // xAI.
    message(WRONG, ["maximum prompt length", ""], ContextTooLong),
    // Gemini: "The input token count (1048577) exceeds the maximum number of tokens allowed".
    message(WRONG, ["token count", "exceeds the maximum"], ContextTooLong),
    // Groq, under 413 and the code rate_limit_exceeded: it never fits into a minute of that model.
    message(&[413], ["request too large", ""], ContextTooLong),
    // Together says 403 (docs.together.ai/docs/error-codes).
    message(&[400, 403, 422], ["tokens", "context length of the model"], ContextTooLong),
    // vLLM "The model `x` does not exist.", Ollama "model "x" not found", Anthropic "model: x".
    message(&[404], ["model", "does not exist"], ModelMissing),
    message(&[404], ["model", "not found"], ModelMissing),
    message(&[404], ["model: ", ""], ModelMissing),
    // Anthropic says 400.
    message(&[400, 403], ["credit balance is too low", ""], Billing),
    // Kimi's plans, as a permission_error.
    message(&[403], ["reached your", "usage limit"], Billing),
    // OpenRouter, whose 403 is one of these or a key that is refused.
    message(&[403], ["key limit exceeded", ""], Billing),
    message(&[403], ["input was flagged", ""], ContentPolicy),
    // Gemini through its OpenAI layer, where the reason is left out.
    message(&[400], ["api key not valid", ""], BadCredential),
];

/// What a provider's error codes mean: its own data, then what is known of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Causes {
    exact: Vec<(Box<str>, Cause)>,
    /// Beginnings, the longest first.
    beginnings: Vec<(Box<str>, Cause)>,
}

impl Causes {
    /// Joins what the configuration says with what the profile says; the former counts.
    #[must_use]
    pub fn new(
        written: &BTreeMap<String, providers::Cause>,
        profile: &BTreeMap<String, providers::Cause>,
    ) -> Self {
        let mut causes = Self::default();
        for (word, cause) in written.iter().chain(profile) {
            let (list, word) = match word.strip_suffix('*') {
                Some(beginning) => (&mut causes.beginnings, beginning),
                None => (&mut causes.exact, word.as_str()),
            };
            list.push((word.into(), (*cause).into()));
        }
        // Stable: of two equal ones, that of the configuration stays in front.
        causes.beginnings.sort_by_key(|(beginning, _)| std::cmp::Reverse(beginning.len()));
        causes
    }

    /// Why an attempt failed that was answered with this status and an error of these words (its
    /// code, its type and the like, the most telling first) and this message; `None` if it did not.
    ///
    /// The provider's own words come first, and its status as one of them (Groq's 498); then
    /// messages, which say what their code does not; then the words of all; then the status as
    /// HTTP has it.
    #[must_use]
    pub fn of(&self, status: u16, words: &[&str], message: Option<&str>) -> Option<Cause> {
        let first =
            |meaning: &dyn Fn(&str) -> Option<Cause>| words.iter().find_map(|word| meaning(word));
        first(&|word| self.own(word))
            .or_else(|| self.own(&status.to_string()))
            .or_else(|| of_message(status, message?))
            .or_else(|| first(&|word| listed(&CODES, word)))
            .or_else(|| first(&|word| listed(&KINDS, word).filter(|_| status == OWN_STATUS)))
            .or_else(|| Cause::of_status(status))
    }

    fn own(&self, word: &str) -> Option<Cause> {
        let exact = self.exact.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
        let found = exact.or_else(|| {
            let begins = |beginning: &str| {
                word.get(..beginning.len())
                    .is_some_and(|begin| begin.eq_ignore_ascii_case(beginning))
            };
            self.beginnings.iter().find(|(beginning, _)| begins(beginning))
        });
        found.map(|(_, cause)| *cause)
    }
}

fn listed(list: &[(&str, Cause)], word: &str) -> Option<Cause> {
    list.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, cause)| *cause)
}

/// What a message means at a status.
fn of_message(status: u16, message: &str) -> Option<Cause> {
    let text: String =
        message.chars().take(MESSAGE_READ).map(|one| one.to_ascii_lowercase()).collect();
    MESSAGES
        .iter()
        .find(|known| {
            known.statuses.contains(&status) && known.holds.iter().all(|part| text.contains(part))
        })
        .map(|known| known.cause)
}
