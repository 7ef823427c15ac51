//! Fibres: the vehicle of tasks. One of the two rooms with `unsafe`.
//!
//! A fibre runs jobs one after the other and never finishes: stacks cost microseconds to make, and
//! a finished coroutine leaks its fake stack under AddressSanitizer. Suspending needs the yielder
//! that corosensei lends to the coroutine's body; the body keeps its address for the code that it
//! calls.

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;

/// Bytes of stack of one fibre, with a guard page below. Engines recurse over B-tree levels only.
const STACK_BYTES: usize = 512 * 1024;

/// What a fibre does next.
pub(crate) enum Resume {
    /// Start this job.
    Start(Box<dyn FnOnce()>),
    /// Go on where it was suspended.
    Continue,
}

/// Why a fibre gave control back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Its job is done.
    Finished,
    /// Its job called [`Handle::suspend`].
    Suspended,
}

type Inner = Yielder<Resume, Pause>;

/// A coroutine that runs jobs.
pub(crate) struct Fibre {
    coroutine: Coroutine<Resume, Pause, (), DefaultStack>,
    handle: Handle,
}

/// Suspends the fibre that it belongs to; held by the task that runs on the fibre.
#[derive(Clone)]
pub(crate) struct Handle(Rc<Cell<*const Inner>>);

impl Handle {
    /// Gives control back to whoever resumed the fibre.
    ///
    /// Must be called on the fibre itself; the scheduler guarantees it, since a task's handle is
    /// reachable only from the task, and a task runs only on its fibre.
    pub(crate) fn suspend(&self) {
        let yielder = self.0.get();
        assert!(!yielder.is_null(), "suspended outside a job");
        // SAFETY: the pointer is the `&Yielder` that corosensei passed to the body of this fibre's
        // coroutine, which outlives every job, as the body never returns. It is set by the body
        // before the first job starts. We run on the fibre's own stack (see above), so the yielder
        // is not used from anywhere else at this time.
        let resume = unsafe { &*yielder }.suspend(Pause::Suspended);
        assert!(matches!(resume, Resume::Continue), "a running fibre was given a second job");
    }
}

impl Fibre {
    fn new() -> Self {
        let handle = Handle(Rc::new(Cell::new(std::ptr::null())));
        let inside = handle.clone();
        let stack = DefaultStack::new(STACK_BYTES).expect("no memory for a fibre's stack");
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Inner, first: Resume| {
            inside.0.set(std::ptr::from_ref(yielder));
            let mut next = first;
            loop {
                if let Resume::Start(job) = next {
                    job();
                }
                next = yielder.suspend(Pause::Finished);
            }
        });
        Fibre { coroutine, handle }
    }

    /// Takes a fibre from this thread's pool, or makes one.
    pub(crate) fn take() -> Self {
        POOL.with_borrow_mut(|pool| pool.0.pop()).unwrap_or_else(Fibre::new)
    }

    /// Gives a fibre whose job is done back to the pool.
    pub(crate) fn put(self) {
        POOL.with_borrow_mut(|pool| pool.0.push(self));
    }

    /// The handle for the task that will run here.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs the fibre until it pauses.
    pub(crate) fn resume(&mut self, resume: Resume) -> Pause {
        match self.coroutine.resume(resume) {
            CoroutineResult::Yield(pause) => pause,
            CoroutineResult::Return(()) => unreachable!("the body of a fibre never returns"),
        }
    }
}

/// The idle fibres of a thread. Never dropped: dropping a suspended coroutine would unwind it.
struct Pool(ManuallyDrop<Vec<Fibre>>);

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool(ManuallyDrop::new(Vec::new()))) };
}
