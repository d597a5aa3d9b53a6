//! Every order in which leader and readers may come: drawn, thousands of times.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use http::{HeaderMap, StatusCode};

use super::*;

const DONE: Ended = Ended { outcome: Outcome::Complete, fault: None };

fn head(length: Option<u64>) -> Head {
    Head {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        length,
        model: "m".into(),
        route: None,
        stream: true,
        is_refusal: false,
    }
}

/// Whether someone was woken since they last ran.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One who runs when woken, and only then.
struct Actor {
    flag: Arc<Flag>,
    waker: Waker,
}

impl Actor {
    fn new() -> Self {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Self { waker: Waker::from(Arc::clone(&flag)), flag }
    }

    fn takes_turn(&self) -> bool {
        self.flag.0.swap(false, Ordering::Relaxed)
    }
}

struct Lots(u64);

impl Lots {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// One who reads, and what it has read.
struct One {
    actor: Actor,
    reader: Option<Reader>,
    read: u64,
    over: Option<(Over, Option<Ended>)>,
    told: Option<Ended>,
}

/// The largest write, and how many there are at most.
const LARGEST: u64 = 700_000;
const WRITES: u64 = 12;

/// What is written, from a place on.
fn written(from: u64, count: u64) -> &'static [u8] {
    static TEXT: OnceLock<Vec<u8>> = OnceLock::new();
    let text = TEXT.get_or_init(|| {
        let byte = |place: u64| u8::try_from(place.wrapping_mul(31) % 253).unwrap_or_default();
        (0..LARGEST * WRITES).map(byte).collect()
    });
    let [from, to] = [from, from + count].map(|place| usize::try_from(place).unwrap_or_default());
    &text[from..to]
}

/// A whole flight, whose actors run in an order that is drawn.
struct Simulation {
    lots: Lots,
    room: Arc<Room>,
    flight: Arc<Flight>,
    lasts: bool,
    leader: Actor,
    sizes: Vec<u64>,
    written: u64,
    is_over: bool,
    is_lost: bool,
    readers: Vec<One>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut lots = Lots(seed);
        let lasts = lots.below(2) == 0;
        let most = [200, 100_000, LARGEST][usize::try_from(lots.below(3)).unwrap_or_default()];
        let sizes = (0..lots.below(WRITES)).map(|_| 1 + lots.below(most)).collect();
        let room = Arc::new(Room::default());
        let flight = Flight::new(lasts, &room);
        let mut simulation = Self {
            lots,
            room,
            flight,
            lasts,
            leader: Actor::new(),
            sizes,
            written: 0,
            is_over: false,
            is_lost: false,
            readers: Vec::new(),
        };
        simulation.join();
        simulation
    }

    fn join(&mut self) {
        let reader = self.flight.join();
        assert_eq!(reader.is_some(), self.flight.is_open());
        if let Some(reader) = reader {
            let actor = Actor::new();
            let one = One { actor, reader: Some(reader), read: 0, over: None, told: None };
            self.readers.push(one);
        }
    }

    fn lead(&mut self) {
        if self.is_over || self.is_lost || !self.leader.takes_turn() {
            return;
        }
        let mut cx = Context::from_waker(&self.leader.waker);
        if self.flight.poll_lost(&mut cx).is_ready() {
            self.is_lost = true;
            self.flight.end(Over::Lost, None, false);
            return;
        }
        if self.flight.poll_room(&mut cx).is_pending() {
            return;
        }
        // It goes on by itself: the provider has more.
        self.leader.flag.0.store(true, Ordering::Relaxed);
        if self.written == 0 {
            let total = self.sizes.iter().sum();
            self.flight.begin(head((self.lots.below(2) == 0).then_some(total)));
        }
        let Some(size) = self.sizes.pop() else {
            self.is_over = true;
            let kept = self.flight.end(Over::Whole, Some(DONE), self.lasts);
            assert_eq!(kept, self.flight.is_open());
            return;
        };
        let ended = (self.sizes.is_empty() && self.lots.below(2) == 0).then_some(DONE);
        self.flight.write(written(self.written, size), ended, self.lots.below(40) != 0);
        self.written += size;
    }

    fn read(&mut self, index: usize) {
        let Some(one) = self.readers.get_mut(index) else { return };
        let Some(reader) = &one.reader else { return };
        if self.lots.below(60) == 0 {
            one.reader = None;
            return;
        }
        if !one.actor.takes_turn() {
            return;
        }
        match reader.poll_next(&mut Context::from_waker(&one.actor.waker)) {
            Poll::Pending => return,
            Poll::Ready(Next::Data(data, ended)) => {
                assert!(*data == *written(one.read, data.len() as u64), "its own next bytes");
                one.read += data.len() as u64;
                assert!(one.read <= self.written);
                one.told = one.told.or(ended);
                assert!(ended.is_none() || one.read == self.written, "told with the last byte");
            }
            Poll::Ready(Next::Over(over, ended)) => {
                assert_eq!(one.read, self.written, "all of it");
                one.over = Some((over, ended));
                one.reader = None;
            }
        }
        one.actor.flag.0.store(true, Ordering::Relaxed);
    }

    fn step(&mut self) {
        let count = self.readers.len() as u64;
        match self.lots.below(count + 3) {
            0 | 1 => self.lead(),
            2 if self.lots.below(8) == 0 && count < 12 => self.join(),
            2 => {}
            number => self.read(usize::try_from(number - 3).unwrap_or_default()),
        }
        let held = self.flight.lock().text.held();
        // What was kept before the door closed, or the window; and one write beyond it.
        assert!(held <= MOST + 1_000_000, "{held}");
    }

    /// Nobody waits for what has happened.
    fn is_settled(&self) -> bool {
        let led = self.is_over || self.is_lost || !self.leader.flag.0.load(Ordering::Relaxed);
        let runs = |one: &One| one.reader.is_some() && one.actor.flag.0.load(Ordering::Relaxed);
        led && !self.readers.iter().any(runs)
    }
}

