//! What can go wrong, in one table: status, who is to blame, and words that help.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
pub use policy::Language;
use policy::directory::Kind;
use wire::dialects::openai_chat::ErrorBody;

/// A refusal or failure on its way to the client.
#[derive(Debug)]
pub struct Fault {
    /// What it is.
    pub code: Code,
    /// What was wrong, in this case.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// After what time it may be no fault any more, as far as that is known.
    pub after: Option<Duration>,
    /// A header to answer with, such as `Allow`.
    pub header: Option<Box<(HeaderName, HeaderValue)>>,
    /// The limit or budget that refused, if one did.
    pub limited: Option<Limited>,
}

/// A limit or budget that refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// What holds it.
    pub holder: Kind,
    /// The limit as it is written in the configuration, such as `rpm`; for a budget,
    /// [`Limited::BUDGET`].
    pub limit: &'static str,
}

impl Limited {
    /// What a budget is called among limits.
    pub const BUDGET: &'static str = "budget";
}

/// The kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The body is no JSON object.
    InvalidJson,
    /// A field is missing or has a value that cannot be.
    InvalidField,
    /// A field that is read stands twice.
    DuplicateField,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body did not arrive whole.
    BodyCut,
    /// The body is compressed.
    CompressedBody,
    /// The path holds what no path of the API holds.
    InvalidPath,
    /// Nothing lives at this path.
    UnknownPath,
    /// Not this way.
    WrongMethod,
    /// Nobody serves this model.
    UnknownModel,
    /// There is no such provider.
    UnknownProvider,
    /// The caller has no such request.
    UnknownRequest,
    /// Neither model nor header says whom to ask.
    NoProvider,
    /// A web page that is not let in.
    ForeignOrigin,
    /// A host name that is not ours.
    ForeignHost,
    /// An offer to speak WebSocket.
    WebSocket,
    /// No target of the model can be asked now.
    NoTarget,
    /// The provider cannot be reached.
    Unreachable,
    /// The provider ended the call without a reply.
    NoReply,
    /// The provider's reply broke off.
    Truncated,
    /// The provider's reply cannot be read.
    Malformed,
    /// The provider did not answer a stream with one.
    NotAStream,
    /// The provider sent an error under status 200.
    ErrorInReply,
    /// The provider wants the call elsewhere.
    Redirect,
    /// The provider took too long.
    Timeout,
    /// The process is stopping.
    ShuttingDown,
    /// A key is needed and none was sent.
    NoKey,
    /// The key is not known, or not of the form of one.
    InvalidKey,
    /// The token of another issuer does not hold.
    InvalidToken,
    /// The key, or one it counts for, has expired.
    Expired,
    /// The key, or one it counts for, is disabled.
    Disabled,
    /// Its terms rule out the address.
    AddressNotAllowed,
    /// Its terms rule out the operation.
    OperationNotAllowed,
    /// Its terms rule out the model.
    ModelNotAllowed,
    /// A limit is reached.
    RateLimited,
    /// A budget is used up.
    BudgetExhausted,
    /// A budget has to hold and the price is not known.
    Unpriced,
    /// What happens cannot be recorded.
    LedgerUnavailable,
    /// Magpie itself failed.
    Internal,
    /// The keys of a token's issuer are not there.
    IssuerUnavailable,
    /// An `Idempotency-Key` that is none.
    InvalidIdempotencyKey,
    /// An `Idempotency-Key` that belongs to another request.
    IdempotencyKeyReused,
    /// Too much is under way.
    TooManyAtOnce,
}

/// Who is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Whoever called.
    Caller,
    /// Whoever hosts the model.
    Provider,
    /// Magpie itself.
    Magpie,
}

impl Blame {
    /// The word for it in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Provider => "provider",
            Self::Magpie => "magpie",
        }
    }
}

