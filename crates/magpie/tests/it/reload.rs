//! A new configuration while requests run: swapped whole, or not at all.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::ScriptedUpstream;

use crate::harness::{CHAT, Magpie, PATIENCE, Setup, chat};
use crate::turn;

/// A configuration whose model `which` goes to one of two upstream models.
fn config(upstream: &ScriptedUpstream, which: &str) -> String {
    format!(
        "providers:\n  up: {{ base_url: '{}', api_key: 'sk-1' }}\nmodels: {{ which: 'up/{which}' }}\n\
         log: {{ requests: false }}\n",
        upstream.base_url()
    )
}

fn served() -> (ScriptedUpstream, Magpie) {
    let upstream = ScriptedUpstream::start();
    let magpie = Setup::file(&config(&upstream, "first")).start();
    (upstream, magpie)
}

/// Where the model `which` goes now.
fn target(magpie: &Magpie) -> String {
    let reply = magpie.post(CHAT, &chat("which", false));
    assert_eq!(reply.status(), 200, "{}", reply.text());
    reply.header("x-magpie-target").unwrap().to_owned()
}

fn wait_for_target(magpie: &Magpie, wanted: &str) {
    let start = Instant::now();
    while target(magpie) != wanted {
        assert!(start.elapsed() < PATIENCE, "{wanted} does not come into force");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_signal_a_write_and_a_rename_each_bring_a_new_configuration() {
    let (upstream, magpie) = served();
    let path = magpie.process.setup.path();
    assert_eq!(target(&magpie), "up/first");
    fs::write(&path, config(&upstream, "written")).unwrap();
    wait_for_target(&magpie, "up/written");

    magpie.process.setup.replace(&config(&upstream, "renamed"));
    wait_for_target(&magpie, "up/renamed");

    // As Kubernetes does it: the file is a link to a link that is swapped.
    let folder = magpie.process.setup.folder();
    for name in ["linked", "relinked"] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("magpie.yaml"), config(&upstream, name)).unwrap();
        let link = folder.join("..data.new");
        std::os::unix::fs::symlink(name, &link).unwrap();
        fs::rename(&link, folder.join("..data")).unwrap();
        if name == "linked" {
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("..data/magpie.yaml", &path).unwrap();
        }
        wait_for_target(&magpie, &format!("up/{name}"));
    }
    let before = magpie.reloads();
    magpie.process.signal("HUP");
    magpie.process.stderr.wait_for("the reload", |_| (magpie.reloads() > before).then_some(()));
    assert_eq!(target(&magpie), "up/relinked");
}

#[test]
fn a_file_that_is_written_in_steps_is_used_when_it_is_whole() {
    let _alone = turn::alone();
    let (upstream, magpie) = served();
    let path = magpie.process.setup.path();
    // Its beginning would do as a configuration, one without the model.
    let whole = config(&upstream, "second");
    let part = whole.split("models:").next().unwrap();
    for step in ["", part] {
        fs::write(&path, step).unwrap();
        thread::sleep(Duration::from_millis(10));
    }
    fs::write(&path, &whole).unwrap();
    wait_for_target(&magpie, "up/second");
}

#[test]
fn a_signal_in_the_middle_of_writing_waits_for_the_end_of_it() {
    let _alone = turn::alone();
    let (upstream, magpie) = served();
    let path = magpie.process.setup.path();
    // Nothing yet, which would do as a configuration.
    fs::write(&path, "").unwrap();
    magpie.process.signal("HUP");
    thread::sleep(Duration::from_millis(30));
    fs::write(&path, config(&upstream, "second")).unwrap();
    let start = Instant::now();
    loop {
        let reply = magpie.post(CHAT, &chat("which", false));
        assert_eq!(reply.status(), 200, "half a file is used: {}", reply.text());
        if reply.header("x-magpie-target") == Some("up/second") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "up/second does not come into force");
    }
    let once = |_: &str| (magpie.reloads() > 0).then_some(());
    magpie.process.stderr.wait_for("the reload", once);
    assert_eq!(magpie.reloads(), 1, "{}", magpie.process.stderr.so_far());
}

#[test]
fn a_file_that_was_touched_but_not_changed_is_not_read_again() {
    let (upstream, magpie) = served();
    let path = magpie.process.setup.path();
    fs::write(&path, config(&upstream, "first")).unwrap();
    fs::write(path.with_file_name("another.yaml"), "x").unwrap();
    thread::sleep(Duration::from_millis(400));
    assert_eq!(magpie.reloads(), 0, "{}", magpie.process.stderr.so_far());
}

