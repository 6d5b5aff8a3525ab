//! The index of all names, and where they stand in a text.

use std::collections::HashMap;
use std::ops::Range;

use crate::common::{Common, Needs, common, is_phrase, key};
use crate::context::{self, Beside, kind_of};
use crate::words::{Case, Text, Word};
use crate::{FOUND_MAX, NAMESAKES_MAX, WORDS_MAX};

/// What bears a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    /// Malware.
    Family,
    /// Who uses it.
    Actor,
}

/// A family or an actor.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What it is.
    pub kind: SubjectKind,
    /// Its technical id, such as `win.emotet`, or an actor's id; may be empty.
    pub id: String,
    /// The name that stands for it in documents.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
}

impl Subject {
    /// Its name without its platform: `Akira (ELF)` is `Akira`.
    pub fn common_name(&self) -> &str {
        without_platform(&self.name)
    }
}

/// A name of a subject.
#[derive(Clone, Debug)]
struct Entry {
    subject: u32,
    spelling: Box<str>,
    rank: Rank,
}

/// What a name is to its subject; the first is the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Id,
    Own,
    Alias,
    /// An alias without the word that says what it is: `Lumma` of `Lumma Stealer`.
    Derived,
}

/// A place where a name stands.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where, in bytes.
    pub range: Range<usize>,
    /// Who bears it: places in [`Names::subjects`].
    pub subjects: Vec<u32>,
    /// Whether it is meant, by itself or by what stands around it; else it may be the word.
    pub counts: bool,
}

/// The index.
#[derive(Debug, Default)]
pub struct Names {
    subjects: Vec<Subject>,
    entries: HashMap<Box<str>, Vec<Entry>>,
}

/// Words at the end of a name that say what it is and are often left out.
const ENDINGS: [&str; 19] = [
    "group",
    "team",
    "gang",
    "crew",
    "apt",
    "rat",
    "stealer",
    "infostealer",
    "loader",
    "ransomware",
    "ransom",
    "backdoor",
    "malware",
    "framework",
    "trojan",
    "hackers",
    "banker",
    "miner",
    "keylogger",
];
/// Letters of what is left then.
const DERIVED_MIN: usize = 5;
/// Letters of a name that is too short to be told from a word when it is written small.
const SMALL_MIN: usize = 5;

fn without_platform(name: &str) -> &str {
    match name.strip_suffix(')').and_then(|name| name.rsplit_once('(')) {
        Some((name, _)) if !name.trim().is_empty() && name.ends_with(' ') => name.trim(),
        _ => name,
    }
}

/// A name that says nothing, as it stands for one that is not known.
fn is_placeholder(name: &str) -> bool {
    let lower = name.to_lowercase();
    name.starts_with('[') || lower.starts_with("unnamed") || lower == "unknown"
}

impl Names {
    /// An index of these.
    pub fn of(subjects: impl IntoIterator<Item = Subject>) -> Self {
        let mut names = Self::default();
        for subject in subjects {
            names.add(subject);
        }
        names.entries.values_mut().for_each(|entries| entries.sort_by_key(|entry| entry.rank));
        names
    }

    /// All of them, in their order.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// The subject of a name that a document or a model gives, if there is one: by its id, its own name, or an alias that no
    /// other of its kind bears. Case and what joins its words do not matter.
    pub fn named(&self, kind: SubjectKind, name: &str) -> Vec<u32> {
        let Some(entries) = self.entries.get(key(without_platform(name)).as_str()) else {
            return Vec::new();
        };
        let is_kind = |entry: &&Entry| self.subjects[entry.subject as usize].kind == kind;
        let best = entries.iter().filter(is_kind).map(|entry| entry.rank).min();
        let mut all: Vec<u32> = entries
            .iter()
            .filter(is_kind)
            .filter(|entry| Some(entry.rank) == best)
            .map(|entry| entry.subject)
            .collect();
        let exact = all.iter().copied().find(|at| self.subjects[*at as usize].name == name);
        if let Some(exact) = exact {
            all = vec![exact];
        }
        all.dedup();
        all
    }

