//! A trial, and its second try: what fails while others run is run again with the machine to itself.
//!
//! Many trials hold processes against a clock, and on a busy machine a clock is not theirs alone. One that fails again is
//! wrong. One that then passes is unsteady: it is named at the end of the run, as it may be a race all the same, and more than
//! a few of them are a failure.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError, RwLock};

use libtest_mimic::Trial;

/// The most unsteady trials of a run that passes.
const UNSTEADY_MAX: usize = 3;

/// Shared by the trials that run beside each other; whole for one that runs alone.
static MACHINE: RwLock<()> = RwLock::new(());

static UNSTEADY: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A trial whose failure is a panic.
pub(crate) fn trial(name: String, run: impl Fn() + Send + 'static) -> Trial {
    Trial::test(name.clone(), move || {
        let first = {
            let _beside = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
            catch_unwind(AssertUnwindSafe(&run))
        };
        if first.is_ok() {
            return Ok(());
        }
        let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(&run)) {
            resume_unwind(panic);
        }
        UNSTEADY.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        Ok(())
    })
}

/// Names the unsteady trials; whether there are few enough.
pub(crate) fn is_steady() -> bool {
    let unsteady = UNSTEADY.lock().unwrap_or_else(PoisonError::into_inner);
    for name in unsteady.iter() {
        let _ = writeln!(std::io::stderr(), "unsteady: {name}: failed beside others, passed alone");
    }
    unsteady.len() <= UNSTEADY_MAX
}