#[test]
fn a_bad_configuration_is_refused_with_its_place_and_the_old_one_stays() {
    let (upstream, magpie) = served();
    let path = magpie.process.setup.path();
    let good = config(&upstream, "first");
    for (bad, place, words) in [
        (good.replace("models:", "modles:"), "magpie.yaml:3:1: ", "did you mean `models`?"),
        (good.replace("up/first", "upp/first"), "magpie.yaml:3:", "there is no provider `upp`"),
        (good.replace("providers:", "providers: ["), "magpie.yaml:", ""),
        (format!("{good}shutdown_grace: soon\n"), "magpie.yaml:5:", "`soon`"),
        (good.replace("sk-1", "${NOT_SET}"), "magpie.yaml:2:", "NOT_SET is not set"),
        ("models: {}\n\0".to_owned(), "magpie.yaml:", ""),
    ] {
        let heard = magpie.process.stderr.so_far().len();
        fs::write(&path, &bad).unwrap();
        magpie.process.signal("HUP");
        magpie.process.stderr.wait_for("the refusal", |text| {
            // The watcher may tell of the text before once more: what is waited for is of this one.
            let report = text.get(heard..)?;
            [place, words, "the one before stays"]
                .into_iter()
                .all(|part| report.contains(part))
                .then_some(())
        });
        assert_eq!(target(&magpie), "up/first");
    }
    fs::remove_file(&path).unwrap();
    magpie.process.signal("HUP");
    magpie
        .process
        .stderr
        .wait_for("the loss", |text| text.contains("cannot be read").then_some(()));
    assert_eq!(target(&magpie), "up/first");
    magpie.reload(&config(&upstream, "second"));
    assert_eq!(target(&magpie), "up/second");
}

#[test]
fn a_running_stream_keeps_the_route_it_began_with() {
    let (upstream, magpie) = served();
    let other = ScriptedUpstream::start();
    let mut running = magpie.begin("events:60:20", true);
    running.head();
    running.chunks_until("w2 ");
    let gone =
        format!("providers: {{ other: {{ base_url: '{}', api_key: sk-2 }} }}\n", other.base_url());
    magpie.reload(&gone);
    magpie.ask("ok", false).assert_error(404, "model_not_found");
    assert_eq!(magpie.post(CHAT, &chat("other/ok", false)).status(), 200);
    let rest = running.chunks_until("[DONE]");
    assert!(rest.contains("w60 "), "{rest}");
    assert_eq!(other.received()[0].header("authorization"), Some("Bearer sk-2"));
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn bounds_and_access_are_those_of_the_new_configuration() {
    let (upstream, magpie) = served();
    let config = config(&upstream, "first");
    magpie.reload(&format!(
        "{config}limits: {{ body: 1KiB }}\ncors: {{ origins: ['https://a.example'] }}\n"
    ));
    let large = chat("which", false).replace("\"hi\"", &format!("\"{}\"", "a".repeat(2000)));
    magpie.post(CHAT, &large).assert_error(413, "body_too_large");
    let page = [("origin", "https://a.example")];
    assert_eq!(magpie.call("GET", "/v1/models", &page, "").status(), 200);
    magpie.reload(&config);
    assert_eq!(magpie.post(CHAT, &large).status(), 200);
    assert_eq!(magpie.call("GET", "/v1/models", &page, "").status(), 403);

    // What a running process cannot change is said.
    magpie.reload(&format!("workers: 7\n{config}"));
    let told = |text: &str| text.contains("workers") && text.contains("take a restart");
    magpie.process.stderr.wait_for("what takes a restart", |text| told(text).then_some(()));
    assert_eq!(target(&magpie), "up/first");
}

/// Requests one after the other until told to stop; every one has to succeed.
fn requests(magpie: &Magpie, over: &AtomicBool, served: &AtomicUsize) {
    let mut wire = magpie.connect();
    let mut turn = 0;
    while !over.load(Ordering::Relaxed) {
        turn += 1;
        if turn % 50 == 0 {
            wire = magpie.connect();
        }
        wire.chat("which", turn % 4 == 0);
        let reply = wire.reply();
        assert!(reply.whole && reply.status() == 200, "{}", reply.text());
        assert!(turn % 4 != 0 || reply.is_done(), "{}", reply.text());
        let target = reply.header("x-magpie-target").unwrap();
        assert!(target == "up/first" || target == "up/second", "{target}");
        served.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(5));
    }
}

/// Streams one after the other until told to stop; every one has to complete.
fn paced(magpie: &Magpie, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let reply = magpie.ask("events:30:20", true);
        assert!(
            reply.whole && reply.is_done() && reply.content().ends_with("w30 "),
            "{}",
            reply.text()
        );
    }
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request() {
    let (upstream, magpie) = served();
    let path = magpie.process.setup.path();
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| requests(&magpie, &over, &served));
        }
        for _ in 0..3 {
            scope.spawn(|| paced(&magpie, &over));
        }
        let reloading = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for turn in 0..80 {
                let which = ["second", "first"][turn % 2];
                magpie.reload(&config(&upstream, which));
                assert_eq!(target(&magpie), format!("up/{which}"));
            }
            for turn in 0..20 {
                let which = ["second", "first"][turn % 2];
                let config = config(&upstream, which);
                match turn < 10 {
                    true => magpie.process.setup.replace(&config),
                    false => fs::write(&path, config).unwrap(),
                }
                wait_for_target(&magpie, &format!("up/{which}"));
            }
        }));
        over.store(true, Ordering::Relaxed);
        reloading.unwrap();
    });
    assert!(magpie.reloads() >= 100, "{}", magpie.reloads());
    assert!(served.load(Ordering::Relaxed) > 500, "{served:?} requests are no load");
    assert!(!magpie.process.stderr.so_far().contains("not used"));
}
