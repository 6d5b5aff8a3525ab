//! Conditions as they are typed, the same for every command that selects documents: fields with values, and dates.

use base::date::seconds;
use base::{Error, Result};
use jiff::Timestamp;
use stores::documents::{FieldType, Filter, Index};

use crate::cli::{SelectionArgs, WordsArgs};
use crate::when::Moment;

/// The date that says how new a document is.
pub(super) fn date(index: &Index) -> Result<&str> {
    index.newest_by.as_deref().ok_or_else(|| {
        Error::config(format!("tell what is new in `{}`", index.name))
            .hint("its documents have no date to go by; leave out `--since`, `--until` and `--per`")
    })
}

/// What must hold of a document.
///
/// # Errors
/// `Config`, when a condition is none, or names what its index has not.
pub(super) fn filters(index: &Index, args: &SelectionArgs, now: Timestamp) -> Result<Vec<Filter>> {
    let mut filters = Vec::new();
    for filter in &args.filters {
        let (field, value) = filter.split_once('=').ok_or_else(|| {
            Error::config(format!("read the condition `{filter}`"))
                .hint("it is FIELD=VALUE, as `category=brazil` or `iocs.value=evil.example`")
        })?;
        let is_date = *index.field(field)?.1 == FieldType::Date;
        filters.push(if is_date {
            let (from, to) = Moment::read(value, now)?.span();
            Filter::Range(field.to_owned(), Some(seconds(from)), Some(seconds(to)))
        } else {
            Filter::Terms(field.to_owned(), written_as(field, value))
        });
    }
    let read = |text: &Option<String>| text.as_ref().map(|text| Moment::read(text, now));
    let since = read(&args.since).transpose()?.map(Moment::start);
    let until = read(&args.until).transpose()?.map(Moment::end);
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Err(Error::config(format!(
            "search from {} to {}: it ends before it begins",
            seconds(since),
            seconds(until)
        ))
        .hint("`--since` is the earlier one, `--until` the later"));
    }
    if since.is_some() || until.is_some() {
        let date = date(index)?.to_owned();
        filters.push(Filter::Range(date, since.map(seconds), until.map(seconds)));
    }
    Ok(filters)
}

/// The words that are looked for, and with a `-` those that are not.
pub(super) fn text(args: &WordsArgs) -> Option<String> {
    // First, as a quote that is not closed would take them in.
    let unwanted = args.without.iter().map(|word| format!("-\"{}\"", word.replace('"', " ")));
    let words: Vec<String> = unwanted.chain(args.text.iter().cloned()).collect();
    Some(words.join(" ")).filter(|text| !text.trim().is_empty())
}

/// A value as it was typed, and of an indicator also the form in which it is stored: reports write them defanged, and in any
/// case.
fn written_as(field: &str, value: &str) -> Vec<String> {
    let mut all = vec![value.to_owned()];
    if field.rsplit('.').next() == Some("value") {
        let stored = indicator::parse(None, value).map(|indicator| indicator.value);
        all.extend(stored.ok().filter(|stored| stored != value));
    }
    all
}
