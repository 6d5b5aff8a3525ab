//! Which files of the repository hold rules, and of what kind, by their names.

/// Whether a name is that of a file of rules.
pub(crate) fn is_rules(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ending.eq_ignore_ascii_case("yar") || ending.eq_ignore_ascii_case("yara")
}

/// What kind of rules a file holds, by the words at the beginning of its name: `apt_…`, `thor-webshells`.
///
/// The first word decides; where it says nothing, the first of the others that says something does.
pub(crate) fn category(file: &str) -> &'static str {
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_ascii_lowercase();
    stem.split(['_', '-', ' ']).find_map(category_word).unwrap_or("other")
}

fn category_word(word: &str) -> Option<&'static str> {
    Some(match word {
        "apt" => "apt",
        "crime" => "crime",
        "gen" | "generic" | "general" => "generic",
        "mal" | "malware" => "malware",
        "expl" | "exploit" | "exploits" => "exploit",
        "vul" | "vuln" | "vulnerability" => "vulnerability",
        "hktl" | "hacktool" | "hacktools" => "hacktool",
        "spy" => "spyware",
        "pua" => "pua",
        "pup" => "pup",
        "webshell" | "webshells" => "webshell",
        "susp" => "suspicious",
        "bkdr" => "backdoor",
        "ransom" => "ransomware",
        "inverse" => "anomaly",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_is_the_first_word_that_says_something() {
        for (file, expected) in [
            ("yara/apt_apt28.yar", "apt"),
            ("yara/thor-webshells.yar", "webshell"),
            ("thor-hacktools.yar", "hacktool"),
            ("gen_webshells.yar", "generic"),
            ("yara-rules_vuln_drivers_strict_renamed.yar", "vulnerability"),
            ("BlueHammer.yar", "other"),
            ("vendor/yara/airbnb_binaryalert.yar", "other"),
        ] {
            assert_eq!(category(file), expected, "{file}");
        }
    }
}
