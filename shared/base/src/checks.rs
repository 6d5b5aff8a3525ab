//! What is wrong with the text of a setting, beyond what its type says. No check repeats a value that may be a secret.

use std::fs;

use url::Url;

/// A check of one setting.
pub type Check = fn(&str) -> Result<(), String>;

/// What `MINERVA_LOG` calls levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Letters that an index name may hold; more than that is refused by one server or the other.
const INDEX_LETTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789-_.";

/// A file that is there.
///
/// # Errors
/// Why it cannot be read.
pub fn file(text: &str) -> Result<(), String> {
    refuse_bucket(text)?;
    match fs::File::open(text).and_then(|file| file.metadata()) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(format!("`{text}` is no file")),
        Err(cause) => Err(format!("`{text}` cannot be read: {cause}")),
    }
}

/// A file of certificates in PEM.
///
/// # Errors
/// Why it cannot be read, or that it is no such file.
pub fn certificates(text: &str) -> Result<(), String> {
    file(text)?;
    let held = fs::read(text).map_err(|cause| format!("`{text}` cannot be read: {cause}"))?;
    if String::from_utf8_lossy(&held).contains("-----BEGIN CERTIFICATE-----") {
        return Ok(());
    }
    Err(format!("`{text}` holds no certificate: it begins with `-----BEGIN CERTIFICATE-----`"))
}

/// A folder of this machine, which may still have to be made.
///
/// # Errors
/// What it is instead.
pub fn folder(text: &str) -> Result<(), String> {
    refuse_bucket(text)?;
    match fs::metadata(text) {
        Ok(found) if !found.is_dir() => Err(format!("`{text}` is no folder")),
        _ => Ok(()),
    }
}

/// A folder of this machine, or `s3://bucket/prefix`.
///
/// # Errors
/// What it is instead.
pub fn folder_or_bucket(text: &str) -> Result<(), String> {
    match text.split_once("://") {
        None => folder(text),
        Some(("s3", place)) if !place.is_empty() && !place.starts_with('/') => Ok(()),
        Some(("s3", _)) => Err("it names no bucket: `s3://bucket/prefix`".to_owned()),
        Some((scheme, _)) => Err(format!("a folder or `s3://bucket/prefix`, not `{scheme}:`")),
    }
}

/// A folder of this machine that is there, or an address of the web.
///
/// # Errors
/// What it is instead.
pub fn folder_or_web_address(text: &str) -> Result<(), String> {
    if text.contains("://") {
        return web_address(text).map(drop);
    }
    match fs::metadata(text) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(format!("`{text}` is no folder")),
        Err(cause) => Err(format!("`{text}` cannot be read: {cause}")),
    }
}

fn refuse_bucket(text: &str) -> Result<(), String> {
    match text.split_once("://") {
        None => Ok(()),
        Some((scheme, _)) => Err(format!("a path on this machine, not `{scheme}:`")),
    }
}

/// A number of days that something is kept.
///
/// # Errors
/// That it is none.
pub fn days(text: &str) -> Result<(), String> {
    let most = crate::keep_days::KeepDays::DAYS_MAX;
    match text.parse::<u32>() {
        Ok(days) if (1..=most).contains(&days) => Ok(()),
        _ => Err(format!("`{text}` is no number of days from 1 to {most}")),
    }
}

/// A number from 0 to 100.
///
/// # Errors
/// That it is none.
pub fn percent(text: &str) -> Result<(), String> {
    match text.parse::<u32>() {
        Ok(0..=100) => Ok(()),
        _ => Err(format!("`{text}` is no whole number from 0 to 100")),
    }
}

/// One of MISP's circles that an event may be shown to, without those of sharing groups.
///
/// # Errors
/// That it is none.
pub fn distribution(text: &str) -> Result<(), String> {
    match text.parse::<u32>() {
        Ok(0..=3) => Ok(()),
        _ => Err(format!("`{text}` is no whole number from 0 to 3")),
    }
}

/// What a language model's provider may be called.
pub const MODEL_PROVIDERS: [&str; 4] = ["openai", "anthropic", "databricks", "compatible"];

/// Edits that a word is near with.
const NEAR: usize = 3;

/// One of [`MODEL_PROVIDERS`], in letters of any case.
///
/// # Errors
/// That it is none, and the near one.
pub fn model_provider(text: &str) -> Result<(), String> {
    let typed = text.to_ascii_lowercase();
    if MODEL_PROVIDERS.contains(&typed.as_str()) {
        return Ok(());
    }
    let edits = |known: &str| strsim::levenshtein(known, &typed);
    let near = MODEL_PROVIDERS.into_iter().filter(|known| edits(known) <= NEAR);
    let near = near.min_by_key(|known| edits(known));
    let meant = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    Err(format!("`{text}` is none of `{}`{meant}", MODEL_PROVIDERS.join("`, `")))
}

