//! The command line: what can be asked, and how it is explained.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ColorChoice, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use clap_complete::engine::ArgValueCompleter;
use ioc::Tlp;
use yara::verdict::Verdict;

use crate::complete;

/// Keeps a threat-intelligence store fresh, on this machine: the timetable, its tasks, what they stored.
#[derive(Debug, Parser)]
#[command(name = "local-runner", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 it failed or found something wrong, 2 wrong usage or settings, 3 a store is unreachable.\n\
    Settings are environment variables or lines of a `.env` file.\n\
    `local-runner help settings | tasks | sources` tells what can be set, what each task takes,\n\
    and the form of a list of sources."
)]
pub(crate) struct Cli {
    /// Answer with one JSON document (streams: one object a line)
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Lines of `NAME: value` instead of tables, without colour: for screen readers
    #[arg(long, global = true, conflicts_with = "json")]
    pub(crate) plain: bool,
    /// Whether states are coloured; `NO_COLOR` and `CLICOLOR_FORCE` are heeded
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
    /// Show the functions' log on standard error
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Folder of the embedded store [default: `MINERVA_DATA_DIR`, else `minerva-data`]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// A timetable over the one compiled in: `[task]` with `when = …` changes an hour, `enabled = false` disables it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) timetable: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the arguments of this process, its own name first.
    ///
    /// # Errors
    /// clap's own, which say what is wrong or what was asked to be shown.
    pub(crate) fn read(arguments: &[OsString]) -> Result<Self, clap::Error> {
        Self::try_parse_from(with_unwanted_words(arguments))
    }

    /// What this process itself logs; the functions log for themselves.
    pub(crate) fn log_filter(&self) -> &'static str {
        if self.verbose { "info" } else { "warn" }
    }
}

/// The arguments with `-word` after `search` as `--without=word`: clap takes what begins with `-` for an option.
///
/// What can be an option stays one: a letter by itself, `-n20`, `-fFIELD=VALUE`, and whatever follows an option.
fn with_unwanted_words(arguments: &[OsString]) -> Vec<OsString> {
    let command = Cli::command();
    let search = command.find_subcommand("search").expect("it is one of the commands");
    let takes_value = |option: &str| {
        command.get_arguments().chain(search.get_arguments()).any(|known| {
            let long = known.get_long().is_some_and(|long| option.strip_prefix("--") == Some(long));
            let short = known.get_short().is_some_and(|short| {
                option.strip_prefix('-').is_some_and(|rest| rest.chars().eq([short]))
            });
            known.get_action().takes_values() && (long || short)
        })
    };
    let mut changed = Vec::with_capacity(arguments.len());
    let (mut is_search, mut is_value, mut is_over) = (None, false, false);
    for (place, argument) in arguments.iter().enumerate() {
        let text = argument.to_str().unwrap_or_default();
        let is_free = place > 0 && !std::mem::replace(&mut is_value, false) && !is_over;
        if !is_free {
            changed.push(argument.clone());
            continue;
        }
        is_over = text == "--";
        is_value = takes_value(text);
        if !text.starts_with('-') && is_search.is_none() {
            is_search = Some(text == "search");
        }
        let word = text.strip_prefix('-').filter(|word| {
            let mut letters = word.chars();
            let (first, second) = (letters.next(), letters.next());
            first.is_some_and(|first| first.is_alphanumeric() || first == '"')
                && second.is_some()
                && !(first == Some('n') && word[1..].parse::<u32>().is_ok())
                && !(first == Some('f') && word.contains('='))
        });
        changed.push(match word.filter(|_| is_search == Some(true)) {
            Some(word) => OsString::from(format!("--without={word}")),
            None => argument.clone(),
        });
    }
    changed
}

/// The category of a source that is added without one.
pub(crate) const DEFAULT_CATEGORY: &str = "news";

