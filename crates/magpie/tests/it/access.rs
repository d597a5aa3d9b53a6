//! Who may call from where, over real sockets: host names, web pages, CORS.

use testkit::ScriptedUpstream;

use crate::client::{Reply, request};
use crate::harness::{CHAT, Magpie, Setup, chat};

fn open_here() -> (ScriptedUpstream, Magpie) {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).start();
    (upstream, magpie)
}

fn ask_from(magpie: &Magpie, headers: &[(&str, &str)]) -> Reply {
    let headers = [headers, &[("content-type", "application/json")]].concat();
    magpie.call("POST", CHAT, &headers, &chat("up/ok", false))
}

#[test]
fn only_the_own_names_of_this_machine_are_answered() {
    let (upstream, magpie) = open_here();
    let own = magpie.address.to_string();
    for host in ["localhost", "LOCALHOST:8000", "127.0.0.1", &own, "[::1]:8000", "app.localhost"] {
        assert_eq!(ask_from(&magpie, &[("host", host)]).status(), 200, "{host}");
        assert_eq!(magpie.call("GET", "/", &[("host", host)], "").status(), 200, "{host}");
    }
    upstream.clear();
    for host in
        ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil", ""]
    {
        ask_from(&magpie, &[("host", host)]).assert_error(403, "host_not_allowed");
        // Nor can a page that rebinds its name read anything else here.
        magpie.call("GET", "/", &[("host", host)], "").assert_error(403, "host_not_allowed");
    }
    assert!(upstream.received().is_empty());
}

#[test]
fn two_hosts_or_a_foreign_one_in_the_request_line_are_refused() {
    let (upstream, magpie) = open_here();
    let body = chat("up/ok", false);
    let twice = [("host", "localhost"), ("host", "evil.example")];
    assert!((400..500).contains(&magpie.call("POST", CHAT, &twice, &body).status()));
    let absolute = format!("http://evil.example{CHAT}");
    let reply = magpie.call("POST", &absolute, &[("host", "localhost")], &body);
    assert_eq!(reply.status(), 403, "{}", reply.text());
    assert!(upstream.received().is_empty());
}

#[test]
fn configured_host_names_are_answered_too() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url()).and("hosts: [Magpie.Example.com]").start();
    assert_eq!(ask_from(&magpie, &[("host", "magpie.example.com:443")]).status(), 200);
    ask_from(&magpie, &[("host", "other.example.com")]).assert_error(403, "host_not_allowed");
}

#[test]
fn pages_of_this_machine_may_call_and_read_and_no_others() {
    let (upstream, magpie) = open_here();
    for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173"] {
        let reply = ask_from(&magpie, &[("origin", origin)]);
        assert_eq!(reply.status(), 200, "{origin}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        assert_eq!(reply.header("vary"), Some("origin"));
        assert!(reply.header("access-control-expose-headers").unwrap().contains("x-request-id"));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
    }
    upstream.clear();
    for origin in ["https://evil.example", "null", "http://localhost.evil.example", "file://"] {
        let reply = ask_from(&magpie, &[("origin", origin)]);
        reply.assert_error(403, "origin_not_allowed");
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
    }
    // A simple request, which a browser sends without asking first.
    let headers = [("origin", "https://evil.example"), ("content-type", "text/plain")];
    magpie
        .call("POST", CHAT, &headers, &chat("up/ok", false))
        .assert_error(403, "origin_not_allowed");
    assert!(upstream.received().is_empty());
    assert_eq!(ask_from(&magpie, &[]).header("access-control-allow-origin"), None);
}

#[test]
fn errors_and_streams_can_be_read_by_a_page_too() {
    let (_upstream, magpie) = open_here();
    let origin = ("origin", "http://localhost:3000");
    let headers = [origin, ("content-type", "application/json")];
    let unknown = magpie.call("POST", CHAT, &headers, &chat("nobody", false));
    assert_eq!(unknown.status(), 404);
    let stream = magpie.call("POST", CHAT, &headers, &chat("up/ok", true));
    let missing = magpie.call("GET", "/nothing", &headers, "");
    for reply in [unknown, stream, missing] {
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin.1));
    }
}

fn preflight(magpie: &Magpie, origin: &str) -> Reply {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization, content-type, x-stainless-lang"),
        ("access-control-request-private-network", "true"),
    ];
    magpie.call("OPTIONS", CHAT, &headers, "")
}

#[test]
fn a_preflight_is_answered_for_those_who_may_call() {
    let (upstream, magpie) = open_here();
    let reply = preflight(&magpie, "http://localhost:3000");
    assert_eq!(reply.status(), 204);
    let header = |name: &str| reply.header(name).unwrap_or_default();
    assert_eq!(header("access-control-allow-origin"), "http://localhost:3000");
    assert!(header("access-control-allow-methods").contains("POST"));
    let asked = "authorization, content-type, x-stainless-lang";
    assert_eq!(header("access-control-allow-headers"), asked);
    assert_eq!(header("access-control-allow-private-network"), "true");
    assert_eq!(header("access-control-max-age"), "600");

    let foreign = preflight(&magpie, "https://evil.example");
    foreign.assert_error(403, "origin_not_allowed");
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    assert_eq!(foreign.header("access-control-allow-private-network"), None);
    // Without an origin it is no preflight, but a method that the path does not have.
    assert_eq!(magpie.call("OPTIONS", CHAT, &[], "").status(), 405);
    assert!(upstream.received().is_empty());
}

#[test]
fn configured_origins_methods_and_headers_are_the_ones_that_count() {
    let upstream = ScriptedUpstream::start();
    let cors = "cors: { origins: ['https://App.example.com'], methods: [POST], headers: [x-mine] }";
    let magpie = Setup::of(&upstream.base_url()).and(cors).start();
    let reply = preflight(&magpie, "https://app.example.com");
    assert_eq!(reply.status(), 204);
    assert_eq!(reply.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(reply.header("access-control-allow-headers"), Some("x-mine"));
    assert_eq!(preflight(&magpie, "http://localhost:3000").status(), 403);

    let star = Setup::of(&upstream.base_url()).and("cors: { origins: ['*'] }").start();
    let reply = ask_from(&star, &[("origin", "https://anyone.example")]);
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://anyone.example"));
}

#[test]
fn the_documentation_may_call_from_its_own_page() {
    let (_upstream, magpie) = open_here();
    let page = format!("http://{}", magpie.address);
    let host = magpie.address.to_string();
    let headers = [("host", &*host), ("origin", &*page)];
    let mut wire = magpie.connect();
    wire.send(&request("POST", CHAT, &headers, chat("echo", false).as_bytes()));
    assert_eq!(wire.reply().status(), 200);
}
