//! Who may call from where: host names, origins, preflights.

use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use policy::Access;
use relay::{Code, Visitor, access};

use crate::world::snapshot;

/// What a configuration makes of access.
fn configured(yaml: &str) -> Access {
    snapshot(yaml).access.clone()
}

fn usual() -> Access {
    configured("")
}

fn parts(method: Method, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn admitted(access: &Access, uri: &str, headers: &[(&str, &str)]) -> Result<Visitor, Code> {
    access::admit(&parts(Method::POST, uri, headers), access).map_err(|fault| fault.code)
}

fn is_host(access: &Access, host: &str) -> bool {
    match admitted(access, "/v1/models", &[("host", host)]) {
        Ok(visitor) => !visitor.is_page(),
        Err(code) => {
            assert_eq!(code, Code::ForeignHost);
            false
        }
    }
}

fn is_origin(access: &Access, origin: &str) -> bool {
    match admitted(access, "/v1/models", &[("host", "127.0.0.1:8000"), ("origin", origin)]) {
        Ok(visitor) => visitor.is_page(),
        Err(code) => {
            assert_eq!(code, Code::ForeignOrigin);
            false
        }
    }
}

const OWN_HOSTS: [&str; 12] = [
    "localhost",
    "localhost:8000",
    "LocalHost:1",
    "127.0.0.1",
    "127.0.0.1:8000",
    "[::1]",
    "[::1]:8000",
    "app.localhost",
    "evil.localhost:3000",
    "a.b.localhost",
    "127.0.0.1:",
    "localhost:",
];
const FOREIGN_HOSTS: [&str; 18] = [
    "evil.com",
    "evil.com:8000",
    "localhost.evil.com",
    "127.0.0.1.evil.com",
    "127.0.0.1.nip.io",
    "evillocalhost",
    "localhost.",
    "127.0.0.2",
    "0.0.0.0",
    "10.0.0.1",
    "192.168.1.7:8000",
    "[::2]",
    "[::]",
    "::1",
    "2130706433",
    "0x7f.1",
    "",
    "magpie.example.com",
];

#[test]
fn only_local_hosts_are_ours_by_default() {
    let access = usual();
    for host in OWN_HOSTS {
        assert!(is_host(&access, host), "{host}");
    }
    for host in FOREIGN_HOSTS {
        assert!(!is_host(&access, host), "{host}");
    }
}

#[test]
fn configured_hosts_are_ours_too_and_so_is_the_address_listened_on() {
    let access = configured("hosts: [Magpie.Example.com]\nlisten: 127.0.0.7:8000");
    for host in ["magpie.example.com", "MAGPIE.example.com:443", "localhost", "127.0.0.7:8000"] {
        assert!(is_host(&access, host), "{host}");
    }
    for host in ["example.com", "a.magpie.example.com", "magpie.example.com.evil.com", "127.0.0.8"]
    {
        assert!(!is_host(&access, host), "{host}");
    }
}

#[test]
fn a_public_listener_takes_every_host_unless_some_are_named() {
    let any = configured("listen: 0.0.0.0:8000\nopen: true");
    let named = configured("listen: 0.0.0.0:8000\nopen: true\nhosts: [magpie.lan]");
    for host in ["evil.com", "10.0.0.1:8000"] {
        assert!(is_host(&any, host), "{host}");
        assert!(!is_host(&named, host), "{host}");
    }
    assert!(is_host(&named, "magpie.lan:8000"));
}

#[test]
fn a_request_names_one_host_and_the_same_everywhere() {
    let access = usual();
    let one = [("host", "localhost")];
    let two = [("host", "localhost"), ("host", "localhost")];
    let mixed = [("host", "localhost"), ("host", "evil.com")];
    assert!(admitted(&access, "/", &one).is_ok());
    assert_eq!(admitted(&access, "/", &two).unwrap_err(), Code::ForeignHost);
    assert_eq!(admitted(&access, "/", &mixed).unwrap_err(), Code::ForeignHost);
    assert!(admitted(&access, "/", &[]).is_ok(), "HTTP/1.0 names none");
    assert!(admitted(&access, "http://localhost:8000/", &[]).is_ok());
    for (uri, host) in [
        ("http://evil.com/v1/models", "localhost"),
        ("http://localhost/v1/models", "evil.com"),
        ("http://evil.com/v1/models", "evil.com"),
    ] {
        assert_eq!(
            admitted(&access, uri, &[("host", host)]).unwrap_err(),
            Code::ForeignHost,
            "{uri} with {host}"
        );
    }
    let foreign = admitted(&access, "http://evil.com/", &[]);
    assert_eq!(foreign.unwrap_err(), Code::ForeignHost);
}

#[test]
fn a_host_that_is_no_text_is_foreign() {
    let mut parts = parts(Method::GET, "/", &[]);
    let value = http::HeaderValue::from_bytes(b"localhost\xff").unwrap();
    parts.headers.insert("host", value);
    let fault = access::admit(&parts, &usual()).unwrap_err();
    assert_eq!(fault.code, Code::ForeignHost);
    assert_eq!(fault.code.status(), 403);
}

#[test]
fn what_another_site_loads_from_the_api_is_refused_though_it_names_no_origin() {
    let cross = ("sec-fetch-site", "cross-site");
    let host = ("host", "127.0.0.1:8000");
    assert_eq!(admitted(&usual(), "/v1/models", &[host, cross]).err(), Some(Code::ForeignOrigin));
    assert!(admitted(&usual(), "/docs", &[host, cross]).is_ok(), "a link from anywhere");
    assert!(admitted(&usual(), "/v1/models", &[host, ("sec-fetch-site", "none")]).is_ok());
    for host in ["[::1].evil.com", "localhost:80@evil.com", "127.0.0.1:x"] {
        assert!(!is_host(&usual(), host), "{host}");
    }
}

#[test]
fn only_pages_of_this_machine_may_call_by_default() {
    let access = usual();
    for origin in [
        "http://localhost",
        "http://localhost:3000",
        "https://localhost:8443",
        "http://127.0.0.1:5173",
        "http://[::1]:5173",
        "http://app.localhost:3000",
        "HTTP://LOCALHOST:3000",
    ] {
        assert!(is_origin(&access, origin), "{origin}");
    }
    for origin in [
        "https://evil.com",
        "http://localhost.evil.com",
        "http://evil.com:8000",
        "http://evillocalhost",
        "null",
        "",
        "localhost",
        "file://",
        "chrome-extension://localhost",
        "ftp://localhost",
        "http://192.168.1.7:3000",
        "http://127.0.0.2",
    ] {
        assert!(!is_origin(&access, origin), "{origin}");
    }
}

#[test]
fn configured_origins_replace_those_of_this_machine() {
    let access = configured("cors: { origins: [\"https://App.example.com\", \"http://a.b:81\"] }");
    for origin in ["https://app.example.com", "https://APP.example.com", "http://a.b:81"] {
        assert!(is_origin(&access, origin), "{origin}");
    }
    for origin in [
        "http://localhost:3000",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://x.app.example.com",
        "https://app.example.com.evil.com",
        "null",
    ] {
        assert!(!is_origin(&access, origin), "{origin}");
    }
}

#[test]
fn a_star_lets_every_page_in() {
    let access = configured("cors: { origins: [\"*\"] }");
    for origin in ["https://evil.com", "null", "http://localhost"] {
        assert!(is_origin(&access, origin), "{origin}");
    }
    let none = configured("cors: { origins: [] }");
    assert!(!is_origin(&none, "http://localhost"));
}

#[test]
fn a_page_of_this_very_host_may_call() {
    let named = configured("hosts: [magpie.lan]\ncors: { origins: [] }");
    let page =
        |host: &str, origin: &str| [("host", host.to_owned()), ("origin", origin.to_owned())];
    let admits = |access: &Access, host: &str, origin: &str| {
        let headers = page(host, origin);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        admitted(access, "/", &headers).is_ok()
    };
    assert!(admits(&named, "magpie.lan:8000", "http://magpie.lan:8000"));
    assert!(!admits(&named, "magpie.lan:8000", "http://magpie.lan:9000"));
    let open = configured("listen: 0.0.0.0:8000\nopen: true");
    assert!(admits(&open, "10.0.0.1:8000", "http://10.0.0.1:8000"));
    assert!(!admits(&open, "rebound.evil.com", "http://rebound.evil.com"), "a name may be rebound");
}

#[test]
fn several_origins_are_none() {
    let headers = [("origin", "http://localhost"), ("origin", "http://localhost")];
    assert_eq!(admitted(&usual(), "/", &headers).unwrap_err(), Code::ForeignOrigin);
}

fn stamped(visitor: &Visitor) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("vary", "accept".parse().unwrap());
    visitor.stamp(&mut headers);
    headers
}

