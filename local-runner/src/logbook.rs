//! What running invocations log, kept while they run: the ledger gets it from here, so that it can be read and followed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stores::state::{LOG_MAX, Log};

use crate::lambda::LogSink;

/// The logs of the invocations that were opened here.
#[derive(Clone, Default)]
pub(crate) struct LogBook(Arc<Mutex<HashMap<String, Page>>>);

#[derive(Default)]
struct Page {
    text: String,
    bytes: u64,
    is_read: bool,
}

impl Page {
    fn add(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        self.bytes += line.len() as u64 + 1;
        self.is_read = false;
        if self.text.len() > 2 * LOG_MAX {
            self.cut();
        }
    }

    /// Keeps the last bytes, from the beginning of a character on.
    fn cut(&mut self) {
        let start = self.text.len().saturating_sub(LOG_MAX);
        let start = (start..=self.text.len()).find(|at| self.text.is_char_boundary(*at));
        self.text.drain(..start.unwrap_or_default());
    }

    fn read(&mut self) -> Log {
        self.cut();
        self.is_read = true;
        Log { text: self.text.clone(), bytes: u32::try_from(self.bytes).unwrap_or(u32::MAX) }
    }
}

impl LogBook {
    fn pages(&self) -> MutexGuard<'_, HashMap<String, Page>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sink that keeps the lines of open invocations and passes all of them on.
    pub(crate) fn sink(&self, further: LogSink) -> LogSink {
        let book = self.clone();
        Arc::new(move |line| {
            if let Some(page) = book.pages().get_mut(line.request_id) {
                page.add(line.text);
            }
            further(line);
        })
    }

    /// Keeps the lines of this invocation from now on.
    pub(crate) fn open(&self, request_id: &str) {
        self.pages().insert(request_id.to_owned(), Page::default());
    }

    /// What an invocation has logged so far, where that is more than was read before.
    pub(crate) fn news(&self, request_id: &str) -> Option<Log> {
        self.pages().get_mut(request_id).filter(|page| !page.is_read).map(Page::read)
    }

    /// Ends an invocation's page.
    pub(crate) fn close(&self, request_id: &str) -> Log {
        self.pages().remove(request_id).map(|mut page| page.read()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lambda::LogLine;

    #[test]
    fn the_last_lines_of_an_open_invocation_are_kept_whole() {
        let book = LogBook::default();
        let sink = book.sink(Arc::new(|_| {}));
        let say =
            |request_id, text| sink(LogLine { function: "f", request_id, printed: true, text });
        say("a", "before it was opened");
        book.open("a");
        assert_eq!(book.news("a").map(|log| log.bytes), Some(0));
        say("a", "one");
        say("b", "of another");
        assert_eq!(book.news("a"), Some(Log { text: "one\n".to_owned(), bytes: 4 }));
        assert_eq!(book.news("a"), None, "nothing since");
        let line = "não há ".repeat(100);
        (0..500).for_each(|_| say("a", &line));
        let log = book.close("a");
        assert!(log.text.len() <= LOG_MAX && log.text.len() > LOG_MAX - 4, "{}", log.text.len());
        assert_eq!(log.bytes as usize, 4 + 500 * (line.len() + 1));
        assert!(log.text.ends_with("não há \n"));
        assert_eq!(book.close("a"), Log::default());
    }
}
