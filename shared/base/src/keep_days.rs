//! `MINERVA_KEEP_DAYS` as it is written: for how many days documents are kept, of all indices and of named ones.
//!
//! Which names there are, and which indices a name stands for, is known where indices are.

/// For how many days each index keeps its documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeepDays {
    /// Indices that are not named; nothing keeps all.
    pub others: Option<u32>,
    /// Those that are, in the order in which they are written.
    pub named: Vec<Named>,
}

/// What is said of one index, or of one group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The whole of it, as it is written.
    pub text: String,
    /// The name, which may be none that there is.
    pub index: String,
    /// For how many days it keeps its documents; nothing keeps all.
    pub days: Option<u32>,
}

impl KeepDays {
    /// A hundred years: more is a slip of the pen.
    pub const DAYS_MAX: u32 = 36_500;

    /// Reads a number for all news and indicators, `index=number` for one index, or several of them with commas between; `0` keeps all.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keep = Self::default();
        let mut has_others = false;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, number) = match part.split_once('=') {
                Some((name, number)) => (Some(name.trim()), number.trim()),
                None => (None, part),
            };
            let days: u32 =
                number.parse().ok().filter(|days| *days <= Self::DAYS_MAX).ok_or_else(|| {
                    format!("`{number}` is no number of days up to {}", Self::DAYS_MAX)
                })?;
            let days = Some(days).filter(|days| *days > 0);
            match name {
                None if has_others => return Err(Self::said_again(part)),
                None => {
                    keep.others = days;
                    has_others = true;
                }
                Some(name) => {
                    let (text, index) = (part.to_owned(), name.to_owned());
                    keep.named.push(Named { text, index, days });
                }
            }
        }
        Ok(keep)
    }

    /// The problem with a part whose index has its days from an earlier part.
    pub fn said_again(part: &str) -> String {
        format!("`{part}` says again what is said before it")
    }

    /// Whether every index keeps all.
    pub fn is_nothing(&self) -> bool {
        self.others.is_none() && self.named.iter().all(|named| named.days.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_days_and_are_said_once() {
        assert_eq!(KeepDays::parse("").unwrap(), KeepDays::default());
        assert!(KeepDays::parse("0, a=0").unwrap().is_nothing());
        let keep = KeepDays::parse("365, a = 30").unwrap();
        assert_eq!((keep.others, keep.named[0].index.as_str()), (Some(365), "a"));
        assert_eq!(keep.named[0].days, Some(30));
        for wrong in ["soon", "-1", "36501", "rss_articles=", "1,2"] {
            KeepDays::parse(wrong).expect_err(wrong);
        }
    }
}
