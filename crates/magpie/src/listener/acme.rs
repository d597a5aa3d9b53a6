//! A certificate from an ACME authority (RFC 8555): ordered, stored, renewed in time.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use policy::HttpVersions;
use policy::tls::Challenge;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::authority::Client;
use super::certificate::{self, Validity};
use super::challenges::Challenges;
use super::identity;
use super::storage::Storage;
use crate::log::note;
use crate::upstream;

/// Where the account's key is kept.
const ACCOUNT: &str = "account.json";
/// How long an order may take.
const ORDER: Duration = Duration::from_secs(10 * 60);
/// How an authority is asked whether it has done its part.
const POLLING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).timeout(Duration::from_secs(120));
/// Rest after a first failure; twice as long after each further one. Let's Encrypt takes five
/// failures of a name in an hour.
const FIRST_REST: Duration = Duration::from_secs(2 * 60);
/// The longest rest.
const LAST_REST: Duration = Duration::from_secs(6 * 3600);
/// The longest sleep until a certificate is due: clocks are set, and machines sleep.
const LOOK: Duration = Duration::from_secs(3600);
/// Clients of the clear-text listener at once.
const MAX_CLIENTS: usize = 64;
/// How long one of them may take.
const CLIENT: Duration = Duration::from_secs(10);
/// Under which path authorities ask in clear text.
const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// One certificate of one authority.
pub(super) struct Acme {
    settings: policy::tls::Acme,
    storage: Storage,
    /// The file that holds key and certificate.
    file: String,
    path: PathBuf,
    provider: Arc<CryptoProvider>,
    challenges: Arc<Challenges>,
    /// Where questions in clear text are answered, until they are.
    http: std::sync::Mutex<Option<std::net::TcpListener>>,
}

