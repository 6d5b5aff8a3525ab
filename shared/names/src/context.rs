//! What stands around a name and says that it is one, in English and in Portuguese.

use crate::common::Common;
use crate::index::SubjectKind;
use crate::words::{Case, Text, Word};

/// Words between a name and what it is.
const BETWEEN_MAX: usize = 3;
/// Words of `, a new banking trojan` before the word that says what it is.
const APPOSITION_MAX: usize = 6;

/// What a piece of malware is called.
const MALWARE: [&str; 68] = [
    "malware",
    "malwares",
    "ransomware",
    "ransomwares",
    "trojan",
    "trojans",
    "trojano",
    "backdoor",
    "backdoors",
    "rat",
    "rats",
    "stealer",
    "stealers",
    "infostealer",
    "infostealers",
    "loader",
    "loaders",
    "downloader",
    "dropper",
    "droppers",
    "botnet",
    "botnets",
    "bot",
    "bots",
    "worm",
    "worms",
    "spyware",
    "stalkerware",
    "rootkit",
    "rootkits",
    "bootkit",
    "keylogger",
    "keyloggers",
    "wiper",
    "wipers",
    "banker",
    "bankers",
    "miner",
    "miners",
    "cryptominer",
    "implant",
    "implants",
    "virus",
    "vírus",
    "webshell",
    "adware",
    "crypter",
    "locker",
    "skimmer",
    "encryptor",
    "encryptors",
    "decryptor",
    "ransom",
    "cavalo",
    "clipper",
    "scareware",
    "rançongiciel",
    "vermes",
    "verme",
    "minerador",
    "sequestrador",
    "framework",
    "toolkit",
    "beacons",
    "shellcode",
    "exploitkit",
    "phishkit",
    "payloads",
];
/// What those behind it are called.
const ACTORS: [&str; 34] = [
    "group",
    "groups",
    "gang",
    "gangs",
    "apt",
    "apts",
    "actor",
    "actors",
    "hackers",
    "hacker",
    "crew",
    "team",
    "operators",
    "operator",
    "affiliates",
    "affiliate",
    "cartel",
    "syndicate",
    "collective",
    "cybergang",
    "hacktivists",
    "grupo",
    "grupos",
    "gangue",
    "quadrilha",
    "operadores",
    "afiliados",
    "bando",
    "cibercriminosos",
    "coletivo",
    "hacktivistas",
    "atacantes",
    "spies",
    "espiões",
];
/// Words that may stand between both.
const MODIFIERS: [&str; 44] = [
    "android",
    "ios",
    "macos",
    "mac",
    "linux",
    "windows",
    "iot",
    "mobile",
    "banking",
    "bank",
    "pos",
    "atm",
    "esxi",
    "based",
    "cross",
    "platform",
    "information",
    "info",
    "remote",
    "access",
    "s",
    "espionage",
    "cyber",
    "crypto",
    "mining",
    "password",
    "credential",
    "threat",
    "hacking",
    "extortion",
    "nation",
    "state",
    "cybercrime",
    "cyberespionage",
    "data",
    "bancário",
    "bancários",
    "bancária",
    "espião",
    "de",
    "family",
    "família",
    "as",
    "service",
];
/// Words that give something its name.
const NAMING: [&str; 32] = [
    "called",
    "named",
    "dubbed",
    "codenamed",
    "nicknamed",
    "aka",
    "alias",
    "tracked",
    "known",
    "christened",
    "chamado",
    "chamada",
    "chamados",
    "apelidado",
    "apelidada",
    "batizado",
    "batizada",
    "conhecido",
    "conhecida",
    "conhecidos",
    "denominado",
    "denominada",
    "intitulado",
    "nomeado",
    "rastreado",
    "identificado",
    "refer",
    "referred",
    "labelled",
    "labeled",
    "dub",
    "codinome",
];
/// Small words before a name that say nothing.
const ARTICLES: [&str; 14] =
    ["as", "the", "a", "an", "o", "os", "um", "uma", "de", "do", "da", "como", "por", "new"];
/// What is done to somebody, and not by malware of that name.
const SUFFERED: [&str; 20] = [
    "attack",
    "attacks",
    "incident",
    "incidents",
    "breach",
    "outbreak",
    "infection",
    "infections",
    "victim",
    "victims",
    "case",
    "hit",
    "hits",
    "strikes",
    "shuts",
    "disrupts",
    "cripples",
    "closes",
    "scare",
    "probe",
];

/// What the words beside a name say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// It is what these are.
    Kind(SubjectKind),
    /// The text gives it its name.
    Name,
}

/// Which kind of thing a word stands for.
pub(crate) fn kind_of(lower: &str) -> Option<SubjectKind> {
    if MALWARE.contains(&lower) {
        Some(SubjectKind::Family)
    } else if ACTORS.contains(&lower) {
        Some(SubjectKind::Actor)
    } else {
        None
    }
}

/// What stands beside the words `from..to`, if it says that they are a name.
pub(crate) fn beside(text: &Text<'_>, from: usize, to: usize, common: Common) -> Option<Beside> {
    let named = || is_named(text, from).then_some(Beside::Name);
    // `Raccoon Stealer`, which is written as one word elsewhere.
    let own = || if to > from + 1 { kind_of(&text.words[to - 1].lower) } else { None };
    after(text, to, common)
        .or_else(own)
        .or_else(|| before(text, from, to))
        .map(Beside::Kind)
        .or_else(named)
        .or_else(|| apposition(text, from, to).map(Beside::Kind))
}