const REINDEX_HELP: &str = "Tasks write on while the documents are copied. For the last step, which compares every \
    document, they get an error that their next run makes good. The aliases move in one step; a failure before that changes \
    nothing, and running it again goes on. The old index stays, closed to writers, until it is dropped.";

const ADOPT_HELP: &str = "Stop the predecessor first: its index takes no writes while it is copied. It answers its \
    readers until the aliases move, which is one step and removes it; its name becomes an alias of ours. A failure before \
    that changes nothing, and running it again goes on.";

const LOOKUP_HELP: &str = "Of a list each line is a value; of a text what its author defanged, hashes, addresses and CVE \
    numbers. Ends with 0 where all are known, with 1 where one is not or is no indicator.\n\
    `iocs.value` of `search` finds the articles that name a value.";

const EXPORT_HELP: &str = "Left out, and counted on standard error: what is inactive or expired, what is stricter than \
    `--tlp`, what the format has no words for; of `text` and `suricata`, which machines act on, also what a warninglist knows \
    and what its source does not mean for detection. A document without a TLP counts as amber.\n\n\
    csv       a header and a line an indicator; a cell that a spreadsheet would calculate begins with `'`\n\
    misp-feed a folder that MISP reads as a feed: manifest.json, an event a file, hashes.csv\n\
    stix      a STIX 2.1 bundle\n\
    suricata  rules for addresses, names in DNS, TLS and HTTP, and URLs in HTTP\n\
    text      a value a line\n\n\
    Equal stores give equal bytes.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one task now and show its report
    Run(RunArgs),
    /// List the tasks: what each does and when it runs
    Tasks,
    /// Show what runs next, in local time and UTC
    Scheduled {
        /// How many runs to show
        #[arg(short = 'n', long, default_value_t = 12)]
        count: usize,
    },
    /// Say whether all is well, in ten lines: exit 0 well, 1 something needs you, 3 a store is unreachable
    Status,
    /// Show what runs now: since when, how long it usually takes, which sources it is at
    Active,
    /// Show what ran, newest first
    Runs(RunsArgs),
    /// Show when the timetable fired and what came of each slot, also where nothing ran
    Slots {
        /// Only slots of this task
        #[arg(add = ArgValueCompleter::new(complete::tasks))]
        task: Option<String>,
        /// Only slots that were not run
        #[arg(long)]
        missed: bool,
        /// Only slots since this day, instant or age
        #[arg(long, value_name = "DATE")]
        since: Option<String>,
        /// How many to show
        #[arg(short = 'n', long, default_value_t = 20)]
        count: u32,
    },
    /// Show what a run logged; ends with the run's own code
    Logs {
        /// A run's id or its beginning, an invocation's id, or a task for its newest [default: the newest of all]
        #[arg(add = ArgValueCompleter::new(complete::runs))]
        id: Option<String>,
        /// Go on until it ends
        #[arg(short, long)]
        follow: bool,
    },
    /// Show what waits: for its time, for a free place, for its next try
    Queue {
        /// How many to show
        #[arg(short = 'n', long, default_value_t = 20)]
        count: u32,
    },
    /// Take something that waits out of the queue, so that it is not run
    Revoke {
        /// The invocation's id, as `queue` shows it
        #[arg(add = ArgValueCompleter::new(complete::waiting))]
        id: String,
    },
    /// Look at invocations that failed for good, and send them again
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Search what is stored, or count it by a field's values or by time
    Search(SearchArgs),
    /// Look up indicators: which are known, from where, since when, and whether a warninglist knows them
    #[command(after_help = LOOKUP_HELP)]
    Lookup {
        /// Values, plain or defanged; `-` for a list or a report on standard input
        #[arg(required = true, value_name = "VALUE | -")]
        values: Vec<String>,
    },
    /// Write stored indicators as another program reads them
    #[command(after_help = EXPORT_HELP)]
    Export(IndicatorsArgs),
    /// Stream every document of an index, one JSON object a line
    Documents {
        /// The index, as `rss_articles`
        #[arg(add = ArgValueCompleter::new(complete::indices))]
        index: String,
    },
    /// Delete documents that are older than `MINERVA_KEEP_DAYS` allows for their index
    Prune {
        /// Count them and delete nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Move to servers or back: copy documents and state, so that the other side goes on from here
    ///
    /// The sides are the folder of `MINERVA_DATA_DIR` and the servers of `ES_URL` (documents) and `DATABASE_URL` (state).
    /// Nothing is taken away at the source. A copy that was interrupted goes on when it is started again; one that is
    /// repeated writes nothing. In the end both sides are read again and compared.
    Copy(CopyArgs),
    /// Copy the embedded store to a new folder, consistently, also while it is in use
    ///
    /// The copy is a store of its own: `--data-dir FOLDER` or `MINERVA_DATA_DIR` opens it.
    Backup {
        /// A folder that is new or empty
        #[arg(value_name = "FOLDER")]
        to: PathBuf,
    },
    /// Look at the sources, try one, add, edit or remove one, see what was not stored
    #[command(subcommand)]
    Sources(SourcesCommand),
    /// Work with the stored YARA rules
    #[command(subcommand)]
    Yara(YaraCommand),
    /// Check the settings, the stores and the sources, and say what is wrong; nothing is changed
    Doctor {
        /// First make what the first run would make: folder, files, tables, indices
        #[arg(long)]
        create: bool,
    },
    /// Work with schedule expressions
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Run the timetable until interrupted
    Serve(ServeArgs),
    /// Replay two days of the timetable on bundled feeds, without network
    Demo(DemoArgs),
    /// Run a task over the archived responses instead of the network, after a parser was repaired
    Reparse {
        /// The task
        #[arg(add = ArgValueCompleter::new(complete::tasks))]
        task: String,
    },
    /// Build an index of the server anew where its stored mapping no longer fits this version
    #[command(after_help = REINDEX_HELP)]
    Reindex(ReindexArgs),
    /// Take over an index of the predecessor, with its documents and what was added to them
    #[command(after_help = ADOPT_HELP)]
    Adopt(AdoptArgs),
    /// Show the settings, the tasks with their inputs, the form of a list of sources, or the help of a command
    Help {
        /// `settings [NAME]`, `tasks [TASK]`, `sources`, or a command
        #[arg(add = ArgValueCompleter::new(complete::topics))]
        topic: Vec<String>,
    },
    /// Replay a stretch of the timetable into a store of its own, faster than time
    ///
    /// Each slot's run lives at its slot. Slots that a replay did, it does not do again: one that was interrupted goes on.
    Replay(ReplayArgs),
    /// Write the script that completes tasks, sources and runs in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages
    Man {
        /// The folder, as `/usr/local/share/man/man1`
        #[arg(value_name = "FOLDER")]
        to: PathBuf,
    },
    /// Install this program as a service, and say what was done
    Install(InstallArgs),
    /// Be a function: speak the Lambda Runtime API to the runner that started this process
    #[command(hide = true)]
    Function {
        /// The task
        task: String,
    },
}