/// What the table says of a code.
struct Row {
    status: StatusCode,
    name: &'static str,
    blame: Blame,
    /// What to do about it, in English and Chinese.
    hint: [&'static str; 2],
}

const fn row(
    status: StatusCode,
    name: &'static str,
    blame: Blame,
    en: &'static str,
    zh: &'static str,
) -> Row {
    Row { status, name, blame, hint: [en, zh] }
}

impl Code {
    /// Every code, in the order of the type.
    #[rustfmt::skip] // a list
    pub const ALL: [Self; 44] = [
        Self::InvalidJson, Self::InvalidField, Self::DuplicateField, Self::BodyTooLarge,
        Self::BodyTimeout, Self::BodyCut, Self::CompressedBody, Self::InvalidPath,
        Self::UnknownPath, Self::WrongMethod, Self::UnknownModel, Self::UnknownProvider,
        Self::UnknownRequest, Self::NoProvider, Self::ForeignOrigin, Self::ForeignHost,
        Self::WebSocket, Self::NoTarget, Self::Unreachable, Self::NoReply, Self::Truncated,
        Self::Malformed, Self::NotAStream, Self::ErrorInReply, Self::Redirect, Self::Timeout,
        Self::ShuttingDown, Self::NoKey, Self::InvalidKey, Self::InvalidToken, Self::Expired,
        Self::Disabled, Self::AddressNotAllowed, Self::OperationNotAllowed, Self::ModelNotAllowed,
        Self::RateLimited, Self::BudgetExhausted, Self::Unpriced, Self::LedgerUnavailable,
        Self::Internal, Self::IssuerUnavailable, Self::InvalidIdempotencyKey,
        Self::IdempotencyKeyReused, Self::TooManyAtOnce,
    ];