#[test]
fn everyone_reads_everything_in_whatever_order_they_come() {
    let (mut lost, mut kept, mut closed) = (0, 0, 0);
    for seed in 0..1000 {
        let mut simulation = Simulation::new(seed);
        let mut steps = 0;
        while !simulation.is_settled() {
            simulation.step();
            steps += 1;
            assert!(steps < 200_000, "seed {seed} does not end");
        }
        assert!(simulation.is_over || simulation.is_lost, "seed {seed}: the leader sleeps");
        for one in &simulation.readers {
            assert!(one.reader.is_none(), "seed {seed}: a reader sleeps");
            if let Some((over, ended)) = &one.over {
                assert_eq!((over, *ended), (&Over::Whole, Some(DONE)), "seed {seed}");
            }
        }
        assert_eq!(simulation.room.unread.load(Ordering::Relaxed), 0);
        lost += usize::from(simulation.is_lost);
        kept += usize::from(simulation.flight.is_open());
        closed += usize::from(simulation.is_over && !simulation.flight.is_open());
        let room = Arc::clone(&simulation.room);
        drop(simulation);
        assert_eq!(room.held(), 0, "seed {seed}: nothing stays behind");
    }
    // The draws meet every end.
    assert!(lost > 20 && kept > 100 && closed > 100, "{lost} {kept} {closed}");
}

#[test]
fn the_last_byte_of_a_sized_answer_waits_until_its_end_is_known() {
    let flight = Flight::new(false, &Arc::default());
    let Some(reader) = flight.join() else { panic!("it is open") };
    let mut cx = Context::from_waker(Waker::noop());
    flight.begin(head(Some(2)));
    flight.write(b"a", None, true);
    assert_eq!(reader.poll_next(&mut cx), Poll::Ready(Next::Data(Bytes::from("a"), None)));
    flight.write(b"b", None, true);
    assert_eq!(reader.poll_next(&mut cx), Poll::Pending);
    flight.end(Over::Whole, Some(DONE), false);
    assert_eq!(reader.poll_next(&mut cx), Poll::Ready(Next::Data(Bytes::from("b"), Some(DONE))));
    assert_eq!(reader.poll_next(&mut cx), Poll::Ready(Next::Over(Over::Whole, Some(DONE))));
}

#[test]
fn only_so_many_go_on_that_nobody_reads() {
    let room = Arc::new(Room::default());
    let mut cx = Context::from_waker(Waker::noop());
    let flights: Vec<_> = (0..MOST_UNREAD + 2).map(|_| Flight::new(true, &room)).collect();
    for flight in &flights {
        drop(flight.join());
    }
    let is_lost = |flight: &Arc<Flight>, cx: &mut Context<'_>| flight.poll_lost(cx).is_ready();
    let lost = flights.iter().filter(|flight| is_lost(flight, &mut cx)).count();
    assert_eq!(lost, 2);
    // Whoever comes back makes room for another one.
    let reader = flights[0].join();
    let more = Flight::new(true, &room);
    drop(more.join());
    assert!(more.poll_lost(&mut cx).is_pending());
    drop(reader);
    assert!(flights[0].poll_lost(&mut cx).is_ready());
}