/// What is asked of the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the replay, with a summary
    #[arg(long)]
    pub(crate) exit: bool,
    /// Port of the page that stays open after the replay
    #[arg(long, default_value_t = 9000)]
    pub(crate) port: u16,
    /// Store on the servers of `ES_URL` and `DATABASE_URL`: in indices that begin with `minerva-demo-` (behind
    /// `ES_INDEX_PREFIX`), and in the schema of the address, which must be empty
    #[arg(long)]
    pub(crate) servers: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The task, as `collect_all_rss_feeds`
    #[arg(add = ArgValueCompleter::new(complete::tasks))]
    pub(crate) task: String,
    /// Only this source of it, by its id; may be repeated
    #[arg(long = "source", value_name = "ID", conflicts_with = "input", add = ArgValueCompleter::new(complete::sources))]
    pub(crate) sources: Vec<String>,
    /// Only the sources that failed in its last run
    #[arg(long, conflicts_with_all = ["input", "sources"])]
    pub(crate) only_failed: bool,
    /// Leave it to the runner that serves, and do not wait
    #[arg(long, conflicts_with_all = ["clock", "strict", "timeout", "functions"])]
    pub(crate) detach: bool,
    /// Its input, or an EventBridge event, as JSON
    #[arg(long, value_name = "JSON")]
    pub(crate) input: Option<String>,
    /// Let the run live at this instant instead of now
    #[arg(long, value_name = "RFC 3339")]
    pub(crate) clock: Option<String>,
    /// End with 1 also when a part of the sources failed
    #[arg(long)]
    pub(crate) strict: bool,
    /// Seconds it may take [default: its row in the timetable]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=900))]
    pub(crate) timeout: Option<u64>,
    /// Use binaries that were built apart: `FOLDER/TASK/bootstrap` or `FOLDER/TASK`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) functions: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// Only runs of this task; or the id of one run, or its beginning, to show it whole
    #[arg(value_name = "TASK | ID", add = ArgValueCompleter::new(complete::runs))]
    pub(crate) what: Option<String>,
    /// Only runs that failed
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only runs that began since this day, instant or age: 2026-03-01, 36h, 7d
    #[arg(long, value_name = "DATE")]
    pub(crate) since: Option<String>,
    /// How many runs to show
    #[arg(short = 'n', long, default_value_t = 20)]
    pub(crate) count: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List them, the newest first
    List {
        /// How many to show
        #[arg(short = 'n', long, default_value_t = 20)]
        count: u32,
    },
    /// Show one whole: its event, and every attempt at it
    Show {
        /// Its id
        #[arg(add = ArgValueCompleter::new(complete::dead_letters))]
        id: String,
    },
    /// Send one again, or all: one more attempt each, by the runner that serves
    Retry {
        /// Its id
        #[arg(required_unless_present = "all", add = ArgValueCompleter::new(complete::dead_letters))]
        id: Option<String>,
        /// All of them
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// Say which, and send none
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The first instant: a day, an instant or an age
    #[arg(long, value_name = "DATE")]
    pub(crate) from: String,
    /// The last instant [default: the present]
    #[arg(long, value_name = "DATE")]
    pub(crate) to: Option<String>,
    /// How many times as fast as time [default: without waiting]
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) speed: Option<u32>,
    /// Only these tasks; may be repeated
    #[arg(long = "task", value_name = "TASK", add = ArgValueCompleter::new(complete::tasks))]
    pub(crate) tasks: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// As a service of systemd: unit, user, folders and a file for settings
    #[arg(long, required = true)]
    pub(crate) systemd: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Below this folder instead of `/`, without making the user
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    pub(crate) root: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) words: WordsArgs,
    /// The index to search, or several as one: `minerva-articles`, `minerva-indicators`
    #[arg(long, default_value = "rss_articles", add = ArgValueCompleter::new(complete::indices))]
    pub(crate) index: String,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// Best matches first instead of newest first
    #[arg(long)]
    pub(crate) relevance: bool,
    /// Count by the values of this field instead, as `feed_name` or `iocs.type`, the most frequent first
    #[arg(long, value_name = "FIELD", conflicts_with_all = ["per", "relevance", "offset"])]
    pub(crate) by: Option<String>,
    /// Count by time instead, in UTC
    #[arg(long, conflicts_with_all = ["relevance", "offset"])]
    pub(crate) per: Option<Per>,
    /// How many to show; days, months and years are all shown
    #[arg(short = 'n', long, default_value_t = 10)]
    pub(crate) count: u32,
    /// How many to leave out at the start
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) offset: u32,
}