    fn add(&mut self, subject: Subject) {
        let Ok(place) = u32::try_from(self.subjects.len()) else { return };
        let mut names = vec![(without_platform(&subject.name).to_owned(), Rank::Own)];
        names.extend(
            subject.aliases.iter().map(|alias| (without_platform(alias).to_owned(), Rank::Alias)),
        );
        if !subject.id.is_empty() {
            names.push((subject.id.clone(), Rank::Id));
        }
        for at in 0..names.len() {
            let (name, rank) = names[at].clone();
            if rank != Rank::Id
                && let Some(derived) = derived(&name)
            {
                names.push((derived, Rank::Derived));
            }
        }
        for (spelling, rank) in names {
            let key = key(&spelling);
            let words = Text::of(&spelling).words.len();
            if key.chars().count() < 2 || words > WORDS_MAX || is_placeholder(&spelling) {
                continue;
            }
            let entries = self.entries.entry(key.into_boxed_str()).or_default();
            if !entries.iter().any(|entry| entry.subject == place && *entry.spelling == *spelling) {
                entries.push(Entry { subject: place, spelling: spelling.into_boxed_str(), rank });
            }
        }
        self.subjects.push(subject);
    }

    /// Where names stand in a text, whole words only, the longest first.
    pub fn find(&self, text: &str) -> Vec<Found> {
        let text = Text::of(text);
        let mut places = self.places(&text);
        let speaks = text.words.iter().any(|word| kind_of(&word.lower).is_some());
        // Each look may make the next: a list of names counts from the one that does.
        for place in &mut places {
            place.judge(&text, speaks);
        }
        self.spread(&text, &mut places);
        places.iter().map(|place| self.found(&text, place)).collect()
    }

    fn places<'n>(&'n self, text: &Text<'_>) -> Vec<Place<'n>> {
        let mut places = Vec::new();
        let mut from = 0;
        while from < text.words.len() && places.len() < FOUND_MAX {
            from = match self.at(text, from) {
                Some((to, place)) => {
                    places.extend(place);
                    to
                }
                None => from + 1,
            };
        }
        places
    }

    /// The longest name, or phrase in which nothing counts, that begins at a word; and where it ends.
    fn at<'n>(&'n self, text: &Text<'_>, from: usize) -> Option<(usize, Option<Place<'n>>)> {
        if text.words[from].is_in_address && !self.is_id(text, from) {
            return None;
        }
        let mut joined = String::new();
        let mut found = None;
        for to in from + 1..=(from + WORDS_MAX).min(text.words.len()) {
            if to > from + 1 && !is_within_name(text.gap(to - 2)) {
                break;
            }
            joined.extend(text.words[to - 1].text.chars().flat_map(char::to_lowercase));
            if to > from + 1 && is_phrase(&joined) {
                found = Some((to, None));
            } else if let Some(entries) = self.entries.get(joined.as_str())
                && let Some(place) = Place::of(text, from, to, entries, common(&joined))
            {
                found = Some((to, Some(place)));
            }
        }
        found
    }

    /// `win.emotet` looks like the name of a file.
    fn is_id(&self, text: &Text<'_>, from: usize) -> bool {
        let Some(next) = text.words.get(from + 1) else { return false };
        let joined = format!("{}{}", text.words[from].lower, next.lower);
        text.gap(from) == "."
            && self.entries.get(joined.as_str()).is_some_and(|entries| entries[0].rank == Rank::Id)
    }

    /// Lets a name count that stands in a list with one that does, or whose subject is meant by another name.
    fn spread(&self, text: &Text<'_>, places: &mut [Place<'_>]) {
        let meant: Vec<u32> =
            places.iter().filter(|place| place.counts).flat_map(Place::subjects).collect();
        for place in
            places.iter_mut().filter(|place| !place.counts && place.is_written_as_name(text))
        {
            let is_known = place.subjects().any(|subject| meant.contains(&subject));
            let is_told =
                place.needs == Needs::Within && !meant.is_empty() && text.case != Case::Title;
            place.counts =
                is_known || (is_told && !context::is_in_longer_name(text, place.from, place.to));
        }
        let step = |one: &Place<'_>, other: &Place<'_>| {
            one.to <= other.from && is_list(text, one.to, other.from)
        };
        let takes = |place: &Place<'_>, from: &Place<'_>, text: &Text<'_>| {
            from.counts
                && !place.counts
                && place.is_written_as_name(text)
                && !context::is_in_longer_name(text, place.from, place.to)
        };
        for at in 1..places.len() {
            if step(&places[at - 1], &places[at]) && takes(&places[at], &places[at - 1], text) {
                places[at].counts = true;
            }
        }
        for at in (1..places.len()).rev() {
            if step(&places[at - 1], &places[at]) && takes(&places[at - 1], &places[at], text) {
                places[at - 1].counts = true;
            }
        }
    }

    fn found(&self, text: &Text<'_>, place: &Place<'_>) -> Found {
        let range = text.words[place.from].start..text.words[place.to - 1].end;
        let mut subjects: Vec<u32> = place.subjects().collect();
        subjects.dedup();
        // Of those that bear it, those whose own name it is; of these, those of the kind that the words beside it say.
        let best = place.entries.iter().map(|entry| entry.rank).min();
        let is_best = |entry: &&&Entry| Some(entry.rank) == best || entry.rank == Rank::Id;
        let own: Vec<u32> =
            place.entries.iter().filter(is_best).map(|entry| entry.subject).collect();
        if best.is_some_and(|best| best <= Rank::Own) {
            subjects = own;
        }
        if let Some(Beside::Kind(kind)) = place.beside {
            let of_kind = |at: &u32| self.subjects[*at as usize].kind == kind;
            if place.entries.iter().any(|entry| of_kind(&entry.subject)) {
                let all = place.entries.iter().filter(|entry| of_kind(&entry.subject));
                let best = all.clone().map(|entry| entry.rank).min();
                subjects = all
                    .filter(|entry| Some(entry.rank) == best)
                    .map(|entry| entry.subject)
                    .collect();
            }
        }
        self.narrow(text, &mut subjects);
        subjects.sort_unstable();
        subjects.dedup();
        let counts = place.counts && subjects.len() <= NAMESAKES_MAX;
        Found { range, subjects, counts }
    }

    /// Leaves those of the platforms that the text speaks of, where that leaves any.
    fn narrow(&self, text: &Text<'_>, subjects: &mut Vec<u32>) {
        if subjects.len() < 2 {
            return;
        }
        let platforms = context::platforms(text);
        let is_of = |at: &u32| {
            let id = &self.subjects[*at as usize].id;
            platforms.iter().any(|platform| id.split('.').next() == Some(platform))
        };
        if subjects.iter().any(is_of) {
            subjects
                .retain(|at| is_of(at) || self.subjects[*at as usize].kind == SubjectKind::Actor);
        }
    }
}

