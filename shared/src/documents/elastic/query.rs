//! From a [`Query`] to the server's own language. What a person typed becomes quoted words, so that nothing in it is syntax.

use serde_json::{Value, json};

use crate::documents::words::{Word, Words};
use crate::documents::{FieldType, Filter, Index, Query, Sort};
use crate::error::{Error, Result};

/// What counts for more when a word is found in it, as in the predecessor.
const BOOSTS: &[(&str, u32)] = &[("title", 3), ("summary", 2)];

/// The conditions of a query.
pub(super) fn conditions(index: &Index, query: &Query) -> Result<Value> {
    let mut filters = Vec::with_capacity(query.filters.len());
    for filter in &query.filters {
        filters.push(match filter {
            Filter::Terms(field, values) => json!({"terms": {exact(index, field)?: values}}),
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
        });
    }
    let mut conditions = json!({"bool": {"filter": filters}});
    if let Some(words) = query.text.as_deref().and_then(Words::read) {
        conditions["bool"]["must"] = any_of(index, &words.wanted);
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
        .map(|field| match BOOSTS.iter().find(|(boosted, _)| *boosted == field) {
            Some((_, boost)) => format!("{field}^{boost}"),
            None => field.to_owned(),
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
pub(super) fn order(index: &Index, query: &Query) -> Result<Value> {
    let has_words = query.text.as_deref().and_then(Words::read).is_some();
    Ok(match (&query.sort, &index.newest_by) {
        (Some(Sort::Field { name, descending }), _) => {
            let order = if *descending { "desc" } else { "asc" };
            json!([{exact(index, name)?: {"order": order, "missing": "_last"}}, {"id": "asc"}])
        }
        (Some(Sort::Relevance), _) if has_words => json!([{"_score": "desc"}, {"id": "asc"}]),
        (_, Some(date)) => json!([{date: {"order": "desc", "missing": "_last"}}, {"id": "asc"}]),
        _ => json!([{"id": "asc"}]),
    })
}

/// The field by which exact values are compared: for text its `.keyword` sub-field.
fn exact(index: &Index, name: &str) -> Result<String> {
    let (field, kind) = index.field(name)?;
    if *kind != FieldType::Text {
        return Ok(field.to_owned());
    }
    if index.mapping["properties"][field]["fields"].get("keyword").is_none() {
        return Err(Error::config(format!("compare or sort by `{field}` of `{}`", index.name))
            .hint("it holds words to search; choose a field with exact values"));
    }
    Ok(format!("{field}.keyword"))
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

    #[test]
    fn text_is_compared_by_its_keyword() {
        let index = Index::named("rss_articles").unwrap();
        assert_eq!(exact(index, "title").unwrap(), "title.keyword");
        assert_eq!(exact(index, "feed_name.keyword").unwrap(), "feed_name");
        assert_eq!(exact(index, "created_at").unwrap(), "collected_at");
        assert!(exact(index, "content").is_err());
    }
}