#[derive(Debug, Args)]
pub(crate) struct IndicatorsArgs {
    #[command(flatten)]
    pub(crate) words: WordsArgs,
    /// What to write
    #[arg(long)]
    pub(crate) format: Format,
    /// The index of the indicators, or all three as one
    #[arg(long, default_value = "minerva-indicators", add = ArgValueCompleter::new(complete::indices))]
    pub(crate) index: String,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// The strictest TLP that may go out
    #[arg(long, value_name = "LEVEL", default_value = "amber+strict", value_parser = PossibleValuesParser::new(Tlp::ALL.map(Tlp::as_str)))]
    pub(crate) tlp: String,
    /// Also what is inactive or expired, what a warninglist knows, and what is not meant for detection
    #[arg(long)]
    pub(crate) all: bool,
    /// A file instead of standard output; of `misp-feed`, its folder
    #[arg(long, value_name = "PATH")]
    pub(crate) out: Option<PathBuf>,
}

impl IndicatorsArgs {
    /// The strictest marking that may go out.
    pub(crate) fn tlp(&self) -> Tlp {
        Tlp::read(&self.tlp).unwrap_or(Tlp::Clear)
    }
}

/// What `--format` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Csv,
    MispFeed,
    Stix,
    Suricata,
    Text,
}

