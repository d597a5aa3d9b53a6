//! HTTPS: from what is written to what a listener is started with.

use policy::tls::{Challenge, Identity, Tls};

use crate::given::{problems, snapshot};

fn tls(text: &str) -> Tls {
    snapshot(text).settings.tls.unwrap()
}

#[test]
fn without_a_word_a_listener_speaks_clear_text() {
    assert_eq!(snapshot("").settings.tls, None);
}

#[test]
fn files_are_taken_as_they_are_named() {
    let read = tls("tls: { cert: a/cert.pem, key: /b/key.pem }\n");
    let Identity::Files { cert, key } = &read.identity else { panic!("{read:?}") };
    assert_eq!((cert.to_str(), key.to_str()), (Some("a/cert.pem"), Some("/b/key.pem")));
    assert_eq!(read.clients, None);
    for (auth, required) in
        [("", true), (", client_auth: required", true), (", client_auth: optional", false)]
    {
        let read = tls(&format!("tls: {{ cert: c, key: k, client_ca: ca.pem{auth} }}\n"));
        let clients = read.clients.unwrap();
        assert_eq!((clients.ca.to_str(), clients.required), (Some("ca.pem"), required), "{auth}");
    }
}

#[test]
fn an_acme_certificate_needs_no_more_than_names() {
    let found = snapshot("tls: { acme: { domains: [Magpie.example.com, b.example.com] } }\n");
    let Some(Tls { identity: Identity::Acme(acme), clients: None }) = &found.settings.tls else {
        panic!("{:?}", found.settings.tls)
    };
    assert_eq!(acme.domains, ["magpie.example.com", "b.example.com"]);
    assert_eq!(acme.directory, "https://acme-v02.api.letsencrypt.org/directory");
    assert_eq!((acme.challenge, &acme.email, &acme.storage), (Challenge::TlsAlpn, &None, &None));
    // Who has a certificate for a name is called by it.
    let hosts = found.access.hosts.unwrap();
    assert_eq!(hosts, ["127.0.0.1".into(), "magpie.example.com".into(), "b.example.com".into()]);
}

#[test]
fn every_option_of_acme_is_read() {
    let read = tls(
        "tls:\n  acme:\n    domains: [a.example.com]\n    email: x@example.com\n    directory: https://ca.example:14000/dir\n    ca_file: ca.pem\n    storage: /var/acme\n    challenge: http-01\n    http_listen: 127.0.0.1:8080\n",
    );
    let Identity::Acme(acme) = &read.identity else { panic!("{read:?}") };
    assert_eq!(acme.email.as_deref(), Some("x@example.com"));
    assert_eq!(acme.directory, "https://ca.example:14000/dir");
    assert_eq!(acme.ca_file.as_deref(), Some("ca.pem"));
    assert_eq!(acme.storage.as_ref().unwrap().to_str(), Some("/var/acme"));
    assert_eq!(acme.challenge, Challenge::Http("127.0.0.1:8080".parse().unwrap()));
    let read = tls("tls: { acme: { domains: [a.example.com], challenge: http-01 } }\n");
    let Identity::Acme(acme) = &read.identity else { panic!("{read:?}") };
    assert_eq!(acme.challenge, Challenge::Http("0.0.0.0:80".parse().unwrap()));
}

#[test]
fn what_does_not_go_together_is_told_where_it_stands() {
    for (text, expected) in [
        ("tls: {}\n", "1:6 TLS needs a certificate | name the files `cert` and `key`, or set"),
        ("tls:\n  cert: a\n", "2:9 `cert` and `key` belong together"),
        ("tls:\n  key: a\n", "2:8 `cert` and `key` belong together"),
        ("tls:\n  cert: a\n  acme: { domains: [a.b] }\n", "3:9 a certificate comes from files or"),
        (
            "tls: { cert: a, key: b, client_auth: optional }\n",
            "1:6 client_auth has nobody to trust",
        ),
        ("tls:\n  acme: { email: a@b }\n", "2:9 acme.domains takes 1 to 100 names"),
        (
            "tls:\n  acme: { domains: [a.b], directory: 'http://a/' }\n",
            "2:9 `http://a/` is no https://",
        ),
        (
            "tls:\n  acme: { domains: [a.b], directory: 'https://' }\n",
            "2:9 `https://` is no https://",
        ),
        (
            "tls:\n  acme: { domains: [a.b], http_listen: '1.2.3.4:80' }\n",
            "2:9 http_listen is of use",
        ),
        (
            "tls:\n  acme: { domains: [a.b], challenge: http-01, http_listen: 80 }\n",
            "2:9 `80` is not an address to listen on",
        ),
        (
            "admin:\n  tls:\n    acme: { domains: [a.b] }\n",
            "3:11 no certificate can be ordered here",
        ),
        ("tls: { client_auth: maybe, cert: a, key: b }\n", "`maybe` is not a value of this option"),
        ("tls: { acme: { domains: [a.b], challenge: dns-01 } }\n", "`dns-01` is not a value"),
        ("tls: { certificate: a }\n", "unknown option `certificate`"),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}{found:#?}");
    }
}

#[test]
fn names_that_nobody_certifies_are_told() {
    for name in [
        "*.example.com",
        "1.2.3.4",
        "::1",
        "a..b",
        "-a.b",
        "a-.b",
        "a b",
        "über.de",
        "a.b.",
        "",
        "a/b",
    ] {
        let found = problems(&format!("tls: {{ acme: {{ domains: ['{name}'] }} }}\n"));
        assert!(found[0].contains(&format!("`{name}` is no domain name")), "{name}: {found:?}");
    }
    let long = format!("{}.example.com", "a".repeat(64));
    assert_eq!(problems(&format!("tls: {{ acme: {{ domains: [{long}] }} }}\n")).len(), 1);
}
