//! When records are on the disk.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use ledger::{Options, Sync};

use crate::world::{closing, crash, folder, open, opening, options, totals};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        thread::park_timeout(Duration::from_secs(20));
    }
}

#[test]
fn an_answer_can_wait_until_its_record_is_on_the_disk() {
    let folder = folder();
    let options = Options { sync: Sync::Always, segment_bytes: 8 << 10, ..options(folder.path()) };
    let (ledger, _) = open(&options);
    thread::scope(|scope| {
        for thread in 0..4 {
            let mut writer = ledger.writer().unwrap();
            scope.spawn(move || {
                for number in 0..100 {
                    let number = thread * 1000 + number;
                    writer.opening(&opening(number)).unwrap();
                    writer.closing(&closing(number)).unwrap();
                    block_on(writer.durable());
                }
            });
        }
    });
    ledger.flush().unwrap();
    assert_eq!(totals(&ledger.reader().unwrap()).0, 400);
}

#[test]
fn without_syncing_nobody_waits() {
    let folder = folder();
    for sync in [Sync::None, Sync::Interval(Duration::from_millis(5))] {
        let (ledger, _) = open(&Options { sync, ..options(folder.path()) });
        let mut writer = ledger.writer().unwrap();
        writer.opening(&opening(1)).unwrap();
        let durable = pin!(writer.durable());
        assert_eq!(durable.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()));
    }
}

#[test]
fn an_interval_syncs_and_ends_with_the_ledger() {
    let folder = folder();
    let sync = Sync::Interval(Duration::from_millis(1));
    let (ledger, _) = open(&Options { sync, segment_bytes: 8 << 10, ..options(folder.path()) });
    let mut writer = ledger.writer().unwrap();
    for number in 0..1000 {
        writer.opening(&opening(number)).unwrap();
        writer.closing(&closing(number)).unwrap();
    }
    let crashed = crash(folder.path());
    drop(writer);
    ledger.close();
    let (ledger, _) = open(&options(crashed.path()));
    assert_eq!(totals(&ledger.reader().unwrap()).0, 1000);
}
