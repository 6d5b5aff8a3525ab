//! What a value says: outer and protecting braces off, accents in braces decoded, white space collapsed. All else is raw.

use std::collections::HashSet;

/// Accents of TeX and the letters they go with, each letter followed by what both make.
const ACCENTS: [(char, &str); 12] = [
    ('"', "aäeëiïoöuüyÿAÄEËIÏOÖUÜ"),
    ('\'', "aáeéiíoóuúyýcćnńsśzźAÁEÉIÍOÓUÚYÝCĆNŃSŚZŹ"),
    ('`', "aàeèiìoòuùAÀEÈIÌOÒUÙ"),
    ('^', "aâeêiîoôuûAÂEÊIÎOÔUÛ"),
    ('~', "aãnñoõAÃNÑOÕ"),
    ('=', "aāeēiīoōuūAĀEĒIĪOŌUŪ"),
    ('.', "eėzżEĖZŻIİ"),
    ('c', "cçsştţCÇSŞTŢ"),
    ('v', "cčsšzžrřeěnňCČSŠZŽRŘEĚNŇ"),
    ('r', "aåuůAÅUŮ"),
    ('u', "aăgğAĂGĞ"),
    ('k', "aąeęAĄEĘ"),
];

const LETTERS: [(&str, &str); 16] = [
    ("ss", "ß"),
    ("o", "ø"),
    ("O", "Ø"),
    ("l", "ł"),
    ("L", "Ł"),
    ("ae", "æ"),
    ("AE", "Æ"),
    ("oe", "œ"),
    ("OE", "Œ"),
    ("aa", "å"),
    ("AA", "Å"),
    ("i", "ı"),
    ("&", "&"),
    ("%", "%"),
    ("_", "_"),
    ("#", "#"),
];

/// Authors that are taken of an entry.
pub const AUTHORS_MAX: usize = 500;

/// The text of a value.
pub fn plain(value: &str) -> String {
    let value = value.trim();
    let mut plain = String::with_capacity(value.len());
    // For each open brace, whether it is shown: `${jndi:…}` is text.
    let mut open: Vec<bool> = Vec::new();
    let mut rest = value;
    while let Some(letter) = rest.chars().next() {
        if matches!(letter, '{' | '\\')
            && let Some((decoded, length)) = accented(rest)
        {
            plain.push_str(decoded);
            rest = &rest[length..];
            continue;
        }
        rest = &rest[letter.len_utf8()..];
        match letter {
            '{' => {
                let is_text = plain.ends_with('$');
                open.push(is_text);
                if is_text {
                    plain.push('{');
                }
            }
            '}' => {
                if open.pop().unwrap_or(true) {
                    plain.push('}');
                }
            }
            '\0' => {}
            _ if letter.is_whitespace() => {
                if !plain.ends_with(' ') {
                    plain.push(' ');
                }
            }
            _ => plain.push(letter),
        }
    }
    let trimmed = plain.trim();
    if trimmed.len() == plain.len() { plain } else { trimmed.to_owned() }
}

/// The authors of a value, split at the word `and`, in any case, outside of braces.
///
/// Empty parts, repetitions and `others` are dropped. Braces around all make it one. Of more than [`AUTHORS_MAX`] the first are given; the number is of those left out.
pub fn authors(value: &str) -> (Vec<String>, usize) {
    let value = value.trim();
    let mut authors = Vec::new();
    let mut seen = HashSet::new();
    let mut left_out = 0;
    let (mut depth, mut from, mut word) = (0_usize, 0, None);
    let mut take = |part: &str| {
        let name = plain(part);
        if name.is_empty() || name.eq_ignore_ascii_case("others") || seen.contains(&name) {
        } else if authors.len() == AUTHORS_MAX {
            left_out += 1;
        } else {
            seen.insert(name.clone());
            authors.push(name);
        }
    };
    for (place, byte) in value.bytes().chain([b' ']).enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            word = word.or(Some(place));
        } else if let Some(start) = word.take()
            && depth == 0
            && value[start..place].eq_ignore_ascii_case("and")
        {
            take(&value[from..start]);
            from = place.min(value.len());
        }
    }
    take(&value[from..]);
    (authors, left_out)
}