/// `Play ransomware`, `Hydra Android malware`, `Royal's gang`.
fn after(text: &Text<'_>, to: usize, common: Common) -> Option<SubjectKind> {
    for at in to..(to + BETWEEN_MAX).min(text.words.len()) {
        if !text.is_joined(at - 1) {
            return None;
        }
        let lower = text.words[at].lower.as_str();
        if let Some(kind) = kind_of(lower) {
            // A gang whose name is that of its ransomware: the last word says what is meant.
            let next = text.words.get(at + 1).filter(|_| text.is_joined(at));
            let last = next.and_then(|next| kind_of(&next.lower));
            let is_suffered = |word: &Word<'_>| SUFFERED.contains(&word.lower.as_str());
            if common.is_somebody && next.is_some_and(is_suffered) {
                return None;
            }
            return Some(last.unwrap_or(kind));
        }
        if !MODIFIERS.contains(&lower) {
            return None;
        }
    }
    None
}

/// `the backdoor Carbon`, `ransomware Play`, `grupo de ransomware Medusa`.
fn before(text: &Text<'_>, from: usize, to: usize) -> Option<SubjectKind> {
    for at in (from.saturating_sub(BETWEEN_MAX)..from).rev() {
        if !text.is_joined(at) {
            return None;
        }
        let word = &text.words[at];
        if let Some(kind) = kind_of(&word.lower) {
            // English puts the name first: `Ransomware Crisis Hits Hospitals` names nothing.
            let is_told = text.is_portuguese || text.case == Case::None || !word.has_capital();
            let goes_on = text.case == Case::Sentence
                && text.is_joined(to - 1)
                && text.words[to].is_capitalised()
                && kind_of(&text.words[to].lower).is_none();
            let kind = match at.checked_sub(2) {
                // `grupo de ransomware X`
                Some(first) if text.words[at - 1].lower == "de" => {
                    kind_of(&text.words[first].lower).unwrap_or(kind)
                }
                _ => kind,
            };
            return (is_told && !goes_on && text.case != Case::Title).then_some(kind);
        }
        let is_between =
            MODIFIERS.contains(&word.lower.as_str()) || NAMING.contains(&word.lower.as_str());
        if !is_between {
            return None;
        }
    }
    None
}

/// `dubbed Whisper`, `known as "Anchor"`, `apelidado de Hook`, or in quotes of its own.
fn is_named(text: &Text<'_>, from: usize) -> bool {
    let speaks = |at: usize| NAMING.contains(&text.words[at].lower.as_str());
    let mut at = from;
    for _ in 0..BETWEEN_MAX {
        let Some(previous) = at.checked_sub(1) else { return false };
        if !text.is_joined(previous) {
            return false;
        }
        if speaks(previous) {
            return true;
        }
        if !ARTICLES.contains(&text.words[previous].lower.as_str()) {
            return false;
        }
        at = previous;
    }
    false
}

/// `Hook: a new fork with RAT capabilities`, `Hydra, um trojan bancário`, `Flame is a worm`.
fn apposition(text: &Text<'_>, from: usize, to: usize) -> Option<SubjectKind> {
    let next = text.words.get(to)?;
    let gap = text.gap(to - 1);
    let is_set_off = gap.contains([',', ':', '(', '–', '—']) || gap.trim() == "-";
    let is_verb =
        matches!(next.lower.as_str(), "is" | "was" | "é" | "era") && text.is_joined(to - 1);
    let first = if is_verb { to + 1 } else { to };
    let opens = |word: &Word<'_>| {
        matches!(
            word.lower.as_str(),
            "a" | "an" | "the" | "um" | "uma" | "o" | "novo" | "new" | "another" | "inside"
        )
    };
    let is_apposition = (is_set_off || is_verb) && text.words.get(first).is_some_and(opens);
    // `The Flame: questions about the most complex malware ever found`: the subject of a title.
    let is_subject =
        gap.trim() == ":" && (from == 0 || (from == 1 && text.words[0].lower == "the"));
    let most = if is_apposition {
        APPOSITION_MAX
    } else if is_subject {
        APPOSITION_MAX * 3
    } else {
        return None;
    };
    for at in first..(first + most).min(text.words.len()) {
        if at > first && text.gap(at - 1).contains(['.', ';', '!', '?']) {
            return None;
        }
        if let Some(kind) = kind_of(&text.words[at].lower) {
            return Some(kind);
        }
    }
    None
}

/// Whether the words `from..to` are a part of a longer proper name, as far as capitals tell.
pub(crate) fn is_in_longer_name(text: &Text<'_>, from: usize, to: usize) -> bool {
    let is_foreign = |at: usize| {
        let word = &text.words[at];
        word.is_capitalised()
            && kind_of(&word.lower).is_none()
            && !MODIFIERS.contains(&word.lower.as_str())
    };
    let follows = to < text.words.len() && text.gap(to - 1) == " " && is_foreign(to);
    let precedes = from > 0
        && text.gap(from - 1) == " "
        && is_foreign(from - 1)
        && !text.begins_sentence(from - 1);
    follows || precedes
}

/// The platform that a text speaks of, as it stands in the ids and names of families.
pub(crate) fn platforms(text: &Text<'_>) -> Vec<&'static str> {
    let platform = |lower: &str| {
        Some(match lower {
            "linux" | "esxi" | "elf" | "unix" | "iot" | "routers" | "roteadores" => "elf",
            "windows" | "win32" => "win",
            "android" | "apk" => "apk",
            "ios" | "iphone" => "ios",
            "macos" | "mac" | "osx" => "osx",
            _ => return None,
        })
    };
    let mut all: Vec<_> = text.words.iter().filter_map(|word| platform(&word.lower)).collect();
    all.sort_unstable();
    all.dedup();
    all
}