    #[rustfmt::skip] // a table
    fn row(self) -> Row {
        use Blame::{Caller, Magpie, Provider};
        type S = StatusCode;
        match self {
            Self::InvalidJson => row(S::BAD_REQUEST, "invalid_json", Caller, "Send one JSON object.", "请发送一个 JSON 对象。"),
            Self::InvalidField => row(S::BAD_REQUEST, "invalid_field", Caller, "", ""),
            Self::DuplicateField => row(S::BAD_REQUEST, "duplicate_field", Caller, "Send each field once.", "每个字段只能出现一次。"),
            Self::BodyTooLarge => row(S::PAYLOAD_TOO_LARGE, "body_too_large", Caller, "The owner can raise `limits` in the configuration.", "可由管理员在配置的 `limits` 中调大。"),
            Self::BodyTimeout => row(S::REQUEST_TIMEOUT, "body_timeout", Caller, "", ""),
            Self::BodyCut => row(S::BAD_REQUEST, "body_cut", Caller, "", ""),
            Self::CompressedBody => row(S::UNSUPPORTED_MEDIA_TYPE, "compressed_body", Caller, "Send the body uncompressed.", "请发送未压缩的请求体。"),
            Self::InvalidPath => row(S::BAD_REQUEST, "invalid_path", Caller, "", ""),
            Self::UnknownPath => row(S::NOT_FOUND, "unknown_path", Caller, "GET /docs lists what there is.", "GET /docs 列出了所有接口。"),
            Self::WrongMethod => row(S::METHOD_NOT_ALLOWED, "method_not_allowed", Caller, "", ""),
            Self::UnknownModel => row(S::NOT_FOUND, "model_not_found", Caller, "GET /v1/models lists what there is.", "GET /v1/models 列出了所有模型。"),
            Self::UnknownProvider => row(S::NOT_FOUND, "provider_not_found", Caller, "", ""),
            Self::UnknownRequest => row(S::NOT_FOUND, "request_not_found", Caller, "Send the x-request-id of an answer of yours that has ended and is still in the ledger.", "请发送你自己的、已结束且仍在账本中的回答的 x-request-id。"),
            Self::NoProvider => row(S::BAD_REQUEST, "provider_required", Caller, "Name a model in the body, or the provider in the header x-magpie-provider.", "请在请求体中写明 model，或用请求头 x-magpie-provider 指定服务商。"),
            Self::ForeignOrigin => row(S::FORBIDDEN, "origin_not_allowed", Caller, "The owner can let a page in with `cors.origins` in the configuration.", "可由管理员在配置的 `cors.origins` 中放行该页面。"),
            Self::ForeignHost => row(S::FORBIDDEN, "host_not_allowed", Caller, "The owner can add a name with `hosts` in the configuration.", "可由管理员在配置的 `hosts` 中加入该主机名。"),
            Self::WebSocket => row(S::NOT_FOUND, "websocket_unsupported", Caller, "Use POST.", "请使用 POST。"),
            Self::NoTarget => row(S::SERVICE_UNAVAILABLE, "no_target_available", Provider, "Try again later, or ask for another model.", "请稍后重试，或改用其他模型。"),
            Self::Unreachable => row(S::BAD_GATEWAY, "provider_unreachable", Provider, "", ""),
            Self::NoReply => row(S::BAD_GATEWAY, "provider_no_reply", Provider, "", ""),
            Self::Truncated => row(S::BAD_GATEWAY, "provider_truncated", Provider, "The answer is not whole.", "回答不完整。"),
            Self::Malformed => row(S::BAD_GATEWAY, "provider_malformed", Provider, "", ""),
            Self::NotAStream => row(S::BAD_GATEWAY, "provider_not_streaming", Provider, "Ask with \"stream\": false.", "请改用 \"stream\": false。"),
            Self::ErrorInReply => row(S::BAD_GATEWAY, "provider_error", Provider, "", ""),
            Self::Redirect => row(S::BAD_GATEWAY, "provider_redirect", Provider, "Is the provider's base_url right? Redirects are not followed, for they would carry the key elsewhere.", "请检查该服务商的 base_url。为避免密钥外泄，不会跟随重定向。"),
            Self::Timeout => row(S::GATEWAY_TIMEOUT, "provider_timeout", Provider, "", ""),
            Self::ShuttingDown => row(S::SERVICE_UNAVAILABLE, "shutting_down", Magpie, "Try again.", "请重试。"),
            Self::NoKey => row(S::UNAUTHORIZED, "missing_api_key", Caller, "Send it as `Authorization: Bearer mk-...`.", "请用请求头 `Authorization: Bearer mk-...` 发送密钥。"),
            Self::InvalidKey => row(S::UNAUTHORIZED, "invalid_api_key", Caller, "The owner makes keys with `magpie keys new`.", "管理员可用 `magpie keys new` 创建密钥。"),
            Self::InvalidToken => row(S::UNAUTHORIZED, "invalid_token", Caller, "", ""),
            Self::Expired => row(S::UNAUTHORIZED, "key_expired", Caller, "Ask the owner for a new one.", "请向管理员申请新的密钥。"),
            Self::Disabled => row(S::FORBIDDEN, "key_disabled", Caller, "The owner can enable it.", "可由管理员启用。"),
            Self::AddressNotAllowed => row(S::FORBIDDEN, "address_not_allowed", Caller, "The owner can change `allow` and `deny`.", "可由管理员修改 `allow` 和 `deny`。"),
            Self::OperationNotAllowed => row(S::FORBIDDEN, "operation_not_allowed", Caller, "The owner can change `operations`.", "可由管理员修改 `operations`。"),
            Self::ModelNotAllowed => row(S::FORBIDDEN, "model_not_allowed", Caller, "GET /v1/models lists those that it may.", "GET /v1/models 列出了可用的模型。"),
            Self::RateLimited => row(S::TOO_MANY_REQUESTS, "rate_limit_exceeded", Caller, "", ""),
            Self::BudgetExhausted => row(S::TOO_MANY_REQUESTS, "insufficient_quota", Caller, "The owner can raise it.", "可由管理员调高预算。"),
            Self::Unpriced => row(S::FORBIDDEN, "unpriced_model", Caller, "The owner can set `prices`, `exchange`, or `unpriced` in the budget.", "可由管理员设置 `prices`、`exchange`，或预算中的 `unpriced`。"),
            Self::IssuerUnavailable => row(S::SERVICE_UNAVAILABLE, "issuer_unavailable", Magpie, "Try again.", "请重试。"),
            Self::Internal => row(S::INTERNAL_SERVER_ERROR, "internal_error", Magpie, "This is a defect of Magpie; the owner finds it in the log by x-request-id.", "这是鹊桥的缺陷；管理员可凭 x-request-id 在日志中找到它。"),
            Self::InvalidIdempotencyKey => row(S::BAD_REQUEST, "invalid_idempotency_key", Caller, "Send one, of 1 to 255 visible ASCII characters, such as a UUID.", "请只发送一个，由 1 到 255 个可见 ASCII 字符组成，例如 UUID。"),
            Self::IdempotencyKeyReused => row(S::UNPROCESSABLE_ENTITY, "idempotency_key_reused", Caller, "Take a new key for each request, and the same one only to repeat it as it was.", "每个新请求请使用新的键；只有原样重发同一请求时才使用相同的键。"),
            Self::TooManyAtOnce => row(S::SERVICE_UNAVAILABLE, "too_many_requests_at_once", Magpie, "Try again in a second.", "请一秒后重试。"),
            Self::LedgerUnavailable => row(S::SERVICE_UNAVAILABLE, "ledger_unavailable", Magpie, "Nothing was sent to a provider. Try again.", "尚未向服务商发送任何内容，请重试。"),
        }
    }