#[test]
fn a_program_gets_no_cors_headers() {
    let visitor = admitted(&usual(), "/", &[("host", "localhost")]).unwrap();
    assert!(!visitor.is_page());
    assert_eq!(stamped(&visitor).len(), 1);
}

#[test]
fn a_page_may_read_its_response_and_caches_keep_pages_apart() {
    let visitor = admitted(&usual(), "/", &[("origin", "http://LOCALHOST:3000")]).unwrap();
    let headers = stamped(&visitor);
    assert_eq!(headers["access-control-allow-origin"], "http://LOCALHOST:3000");
    let exposed = headers["access-control-expose-headers"].to_str().unwrap();
    for name in ["x-request-id", "x-magpie-provider", "retry-after", "openai-processing-ms"] {
        assert!(exposed.contains(name), "{name}");
    }
    let vary: Vec<_> = headers.get_all("vary").iter().collect();
    assert_eq!(vary, ["accept", "origin"]);
    assert!(!headers.contains_key("access-control-allow-credentials"));
}

/// The answer to an OPTIONS request of a page.
fn preflight(access: &Access, headers: &[(&str, &str)]) -> Option<Response<()>> {
    let parts = parts(Method::OPTIONS, "/v1/chat/completions", headers);
    access::admit(&parts, access).unwrap().preflight(&parts, access)
}

