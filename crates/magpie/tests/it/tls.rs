//! Providers over TLS: who cannot prove who they are get nothing.

use testkit::ScriptedUpstream;

use crate::harness::{PROVIDER_KEY, Setup};
use crate::raw::{RawUpstream, detour};

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_and_the_key_stays_here() {
    let (upstream, _authority) = ScriptedUpstream::start_tls();
    let magpie = Setup::of(&upstream.base_url()).start();
    for stream in [false, true] {
        let reply = magpie.ask("ok", stream);
        reply.assert_error(502, "provider_unreachable");
        assert!(reply.message().contains("no TLS with localhost"), "{}", reply.message());
        assert!(reply.message().contains("certificate"), "{}", reply.message());
    }
    assert!(upstream.connections() >= 1, "it was tried");
    assert!(upstream.received().is_empty());
}

#[test]
fn an_authority_of_ones_own_can_be_trusted_for_a_provider() {
    let (upstream, authority) = ScriptedUpstream::start_tls();
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    let base_url = format!("base_url: {}", upstream.base_url());
    let ca_file = format!("ca_file: {}", file.display());
    let magpie = Setup::provider(&[&base_url, &ca_file]).and("workers: 1").start();
    for _ in 0..5 {
        assert_eq!(magpie.ask("ok", false).status(), 200);
        assert!(magpie.ask("ok", true).is_done());
    }
    assert_eq!(upstream.connections(), 1, "TLS connections are used again");
    let key = format!("Bearer {PROVIDER_KEY}");
    assert!(
        upstream.received().iter().all(|request| request.header("authorization") == Some(&key))
    );
    let cut = magpie.ask("cut:2", true);
    cut.assert_broken_off("provider_truncated");
}

#[test]
fn a_certificate_for_another_name_is_refused_though_its_authority_is_trusted() {
    let (upstream, authority) = ScriptedUpstream::start_tls();
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    // The same server under an address that its certificate does not name.
    let detour = detour([127, 0, 0, 2], upstream.address());
    let base_url = format!("base_url: https://{}/v1", detour.address());
    let ca_file = format!("ca_file: {}", file.display());
    let magpie = Setup::provider(&[&base_url, &ca_file]).start();
    let reply = magpie.ask("ok", false);
    reply.assert_error(502, "provider_unreachable");
    assert!(reply.message().contains("certificate"), "{}", reply.message());
    assert!(detour.connections() >= 1 && upstream.received().is_empty());
}

#[test]
fn a_certificate_out_of_its_time_is_refused_and_its_server_left_alone() {
    for (years, told) in [([1999, 2001], "expired"), ([3999, 4001], "not valid yet")] {
        let (upstream, authority) = ScriptedUpstream::start_tls_valid(years);
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("authority.pem");
        std::fs::write(&file, authority).unwrap();
        let base_url = format!("base_url: {}", upstream.base_url());
        let ca_file = format!("ca_file: {}", file.display());
        let magpie = Setup::provider(&[&base_url, &ca_file]).start();
        for stream in [false, true, false] {
            let reply = magpie.ask("ok", stream);
            reply.assert_error(502, "provider_unreachable");
            assert!(reply.message().contains(told), "{}", reply.message());
        }
        let connections = upstream.connections();
        magpie.ask("ok", false).assert_error(503, "no_target_available");
        assert_eq!(upstream.connections(), connections, "three times in a row are enough");
        assert!(upstream.received().is_empty());
    }
}

#[test]
fn a_server_whose_tls_is_too_old_gets_no_request() {
    // A fatal alert in TLS 1.0: protocol_version.
    let old = RawUpstream::start(|mut peer, _| {
        peer.read();
        peer.write(b"\x15\x03\x01\x00\x02\x02\x46");
        while peer.read().is_some() {}
    });
    let base_url = old.base_url().replace("http:", "https:");
    let magpie = Setup::of(&base_url).start();
    let reply = magpie.ask("ok", false);
    reply.assert_error(502, "provider_unreachable");
    assert!(reply.message().contains("no TLS with"), "{}", reply.message());
}

#[test]
fn a_server_that_speaks_no_tls_gets_no_request() {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::of(&upstream.base_url().replace("http:", "https:")).start();
    magpie.ask("ok", false).assert_error(502, "provider_unreachable");
    assert!(upstream.received().is_empty());
}

#[test]
fn a_file_of_authorities_that_cannot_be_read_is_named() {
    let (upstream, _authority) = ScriptedUpstream::start_tls();
    let base_url = format!("base_url: {}", upstream.base_url());
    let magpie = Setup::provider(&[&base_url, "ca_file: /nowhere/authority.pem"]).start();
    let reply = magpie.ask("ok", false);
    reply.assert_error(502, "provider_unreachable");
    assert!(reply.message().contains("/nowhere/authority.pem"), "{}", reply.message());
}