/// What documents must hold.
#[derive(Debug, Args)]
pub(crate) struct WordsArgs {
    /// Words to look for: any of them, `"a phrase"`, `prefix*`, `-not`; nothing for all
    pub(crate) text: Vec<String>,
    /// Only what does not hold this word or phrase, as `-WORD` says too; may be repeated
    #[arg(long, value_name = "WORD")]
    pub(crate) without: Vec<String>,
}

/// Which documents are meant.
#[derive(Debug, Args)]
pub(crate) struct SelectionArgs {
    /// Only this value of a field, as `category=brazil` or `iocs.value=evil.example`; may be repeated
    #[arg(short, long = "where", value_name = "FIELD=VALUE")]
    pub(crate) filters: Vec<String>,
    /// Only what is dated at or after this day, instant or age: 2026-03-01, 2026-03-01T12:00:00Z, 36h, 7d, 2w
    #[arg(long, value_name = "DATE")]
    pub(crate) since: Option<String>,
    /// Only what is dated up to the end of this day, or before this instant or age
    #[arg(long, value_name = "DATE")]
    pub(crate) until: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReindexArgs {
    /// The index, as `rss_articles`
    pub(crate) index: Option<String>,
    /// Every index that needs it
    #[arg(long, conflicts_with = "index")]
    pub(crate) all: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Delete the old index afterwards, and those that earlier runs kept
    #[arg(long)]
    pub(crate) drop_old: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// The predecessor's index, by its name on the server, as `rss-articles`
    pub(crate) from: String,
    /// Which of our indices it becomes [default: the one of that name]
    #[arg(long = "as", value_name = "INDEX")]
    pub(crate) index: Option<String>,
    /// Leave the old index in place
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What `--per` takes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Per {
    Day,
    Month,
    Year,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Where it is now
    #[arg(long)]
    pub(crate) from: Home,
    /// Where it should go
    #[arg(long)]
    pub(crate) to: Home,
    /// Only the documents
    #[arg(long)]
    pub(crate) documents: bool,
    /// Only the state: runs, validators and cursors of sources, overrides, retries, marks, the queue
    #[arg(long)]
    pub(crate) state: bool,
    /// Replace what differs at the target, and make its state the source's
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// Where documents and state are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Home {
    /// The folder of `MINERVA_DATA_DIR`
    Embedded,
    /// The servers of `ES_URL` and `DATABASE_URL`
    Servers,
}

impl Home {
    /// The word on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Servers => "servers",
        }
    }

