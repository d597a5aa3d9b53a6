//! An issuer as written.

use jsonwebtoken::Algorithm;
use schemars::JsonSchema;
use serde::Deserialize;

/// An issuer whose tokens are taken in place of keys. Its key comes from one of `secret`,
/// `public_key`, `jwks` and `jwks_url`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    /// What `iss` has to be, letter for letter.
    #[schemars(extend("x-example" = "https://login.example.com/"))]
    pub issuer: String,
    /// What `aud` has to name, letter for letter; of a list, one is enough.
    #[schemars(extend("x-example" = "magpie"))]
    pub audience: Audiences,
    /// The one algorithm its tokens are signed with: `HS256`, `HS384`, `HS512`, `RS256`, `RS384`,
    /// `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384` or `EdDSA`.
    #[schemars(extend("x-example" = "RS256"))]
    pub algorithm: Option<JwtAlgorithm>,
    /// The secret of the HS algorithms, at least as long as their hash: 32, 48 or 64 bytes.
    #[schemars(extend("x-example" = "${JWT_SECRET}", "x-alternative" = true))]
    pub secret: Option<String>,
    /// The public key as PEM, for all other algorithms.
    #[schemars(extend("x-example" = "${JWT_PUBLIC_KEY}", "x-alternative" = true))]
    pub public_key: Option<String>,
    /// The keys as a JSON Web Key Set.
    #[schemars(extend("x-example" = {"keys": []}, "x-alternative" = true))]
    pub jwks: Option<serde_json::Value>,
    /// Where the issuer publishes its key set. Fetched again every ten minutes, and when a token
    /// names a key that is not in it. https, except on this machine.
    #[schemars(extend("x-example" = "https://login.example.com/.well-known/jwks.json"))]
    pub jwks_url: Option<String>,
    /// A file of PEM certificates to trust for `jwks_url`, beside the usual ones.
    #[schemars(extend("x-example" = "/etc/ssl/lab-ca.pem"))]
    pub ca_file: Option<String>,
    /// Where in a token it says who calls.
    pub claims: ClaimPaths,
    /// How far the clocks may differ. Default `30s`, at most `5m`.
    #[schemars(extend("x-example" = "30s"))]
    pub leeway: Option<String>,
}

/// Where in a token it says who calls: names of claims, with dots for claims within claims. A claim
/// that is named here has to be there.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimPaths {
    /// The user. Default `sub`.
    #[schemars(extend("x-example" = "sub"))]
    pub user: String,
    /// The team.
    #[schemars(extend("x-example" = "team"))]
    pub team: Option<String>,
    /// The organisation.
    #[schemars(extend("x-example" = "realm.org"))]
    pub org: Option<String>,
    /// The models that may be asked for: a list of names, in which `*` stands for any text.
    #[schemars(extend("x-example" = "magpie.models"))]
    pub models: Option<String>,
    /// Limits, written as in this file.
    #[schemars(extend("x-example" = "magpie.limits"))]
    pub limits: Option<String>,
}

impl Default for ClaimPaths {
    fn default() -> Self {
        Self { user: String::from("sub"), team: None, org: None, models: None, limits: None }
    }
}

/// One audience, or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Audiences {
    /// One.
    One(String),
    /// Several, of which a token has to name one.
    Several(Vec<String>),
}

impl Default for Audiences {
    /// None, which no issuer may have.
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Audiences {
    /// Each of them.
    #[must_use]
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }
}

/// A signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSA, PKCS #1, with SHA-256.
    RS256,
    /// RSA, PKCS #1, with SHA-384.
    RS384,
    /// RSA, PKCS #1, with SHA-512.
    RS512,
    /// RSA, PSS, with SHA-256.
    PS256,
    /// RSA, PSS, with SHA-384.
    PS384,
    /// RSA, PSS, with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl From<JwtAlgorithm> for Algorithm {
    fn from(algorithm: JwtAlgorithm) -> Self {
        match algorithm {
            JwtAlgorithm::HS256 => Self::HS256,
            JwtAlgorithm::HS384 => Self::HS384,
            JwtAlgorithm::HS512 => Self::HS512,
            JwtAlgorithm::RS256 => Self::RS256,
            JwtAlgorithm::RS384 => Self::RS384,
            JwtAlgorithm::RS512 => Self::RS512,
            JwtAlgorithm::PS256 => Self::PS256,
            JwtAlgorithm::PS384 => Self::PS384,
            JwtAlgorithm::PS512 => Self::PS512,
            JwtAlgorithm::ES256 => Self::ES256,
            JwtAlgorithm::ES384 => Self::ES384,
            JwtAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}
