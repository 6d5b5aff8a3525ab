//! What others say, without our secrets: a server that repeats a request in its error repeats what we log in with.

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// Shorter ones are not looked for: they would be found in any text.
const LENGTH_MIN: usize = 4;

/// A text with [`MASK`] in place of each of these secrets, longer ones first.
pub fn hidden<'s>(text: &str, secrets: impl IntoIterator<Item = &'s str>) -> String {
    let is_long = |secret: &&str| secret.len() >= LENGTH_MIN;
    let mut secrets: Vec<&str> = secrets.into_iter().filter(is_long).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let secrets = ["hunter2", "hunter2-long", "a", ""];
        assert_eq!(hidden("Basic hunter2-long, hunter2: a", secrets), "Basic ***, ***: a");
    }
}