/// A name without the word that says what it is.
fn derived(name: &str) -> Option<String> {
    let (rest, last) = name.trim().rsplit_once([' ', '-'])?;
    let rest = rest.trim();
    let is_ending = ENDINGS.contains(&last.to_lowercase().as_str());
    (is_ending && key(rest).chars().count() >= DERIVED_MIN).then(|| rest.to_owned())
}

/// Whether this may stand between two words of one name.
fn is_within_name(gap: &str) -> bool {
    matches!(
        gap,
        "" | " "
            | "-"
            | "_"
            | "."
            | "'"
            | "’"
            | "\u{2011}"
            | "\u{a0}"
            | "$"
            | "*"
            | "#"
            | "@"
            | "/"
            | " & "
            | "("
            | "+"
            | " ("
            | " - "
            | "!"
    )
}

/// Whether the words between two names are those of a list.
fn is_list(text: &Text<'_>, from: usize, to: usize) -> bool {
    let is_join = |at: usize| {
        matches!(text.words[at].lower.as_str(), "and" | "e" | "or" | "ou" | "y" | "plus")
    };
    let gaps = (from - 1..to).map(|at| text.gap(at));
    to <= from + 1
        && (from..to).all(is_join)
        && gaps.flat_map(str::chars).all(|letter| " ,/&+()".contains(letter))
        && (to > from || text.gap(from - 1).contains([',', '/', '&', '+', '(']))
}

/// A place of a text that a name may stand at.
#[derive(Debug)]
struct Place<'n> {
    from: usize,
    to: usize,
    entries: Vec<&'n Entry>,
    common: Common,
    needs: Needs,
    beside: Option<Beside>,
    counts: bool,
}

