//! Queues: who is next, and that nobody sleeps through a turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use policy::queue::{FairQueue, Full, Line, PATIENCE, Priority, Waiting};
use proptest::prelude::*;

use crate::given::{problems, snapshot};

const CLASSES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

fn tenant(name: &str) -> Arc<str> {
    Arc::from(name)
}

/// A queue in which each tenant's requests wait that many times, one tenant after the other.
fn queue(waiting: &[(Priority, &str, usize)]) -> FairQueue<(Priority, String)> {
    let mut queue = FairQueue::default();
    for (priority, name, count) in waiting {
        for number in 0..*count {
            let value = (*priority, format!("{name}{number}"));
            queue.push(*priority, &tenant(name), value, 10_000).unwrap();
        }
    }
    queue
}

/// Serves so many, and says whom.
fn served<T>(queue: &mut FairQueue<T>, count: usize) -> Vec<T> {
    let next = |queue: &mut FairQueue<T>| queue.head().and_then(|number| queue.serve(number));
    (0..count).map_while(|_| next(queue)).collect()
}

fn names(queue: &mut FairQueue<(Priority, String)>, count: usize) -> Vec<String> {
    served(queue, count).into_iter().map(|(_, name)| name).collect()
}

#[test]
fn tenants_take_turns_however_many_requests_each_has() {
    let normal = Priority::Normal;
    let mut queue = queue(&[(normal, "a", 100), (normal, "b", 2), (normal, "c", 1)]);
    assert_eq!(names(&mut queue, 7), ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]);
    // Who comes later waits for one turn of each, not for all that wait.
    queue.push(normal, &tenant("d"), (normal, "d0".to_owned()), 1_000).unwrap();
    assert_eq!(names(&mut queue, 3), ["a4", "d0", "a5"]);
}

#[test]
fn what_is_urgent_goes_first_and_the_rest_is_not_forgotten() {
    let mut queue = queue(&[
        (Priority::Low, "l", 100),
        (Priority::Normal, "n", 100),
        (Priority::High, "h", 100),
    ]);
    let order: String = names(&mut queue, 40).iter().map(|name| &name[..1]).collect();
    assert_eq!(order, "hhhhhhhhnl".repeat(4));
    let mut alone = self::queue(&[(Priority::Low, "l", 2), (Priority::High, "h", 1)]);
    assert_eq!(names(&mut alone, 9), ["h0", "l0", "l1"]);
}

#[test]
fn who_leaves_leaves_nothing_and_costs_nobody_a_turn() {
    let normal = Priority::Normal;
    let mut queue = FairQueue::default();
    let gone: Vec<u64> =
        (0..5).map(|_| queue.push(normal, &tenant("a"), "a", 100).unwrap()).collect();
    queue.push(normal, &tenant("b"), "b", 100).unwrap();
    let last = queue.push(normal, &tenant("a"), "last", 100).unwrap();
    for number in gone {
        assert_eq!(queue.remove(number), Some("a"));
        assert_eq!(queue.remove(number), None);
        assert_eq!(queue.serve(number), None);
    }
    assert_eq!(queue.len(), 2);
    assert_eq!(queue.head(), Some(last), "its tenant still has its turn");
    assert_eq!(served(&mut queue, 9), ["last", "b"]);
    assert!(queue.is_empty() && queue.head().is_none());
}

#[test]
fn no_more_wait_than_may() {
    let mut queue = FairQueue::default();
    for _ in 0..3 {
        queue.push(Priority::Normal, &tenant("a"), (), 3).unwrap();
    }
    assert_eq!(queue.push(Priority::High, &tenant("b"), (), 3), Err(Full));
    assert_eq!(served(&mut queue, 1).len(), 1);
    assert!(queue.push(Priority::High, &tenant("b"), (), 3).is_ok());
}

