//! From a [`Query`] to the server's own language. What a person typed becomes quoted words, so that nothing in it is syntax.

use base::Result;
use serde_json::{Value, json};

use crate::documents::words::{Word, Words};
use crate::documents::{
    Aggregation, Bucket, Counts, FieldType, Filter, Index, Per, Query, Sort, boost,
};

/// The conditions of a query.
pub(super) fn conditions(index: &Index, query: &Query) -> Result<Value> {
    let mut filters = Vec::with_capacity(query.filters.len());
    for filter in &query.filters {
        filters.push(match filter {
            Filter::Terms(field, values) => {
                let values: Vec<String> =
                    values.iter().map(|value| index.value(field, value)).collect::<Result<_>>()?;
                json!({"terms": {exact(index, field)?: values}})
            }
            Filter::Range(field, from, to) => {
                let mut range = json!({});
                for (limit, comparison) in [(from, "gte"), (to, "lt")] {
                    if let Some(limit) = limit {
                        range[comparison] = json!(limit);
                    }
                }
                json!({"range": {exact(index, field)?: range}})
            }
            Filter::Exists(field) => json!({"exists": {"field": index.field(field)?.0}}),
            Filter::Missing(field) => {
                json!({"bool": {"must_not": {"exists": {"field": index.field(field)?.0}}}})
            }
        });
    }
    let mut conditions = json!({"bool": {"filter": filters}});
    if let Some(words) = query.text.as_deref().and_then(Words::read) {
        if !words.wanted.is_empty() {
            conditions["bool"]["must"] = any_of(index, &words.wanted);
        }
        if !words.unwanted.is_empty() {
            // Within one query string, `-word` beside words of which any will do means "or not this word".
            conditions["bool"]["must_not"] = any_of(index, &words.unwanted);
        }
    }
    Ok(conditions)
}

fn any_of(index: &Index, words: &[Word]) -> Value {
    let fields: Vec<String> = index
        .text_fields()
        .map(|field| match boost(field) {
            1 => field.to_owned(),
            boost => format!("{field}^{boost}"),
        })
        .collect();
    if fields.is_empty() {
        return json!({"match_none": {}});
    }
    let typed: Vec<String> = words
        .iter()
        .map(|word| {
            // A star takes a bare word; where there is more than letters, the words in it are looked for as they stand.
            if word.is_prefix && word.text.chars().all(char::is_alphanumeric) {
                format!("{}*", word.text)
            } else {
                format!("\"{}\"", word.text.replace('\\', " "))
            }
        })
        .collect();
    json!({"simple_query_string": {
        "query": typed.join(" "), "fields": fields, "default_operator": "or", "flags": "PHRASE|PREFIX|WHITESPACE",
    }})
}

/// The order: by what was asked, newest first otherwise, by id where all else is equal.
///
/// Of several indices, one may lack the field: its documents come last, as others without it do.
pub(super) fn order(index: &Index, query: &Query) -> Result<Value> {
    let words = query.text.as_deref().and_then(Words::read);
    let has_words = words.is_some_and(|words| !words.wanted.is_empty());
    let by = |name: &str, order: &str| -> Result<Value> {
        let is_date = *index.field(name)?.1 == FieldType::Date;
        let kind = if is_date { "date" } else { "keyword" };
        let form = json!({"order": order, "missing": "_last", "unmapped_type": kind});
        Ok(json!([{exact(index, name)?: form}, {"id": "asc"}]))
    };
    match (&query.sort, &index.newest_by) {
        (Some(Sort::Field { name, descending }), _) => {
            by(name, if *descending { "desc" } else { "asc" })
        }
        (Some(Sort::Relevance), _) if has_words => Ok(json!([{"_score": "desc"}, {"id": "asc"}])),
        (_, Some(date)) => by(date, "desc"),
        _ => Ok(json!([{"id": "asc"}])),
    }
}

/// The field by which exact values are compared: for text its `.keyword` sub-field.
fn exact(index: &Index, name: &str) -> Result<String> {
    Ok(index.exact(name)?.0)
}

/// What is counted, by the names that [`counts`] reads.
pub(super) fn aggregations(index: &Index, aggregation: &Aggregation) -> Result<Value> {
    Ok(match aggregation {
        Aggregation::Terms { field, size } => json!({"found": {"terms": {
            "field": exact(index, field)?, "size": size, "order": [{"_count": "desc"}, {"_key": "asc"}],
        }}}),
        Aggregation::Dates { field, per } => {
            let field = exact(index, field)?;
            let (interval, format) = match per {
                Per::Day => ("day", "uuuu-MM-dd"),
                Per::Month => ("month", "uuuu-MM"),
                Per::Year => ("year", "uuuu"),
            };
            let instant = json!({"field": field, "format": "uuuu-MM-dd'T'HH:mm:ss'Z'"});
            json!({
                "found": {"date_histogram": {
                    "field": field, "calendar_interval": interval, "format": format, "time_zone": "UTC",
                    "min_doc_count": 1,
                }},
                "first": {"min": instant},
                "last": {"max": instant},
            })
        }
    })
}

/// What the server counted.
pub(super) fn counts(said: &Value) -> Option<Counts> {
    let instant = |name: &str| {
        let found = said.get(name).filter(|found| found["value"].is_number())?;
        found["value_as_string"].as_str().map(ToOwned::to_owned)
    };
    let buckets = said["found"]["buckets"].as_array()?.iter().map(|bucket| {
        let key = match (&bucket["key_as_string"], &bucket["key"]) {
            (Value::String(key), _) | (_, Value::String(key)) => key.clone(),
            (_, key) => key.to_string(),
        };
        Some(Bucket { key, count: bucket["doc_count"].as_u64()? })
    });
    Some(Counts {
        buckets: buckets.collect::<Option<_>>()?,
        others: said["found"]["sum_other_doc_count"].as_u64().unwrap_or(0),
        first: instant("first"),
        last: instant("last"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_never_syntax_and_a_refusal_holds_for_all() {
        let index = Index::named("rss_articles").unwrap();
        let query = Query { text: Some(r"a\b|(c some* -not".to_owned()), ..Query::default() };
        let conditions = conditions(index, &query).unwrap();
        let typed = |part: &str| conditions["bool"][part]["simple_query_string"]["query"].clone();
        assert_eq!(typed("must"), r#""a b|(c" some*"#);
        assert_eq!(typed("must_not"), r#""not""#);
    }
}