/// A whole number from 1 to 64.
///
/// # Errors
/// That it is none.
pub fn up_to_64(text: &str) -> Result<(), String> {
    from_one_to(64, text)
}

/// A whole number from 1 to 600.
///
/// # Errors
/// That it is none.
pub fn up_to_600(text: &str) -> Result<(), String> {
    from_one_to(600, text)
}

fn from_one_to(most: u32, text: &str) -> Result<(), String> {
    match text.parse::<u32>() {
        Ok(number) if (1..=most).contains(&number) => Ok(()),
        _ => Err(format!("`{text}` is no whole number from 1 to {most}")),
    }
}

/// Indices of articles, which may be enriched.
pub const ARTICLE_INDICES: [&str; 4] =
    ["malpedia_library", "rss_articles", "caveiratech_news", "otx_pulses"];

/// Names of [`ARTICLE_INDICES`], separated by commas.
///
/// # Errors
/// Which is none.
pub fn article_indices(text: &str) -> Result<(), String> {
    match text.split(',').map(str::trim).find(|name| !ARTICLE_INDICES.contains(name)) {
        None => Ok(()),
        Some(other) => Err(format!("`{other}` is none of `{}`", ARTICLE_INDICES.join("`, `"))),
    }
}

/// `pt-BR` or `English`.
///
/// # Errors
/// That it is neither.
pub fn summary_language(text: &str) -> Result<(), String> {
    match text {
        "pt-BR" | "English" => Ok(()),
        _ => Err(format!("`{text}` is neither `pt-BR` nor `English`")),
    }
}

/// What an index name may begin with on every server.
///
/// # Errors
/// Which letters it may have.
pub fn index_prefix(text: &str) -> Result<(), String> {
    if text.chars().all(|letter| INDEX_LETTERS.contains(letter))
        && !text.starts_with(['-', '_', '.'])
    {
        return Ok(());
    }
    Err(format!(
        "`{text}` has other letters than an index name: small letters, digits, `-`, `_` and `.`, the first a letter or a digit"
    ))
}

/// A key as servers give them: visible ASCII on one line. It is not repeated.
///
/// # Errors
/// That it has other letters.
pub fn key(text: &str) -> Result<(), String> {
    if text.chars().all(|letter| letter.is_ascii_graphic()) {
        return Ok(());
    }
    Err("it holds a space or a letter that no key has".to_owned())
}

/// Such keys, separated by commas.
///
/// # Errors
/// That one of them has other letters.
pub fn keys(text: &str) -> Result<(), String> {
    text.split(',').try_for_each(|one| key(one.trim()))
}

/// Text that a header can carry: visible ASCII and spaces, on one line. It is not repeated.
///
/// # Errors
/// That it has other letters.
pub fn one_line(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("it holds a line break or another control letter".to_owned());
    }
    Ok(())
}

/// A region of AWS, as `sa-east-1`.
///
/// # Errors
/// That it has another form.
pub fn region(text: &str) -> Result<(), String> {
    let is_part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if text.split('-').all(is_part) {
        return Ok(());
    }
    Err(format!("`{text}` is no region: as `sa-east-1`"))
}

/// An address of a person: of mail, or of a page.
///
/// # Errors
/// That it is neither.
pub fn contact(text: &str) -> Result<(), String> {
    let mail = text.strip_prefix("mailto:").unwrap_or(text);
    let is_mail = mail.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && host.len() > 2 && host.contains('.') && !host.contains('@')
    });
    let is_page = Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if text.chars().all(|letter| letter.is_ascii_graphic()) && (is_mail || is_page) {
        return Ok(());
    }
    Err(format!(
        "`{}` is neither an address of mail (`soc@example.org`) nor of a page (`https://…`), in plain ASCII",
        text.escape_default()
    ))
}

/// What is logged: a level, or parts with theirs, as `info,rss=debug`.
///
/// # Errors
/// Which part is malformed, and which levels there are.
pub fn log_filter(text: &str) -> Result<(), String> {
    let known = |level: &str| LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
    for part in text.split(',').map(str::trim) {
        let (target, level) = part.rsplit_once('=').map_or((None, part), |(t, l)| (Some(t), l));
        if !known(level.trim()) {
            return Err(format!(
                "`{level}` is no level: {}; a part of the program has its own as `rss=debug`",
                LEVELS.join(", ")
            ));
        }
        let is_name = |target: &str| {
            let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
            // What stands in brackets is a span, which only the logger itself understands.
            let name = target.split('[').next().unwrap_or_default();
            !target.is_empty() && name.chars().all(letters)
        };
        if target.is_some_and(|target| !is_name(target.trim())) {
            return Err(format!("`{part}` names no part of the program: as `rss=debug`"));
        }
    }
    Ok(())
}

/// An address of the web.
///
/// # Errors
/// What is wrong with it, without repeating it.
pub fn address(text: &str) -> Result<(), String> {
    web_address(text).map(drop)
}