proptest! {
    /// Of tenants that have something waiting all the time, none has more than one turn more.
    #[test]
    fn tenants_that_wait_all_the_time_are_within_one_request_of_each_other(
        loads in prop::collection::vec(1..60_usize, 1..8),
    ) {
        let names: Vec<String> = (0..loads.len()).map(|number| number.to_string()).collect();
        let waiting: Vec<_> = names.iter().zip(&loads)
            .map(|(name, load)| (Priority::Normal, name.as_str(), *load)).collect();
        let mut queue = queue(&waiting);
        let mut turns = vec![0; loads.len()];
        while turns.iter().zip(&loads).all(|(turns, load)| turns < load) {
            let (_, name) = served(&mut queue, 1).remove(0);
            let of = waiting.iter().position(|(_, known, count)| {
                (0..*count).any(|number| name == format!("{known}{number}"))
            });
            turns[of.unwrap()] += 1;
            let (least, most) = (turns.iter().min().unwrap(), turns.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", turns);
        }
    }

    /// Whatever comes, goes and is served: each once, a tenant's in their order, and no class waits
    /// for more than its patience.
    #[test]
    fn everybody_is_served_once_in_order_and_in_time(
        steps in prop::collection::vec((0..4_u8, 0..3_usize, 0..4_u8), 1..400),
    ) {
        let mut queue = FairQueue::default();
        let mut waiting: HashMap<u64, (usize, u8)> = HashMap::new();
        let mut passed_over = [0; 3];
        for (step, class, of) in steps {
            let serve = |queue: &mut FairQueue<()>, waiting: &mut HashMap<u64, (usize, u8)>| {
                let number = queue.head()?;
                queue.serve(number)?;
                Some((number, waiting.remove(&number)?))
            };
            match step {
                0 | 1 => {
                    let name = tenant(&of.to_string());
                    let number = queue.push(CLASSES[class], &name, (), 1_000).unwrap();
                    prop_assert!(waiting.insert(number, (class, of)).is_none());
                }
                2 => {
                    let served = serve(&mut queue, &mut waiting);
                    prop_assert_eq!(served.is_none(), waiting.is_empty() && queue.is_empty() && served.is_none());
                    if let Some((number, (class, of))) = served {
                        let of_it = |(known, other): (&u64, &(usize, u8))| {
                            *other == (class, of) && *known < number
                        };
                        prop_assert!(!waiting.iter().any(of_it), "in their order");
                        for (lower, passed) in passed_over.iter_mut().enumerate() {
                            let waits = waiting.values().any(|(class, _)| *class == lower);
                            *passed = if lower <= class || !waits { 0 } else { *passed + 1 };
                            prop_assert!(*passed <= PATIENCE + 1, "{lower} waits for too long");
                        }
                    }
                }
                _ => {
                    let number = waiting.keys().min().copied();
                    if let Some(number) = number {
                        waiting.remove(&number);
                        prop_assert!(queue.remove(number).is_some());
                        for (class, passed) in passed_over.iter_mut().enumerate() {
                            if !waiting.values().any(|(known, _)| *known == class) {
                                *passed = 0;
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(queue.len(), waiting.len());
        }
        while let Some(number) = queue.head() {
            queue.serve(number);
            prop_assert!(waiting.remove(&number).is_some());
        }
        prop_assert!(waiting.is_empty());
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// So many places, and the most that were taken.
struct Places {
    free: AtomicUsize,
    taken: AtomicUsize,
    most: AtomicUsize,
}

impl Places {
    fn take(&self) -> bool {
        let one_less = |free: usize| free.checked_sub(1);
        let has = self.free.fetch_update(SeqCst, SeqCst, one_less).is_ok();
        if has {
            let taken = self.taken.fetch_add(1, SeqCst) + 1;
            self.most.fetch_max(taken, SeqCst);
        }
        has
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, SeqCst);
        self.free.fetch_add(1, SeqCst);
    }
}

/// Waits for a place as a request does, but for the clock: only a sign wakes it. `false` if it
/// leaves.
fn wait(line: &Line, places: &Places, name: &Arc<str>, leaves: bool) -> bool {
    if line.is_empty() && places.take() {
        return true;
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let number = line.join(Priority::Normal, name, 1_000).unwrap();
    let start = Instant::now();
    loop {
        if line.has_turn(number, &waker) {
            if leaves {
                line.leave(number);
                return false;
            }
            if places.take() {
                line.admitted(number);
                line.leave(number);
                return true;
            }
            line.refused(number);
        } else if leaves && number.is_multiple_of(2) {
            line.leave(number);
            return false;
        } else {
            thread::park_timeout(Duration::from_secs(5));
            assert!(start.elapsed() < Duration::from_secs(20), "nobody has woken it");
        }
    }
}

#[test]
fn nobody_sleeps_through_a_turn_whatever_threads_do_at_once() {
    const FREE: usize = 2;
    let line = Line::default();
    let places = Places {
        free: AtomicUsize::new(FREE),
        taken: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    };
    let started = Instant::now();
    thread::scope(|scope| {
        for number in 0..8_u32 {
            let (line, places) = (&line, &places);
            scope.spawn(move || {
                let name = tenant(&(number % 3).to_string());
                for round in 0..2_000_u32 {
                    if wait(line, places, &name, (round + number) % 7 == 0) {
                        if round % 16 == 0 {
                            thread::yield_now();
                        }
                        places.give_back();
                        line.ring();
                    }
                }
            });
        }
    });
    assert!(line.is_empty());
    assert_eq!(places.free.load(SeqCst), FREE);
    assert!(places.most.load(SeqCst) <= FREE);
    assert!(started.elapsed() < Duration::from_secs(20), "some were woken by their clock alone");
}

#[test]
fn a_queue_is_written_in_two_forms_and_off_by_default_and_outlasts_a_reload() {
    let text = |more: &str| {
        format!(
            "providers: {{ p: {{ base_url: 'http://p/v1', auth: optional }} }}\n\
             models:\n  m:\n    target: p/x\n    {more}\n  'w-*': {{ target: p/*, queue: 5s }}\n"
        )
    };
    let waiting = |more: &str| {
        let plan = snapshot(&text(more)).plan("m").unwrap();
        plan.queue().map(|queue| queue.waiting)
    };
    let wait = |seconds, most| Some(Waiting { wait: Duration::from_secs(seconds), most });
    assert_eq!(waiting(""), None);
    assert_eq!(waiting("queue: 3s"), wait(3, 200));
    assert_eq!(waiting("queue: {}"), wait(10, 200));
    assert_eq!(waiting("queue: { wait: 1m, most: 7 }"), wait(60, 7));
    for (wrong, words) in [
        ("11m", "5:12 a request waits at most 10m"),
        ("{ most: 0 }", "5:12 1 to 10000 requests may wait"),
        ("{ most: 20000 }", "1 to 10000 requests may wait"),
        ("soon", "`soon` does not begin with a number"),
    ] {
        let told = problems(&text(&format!("queue: {wrong}"))).join("\n");
        assert!(told.contains(words), "{told}");
    }
    let before = snapshot(&text("queue: 3s"));
    let mut after = snapshot(&text("queue: 4s"));
    after.inherit(&before);
    let line = |snapshot: &policy::Snapshot, model: &str| {
        Arc::clone(&snapshot.plan(model).unwrap().queue().unwrap().line)
    };
    assert!(Arc::ptr_eq(&line(&before, "m"), &line(&after, "m")));
    assert!(Arc::ptr_eq(&line(&after, "w-1"), &line(&after, "w-2")), "one for the wildcard");
    assert!(!Arc::ptr_eq(&line(&after, "w-1"), &line(&after, "m")));
}