    /// What it is called in a sentence.
    pub(crate) fn place(self) -> &'static str {
        match self {
            Self::Embedded => "embedded store",
            Self::Servers => "servers",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum SourcesCommand {
    /// List every source with its health, the worst first
    List {
        /// Only sources of this health: gone, failing, quiet, new, ok, disabled
        #[arg(long)]
        health: Option<String>,
    },
    /// Fetch a source once and show what would be stored, without storing it
    Test {
        /// A source's id, or an address
        #[arg(add = ArgValueCompleter::new(complete::sources))]
        source: String,
    },
    /// Compare feeds of indicators: what only one has, what they share, which was first, what warninglists know
    ///
    /// Counted by the store, of indicators that name their feeds; feeds of one family are compared with each other.
    Overlap,
    /// Show all that is known of a source
    Show {
        /// The source's id
        #[arg(add = ArgValueCompleter::new(complete::sources))]
        id: String,
    },
    /// Add a source
    Add(AddArgs),
    /// Change a source: where it is, what it is called, where it belongs
    ///
    /// The list of `RSS_SOURCES` stays as it is, with its comments; the change stands above it in the state.
    Edit(EditArgs),
    /// Take a source out of the list; what is stored of it stays
    Remove {
        /// The source's id
        #[arg(add = ArgValueCompleter::new(complete::sources))]
        id: String,
    },
    /// Add the feeds of an OPML file, as readers of feeds export it
    Import(ImportArgs),
    /// Write the list as OPML
    Export {
        /// A file instead of standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Enable a source
    Enable {
        /// The source's id
        #[arg(add = ArgValueCompleter::new(complete::sources))]
        id: String,
    },
    /// Disable a source
    Disable {
        /// The source's id
        #[arg(add = ArgValueCompleter::new(complete::sources))]
        id: String,
    },
    /// Show documents that the store refuses for good, and why
    Rejects {
        /// A source, as `rss/krebs-on-security`; all of them when not given
        #[arg(add = ArgValueCompleter::new(complete::qualified_sources))]
        source: Option<String>,
    },
    /// Show documents that could not be stored and are tried again, and why
    Failed {
        /// A source, as `rss/krebs-on-security`; all of them when not given
        #[arg(add = ArgValueCompleter::new(complete::qualified_sources))]
        source: Option<String>,
    },
    /// Read a source again from its beginning at its next run, and forget what was refused of it
    Retry {
        /// The source, as `rss/krebs-on-security`
        #[arg(add = ArgValueCompleter::new(complete::qualified_sources))]
        source: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Its address; of a web page, the feeds that it links to are named
    pub(crate) url: String,
    /// Its id, stable for ever [default: made of the host's name]
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Its name for people [default: what the feed calls itself]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Its category, which tells the family too: of a MISP feed `misp`, `csv` or `freetext`
    #[arg(long, default_value = DEFAULT_CATEGORY)]
    pub(crate) category: String,
    /// Let the category be one that no source has yet
    #[arg(long)]
    pub(crate) new_category: bool,
    /// Its language (BCP 47)
    #[arg(long)]
    pub(crate) language: Option<String>,
    /// Add it without trying it first
    #[arg(long)]
    pub(crate) untested: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// The source's id
    #[arg(add = ArgValueCompleter::new(complete::sources))]
    pub(crate) id: String,
    /// Another address
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Another name for people
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Another category
    #[arg(long)]
    pub(crate) category: Option<String>,
    /// Let the category be one that no source has yet
    #[arg(long)]
    pub(crate) new_category: bool,
    /// Another language (BCP 47)
    #[arg(long)]
    pub(crate) language: Option<String>,
    /// Do not try the new address first
    #[arg(long)]
    pub(crate) untested: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file; `-` for standard input
    pub(crate) file: PathBuf,
    /// The category of feeds whose folder is none of ours
    #[arg(long, default_value = DEFAULT_CATEGORY)]
    pub(crate) category: String,
    /// Make categories of folders that are none yet
    #[arg(long)]
    pub(crate) new_category: bool,
    /// Say what would be added, and add nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum YaraCommand {
    /// Write the active rules as files that YARA and YARA-X compile as they are
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A folder, or a file that ends in `.yar`; what needs a scanner's variables goes into a second file beside it
    #[arg(long, value_name = "PATH")]
    pub(crate) to: PathBuf,
    /// Only this category, as `apt`; may be repeated
    #[arg(long = "category", value_name = "CATEGORY")]
    pub(crate) categories: Vec<String>,
    /// Only rules for this family; may be repeated
    #[arg(long = "family", value_name = "FAMILY")]
    pub(crate) families: Vec<String>,
    /// Only rules of at least this score
    #[arg(long, value_name = "0-100", value_parser = clap::value_parser!(i64).range(0..=100))]
    pub(crate) score: Option<i64>,
    /// Only rules whose licence holds this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) license: Option<String>,
    /// Where `yarac`, `yr` or a Python with `yara-python` and `yara-x` are, which prove the export [default: PATH]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) compilers: Option<PathBuf>,
    /// Only this verdict; may be repeated
    #[arg(long = "verdict", value_name = "VERDICT", value_parser = Verdict::NAMES)]
    pub(crate) verdicts: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Show the next instants of an expression
    Next {
        /// As `cron(0 0/2 * * ? *)`, `rate(2 hours)` or `at(2026-12-25T08:30:00)`
        expression: String,
        /// The IANA name of the zone in which it is read
        #[arg(long, default_value = "America/Sao_Paulo")]
        zone: String,
        /// Strictly after this instant [default: now]
        #[arg(long, value_name = "RFC 3339")]
        from: Option<String>,
        /// How many
        #[arg(long, default_value_t = 5)]
        count: usize,
        /// By the rules of which API: `rule` (EventBridge rules) or `scheduler`
        #[arg(long, default_value = "scheduler", value_parser = ["rule", "scheduler"])]
        api: String,
    },
    /// Check the timetable
    Check {
        /// A file over the timetable compiled in, as `--timetable` takes it
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Port of the Invoke API, on `127.0.0.1` and `::1`
    #[arg(long, default_value_t = 9000)]
    pub(crate) port: u16,
    /// Use binaries that were built apart: `FOLDER/TASK/bootstrap` or `FOLDER/TASK`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) functions: Option<PathBuf>,
    /// Runs at once
    #[arg(long, default_value_t = 4)]
    pub(crate) workers: usize,
    /// Look whether everything can work, and end
    #[arg(long, hide = true)]
    pub(crate) check: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_word_that_is_not_wanted_is_no_option() {
        let read = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let cli = Cli::read(&arguments).map_err(|error| error.to_string());
            cli.map(|cli| match cli.command {
                Command::Search(args) => {
                    format!(
                        "{:?} {:?} {} {:?}",
                        args.words.text, args.words.without, args.count, args.selection.filters
                    )
                }
                other => format!("{other:?}"),
            })
        };
        for (line, expected) in [
            ("lr search a -podcast", r#"["a"] ["podcast"] 10 []"#),
            ("lr search -nordvpn -fraud a", r#"["a"] ["nordvpn", "fraud"] 10 []"#),
            ("lr search -n20 -fcategory=x -n 3", r#"error"#),
            ("lr search -n20 -fcategory=x a", r#"["a"] [] 20 ["category=x"]"#),
            (
                "lr --json search -vpn -n 5 -f a=b -segurança",
                r#"[] ["vpn", "segurança"] 5 ["a=b"]"#,
            ),
            ("lr --data-dir search search -ab", r#"[] ["ab"] 10 []"#),
            ("lr search -- -podcast", r#"["-podcast"] [] 10 []"#),
            ("lr search --since -7d", "error"),
            ("lr search --pre day", "error"),
            ("lr search -x", "error"),
            ("lr runs -podcast", "error"),
        ] {
            let read = read(line);
            match expected {
                "error" => assert!(read.is_err(), "{line}: {read:?}"),
                expected => assert_eq!(read.as_deref(), Ok(expected), "{line}"),
            }
        }
    }
}