/// An address of the web, whose `https://` may be left out.
///
/// # Errors
/// What is wrong with it, without repeating it.
pub fn host_or_web_address(text: &str) -> Result<(), String> {
    if text.contains("://") { address(text) } else { address(&format!("https://{text}")) }
}

/// An address of the web. What is wrong is said without repeating it: it may hold a password.
pub(crate) fn web_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|cause| match text.contains('@') {
        true => format!("not a URL: {cause}; or {ESCAPES}"),
        false => format!("not a URL: {cause}"),
    })?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("a URL begins with `http://` or `https://`, not `{}:`", url.scheme()));
    }
    password_ends_before_the_host(text).map(|()| url)
}

/// Refuses an address behind whose host stands what may be the rest of a password: it would be shown. Nothing is repeated.
///
/// # Errors
/// How those letters are written.
pub fn password_ends_before_the_host(text: &str) -> Result<(), String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if behind.contains('@') && authority.contains([':', '@']) {
        return Err(ESCAPES.to_owned());
    }
    Ok(())
}

/// How the letters of a password are written in an address that would end there.
pub(crate) const ESCAPES: &str = "its password ends early: in an address, `@`, `/`, `?`, `#` and `,` of a password are written `%40`, `%2F`, `%3F`, `%23` and `%2C`";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(check: Check, right: &[&str], wrong: &[&str]) {
        for text in right {
            assert_eq!(check(text), Ok(()), "`{text}`");
        }
        for text in wrong {
            assert!(check(text).is_err(), "`{text}` is taken");
        }
    }

    #[test]
    fn a_level_or_a_part_with_one_is_a_filter() {
        check(
            log_filter,
            &[
                "info",
                "WARN",
                "off",
                "info,rss=debug",
                "warn, sqlx::query=error",
                "rss[visit]=trace",
            ],
            &[
                "",
                "loud",
                "warning",
                "verbose",
                "info,",
                "rss",
                "rss=loud",
                "info;rss=debug",
                "=info",
                "rss debug=info",
            ],
        );
    }

    #[test]
    fn a_contact_is_reached_by_mail_or_is_a_page() {
        check(
            contact,
            &["soc@example.org", "mailto:soc@example.org", "https://soc.example/contact"],
            &[
                "me",
                "soc@",
                "@example.org",
                "a@b",
                "the SOC <soc@example.org>",
                "soc@exämple.org",
                "soc@example.org\nx: y",
                "ftp://soc.example/",
            ],
        );
    }

    #[test]
    fn a_folder_is_one_of_this_machine() {
        check(
            folder,
            &["minerva-data", "/tmp", "./not/there/yet"],
            &["/etc/passwd", "s3://bucket/x", "file:///tmp"],
        );
        check(
            folder_or_bucket,
            &["/tmp", "s3://bucket", "s3://bucket/prefix"],
            &["s3://", "s3:///x", "https://bucket/x", "/etc/passwd"],
        );
        check(file, &["/etc/passwd"], &["/tmp", "/not/there", "s3://bucket/x"]);
        check(certificates, &[], &["/etc/passwd", "/not/there"]);
    }

    #[test]
    fn numbers_keys_and_names_have_their_form() {
        check(days, &["1", "30", "36500"], &["0", "-1", "soon", "36501", "1.5", "30 days"]);
        check(percent, &["0", "100"], &["101", "-1", "75%"]);
        check(
            index_prefix,
            &["", "minerva-", "a.b_c-1"],
            &["-a", "_a", "A", "a b", "a*", "a/b", "ä"],
        );
        check(key, &["VnVhQ2ZHY0JDZGJrU", "id:key"], &["a b", "schlüssel", "a\nb"]);
        check(article_indices, &["rss_articles", "otx_pulses, rss_articles"], &["", "rss", "a,b"]);
        check(summary_language, &["pt-BR", "English"], &["", "english", "pt"]);
        check(one_line, &["correct horse", "ä"], &["a\nb", "a\tb"]);
        check(model_provider, &["openai", "OpenAI", "compatible"], &["", "opnai", "gpt"]);
        assert!(model_provider("opnai").unwrap_err().ends_with("did you mean `openai`?"));
        check(up_to_64, &["1", "64"], &["0", "65", "-1", "four"]);
        check(host_or_web_address, &["adb-1.azuredatabricks.net", "http://a"], &["ftp://a", "a b"]);
        check(region, &["sa-east-1", "auto"], &["Sao Paulo", "SA-EAST-1", "sa--1", ""]);
    }

    #[test]
    fn what_may_be_of_a_password_ends_before_the_host() {
        check(
            password_ends_before_the_host,
            &[
                "https://es:9200",
                "https://u:p%40@es:9200/path",
                "https://u:p@q@es/",
                "https://example.org/@user/feed",
            ],
            &[
                "https://u:12/hunter2@es:9200",
                "https://u:12#hunter2@es",
                "https://u:12?hunter2@es",
                "https://u:p@12/hunter2@es",
            ],
        );
    }
}
