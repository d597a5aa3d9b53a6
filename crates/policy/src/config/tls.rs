//! HTTPS as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::At;

/// HTTPS on a listener: either a certificate of yours (`cert` and `key`), or one that is ordered
/// and renewed for you (`acme`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The certificate in PEM, with the intermediate ones behind it. It is read again when it
    /// changes; while the new one is unusable, the one before stays.
    #[schemars(extend("x-example" = "/etc/magpie/tls/fullchain.pem"))]
    pub cert: Option<At<String>>,
    /// Its private key in PEM, without a password.
    #[schemars(extend("x-example" = "/etc/magpie/tls/key.pem"))]
    pub key: Option<At<String>>,
    /// The authorities, in PEM, whose client certificates are let in. Without it, clients are not
    /// asked for one.
    #[schemars(extend("x-example" = "/etc/magpie/tls/clients-ca.pem"))]
    pub client_ca: Option<At<String>>,
    /// With `client_ca`: whether a client may come without a certificate. Default `required`.
    #[schemars(extend("x-example" = "required"))]
    pub client_auth: Option<ClientAuth>,
    /// A certificate from an ACME authority, such as Let's Encrypt. Setting this is to agree to
    /// the terms of that authority.
    #[schemars(extend("x-alternative" = true))]
    pub acme: Option<At<AcmeConfig>>,
}

/// Whether a client needs a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// One may be shown, and is checked then.
    Optional,
    /// Nobody gets in without one.
    Required,
}

/// A certificate that is ordered and renewed without your doing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AcmeConfig {
    /// The names to be certified. Each has to lead here from everywhere. They count as `hosts`.
    #[schemars(extend("x-example" = ["magpie.example.com"]))]
    pub domains: Vec<String>,
    /// Where the authority may reach you.
    #[schemars(extend("x-example" = "admin@example.com"))]
    pub email: Option<String>,
    /// The authority's directory. Default: Let's Encrypt.
    #[schemars(extend("x-example" = "https://acme-v02.api.letsencrypt.org/directory"))]
    pub directory: Option<String>,
    /// A file of PEM certificates to trust for the directory, beside the usual ones.
    #[schemars(extend("x-example" = "/etc/ssl/lab-ca.pem"))]
    pub ca_file: Option<String>,
    /// The folder for the account's key and the certificate. Default: `acme` in the data folder.
    #[schemars(extend("x-example" = "/var/lib/magpie/acme"))]
    pub storage: Option<String>,
    /// How the authority sees that the names are yours: `tls-alpn-01` connects to port 443, which
    /// has to lead to this listener; `http-01` to port 80, which has to lead to `http_listen`.
    /// Default `tls-alpn-01`.
    #[schemars(extend("x-example" = "tls-alpn-01"))]
    pub challenge: AcmeChallenge,
    /// With `http-01`: where its questions are answered, and nothing else. Default `0.0.0.0:80`.
    #[schemars(extend("x-example" = "0.0.0.0:80"))]
    pub http_listen: Option<String>,
}

/// How an ACME authority sees that a name leads here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum AcmeChallenge {
    /// Over TLS, on port 443.
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
    /// Over clear text, on port 80.
    #[serde(rename = "http-01")]
    Http,
}