impl Acme {
    /// Makes the folder below `data`, and listens for questions in clear text if there will be any.
    ///
    /// # Errors
    /// A sentence, if either cannot be done.
    pub(super) fn open(
        settings: &policy::tls::Acme,
        data: Option<&Path>,
        challenges: Arc<Challenges>,
    ) -> Result<Self, String> {
        let usual = || data.map(|data| data.join("acme"));
        let base = settings.storage.clone().or_else(usual).ok_or("acme.storage names no folder")?;
        let storage = Storage::open(&base, &settings.directory)
            .map_err(|fault| format!("{}: {fault}", base.display()))?;
        let http = match settings.challenge {
            Challenge::TlsAlpn => None,
            Challenge::Http(address) => {
                let listening = std::net::TcpListener::bind(address).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                });
                Some(listening.map_err(|fault| {
                    format!("cannot listen on {address}, where ACME asks: {fault}")
                })?)
            }
        };
        let name = settings.domains.first().map_or("certificate", String::as_str);
        let file = format!("{name}.pem");
        Ok(Self {
            settings: settings.clone(),
            path: storage.path(&file),
            storage,
            file,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            challenges,
            http: std::sync::Mutex::new(http),
        })
    }

    /// The file that holds key and certificate, once there is one.
    pub(super) fn certificate(&self) -> &Path {
        &self.path
    }

    /// Orders whenever it is time to, and says so when there is a new certificate.
    pub(super) async fn keep(&self, ordered: impl Fn()) {
        let http = self.http.lock().ok().and_then(|mut http| http.take());
        if let Some(listener) = http.and_then(|http| TcpListener::from_std(http).ok()) {
            tokio::spawn(answer_all(listener, Arc::clone(&self.challenges)));
        }
        let mut failures = 0;
        loop {
            while let Some(wait) = self.until_due().filter(|wait| !wait.is_zero()) {
                sleep(wait.min(LOOK)).await;
            }
            let result = timeout(ORDER, self.order()).await;
            self.challenges.clear();
            let fault = match result.unwrap_or_else(|late| Err(late.into())) {
                Ok(()) => {
                    ordered();
                    // Otherwise it would be ordered again and again.
                    match self.until_due() {
                        Some(wait) if !wait.is_zero() => {
                            failures = 0;
                            continue;
                        }
                        _ => "the new certificate is due already; is the clock right?".into(),
                    }
                }
                Err(fault) => fault,
            };
            failures += 1;
            let rest = rest(failures);
            let names = self.settings.domains.join(", ");
            note(&format!("ACME: no certificate for {names}: {fault}; again in {rest:?}"));
            sleep(rest).await;
        }
    }

    /// How long the stored certificate need not be renewed; `None` if there is none of use.
    fn until_due(&self) -> Option<Duration> {
        let pem = self.storage.read(&self.file).ok().flatten()?;
        let validity = self.covered(&pem).ok()?;
        let due = due(validity);
        Some(due.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Whether a certificate is for all the names, and with its key; how long, if it is.
    fn covered(&self, pem: &[u8]) -> Result<Validity, Fault> {
        let pair = identity::pair(pem, pem, &self.provider)?;
        let own = pair.cert.first().ok_or("no certificate")?;
        let parsed = ParsedCertificate::try_from(own)?;
        for name in &self.settings.domains {
            verify_server_name(&parsed, &ServerName::try_from(name.as_str())?)?;
        }
        Ok(certificate::validity(own).map_err(|fault| fault.to_string())?)
    }

    async fn order(&self) -> Result<(), Fault> {
        let account = self.account().await?;
        let names: Vec<Identifier> =
            self.settings.domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = match account.new_order(&NewOrder::new(&names)).await {
            Err(instant_acme::Error::Api(problem)) if is_unknown_account(&problem) => {
                self.storage.remove(ACCOUNT)?;
                return Err("the authority has forgotten the account; a new one is next".into());
            }
            other => other?,
        };
        self.take_challenges(&mut order).await?;
        if order.poll_ready(&POLLING).await? == OrderStatus::Invalid {
            return Err("the authority has refused the order".into());
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&POLLING).await?;
        let pem = key + &chain;
        self.covered(pem.as_bytes())?;
        self.storage.write(&self.file, pem.as_bytes())?;
        note(&format!("ACME: a certificate for {}", self.settings.domains.join(", ")));
        Ok(())
    }

    /// Prepares an answer for every name that is not proven yet, and says that it may be asked for.
    async fn take_challenges(&self, order: &mut Order) -> Result<(), Fault> {
        let kind = match self.settings.challenge {
            Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
            Challenge::Http(_) => ChallengeType::Http01,
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                other => return Err(format!("an authorization is {other:?}").into()),
            }
            let name = authorization.identifier().to_string();
            let mut challenge = authorization
                .challenge(kind.clone())
                .ok_or_else(|| format!("the authority does not offer {kind:?} for {name}"))?;
            let answer = challenge.key_authorization();
            match self.settings.challenge {
                Challenge::TlsAlpn => {
                    let digest = answer.digest();
                    self.challenges.answer_tls(&name, digest.as_ref(), &self.provider)?;
                }
                Challenge::Http(_) => {
                    self.challenges.answer_text(&challenge.token, answer.as_str());
                }
            }
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// The account of before, or a new one.
    async fn account(&self) -> Result<Account, Fault> {
        let ca_file = self.settings.ca_file.clone();
        // Reading the system's certificates takes a while.
        let trust = tokio::task::spawn_blocking(move || {
            upstream::client_config(ca_file.as_deref(), HttpVersions::Http1)
        });
        let client = Client::new(trust.await?.map_err(|fault| fault.to_string())?);
        let builder = Account::builder_with_http(Box::new(client));
        if let Some(stored) = self.storage.read(ACCOUNT)? {
            let credentials: AccountCredentials = serde_json::from_slice(&stored)?;
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact = self.settings.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let directory = self.settings.directory.clone();
        let (account, credentials) = builder.create(&account, directory, None).await?;
        self.storage.write(ACCOUNT, &serde_json::to_vec(&credentials)?)?;
        Ok(account)
    }
}

/// When a certificate has to be renewed: a third of its time is left then.
fn due(validity: Validity) -> SystemTime {
    let whole = validity.until.duration_since(validity.from).unwrap_or_default();
    validity.until - whole / 3
}

/// How long to rest after so many failures in a row, from 1.
fn rest(failures: u32) -> Duration {
    FIRST_REST.saturating_mul(1 << (failures - 1).min(16)).min(LAST_REST)
}

fn is_unknown_account(problem: &instant_acme::Problem) -> bool {
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

/// Answers an authority's questions in clear text, and nothing else.
async fn answer_all(listener: TcpListener, challenges: Arc<Challenges>) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let challenges = Arc::clone(&challenges);
                tokio::spawn(async move {
                    let _place = place;
                    let _ = timeout(CLIENT, answer(stream, challenges)).await;
                });
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn answer(stream: TcpStream, challenges: Arc<Challenges>) -> hyper::Result<()> {
    let handler = service_fn(move |request: Request<Incoming>| {
        let token = request.uri().path().strip_prefix(WELL_KNOWN);
        let text = token.and_then(|token| challenges.text_for(token));
        let status = if text.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        let mut response = Response::new(Full::<Bytes>::from(text.unwrap_or_default()));
        *response.status_mut() = status;
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), handler);
    connection.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_its_time_is_left_when_a_certificate_is_renewed() {
        let day = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
        assert_eq!(due(Validity { from: day(1000), until: day(1090) }), day(1060));
        assert_eq!(due(Validity { from: day(1000), until: day(1006) }), day(1004));
        // A certificate that ends before it begins is due at its end.
        assert_eq!(due(Validity { from: day(9), until: day(3) }), day(3));
    }

    #[test]
    fn no_hour_sees_more_failures_than_an_authority_takes() {
        let mut at = Duration::ZERO;
        let tries: Vec<Duration> = (1..40)
            .map(|failures| {
                let now = at;
                at += rest(failures);
                now
            })
            .collect();
        for start in &tries {
            let hour = *start..*start + Duration::from_secs(3600);
            assert!(tries.iter().filter(|now| hour.contains(*now)).count() <= 5);
        }
        assert_eq!((rest(1), rest(2), rest(30)), (FIRST_REST, FIRST_REST * 2, LAST_REST));
    }
}
