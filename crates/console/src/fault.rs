//! What can go wrong, in one table: status, name, and what to do about it.
//!
//! The shape is the data plane's, which is OpenAI's: `{"error": {message, type, param, code}}`.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
pub use policy::Language;
use serde_json::json;

/// A refusal or failure on its way to the client.
#[derive(Debug)]
pub struct Fault {
    /// What it is.
    pub code: Code,
    /// What was wrong, in this case. Never holds a token, a key or a digest.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// A header to answer with, such as `Allow`.
    pub header: Option<Box<(HeaderName, HeaderValue)>>,
}

/// The kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No token, or none that is known. One answer for both.
    NoToken,
    /// Too many unknown tokens came from this address.
    TooManyTries,
    /// The role does not include this route.
    NotAllowed,
    /// The role does not include this field.
    FieldNotAllowed,
    /// More than the holder above is allowed.
    BeyondGrant,
    /// A web page that is not served from here.
    ForeignOrigin,
    /// A host name that is not ours.
    ForeignHost,
    /// The path holds what no path of this API holds.
    InvalidPath,
    /// Nothing lives at this path, or nothing that the caller may see.
    NotFound,
    /// Nobody serves this model.
    UnknownModel,
    /// Not this way.
    WrongMethod,
    /// The body is not announced as JSON.
    JsonRequired,
    /// The body is no JSON object.
    InvalidJson,
    /// A field is unknown, missing, or has a value that cannot be.
    InvalidField,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The body did not arrive in time, or not whole.
    BodyTimeout,
    /// There is one of this id already.
    Exists,
    /// It still holds others.
    NotEmpty,
    /// The configuration file owns it.
    OwnedByFile,
    /// It is not in a state in which this can be done.
    Conflict,
    /// The configuration file has problems.
    InvalidConfig,
    /// More calls at once than are served.
    Busy,
    /// The store failed.
    Store,
    /// What runs behind the API refused or failed.
    Failed,
}

/// Status, name, and what to do about it, in English and Chinese.
type Row = (StatusCode, &'static str, [&'static str; 2]);

impl Code {
    #[rustfmt::skip] // a table
    fn row(self) -> Row {
        type S = StatusCode;
        match self {
            Self::NoToken => (S::UNAUTHORIZED, "invalid_admin_token", ["Send an admin token: `Authorization: Bearer mat-...`. It was printed at the first start, or is what MAGPIE_ADMIN_TOKEN holds.", "请发送管理令牌：`Authorization: Bearer mat-...`。它在首次启动时打印，或由 MAGPIE_ADMIN_TOKEN 设定。"]),
            Self::TooManyTries => (S::TOO_MANY_REQUESTS, "too_many_attempts", ["A right token has to wait as well.", "正确的令牌也需要等待。"]),
            Self::NotAllowed => (S::FORBIDDEN, "role_not_allowed", ["GET /admin/v1/me says what your role may do.", "GET /admin/v1/me 列出了您的角色可做的事。"]),
            Self::FieldNotAllowed => (S::FORBIDDEN, "field_not_allowed", ["An owner or admin can set it.", "可由 owner 或 admin 设置。"]),
            Self::BeyondGrant => (S::FORBIDDEN, "beyond_grant", ["Nobody can hand on more than the team or org above has.", "授予的权限不能超过上级团队或组织。"]),
            Self::ForeignOrigin => (S::FORBIDDEN, "origin_not_allowed", ["The admin API answers programs, and pages of its own address.", "管理接口只接受程序和自身地址的页面。"]),
            Self::ForeignHost => (S::FORBIDDEN, "host_not_allowed", ["The owner can add a name with `hosts` in the configuration.", "可由管理员在配置的 `hosts` 中加入该主机名。"]),
            Self::InvalidPath => (S::BAD_REQUEST, "invalid_path", ["", ""]),
            Self::NotFound => (S::NOT_FOUND, "not_found", ["GET /admin/v1/openapi.json lists what there is.", "GET /admin/v1/openapi.json 列出了所有接口。"]),
            Self::UnknownModel => (S::NOT_FOUND, "model_not_found", ["GET /v1/models lists what there is.", "GET /v1/models 列出了所有模型。"]),
            Self::WrongMethod => (S::METHOD_NOT_ALLOWED, "method_not_allowed", ["", ""]),
            Self::JsonRequired => (S::UNSUPPORTED_MEDIA_TYPE, "json_required", ["Send `Content-Type: application/json`.", "请发送 `Content-Type: application/json`。"]),
            Self::InvalidJson => (S::BAD_REQUEST, "invalid_json", ["Send one JSON object.", "请发送一个 JSON 对象。"]),
            Self::InvalidField => (S::UNPROCESSABLE_ENTITY, "invalid_field", ["", ""]),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body_too_large", ["", ""]),
            Self::BodyTimeout => (S::REQUEST_TIMEOUT, "body_timeout", ["", ""]),
            Self::Exists => (S::CONFLICT, "already_exists", ["", ""]),
            Self::NotEmpty => (S::CONFLICT, "not_empty", ["Delete or revoke first what is in it.", "请先删除或撤销其中的内容。"]),
            Self::OwnedByFile => (S::CONFLICT, "owned_by_file", ["Change it in the configuration file.", "请在配置文件中修改。"]),
            Self::Conflict => (S::CONFLICT, "conflict", ["", ""]),
            Self::InvalidConfig => (S::UNPROCESSABLE_ENTITY, "invalid_config", ["The running configuration stays.", "当前运行的配置保持不变。"]),
            Self::Busy => (S::SERVICE_UNAVAILABLE, "busy", ["Try again.", "请重试。"]),
            Self::Store => (S::SERVICE_UNAVAILABLE, "store_unavailable", ["Nothing was changed. The log says why.", "未作任何更改，原因见日志。"]),
            Self::Failed => (S::INTERNAL_SERVER_ERROR, "internal_error", ["", ""]),
        }
    }

    /// The status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.row().0
    }

    /// The machine-readable name, in `error.code`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The class, in `error.type`, in OpenAI's words.
    fn kind(self) -> &'static str {
        match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }
}

impl Fault {
    /// A fault with its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None, header: None }
    }

    /// A field whose value cannot be.
    pub fn field(name: &str, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidField, message).param(name)
    }

    /// What is not there and what the caller may not see are answered alike: the words hold
    /// nothing of what was asked for.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "There is no such thing here.")
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

    /// The response, with its hint in the client's language.
    #[must_use]
    pub fn respond(self, language: Language) -> Response {
        let (status, name, hints) = self.code.row();
        let message = match hints[language as usize] {
            "" => self.message,
            hint => format!("{} {hint}", self.message),
        };
        let body = json!({ "error": {
            "message": message, "type": self.code.kind(), "param": self.param, "code": name,
        }});
        let mut response = (status, axum::Json(body)).into_response();
        if let Some(pair) = self.header {
            response.headers_mut().insert(pair.0, pair.1);
        }
        response
    }
}

/// What SQLite says stays in the log of whoever runs this: it may hold values.
impl From<rusqlite::Error> for Fault {
    fn from(_: rusqlite::Error) -> Self {
        Self::new(Code::Store, "The settings store cannot be read or written.")
    }
}