/// Decodes `{\"u}`, `{\"{u}}`, `\"{u}`, `{\c c}`, `{\ss}` at the start of `text`, with its length there. Braces make it
/// TeX: a backslash by itself is text.
fn accented(text: &str) -> Option<(&'static str, usize)> {
    if let Some(inside) = text.strip_prefix("{\\") {
        // Accents are short, and an unclosed brace must not make this look further and further.
        let near = &inside[..inside.floor_char_boundary(8)];
        let (first, last) = (near.find('}')?, near.find("}}"));
        let end = if near[..first].contains('{') { last? + 1 } else { first };
        let body = &near[..end];
        let decoded = letter(body).or_else(|| {
            let accent = body.chars().next()?;
            let base = body[accent.len_utf8()..].trim();
            compose(
                accent,
                base.strip_prefix('{').and_then(|base| base.strip_suffix('}')).unwrap_or(base),
            )
        })?;
        return Some((decoded, 2 + end + 1));
    }
    let inside = text.strip_prefix('\\')?;
    let accent = inside.chars().next()?;
    let after = inside[accent.len_utf8()..].strip_prefix('{')?;
    let base = after.chars().next()?;
    after[base.len_utf8()..].strip_prefix('}')?;
    let decoded = compose(accent, &after[..base.len_utf8()])?;
    Some((decoded, 1 + accent.len_utf8() + 1 + base.len_utf8() + 1))
}

fn letter(name: &str) -> Option<&'static str> {
    LETTERS.iter().find(|(known, _)| *known == name).map(|(_, letter)| *letter)
}

fn compose(accent: char, base: &str) -> Option<&'static str> {
    let base = if base == "\\i" { "i" } else { base };
    let mut letters = base.chars();
    let (base, None) = (letters.next()?, letters.next()) else { return None };
    let table = ACCENTS.iter().find(|(known, _)| *known == accent)?.1;
    let mut places = table.char_indices();
    while let Some((_, letter)) = places.next() {
        let (place, made) = places.next()?;
        if letter == base {
            return Some(&table[place..place + made.len_utf8()]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: &str) {
        assert_eq!(plain(value), expected, "{value}");
    }

    #[test]
    fn braces_go_and_raw_characters_stay() {
        check("{Clipsa – Multipurpose password stealer}", "Clipsa – Multipurpose password stealer");
        check("{Jester Stealer  Malware  Research 2022}", "Jester Stealer Malware Research 2022");
        check("DeathRansom \\ Wacatac ransomware", "DeathRansom \\ Wacatac ransomware");
        check(
            "{100% of #1 & a_b $5 ~x ^y C:\\users\\\"x\"}",
            "100% of #1 & a_b $5 ~x ^y C:\\users\\\"x\"",
        );
        check("{{RAT}s in {the} wild}", "RATs in the wild");
        check("{Log4Shell: ${jndi:ldap} again}", "Log4Shell: ${jndi:ldap} again");
        check("{a} and {b}", "a and b");
        check("{{{ a }}}", "a");
        check("Iranian APT)", "Iranian APT)");
        check("", "");
    }

    #[test]
    fn accents_in_braces_are_letters() {
        check(
            "Rub{\\'i}n M{\\\"u}ller Gar\\c{c}on {\\c c} Stra{\\ss}e",
            "Rubín Müller Garçon ç Straße",
        );
        check("{\\\"{u}} \\v{s} {\\v{S}} {\\o} {\\'\\i}", "ü š Š ø í");
        check("R{\\&}D {\\unknown} {\\\"q}", "R&D \\unknown \\\"q");
    }

    #[track_caller]
    fn check_authors(value: &str, expected: &[&str]) {
        assert_eq!(
            authors(value),
            (expected.iter().map(ToString::to_string).collect(), 0),
            "{value}"
        );
    }

    #[test]
    fn authors_are_split_at_the_word_and() {
        check_authors("Jan Rubín", &["Jan Rubín"]);
        check_authors("BNN and ", &["BNN"]);
        check_authors(" and and A and\n B", &["A", "B"]);
        check_authors("Carlos Rubio and Blueliv Labs Team", &["Carlos Rubio", "Blueliv Labs Team"]);
        check_authors(
            "Yelisey B and AdvIntel Security & Development Team",
            &["Yelisey B", "AdvIntel Security & Development Team"],
        );
        check_authors(
            "{Bits and Pieces} and Alexander and @037 and Matt | HuskyHacks and others",
            &["Bits and Pieces", "Alexander", "@037", "Matt | HuskyHacks"],
        );
        check_authors("{Barnes and Noble Team}", &["Barnes and Noble Team"]);
        check_authors("andand", &["andand"]);
        for and in ["AND", "And", "aNd", "\n and\t"] {
            check_authors(
                &format!("Ana Lima {and} Bo Chen {and} others"),
                &["Ana Lima", "Bo Chen"],
            );
            check_authors(
                &format!("{{Lima {and} Chen}} {and} Others"),
                &[&format!("Lima {} Chen", and.trim())],
            );
        }
        check_authors("A {and} B", &["A and B"]);
        check_authors("A and A and B", &["A", "B"]);
        check_authors("Alexand Er and Band", &["Alexand Er", "Band"]);
        check_authors("", &[]);
    }
}
