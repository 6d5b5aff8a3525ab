//! How data that threads share is locked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock whose holders never leave its data half-changed: a panic elsewhere must not stop the runner.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
