//! Lists cut by count and by bytes, so that what is held, sent or written at once is bounded whatever an item weighs.

use serde_json::Value;

/// Cuts a list so that no part is longer or heavier than this, single items apart.
pub(super) fn batches<T>(
    mut left: &[T],
    weigh: impl Fn(&T) -> usize,
    count: usize,
    bytes: usize,
) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = left.iter().take(count).take_while(|item| {
            let is_first = sum == 0;
            sum += weigh(item).max(1);
            is_first || sum <= bytes
        });
        let (part, rest) = left.split_at(fits.count());
        left = rest;
        (!part.is_empty()).then_some(part)
    })
}

/// About how many bytes a value has as JSON.
pub(super) fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 3,
        Value::Array(items) => 2 + items.iter().map(weight).sum::<usize>(),
        Value::Object(map) => {
            2 + map.iter().map(|(name, value)| name.len() + 4 + weight(value)).sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_by_count_and_by_weight_and_loses_nothing() {
        let list = [1, 1, 1, 50, 3, 3, 3, 3];
        let parts: Vec<&[usize]> = batches(&list, |item| *item, 3, 9).collect();
        assert_eq!(parts, [&[1, 1, 1][..], &[50], &[3, 3, 3], &[3]]);
        assert_eq!(batches(&[] as &[usize], |item| *item, 3, 9).count(), 0);
    }
}