impl<'n> Place<'n> {
    /// The place, unless what stands there is written as no name is.
    fn of(
        text: &Text<'_>,
        from: usize,
        to: usize,
        entries: &'n [Entry],
        common: Common,
    ) -> Option<Self> {
        let (start, end) = (text.words[from].start, text.words[to - 1].end);
        let written = &text.whole[start..end];
        let is_spelt = |entry: &&Entry| *entry.spelling == *written;
        let is_exact = entries.iter().any(|entry| is_spelt(&entry));
        let gaps: Vec<&str> = (from..to - 1).map(|at| text.gap(at)).collect();
        // A dot or a slash joins the words of a name only where the name has one.
        let is_odd = |gap: &&str| !matches!(*gap, " " | "-" | "_" | "" | "\u{2011}" | "\u{a0}");
        let fits = |entry: &&Entry| {
            gaps.iter().filter(|gap| is_odd(gap)).all(|gap| entry.spelling.contains(gap.trim()))
        };
        let entries: Vec<&Entry> = entries
            .iter()
            .filter(fits)
            .filter(|entry| entry.rank != Rank::Id || written.eq_ignore_ascii_case(&entry.spelling))
            .collect();
        let best = entries.iter().map(|entry| entry.rank).min()?;
        if best == Rank::Id {
            let place = Self {
                from,
                to,
                entries,
                common,
                needs: Needs::Nothing,
                beside: None,
                counts: true,
            };
            return Some(place);
        }
        let letters =
            text.words[from..to].iter().map(|word| word.lower.chars().count()).sum::<usize>();
        if letters <= crate::common::SHORT && !is_exact && text.case != Case::None {
            return None;
        }
        let words = &text.words[from..to];
        let is_small = text.case != Case::None && !words.iter().any(Word::has_capital);
        let is_digits = |word: &Word<'_>| word.lower.chars().any(|letter| letter.is_ascii_digit());
        let has_digits = words.iter().any(is_digits);
        let is_apart = to > from + 1
            && !entries.iter().any(|entry| entry.spelling.contains([' ', '-', '_', '.']));
        let mut needs = common.needs;
        if !has_digits && (is_apart || (is_small && (to > from + 1 || letters < SMALL_MIN))) {
            let is_risen = text.case == Case::Sentence
                && words[1..].iter().all(Word::is_capitalised)
                && words[0].is_capitalised();
            let is_name = is_apart && is_risen && !context::is_in_longer_name(text, from, to);
            needs = needs.max(if is_name { Needs::Nothing } else { Needs::Beside });
        }
        Some(Self { from, to, entries, common, needs, beside: None, counts: false })
    }

    fn subjects(&self) -> impl Iterator<Item = u32> {
        self.entries.iter().map(|entry| entry.subject)
    }

    /// Whether it has the capitals of a name, where capitals say something.
    fn is_written_as_name(&self, text: &Text<'_>) -> bool {
        let words = &text.words[self.from..self.to];
        let is_risen = |word: &Word<'_>| {
            word.has_capital() || word.text.starts_with(|letter: char| letter.is_ascii_digit())
        };
        self.needs == Needs::Nothing || text.case == Case::None || words.iter().all(is_risen)
    }

    /// Whether it is spelt as the name is, with capitals that no word has: `STOP`.
    fn is_shouted(&self, text: &Text<'_>) -> bool {
        let written = &text.whole[text.words[self.from].start..text.words[self.to - 1].end];
        let capitals = written.chars().filter(|letter| letter.is_uppercase()).count();
        text.case != Case::None
            && capitals > 1
            && self.entries.iter().any(|entry| *entry.spelling == *written)
    }

    /// Decides whether it counts, by what stands around it.
    fn judge(&mut self, text: &Text<'_>, speaks: bool) {
        if self.counts {
            return;
        }
        self.beside = context::beside(text, self.from, self.to, self.common);
        let is_in_longer = || context::is_in_longer_name(text, self.from, self.to);
        let is_name = self.is_written_as_name(text);
        self.counts = match self.needs {
            Needs::Nothing => true,
            Needs::Within => {
                is_name
                    && match self.beside {
                        Some(_) => true,
                        None => speaks && text.case == Case::Sentence && !is_in_longer(),
                    }
            }
            Needs::Beside => {
                is_name
                    && match self.beside {
                        Some(Beside::Name) => speaks,
                        Some(Beside::Kind(_)) => !self.is_preceded(text),
                        None => false,
                    }
            }
            Needs::Named => match self.beside {
                Some(Beside::Name) => is_name && speaks,
                Some(Beside::Kind(_)) => self.is_shouted(text) || self.is_told_before(text),
                None => false,
            },
        };
    }

    /// Whether a capitalised word before it makes both one name: `Google Play malware`.
    fn is_preceded(&self, text: &Text<'_>) -> bool {
        text.case == Case::Sentence
            && self.from > 0
            && text.gap(self.from - 1) == " "
            && text.words[self.from - 1].is_capitalised()
            && kind_of(&text.words[self.from - 1].lower).is_none()
            && !text.begins_sentence(self.from - 1)
    }

    /// In Portuguese what it is stands before the name, where an adjective does not.
    fn is_told_before(&self, text: &Text<'_>) -> bool {
        let is_risen = text.words[self.from..self.to].iter().all(Word::has_capital);
        let before = self.from.checked_sub(1).filter(|before| text.is_joined(*before));
        is_risen
            && text.case == Case::Sentence
            && before.is_some_and(|at| {
                kind_of(&text.words[at].lower).is_some()
                    && (text.is_portuguese || !text.words[at].has_capital())
            })
    }
}