const PAGE: (&str, &str) = ("origin", "http://localhost:3000");
const ASKS: (&str, &str) = ("access-control-request-method", "POST");

#[test]
fn a_preflight_is_answered_with_what_the_page_asks_for() {
    let asked = ("access-control-request-headers", "authorization,x-stainless-os");
    let private = ("access-control-request-private-network", "true");
    let response = preflight(&usual(), &[PAGE, ASKS, asked, private]).unwrap();
    assert_eq!(response.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", "http://localhost:3000"),
        ("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE"),
        ("access-control-allow-headers", "authorization,x-stainless-os"),
        ("access-control-max-age", "600"),
        ("access-control-allow-private-network", "true"),
        ("vary", "origin"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    let plain = preflight(&usual(), &[PAGE, ASKS]).unwrap();
    for name in ["access-control-allow-headers", "access-control-allow-private-network"] {
        assert!(!plain.headers().contains_key(name), "{name}");
    }
}

#[test]
fn a_preflight_is_answered_as_configured() {
    let access =
        configured("cors: { methods: [GET, POST], headers: [authorization, content-type] }");
    let asked = ("access-control-request-headers", "x-other");
    let response = preflight(&access, &[PAGE, ASKS, asked]).unwrap();
    assert_eq!(response.headers()["access-control-allow-methods"], "GET, POST");
    assert_eq!(response.headers()["access-control-allow-headers"], "authorization, content-type");
}

#[test]
fn what_is_no_preflight_is_not_answered_as_one() {
    assert!(preflight(&usual(), &[PAGE]).is_none(), "no method is asked for");
    assert!(preflight(&usual(), &[ASKS]).is_none(), "no page asks");
    let parts = parts(Method::POST, "/", &[PAGE, ASKS]);
    let visitor = access::admit(&parts, &usual()).unwrap();
    assert!(visitor.preflight(&parts, &usual()).is_none());
}

#[test]
fn a_preflight_of_a_foreign_page_is_refused() {
    let headers = [("origin", "https://evil.com"), ASKS];
    let parts = parts(Method::OPTIONS, "/v1/models", &headers);
    let fault = access::admit(&parts, &usual()).unwrap_err();
    assert_eq!((fault.code, fault.code.status().as_u16()), (Code::ForeignOrigin, 403));
    let json = fault.to_json(relay::Language::En);
    assert!(json.contains("permission_error") && json.contains("cors.origins"), "{json}");
    assert!(!json.contains("access-control"), "{json}");
}
