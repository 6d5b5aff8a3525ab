//! A bibliography like Malpedia's, of any size and always the same, with what each entry must be read as.

use std::collections::HashMap;
use std::fmt::Write as _;

/// What an entry must be read as.
pub struct Expected {
    /// The title without braces and with single blanks.
    pub title: String,
    /// The date as it is written.
    pub date: String,
    /// How much of a date it is.
    pub precision: &'static str,
    /// Who wrote it.
    pub authors: Vec<String>,
}

/// A bibliography.
pub struct Library {
    /// As a file has it.
    pub text: String,
    /// What each entry is, by its key.
    pub entries: HashMap<String, Expected>,
    /// Distinct addresses.
    pub references: u64,
}

/// Titles as they are written and as they are read, after the oddities of the real file.
const TITLES: [(&str, &str); 10] = [
    ("Clipsa – Multipurpose password stealer", "Clipsa – Multipurpose password stealer"),
    ("Jester Stealer  Malware   Research", "Jester Stealer Malware Research"),
    ("Nanocore & CypherIT: 100% of #1", "Nanocore & CypherIT: 100% of #1"),
    ("DeathRansom \\ Wacatac ransomware", "DeathRansom \\ Wacatac ransomware"),
    ("[0001] AmberDaisy -> QuartzBegonia", "[0001] AmberDaisy -> QuartzBegonia"),
    (
        "FatalRAT: Dumping the \"payload\" aka. $_ ~x ^y",
        "FatalRAT: Dumping the \"payload\" aka. $_ ~x ^y",
    ),
    ("No-Justice Wiper by Iranian APT)", "No-Justice Wiper by Iranian APT)"),
    ("“Machine”: Predictive… Insights’", "“Machine”: Predictive… Insights’"),
    ("Análise do trojan bancário: ação", "Análise do trojan bancário: ação"),
    ("Tweet on #OpJerusalm", "Tweet on #OpJerusalm"),
];

const AUTHORS: [(&str, &[&str]); 6] = [
    ("Jan Rubín", &["Jan Rubín"]),
    ("BNN and ", &["BNN"]),
    ("Carlos Rubio and Blueliv Labs Team", &["Carlos Rubio", "Blueliv Labs Team"]),
    ("@037", &["@037"]),
    (
        "Matt | HuskyHacks and R&D Team and Alexander Andersson",
        &["Matt | HuskyHacks", "R&D Team", "Alexander Andersson"],
    ),
    (
        "Alice Climent-Pommeret and Samantha van de Ven",
        &["Alice Climent-Pommeret", "Samantha van de Ven"],
    ),
];

/// Makes a bibliography of `count` entries; every 500th has the address of the one before it, in another form.
pub fn generate(count: usize) -> Library {
    let mut text = String::with_capacity(count * 380);
    let mut entries = HashMap::with_capacity(count);
    let mut references = 0;
    for n in 0..count {
        let (raw_title, title) = TITLES[n % TITLES.len()];
        let (raw_authors, authors) = AUTHORS[n % AUTHORS.len()];
        let (year, month, day) = (2009 + n % 17, 1 + n % 12, 1 + n % 28);
        let (date, precision) = match n % 23 {
            0 => (format!("{year}"), "year"),
            1 => (format!("{year}-{month:02}"), "month"),
            _ => (format!("{year}-{month:02}-{day:02}"), "day"),
        };
        let is_report = n % 10 == 9;
        let is_same = n % 500 == 499;
        let (place, slash) = if is_same { (n - 1, "/") } else { (n, "") };
        references += u64::from(!is_same);
        let kind = if is_report { "techreport" } else { "online" };
        let key = format!("author{}:{}:word:{n:07x}", n % 900, date.replace('-', ""));
        let _ = write!(
            text,
            "@{kind}{{{key},\n   author = {{{raw_authors}}},\n   title = {{{{{raw_title} {n}}}}},\n   date = {{{date}}},\n"
        );
        match (is_report, n % 13) {
            (true, _) => text.push_str("   institution = {Blake's R&D},\n"),
            (false, 0) => {}
            (false, 1) => text.push_str("   organization = {Twitter (@handle)},\n"),
            (false, _) => text.push_str("   organization = {Vendor Labs},\n"),
        }
        let _ = write!(
            text,
            "   url = {{https://vendor{}.example/blog/a%20b/{place}_Redline's?x=1&y={place}{slash}}},\n   language = {{English}},\n   urldate = {{2020-0{}-13}}\n}}\n\n",
            place % 300,
            1 + n % 9,
        );
        let authors = authors.iter().map(|name| (*name).to_owned()).collect();
        entries.insert(key, Expected { title: format!("{title} {n}"), date, precision, authors });
    }
    Library { text, entries, references }
}
