//! What runs on a worker beside its connections, and outlasts none of them for long.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use relay::{Task, Tasks};
use tokio::time::{sleep, timeout};

/// How long tasks may take to end once they were told to.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The tasks of a worker, counted.
#[derive(Default)]
pub(crate) struct LocalTasks {
    under_way: Rc<Cell<usize>>,
}

impl LocalTasks {
    /// Waits until every task has ended, which has been told to. What hangs on is dropped with the
    /// worker.
    pub(crate) async fn end(&self) {
        let ended = async {
            while self.under_way.get() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout(LAST_WORDS, ended).await;
    }
}

/// Counts a task as long as it is there.
struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Tasks for LocalTasks {
    fn spawn(&self, task: Task) {
        self.under_way.set(self.under_way.get() + 1);
        let counted = Counted(Rc::clone(&self.under_way));
        tokio::task::spawn_local(async move {
            let _counted = counted;
            task.await;
        });
    }
}
