//! Whose turn it is: tests that measure time run alone, all others side by side.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static QUIET: RwLock<()> = RwLock::new(());

thread_local! {
    static HELD: RefCell<Held> = const { RefCell::new(Held { turns: 0, alone: false, shared: None }) };
}

/// What the thread of a test holds.
struct Held {
    turns: usize,
    alone: bool,
    shared: Option<RwLockReadGuard<'static, ()>>,
}

/// As long as it lives, no test that measures time runs. Every process holds one.
pub(crate) struct Turn(PhantomData<RwLockReadGuard<'static, ()>>);

impl Turn {
    /// Waits until no test runs alone, unless this very test does.
    pub(crate) fn take() -> Self {
        HELD.with_borrow_mut(|held| {
            held.turns += 1;
            if held.turns == 1 && !held.alone {
                held.shared = Some(QUIET.read().unwrap_or_else(PoisonError::into_inner));
            }
        });
        Self(PhantomData)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| {
            held.turns -= 1;
            if held.turns == 0 {
                held.shared = None;
            }
        });
    }
}

/// As long as it lives, no other process of these tests runs.
pub(crate) struct Alone {
    _quiet: RwLockWriteGuard<'static, ()>,
}

/// Waits until no other test runs. To be called before anything is started.
pub(crate) fn alone() -> Alone {
    let quiet = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    HELD.with_borrow_mut(|held| {
        assert_eq!(held.turns, 0, "a test that runs alone says so before it starts anything");
        held.alone = true;
    });
    Alone { _quiet: quiet }
}

impl Drop for Alone {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| held.alone = false);
    }
}