    /// The status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.row().status
    }

    /// The machine-readable name, in `error.code`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The code of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// Who is to blame.
    #[must_use]
    pub fn blame(self) -> Blame {
        self.row().blame
    }

    /// The class, in `error.type`, in OpenAI's words.
    fn kind(self) -> &'static str {
        match self.row().blame {
            Blame::Caller if self == Self::BudgetExhausted => "insufficient_quota",
            Blame::Caller if self == Self::RateLimited => "rate_limit_error",
            Blame::Caller if self.status() == StatusCode::UNAUTHORIZED => "authentication_error",
            Blame::Caller if self.status() == StatusCode::FORBIDDEN => "permission_error",
            Blame::Caller => "invalid_request_error",
            Blame::Provider => "upstream_error",
            Blame::Magpie => "server_error",
        }
    }
}

impl Fault {
    /// A fault with its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let (param, after, header, limited) = (None, None, None, None);
        Self { code, message: message.into(), param, after, header, limited }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn param(mut self, name: &str) -> Self {
        self.param = Some(name.to_owned());
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// Names the limit or budget that refused.
    #[must_use]
    pub(crate) fn limited(mut self, holder: Kind, limit: &'static str) -> Self {
        self.limited = Some(Limited { holder, limit });
        self
    }

    /// Asks for another credential, as every answer of status 401 has to.
    #[must_use]
    pub(crate) fn challenge(self) -> Self {
        self.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// The body of the response, in the OpenAI dialect.
    #[must_use]
    pub fn to_json(&self, language: Language) -> String {
        self.body(&self.with_hint(language)).to_json()
    }

    /// The event that ends a stream which did not end well.
    #[must_use]
    pub fn to_event(&self, language: Language) -> String {
        self.body(&self.with_hint(language)).to_event()
    }

    /// Adds what the fault answers with to the headers of its response.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        if let Some(header) = &self.header {
            headers.insert(header.0.clone(), header.1.clone());
        }
        // SDKs repeat what fails with 429; a budget is no fuller a second later.
        if self.code == Code::BudgetExhausted {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
    }

    fn with_hint(&self, language: Language) -> String {
        match self.code.row().hint[language as usize] {
            "" => self.message.clone(),
            hint => format!("{} {hint}", self.message),
        }
    }

    fn body<'f>(&'f self, message: &'f str) -> ErrorBody<'f> {
        ErrorBody {
            message,
            kind: self.code.kind(),
            param: self.param.as_deref(),
            code: Some(self.code.name()),
            upstream: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_codes_are_listed_in_order_and_found_by_name() {
        // Each has a row in the table, which the compiler sees to.
        let code = include_str!("fault.rs").split("#[cfg(test)]").next().unwrap_or_default();
        let rows = code.matches(" => row(S::").count();
        assert_eq!(Code::ALL.len(), rows);
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number, "{code:?}");
            assert_eq!(Code::named(code.name()), Some(code));
        }
        assert_eq!(Code::named("nothing"), None);
    }
}
